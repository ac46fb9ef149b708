"""The scenes, the pictures without faces and the figures of ``fer-bench detection``."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from fer_bench.cli import app
from fer_bench.quality import detection, negatives
from fer_bench.quality.detection import (
    Answers,
    FalseAlarms,
    answers,
    false_alarms,
    on_canvas,
    reach,
)
from fer_bench.quality.detection_scenes import (
    Cutout,
    Scene,
    cropped,
    darkened,
    grid,
    of_training_face,
    place,
)
from fer_bench.quality.labelled import LabelledFaces
from fer_bench.quality.negatives import SMALL_SIDES, Faceless, photos_of
from fer_sdk import FerPipeline
from fer_sdk.detectors import Detection
from fer_sdk.errors import DataError
from fer_sdk.image.crop import CropGeometry
from fer_sdk.types import Box

Pixels = npt.NDArray[np.uint8]

GREEN = (0, 255, 0)


def _patch(share: float = 0.5) -> Cutout:
    """A green square whose box is so much of its middle."""
    rgb = np.full((40, 40, 3), GREEN, np.uint8)
    return Cutout(rgb, Box(20 - 20 * share, 20 - 20 * share, 40 * share, 40 * share))


class Green:
    """A detector that finds what is green, in the light or in the dark."""

    name = "green"

    def detect(self, image: Pixels) -> list[Detection]:
        seen = image[..., 1] > 4 * image[..., 0].astype(int) + 3
        _, _, parts, _ = cv2.connectedComponentsWithStats(seen.astype(np.uint8))
        return [
            Detection(Box(*(float(value) for value in part[:4])), 0.9)
            for part in parts[1:].tolist()
            if part[4] > 20
        ]

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("side", [10.0, 37.0, 120.0])
@pytest.mark.parametrize("middle", [(200.0, 150.0), (160.5, 210.25)])
def test_faces_are_where_a_scene_says(side: float, middle: tuple[float, float]) -> None:
    ground = np.full((350, 400, 3), 30, np.uint8)
    scene = place(ground, [(_patch(), *middle, side, 0.0)])
    (box,) = scene.boxes
    assert (box.x + box.width / 2, box.y + box.height / 2) == pytest.approx(middle)
    assert box.width == side
    # The disc around the middle is twice as wide as the box, faded from 0.8 of it on.
    strength = scene.rgb[..., 1].astype(float)
    y, x = np.nonzero(strength > (30 + 255) / 2)
    assert x.mean() + 0.5 == pytest.approx(middle[0], abs=0.6)
    assert y.mean() + 0.5 == pytest.approx(middle[1], abs=0.6)
    assert len(x) == pytest.approx(np.pi * (0.9 * side) ** 2, rel=0.12)
    assert (ground == 30).all()


def test_faces_beyond_the_edge_and_tilted_ones() -> None:
    ground = np.full((100, 100, 3), 30, np.uint8)
    half = np.concatenate([np.full((20, 40, 3), GREEN), np.full((20, 40, 3), (255, 0, 0))])
    two = Cutout(half.astype(np.uint8), Box(10, 10, 20, 20))
    edge = place(ground, [(two, 0.0, 50.0, 40.0, 0.0)]).rgb
    assert edge[40, 2].tolist() == list(GREEN)
    # Tilted to the left, what was above is at the left.
    left = place(ground, [(two, 50.0, 50.0, 40.0, 90.0)]).rgb
    assert left[50, 35].tolist() == list(GREEN)
    assert left[50, 65].tolist() == [255, 0, 0]


def test_a_training_face_lies_where_its_geometry_puts_it() -> None:
    geometry = CropGeometry(scale=1.2, shift_x=0.02, shift_y=-0.05)
    cutout = of_training_face(np.zeros((48, 48), np.uint8), geometry)
    # The way back: the square for that box is the training face.
    assert geometry.square(cutout.box) == (0, 0, 48)


def test_a_ground_keeps_its_proportions() -> None:
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, 100:200] = 255
    middle = cropped(image, 200, 200)
    assert middle.shape == (200, 200, 3)
    # But for the two columns where it is mixed with what was beside it.
    assert middle[:, 1:-1].min() == 255
    assert middle.mean() > 254


@pytest.mark.parametrize(("count", "columns", "side"), [(1, 1, 90), (4, 2, 45), (8, 4, 40)])
def test_a_grid_has_the_largest_cells(count: int, columns: int, side: float) -> None:
    middles, cell = grid(count, 160, 90)
    assert len({x for x, _ in middles}) == columns
    assert cell == side
    assert len(set(middles)) == count


def test_a_canvas_is_gray_around_the_face() -> None:
    face = np.arange(48 * 48).reshape(48, 48).astype(np.uint8)
    canvas = on_canvas(face)
    assert canvas.shape == (144, 144)
    np.testing.assert_array_equal(canvas[48:96, 48:96], face)
    assert np.unique(np.delete(canvas.ravel(), 0)[:48]).tolist() == [round(face.mean())]


def test_pictures_without_faces_are_the_same_for_a_seed(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    cv2.imwrite(str(tmp_path / "b.png"), rng.integers(0, 256, (400, 600, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "a.png"), rng.integers(0, 256, (60, 80, 3), np.uint8))
    sources = photos_of(tmp_path)
    assert [name for name, _ in sources] == ["a.png", "b.png"]
    first, again, other = (list(negatives.faceless(sources, seed)) for seed in (0, 0, 1))
    assert len(first) == len(again)
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.rgb, same.rgb)
    assert any(
        one.rgb.shape != them.rgb.shape or (one.rgb != them.rgb).any()
        for one, them in zip(first, other, strict=False)
    )
    for picture in first:
        longest = max(picture.rgb.shape[:2])
        if picture.size == "small":
            assert picture.rgb.shape[0] == picture.rgb.shape[1]
            assert longest in SMALL_SIDES
        else:
            assert longest > max(SMALL_SIDES)
    assert {picture.size for picture in first if picture.source == "a.png"} == {"small"}
    with pytest.raises(DataError, match="has no pictures"):
        photos_of(tmp_path / "nothing")


def test_the_pictures_that_come_with_it_are_500_and_more() -> None:
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    sources = negatives.photos()
    assert "astronaut.png" not in dict(sources)
    sizes = [picture.size for picture in negatives.faceless(sources)]
    assert sizes.count("large") >= 250
    assert sizes.count("small") >= 500


def _write_faces(path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    with path.open("w", encoding="ascii", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["emotion", "pixels", "Usage"])
        for at in range(count):
            pixels = " ".join(map(str, rng.integers(0, 256, 48 * 48)))
            writer.writerow([at % 7, pixels, "PublicTest"])


def test_a_scene_in_less_light() -> None:
    rgb = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20
    dark = darkened(Scene(rgb, (Box(0, 0, 1, 1),)), 8)
    assert dark.rgb.ravel().tolist() == [0, 2, 5, 8, 10, 12, 15, 18, 20, 22, 25, 28]
    assert dark.boxes == (Box(0, 0, 1, 1),)


def test_reach_counts_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, fewer in (
        ("SIZES", (2, 10, 40)),
        ("TILTS", (0, 45)),
        ("DARKS", (1, 4)),
        ("COUNTS", (1, 9, 100)),
    ):
        monkeypatch.setattr(detection, name, fewer)
    grounds = [("brick.png", np.full((60, 80, 3), 90, np.uint8))] * 2
    rows = reach(Green(), grounds, [_patch(0.8)], "patch", seed=0)
    assert [(row.what, row.value) for row in rows] == [
        ("size", 2), ("size", 10), ("size", 40), ("tilt", 0), ("tilt", 45), ("dark", 1),
        ("dark", 4), ("count", 1), ("count", 9), ("count", 100),
    ]  # fmt: skip
    for row in rows:
        # A disc is green whatever its size and tilt; in the crowds their edges stay apart.
        assert row.faces == (2 * row.value if row.what == "count" else 12)
        assert row.found == row.faces, row
        assert row.extra == 0
    assert reach(Green(), grounds, [_patch(0.8)], "patch", seed=0) == rows


def test_false_alarms_by_size_and_source() -> None:
    def picture(green: bool, size: str, source: str) -> Faceless:
        rgb = np.zeros((300, 300, 3), np.uint8)
        if green:
            rgb[100:150, 100:150] = rgb[200:220, 200:220] = GREEN
        return Faceless(rgb, source, size)  # type: ignore[arg-type]

    pictures = [
        picture(True, "large", "grass 1"),
        picture(True, "large", "grass 2"),
        picture(False, "large", "grass 3"),
        picture(True, "small", "leaf"),
    ]
    assert false_alarms(Green(), iter(pictures)) == [
        FalseAlarms("large", 3, 2, {"grass": 2}),
        FalseAlarms("small", 1, 1, {"leaf": 1}),
    ]
    assert [row.size for row in false_alarms(Green(), iter(pictures[:1]))] == ["large"]


def test_answers_count_how_well() -> None:
    """The same faces as they are and hidden from the detector, with the bundled models."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(100, 256, (48, 48, 3), np.uint8) for _ in range(3)]
    for picture in pictures[:2]:
        picture[10:40, 10:40] = GREEN
    faces = LabelledFaces(np.zeros((3, 48, 48), np.uint8), ("happy",) * 3, "PublicTest")
    with FerPipeline(detector=Green(), device="cpu", threads=1) as pipeline:
        told = [pipeline.predict(one, color="rgb")[0].emotion for one in pictures[:2]]
        result = answers(pipeline, faces, [picture[..., ::-1] for picture in pictures], 0.25)
    right = sum(emotion == "happy" for emotion in told)
    assert result == Answers(3, 2, right / 3, right / 2, 0.25)


def _write_faces(path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    with path.open("w", encoding="ascii", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["emotion", "pixels", "Usage"])
        for at in range(count):
            pixels = " ".join(map(str, rng.integers(0, 256, 48 * 48)))
            writer.writerow([at % 7, pixels, "PublicTest"])


def test_the_command_on_composed_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    for name, fewer in (("SIZES", (2, 40)), ("TILTS", (0,)), ("DARKS", (1,)), ("COUNTS", (1,))):
        monkeypatch.setattr(detection, name, fewer)
    folder = tmp_path / "empty rooms"
    folder.mkdir()
    cv2.imwrite(str(folder / "gray.png"), np.full((300, 400, 3), 128, np.uint8))
    _write_faces(tmp_path / "fer2013.csv", 20)
    out = tmp_path / "detection.json"
    done = CliRunner().invoke(
        app,
        ["detection", str(tmp_path / "fer2013.csv"), "--limit", "12", "--detector",
         "blazeface,yunet", "--no-faces", str(folder), "--json", str(out)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    results = json.loads(out.read_text())
    assert [one["pipeline"]["detector"] for one in results] == ["blazeface", "yunet"]
    for one in results:
        assert one["low_resolution"]["pictures"] == 12
        half = [row for row in one["reach"] if (row["what"], row["value"]) == ("size", 2)]
        assert [row["found"] for row in half if row["face"] == "portrait"] == [12]
        assert {row["face"] for row in half} == {"portrait", "FER2013"}
    assert "size 1/40" in done.output
    assert "seed 0" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--detector", "haar"], "not one of auto, mediapipe, blazeface, yunet"),
        (["--json", "nowhere/out.json"], "its folder does not exist"),
        (["--photos", "."], "--photos and --truth go together"),
        (["--plot", "recall.png"], "--plot is of --photos"),
    ],
)
def test_wrong_usage_is_said(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["detection", *arguments], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert message in " ".join(done.output.replace("│", " ").split())
