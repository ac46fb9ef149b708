"""int8 gives what fp32 gives, whatever the CPU's integer instructions: CI also runs this on a CPU
without VNNI, whose kernels add products in 16 bits and would overflow with weights of 8 bits."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk import FerPipeline


def _crops(photo: Path) -> list[npt.NDArray[np.uint8]]:
    """The example's face, framed, turned and lit in many ways."""
    image = cv2.imread(str(photo))
    assert image is not None
    rng = np.random.default_rng(0)
    crops = []
    for _ in range(24):
        middle = (224 + rng.uniform(-15, 15), 130 + rng.uniform(-15, 15))
        turn = cv2.getRotationMatrix2D(middle, rng.uniform(-25, 25), 96 / rng.uniform(90, 150))
        turn[:, 2] += 48 - np.array(middle)
        crop = cv2.warpAffine(image, turn, (96, 96)).astype(float)
        light = rng.uniform(0.3, 1.5) * crop + rng.normal(0, rng.uniform(0, 25), crop.shape)
        crops.append(np.clip(light, 0, 255).astype(np.uint8))
    black, white = np.zeros((96, 96, 3), np.uint8), np.full((96, 96, 3), 255, np.uint8)
    return [*crops, black, white]


def test_int8_gives_the_scores_and_landmarks_of_fp32(example_photo: Path) -> None:
    crops = _crops(example_photo)
    results = {}
    for precision in ("int8", "fp32"):
        with FerPipeline(detector=None, device="cpu", precision=precision, threads=1) as pipe:
            results[precision] = pipe.predict_batch(crops, on_error="raise")
    faces = [(small[0], full[0]) for small, full in zip(*results.values(), strict=True)]
    scores = np.array([[list(face.scores.values()) for face in pair] for pair in faces])
    points = np.array([[face.landmarks for face in pair] for pair in faces])
    assert np.abs(scores[:, 0] - scores[:, 1]).max() < 0.1
    drift = np.linalg.norm(points[:, 0] - points[:, 1], axis=2) / 96
    assert drift.mean() < 0.01, "of the crop's side"
