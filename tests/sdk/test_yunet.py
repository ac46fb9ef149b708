"""YuNet's decoding, against OpenCV's own for the same network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

import scenes
from fer_sdk.detectors.yunet import YuNetDetector
from fer_sdk.models.packaged import read_bundled

Pixels = npt.NDArray[np.uint8]

WIDTH, HEIGHT = 640, 384
"""Multiples of 32 and one of the sides of a look, so that neither brings it to another size."""
LEAST, MOST_OVERLAP = 0.3, 0.3

# OpenCV runs the network itself, in float32: 0.01 of a pixel is what other kernels make of it.
_PIXELS, _SCORE, _DEGREES = 0.05, 1e-4, 0.2


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("yunet") / "yunet.onnx"
    path.write_bytes(read_bundled("face_detection_yunet_n.onnx"))
    return cv2.FaceDetectorYN.create(str(path), "", (WIDTH, HEIGHT), LEAST, MOST_OVERLAP, 5000)


def _run(theirs: Any, rgb: Pixels) -> npt.NDArray[np.float32]:
    """Rows of box, the two eyes first of the five points, and the score last."""
    _, rows = theirs.detect(np.ascontiguousarray(rgb[..., ::-1]))
    return np.zeros((0, 15), np.float32) if rows is None else np.asarray(rows)


def _assert_parity(ours: YuNetDetector, theirs: Any, scene: Pixels) -> int:
    expected = _run(theirs, scene)
    found = [one for one in ours._candidates(scene, 1, WIDTH) if one.score >= LEAST]
    assert len(found) == len(expected)
    left = list(found)
    for row in expected:
        one = min(left, key=lambda one: float(np.abs(one.box - row[:4]).sum()))
        left.remove(one)
        np.testing.assert_allclose(one.box, row[:4], atol=_PIXELS)
        assert one.score == pytest.approx(float(row[14]), abs=_SCORE)
        roll = np.degrees(np.arctan2(row[7] - row[5], row[6] - row[4]))
        assert (one.roll - roll + 180) % 360 - 180 == pytest.approx(0, abs=_DEGREES)
    return len(expected)


@pytest.fixture(scope="module")
def ours() -> YuNetDetector:
    return YuNetDetector(LEAST)


def test_faces_of_every_size_and_tilt(ours: YuNetDetector, theirs: Any) -> None:
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(25):
        faces = [
            (float(x), float(y), float(rng.uniform(12, 90)), float(rng.uniform(-60, 60)))
            for x in rng.uniform(0, WIDTH, 4)
            for y in rng.uniform(0, HEIGHT, 1)
        ]
        compared += _assert_parity(ours, theirs, scenes.placed(scenes.ground(WIDTH, HEIGHT), faces))
    assert compared > 60


def test_a_crowd(ours: YuNetDetector, theirs: Any) -> None:
    crowd, boxes = scenes.crowd(10, 6, 64)
    assert _assert_parity(ours, theirs, crowd) == len(boxes)


def test_a_photo_and_what_shows_no_face(
    ours: YuNetDetector, theirs: Any, example_photo: Path
) -> None:
    photo = np.asarray(cv2.imread(str(example_photo))[..., ::-1])
    assert _assert_parity(ours, theirs, cv2.resize(photo[:307], (WIDTH, HEIGHT))) == 1
    rng = np.random.default_rng(1)
    for _ in range(5):
        clouds = scenes.clouds(rng, WIDTH)[:HEIGHT]
        _assert_parity(ours, theirs, np.ascontiguousarray(clouds))


def test_a_picture_that_is_no_multiple_of_32_is_padded(ours: YuNetDetector, theirs: Any) -> None:
    scene = scenes.placed(scenes.ground(WIDTH, 371), [(300, 180, 100, 0), (600, 350, 60, 0)])
    padded = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    padded[:371] = scene
    found = [one for one in ours._candidates(scene, 1, WIDTH) if one.score >= LEAST]
    expected = _run(theirs, padded)
    assert len(found) == len(expected) == 2
    for one, row in zip(found, sorted(expected, key=lambda row: -row[14]), strict=True):
        np.testing.assert_allclose(one.box, row[:4], atol=_PIXELS)


def test_the_square_is_as_large_as_the_face_and_lower(ours: YuNetDetector) -> None:
    """YuNet draws the forehead too; the square is brought to where BlazeFace draws it."""
    scene = scenes.placed(scenes.ground(WIDTH, HEIGHT), [(320, 190, 150, 0)])
    (candidate,) = ours._candidates(scene, 1, WIDTH)
    (face,) = ours.detect(scene)
    x, y, width, height = face.box
    assert width == pytest.approx(height)
    assert width == pytest.approx(0.97 * np.sqrt(candidate.box[2] * candidate.box[3]), rel=0.05)
    assert x + width / 2 == pytest.approx(candidate.box[0] + candidate.box[2] / 2, abs=3)
    assert y + height / 2 > candidate.box[1] + candidate.box[3] / 2
