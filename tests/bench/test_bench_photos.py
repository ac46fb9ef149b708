"""Photos that are annotated in WIDER FACE's format, and what is counted on them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from fer_bench.cli import app
from fer_bench.quality import detection_photos
from fer_bench.quality.annotated import Annotated, read_annotated
from fer_bench.quality.detection_photos import OfDetector, measure_photos
from fer_bench.quality.matching import match
from fer_sdk.detectors import Detection
from fer_sdk.errors import DataError
from fer_sdk.types import Box

Pixels = npt.NDArray[np.uint8]

TRUTH = """\
0--Parade/a photo.jpg
2
10 20 40 50 0 0 0 0 0 0
200 20 10 12 2 0 0 1 0 0
empty.jpg
0
0 0 0 0 0 0 0 0 0 0
also empty.jpg
0
3
1
5 6 0 8 0 0 0 0 0 0
"""


def _read(tmp_path: Path, text: str) -> list[Annotated]:
    path = tmp_path / "bbx_gt.txt"
    path.write_text(text)
    return read_annotated(path)


def test_the_format_is_read_with_and_without_a_row_behind_a_count_of_none(tmp_path: Path) -> None:
    photos = _read(tmp_path, TRUTH)
    assert [photo.path for photo in photos] == [
        "0--Parade/a photo.jpg", "empty.jpg", "also empty.jpg", "3",
    ]  # fmt: skip
    assert [photo.faces.tolist() for photo in photos] == [[[10, 20, 40, 50]], [], [], []]
    # A box that is marked invalid, and one without an extent.
    assert [photo.others.tolist() for photo in photos] == [
        [[200, 20, 10, 12]], [], [], [[5, 6, 0, 8]],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no photo"),
        ("a.jpg\n", "line 2: must be the number of faces of a.jpg"),
        ("a.jpg\nb.jpg\n", "line 2: must be the number"),
        ("a.jpg\n2\n1 2 3 4 0 0 0 0 0 0\n", "line 4: must be a face of a.jpg"),
        ("a.jpg\n2\n1 2 3 4\nb.jpg\n0\n", "line 4: must be a face of a.jpg"),
        ("a.jpg\n1\n1 2 3\n", "line 3: must be a face"),
    ],
)
def test_what_is_not_the_format_is_told_by_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        _read(tmp_path, text)
    with pytest.raises(DataError, match="cannot be read"):
        read_annotated(tmp_path / "nothing.txt")


def test_each_box_is_one_face_at_most() -> None:
    faces = [Box(0, 0, 10, 10), Box(5, 0, 10, 10), Box(50, 50, 10, 10)]
    assert match(faces, [Box(0, 0, 10, 10)], 0.3) == [(0, 0)]
    # Each of two boxes overlaps both faces, and goes to the one that it overlaps most.
    assert sorted(match(faces, [Box(4, 0, 10, 10), Box(1, 0, 10, 10)], 0.3)) == [(0, 1), (1, 0)]
    assert match(faces, [Box(50, 51, 10, 10), Box(50, 50, 10, 10)], 0.3) == [(2, 1)]
    # A third of both is shared by these two.
    assert match(faces[:1], faces[1:2], 0.33) == [(0, 0)]
    assert match(faces[:1], faces[1:2], 0.34) == []
    assert match([], [], 0.3) == match(faces, [], 0.3) == []


def _boxes(*rows: tuple[float, ...]) -> npt.NDArray[np.float64]:
    return np.array(rows, float).reshape(-1, 4)


def _found(*boxes: tuple[float, float, float, float]) -> list[Detection]:
    return [Detection(Box(*box), 0.9) for box in boxes]


def test_faces_are_counted_by_size_and_invalid_ones_not_at_all() -> None:
    counts = OfDetector("auto", "auto", "")
    # Faces of 200, 50 and 20 pixels in a picture of 1000; one of them is found.
    faces = _boxes((0, 0, 150, 200), (300, 0, 50, 40), (400, 0, 20, 20))
    others = _boxes((600, 0, 100, 100))
    counts.add(
        Annotated("a", faces, others),
        1000,
        # One on the invalid face, another one there, one beside, and one twice on the first face.
        _found((0, 0, 150, 190), (600, 0, 99, 99), (605, 0, 99, 99), (800, 0, 50, 50),
               (0, 5, 150, 200)),
        0.35,
    )  # fmt: skip
    assert counts.all.recall == pytest.approx(1 / 3)
    relative = {name: (one.faces, one.found) for name, one in counts.relative.items()}
    assert relative == {
        ">= 1/5": (1, 1), "1/7-1/5": (0, 0), "1/10-1/7": (0, 0), "1/20-1/10": (1, 0),
        "< 1/20": (1, 0),
    }  # fmt: skip
    pixels = {name: (one.faces, one.found) for name, one in counts.pixels.items()}
    assert pixels == {
        ">= 128 px": (1, 1), "64-127 px": (0, 0), "32-63 px": (1, 0), "16-31 px": (1, 0),
        "< 16 px": (0, 0),
    }  # fmt: skip
    assert counts.false_boxes == 2
    assert (counts.photos_with_faces, counts.photos_without_any_found) == (1, 0)
    # Faces that need not be found do not make a photo one with faces.
    counts.add(Annotated("b", _boxes(), others), 1000, [], 0.35)
    counts.add(Annotated("c", faces, others), 1000, [], 0.35)
    assert (counts.photos_with_faces, counts.photos_without_any_found) == (2, 1)
    assert (counts.few.faces, counts.few.found) == (6, 1)
    crowd = np.tile(faces[:1], (16, 1)) + np.arange(16)[:, None] * [1000, 0, 0, 0]
    counts.add(Annotated("d", crowd, _boxes()), 20000, _found((0, 0, 150, 200)), 0.35)
    assert (counts.few.faces, counts.all.faces, counts.all.found) == (6, 22, 2)


class Bright:
    """A detector that finds what is white."""

    name = "bright"

    def detect(self, image: Pixels) -> list[Detection]:
        _, _, parts, _ = cv2.connectedComponentsWithStats((image[..., 0] > 200).astype(np.uint8))
        return _found(*(tuple(map(float, part[:4])) for part in parts[1:].tolist()))

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two photos in folders, one of them with two of its three faces in white, and a broken one."""
    monkeypatch.setattr(detection_photos, "open_detector", lambda name, threads: (Bright(), "told"))
    folder = tmp_path / "images" / "0--Parade"
    folder.mkdir(parents=True)
    image = np.zeros((300, 400, 3), np.uint8)
    cv2.imwrite(str(folder / "black.png"), image)
    for x, y, side in ((10, 10, 100), (200, 20, 30), (300, 200, 20)):
        image[y : y + side, x : x + side] = 255
    cv2.imwrite(str(folder / "a b.png"), image)
    (folder / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "truth.txt").write_text(
        "0--Parade/a b.png\n3\n10 10 100 100 0 0 0 0 0 0\n200 20 30 30 0 0 0 0 0 0\n"
        "100 250 10 10 0 0 0 0 0 0\n"
        "0--Parade/broken.jpg\n1\n1 1 9 9 0 0 0 0 0 0\n"
        "0--Parade/black.png\n0\n0 0 0 0 0 0 0 0 0 0\n"
        "gone.jpg\n0\n"
    )
    return tmp_path


def test_the_command_on_photos(photos: Path) -> None:
    out, plot = photos / "out.json", photos / "recall.png"
    arguments = [
        "detection", "--photos", str(photos / "images"), "--truth", str(photos / "truth.txt"),
        "--detector", "auto,yunet", "--json", str(out), "--plot", str(plot),
    ]  # fmt: skip
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    # What cannot be read is told, and the rest is measured.
    assert done.exit_code == 1
    assert "broken.jpg" in done.output
    assert "gone.jpg" in done.output
    report = json.loads(out.read_text())
    assert (report["photos"], report["overlap"], report["threads"]) == (2, 0.35, 1)
    assert len(report["unreadable"]) == 2
    assert report["machine"]["cores"] >= 1
    assert report["software"]["fer_sdk"]
    assert [one["detector"] for one in report["detectors"]] == ["auto", "yunet"]
    for one in report["detectors"]:
        assert one["runs"] == "bright"
        assert one["all"] == {"faces": 3, "found": 2}
        assert one["relative"][">= 1/5"] == {"faces": 1, "found": 1}
        assert one["false_boxes"] == 1
        assert 0 < one["median_ms"] <= one["p95_ms"]
    assert "66.7%" in done.output
    assert "0.500" in done.output
    drawn = cv2.imread(str(plot))
    assert drawn is not None
    assert drawn.std() > 5


def test_no_photo_that_can_be_read_is_an_error(photos: Path) -> None:
    with pytest.raises(DataError, match="none of the photos"):
        measure_photos(photos / "truth.txt", photos / "truth.txt", ["auto"])
