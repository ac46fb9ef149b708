"""Turning faces upright: the right way round, and worth what a model makes of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from alignment import measure_alignment, turned, write_alignment

from fer_sdk.image.crop import roll_angle
from fer_training.data.faces import EMOTIONS, FaceSet
from fer_training.data.ground_truth import GroundTruth, digest

SIDE = 48
LEFT, RIGHT = 255, 200


def _face(label: int, angle: float) -> np.ndarray:
    """Two eyes of different light on a ground that tells the label."""
    face = np.full((SIDE, SIDE), 10 * label, np.uint8)
    reach = 10 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    for sign, light in ((-1, LEFT), (1, RIGHT)):
        x, y = np.array([23.5, 23.5]) + sign * reach
        cv2.circle(face, (round(16 * x), round(16 * y)), 16 * 4, light, -1, cv2.LINE_AA, 4)
    return face


def _eyes(images: np.ndarray) -> np.ndarray:
    points = np.zeros((len(images), 4, 2), np.float32)
    for row, image in enumerate(images):
        for eye, inside in enumerate((image > 227, (image > 170) & (image < 213))):
            y, x = np.nonzero(inside)
            points[row, eye] = (x.mean() + 0.5) / SIDE, (y.mean() + 0.5) / SIDE
    return points


class _Landmarks:
    """Sees the two eyes."""

    metadata = SimpleNamespace(input_size=SIDE)
    sha256 = "l"

    def landmarks(self, faces: np.ndarray) -> np.ndarray:
        return _eyes(faces)


class _Emotion:
    """Right on faces that are upright to 4 degrees, always wrong on others."""

    metadata = SimpleNamespace(input_size=SIDE, labels=EMOTIONS)
    sha256 = "e"
    source = "e.onnx"

    def scores(self, faces: np.ndarray) -> np.ndarray:
        level = np.abs(roll_angle(_eyes(faces))) < 4
        label = np.round(np.median(faces, axis=(1, 2)) / 10).astype(int)
        return np.eye(7, dtype=np.float32)[np.where(level, label, (label + 1) % 7)]


def test_a_turn_moves_the_eye_line_by_its_angle() -> None:
    faces = np.stack([_face(0, 0.0)] * 3)
    angles = np.array([0.0, 30.0, -20.0])
    assert roll_angle(_eyes(turned(faces, angles))) == pytest.approx(angles, abs=1.5)
    assert np.array_equal(turned(faces, angles)[0], faces[0])


def test_alignment_gains_where_the_model_fails_on_tilted_faces(tmp_path: Path) -> None:
    natural = np.array([0.0, 0.0, 0.0, 10.0] * 7)
    labels = np.repeat(np.arange(7), 4)
    images = np.stack([_face(k, a) for k, a in zip(labels, natural, strict=True)])
    part = FaceSet(images, labels, np.array(["PublicTest"] * 28), EMOTIONS)
    digests, first = np.unique(digest(images), return_index=True)
    truth = GroundTruth(digests, _eyes(images)[first], np.zeros(len(first), np.float32))

    measured = measure_alignment(
        _Emotion(),  # type: ignore[arg-type]
        _Landmarks(),  # type: ignore[arg-type]
        part,
        truth,
        split="PublicTest",
        tilts=[0.0, 25.0],
    )

    upright, tilted = measured.tilts
    assert (upright.as_it_is, upright.aligned, upright.aligned_by_truth) == (0.75, 1, 1)
    assert (tilted.as_it_is, tilted.aligned, tilted.aligned_by_truth) == (0, 1, 1)
    # The faces of 10 degrees stay as they are, and so do those that 25 the other way brings to 15.
    assert (upright.as_default, upright.gain, upright.interval) == (0.75, 0, 0)
    gains = np.where(np.abs(natural + 25 * np.where(np.arange(28) % 2, 1, -1)) > 16, 1, 0)
    assert tilted.as_default == pytest.approx(gains.mean(), abs=0.001)
    assert tilted.interval == pytest.approx(1.96 * gains.std(ddof=1) / np.sqrt(28))
    assert tilted.angle_error is not None
    assert tilted.angle_error < 1.5
    assert measured.natural_tilt == pytest.approx(2.5, abs=0.5)
    text = write_alignment(measured, tmp_path).read_text()
    assert "| 25° | 0.00 % | 100.00 % | 100.00 % | +100.00 ± 0.00 |" in text
    assert (tmp_path / "alignment.png").stat().st_size > 5000


def test_faces_that_the_truth_does_not_know_keep_their_tilt() -> None:
    images = np.stack([_face(k, 0.0) for k in range(7)])
    part = FaceSet(images, np.arange(7), np.array(["PublicTest"] * 7), EMOTIONS)
    measured = measure_alignment(
        _Emotion(),  # type: ignore[arg-type]
        _Landmarks(),  # type: ignore[arg-type]
        part,
        GroundTruth.load(),
        split="PublicTest",
        tilts=[25.0],
    )
    (figures,) = measured.tilts
    assert (figures.as_it_is, figures.aligned, figures.aligned_by_truth) == (0, 1, 0)
    assert (figures.angle_error, measured.natural_tilt) == (None, None)
