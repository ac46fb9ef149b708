"""The measured crop geometry, against detectors and faces whose geometry is known."""

from __future__ import annotations

import gzip
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from fer_sdk.detectors import Detection
from fer_sdk.detectors.blazeface import BlazeFaceDetector
from fer_sdk.errors import DataError
from fer_sdk.image.crop import Square
from fer_sdk.types import Box
from fer_training.data.crop_geometry import MeasuredGeometry, find_boxes, measure, measure_split
from fer_training.data.faces import EMOTIONS, FaceSet, read_faces

Pixels = npt.NDArray[np.uint8]


class WhiteSquareDetector:
    """Finds the white square of an image, ``bias`` pixels too far to the right."""

    name = "white square"

    def __init__(self, *, bias: float = 0.0, smallest_image: int = 0) -> None:
        self.bias = bias
        self.smallest_image = smallest_image

    def detect(self, image: Pixels) -> list[Detection]:
        rows, columns = np.nonzero(image[..., 0] > 157)
        if not len(rows) or len(image) < self.smallest_image:
            return []
        x, y = float(columns.min()), float(rows.min())
        box = Box(x + self.bias, y, columns.max() + 1.0 - x, rows.max() + 1.0 - y)
        # A smaller box, as of a face in the background, is not what frames the face.
        return [Detection(Box(0, 0, 3, 3), 0.99), Detection(box, 0.7)]

    def close(self) -> None:
        pass


def faces_with(boxes: npt.NDArray[np.int64]) -> Pixels:
    """Gray 48x48 pictures with a white square at x, y, side."""
    images = np.full((len(boxes), 48, 48), 60, np.uint8)
    for image, (x, y, side) in zip(images, boxes, strict=True):
        image[y : y + side, x : x + side] = 255
    return images


def scattered(count: int, seed: int = 0) -> npt.NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    sides = rng.integers(18, 31, count)
    x = np.rint(rng.normal(24, 2, count) - sides / 2).astype(np.int64)
    y = np.rint(rng.normal(27, 2, count) - sides / 2).astype(np.int64)
    return np.stack([x, y, sides], axis=1)


def test_boxes_are_fractions_of_the_crop() -> None:
    boxes = np.array([[10, 20, 16], [4, 3, 30]])
    found = find_boxes(faces_with(boxes), WhiteSquareDetector())
    expected = np.stack([boxes[:, 0] + boxes[:, 2] / 2, boxes[:, 1] + boxes[:, 2] / 2, boxes[:, 2]])
    for side in (0, 1):
        assert np.allclose(found[:, side], expected.T / 48, atol=0.6 / 48)


def test_the_square_from_a_box_is_the_crop_that_it_was_found_in() -> None:
    boxes = np.array([[12, 15, 24]] * 40)
    measured = measure(faces_with(boxes), WhiteSquareDetector())
    # The same face in a photo, twenty times as large: its crop is 960 pixels wide.
    square = measured.geometry.square(Box(1000 + 240, 500 + 300, 480, 480))
    assert np.allclose(square, Square(1000, 500, 960), atol=12)
    # The same white square every time.
    assert measured.jitter_scale == 0
    assert measured.jitter_x == measured.jitter_y == 0
    assert (measured.faces, measured.found) == (40, 40)


def test_the_middle_and_the_spread_of_many() -> None:
    boxes = scattered(300)
    measured = measure(faces_with(boxes), WhiteSquareDetector())
    x, y, side = boxes.T / 48
    x, y = x + side / 2, y + side / 2
    assert measured.geometry.scale == pytest.approx(1 / np.median(side), rel=0.03)
    assert measured.geometry.shift_x == pytest.approx(0, abs=0.02)
    assert measured.geometry.shift_y == pytest.approx(np.median((0.5 - y) / side), abs=0.02)
    assert measured.jitter_scale == pytest.approx(np.log(side).std(), rel=0.1)
    moved_y = y + measured.geometry.shift_y * side
    assert measured.jitter_y == pytest.approx(moved_y.std(), rel=0.1)
    assert measured.jitter_x == pytest.approx(x.std(), rel=0.1)


def test_a_detectors_left_and_right_cancel_out() -> None:
    images = faces_with(np.array([[12, 15, 24]] * 40))
    straight = measure(images, WhiteSquareDetector())
    # In the picture enlarged four times, 9.6 pixels are a twentieth of the crop.
    leaning = measure(images, WhiteSquareDetector(bias=9.6))
    assert leaning.geometry == straight.geometry
    assert leaning.jitter_x == pytest.approx(0.05, abs=0.001)


def test_what_one_margin_misses_another_may_find() -> None:
    boxes = np.array([[12, 15, 24]] * 40)
    images = faces_with(boxes)
    with_a_quarter = 4 * (48 + 2 * 12)
    large = measure(images, WhiteSquareDetector(smallest_image=with_a_quarter + 1))
    assert large.found == 40
    assert np.allclose((large.geometry.scale, large.geometry.shift_y), (2.0, -3 / 24), atol=0.05)


def test_faces_that_are_not_found_are_counted_and_left_out() -> None:
    images = np.concatenate([faces_with(scattered(60)), np.full((20, 48, 48), 90, np.uint8)])
    boxes = find_boxes(images, WhiteSquareDetector())
    assert np.isnan(boxes[60:]).all()
    assert not np.isnan(boxes[:60]).any()
    measured = measure(images, WhiteSquareDetector())
    assert (measured.faces, measured.found) == (80, 60)
    assert measured.geometry == measure(images[:60], WhiteSquareDetector()).geometry


def test_too_few_say_nothing() -> None:
    with pytest.raises(DataError, match="0 of 50"):
        measure(np.full((50, 48, 48), 90, np.uint8), WhiteSquareDetector())


def face_set(count: int) -> FaceSet:
    images = faces_with(scattered(count))
    images[::7] = 90  # no face in every seventh, all of them angry
    labels = np.where(np.arange(count) % 7 == 0, 0, 3).astype(np.int64)
    splits = np.where(np.arange(count) < count - 20, "Training", "PublicTest")
    return FaceSet(images, labels, splits, EMOTIONS)


def test_a_sample_of_a_split_keeps_its_conditions() -> None:
    faces = face_set(120)
    detector = WhiteSquareDetector()
    measured = measure_split(faces, detector, count=80, seed=5)
    assert measured.faces == 80
    assert measured.conditions["seed"] == 5
    assert measured.conditions["split"] == "Training"
    assert measured.conditions["detector"] == "white square"
    assert measured.conditions["found_by_label"] == {"angry": 0.0, "happy": 1.0}
    assert measured == measure_split(faces, detector, count=80, seed=5)
    assert measured != measure_split(faces, detector, count=80, seed=6)
    with pytest.raises(DataError, match="100 faces, fewer than the 101"):
        measure_split(faces, detector, count=101, seed=5)


def test_saved_and_read_again(tmp_path: Path) -> None:
    measured = measure_split(face_set(120), WhiteSquareDetector(), count=80, seed=1)
    measured.save(tmp_path / "geometry.json")
    assert MeasuredGeometry.load(tmp_path / "geometry.json") == measured
    assert [file.name for file in tmp_path.iterdir()] == ["geometry.json"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"geometry": {"scale": 1}}', "\x00"])
def test_other_files_are_refused_by_name(content: str, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(DataError, match=r"other\.json"):
        MeasuredGeometry.load(file)
    with pytest.raises(DataError, match=r"missing\.json"):
        MeasuredGeometry.load(tmp_path / "missing.json")


def test_the_package_brings_fer2013s() -> None:
    measured = MeasuredGeometry.load()
    assert measured.faces >= 4000
    assert measured.found > 0.99 * measured.faces
    # With mirror images measured as well, faces are not framed to one side.
    assert abs(measured.geometry.shift_x) < 0.01
    assert {"split", "seed", "detector", "tools", "found_by_label"} <= set(measured.conditions)


@pytest.mark.data
def test_the_packaged_geometry_frames_other_faces_of_fer2013(
    fer2013_path: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few.csv"
    with gzip.open(fer2013_path, "rt", encoding="ascii") as rows:
        few.write_text("".join(islice(rows, 251)), encoding="ascii")
    faces = read_faces(few).split("Training")
    packaged = MeasuredGeometry.load()
    here = measure(faces.images, BlazeFaceDetector())
    assert here.found > 0.97 * here.faces
    assert here.geometry.scale == pytest.approx(packaged.geometry.scale, rel=0.04)
    assert here.geometry.shift_x == pytest.approx(packaged.geometry.shift_x, abs=0.02)
    assert here.geometry.shift_y == pytest.approx(packaged.geometry.shift_y, abs=0.02)
    assert here.jitter_x == pytest.approx(packaged.jitter_x, rel=0.3)
    assert here.jitter_y == pytest.approx(packaged.jitter_y, rel=0.3)
    assert here.jitter_scale == pytest.approx(packaged.jitter_scale, rel=0.3)
