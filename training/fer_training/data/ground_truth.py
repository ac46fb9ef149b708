"""Ground-truth landmarks of FER2013, made by MediaPipe's face landmarker.

The coordinates for FER2013 are part of the package, so this needs to run only for other faces or
with another landmarker. They are keyed by a digest of the pixels: a copy of FER2013 with other
rows missing, or in another order, still finds its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_sdk.cpu_count import usable_cores
from fer_sdk.errors import DataError
from fer_training.data.fetch import FACE_LANDMARKER, file_sha256
from fer_training.data.margins import MARGINS, with_margin

# Indices of MediaPipe's 478-point mesh. It names sides as the person has them, so its right eye is
# the left one of the image. An eye's centre is the mean of its contour, which, unlike the iris,
# does not move with the gaze.
_LEFT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
_RIGHT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
_LEFT_LIP_CORNER, _RIGHT_LIP_CORNER = 61, 291

_MIN_CONFIDENCE = 0.3

# Coordinates are stored as int16 steps of 1/16384 of the crop: +-2 crops, error below 0.0001 px.
_STEPS = 16384


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """Landmarks by pixel digest.

    Attributes:
        digests: uint64 ``[N]``, sorted.
        landmarks: float32 ``[N, 4, 2]``, x and y as fractions of the crop; NaN where no face was
            found.
        spread: float32 ``[N]``, mean distance between what the landmarker says of a crop and of
            its mirror image, as a fraction of the crop: how far the truth can be trusted. NaN where
            the face was not found in both.
    """

    digests: npt.NDArray[np.uint64]
    landmarks: npt.NDArray[np.float32]
    spread: npt.NDArray[np.float32]

    def of(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Landmarks float32 ``[N, 4, 2]`` of crops uint8 ``[N, S, S]``; NaN for unknown ones."""
        digests = digest(images)
        at = np.minimum(np.searchsorted(self.digests, digests), len(self.digests) - 1)
        known = self.digests[at] == digests
        return np.where(known[:, None, None], self.landmarks[at], np.float32(np.nan))

    def spread_of(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Mirror spread float32 ``[N]`` of crops; NaN for unknown ones."""
        digests = digest(images)
        at = np.minimum(np.searchsorted(self.digests, digests), len(self.digests) - 1)
        return np.where(self.digests[at] == digests, self.spread[at], np.float32(np.nan))

    def save(self, path: Path) -> None:
        """Write a compact ``.npz``, whole or not at all."""
        found = ~np.isnan(self.landmarks[:, 0, 0])
        points = np.where(found[:, None, None], self.landmarks, 0)
        spread = np.where(np.isnan(self.spread), -1, np.round(self.spread * _STEPS))
        part = path.with_name(path.name + ".part")
        with part.open("wb") as stream:
            np.savez_compressed(
                stream,
                digests=self.digests,
                found=found,
                points=np.round(points * _STEPS).astype(np.int16),
                spread=spread.clip(-1, 32767).astype(np.int16),
            )
        part.replace(path)

    @classmethod
    def load(cls, path: Path | None = None) -> GroundTruth:
        """Read what ``save`` wrote; without a path, the FER2013 coordinates of the package."""
        if path is None:
            packaged = resources.files("fer_training") / "truth" / "fer2013_landmarks.npz"
            with resources.as_file(packaged) as file:
                return cls.load(file)
        try:
            with np.load(path) as stored:
                found = stored["found"]
                return cls(
                    digests=stored["digests"],
                    landmarks=np.where(
                        found[:, None, None], stored["points"] / np.float32(_STEPS), np.nan
                    ).astype(np.float32),
                    spread=np.where(
                        stored["spread"] < 0, np.nan, stored["spread"] / np.float32(_STEPS)
                    ).astype(np.float32),
                )
        except (OSError, KeyError, ValueError) as error:
            raise DataError(f"{path}: not a file of ground-truth landmarks: {error}") from error


def digest(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """One uint64 per image (BLAKE2b, 8 bytes) of uint8 ``[N, S, S]``."""
    return np.array(
        [
            int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest(), "little")
            for image in images
        ],
        np.uint64,
    )


def extract(
    images: npt.NDArray[np.uint8], bundle: Path, *, workers: int | None = None, chunk: int = 256
) -> Iterable[GroundTruth]:
    """Run MediaPipe's landmarker over crops uint8 ``[N, S, S]``, yielding chunk after chunk.

    Raises:
        DataError: the bundle is missing or is not the published one.
    """
    _check_bundle(bundle)
    chunks = [images[start : start + chunk] for start in range(0, len(images), chunk)]
    with ProcessPoolExecutor(workers or usable_cores()) as pool:
        yield from pool.map(partial(_extract_chunk, bundle=bundle), chunks)


def merge(parts: Iterable[GroundTruth]) -> GroundTruth:
    """One sorted ground truth out of many; the same pixels are kept once."""
    gathered = list(parts)
    digests, first = np.unique(
        np.concatenate([part.digests for part in gathered]), return_index=True
    )
    return GroundTruth(
        digests,
        np.concatenate([part.landmarks for part in gathered])[first],
        np.concatenate([part.spread for part in gathered])[first],
    )


def _check_bundle(bundle: Path) -> None:
    if not bundle.is_file():
        raise DataError(f"{bundle}: no such file; fetch it with 'fer-train fetch face-landmarker'")
    found = file_sha256(bundle)
    if found != FACE_LANDMARKER.sha256:
        raise DataError(
            f"{bundle}: sha256 {found} is not MediaPipe's face_landmarker.task "
            f"(float16, version 1: {FACE_LANDMARKER.sha256})"
        )


def _extract_chunk(images: npt.NDArray[np.uint8], bundle: Path) -> GroundTruth:
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(bundle)),
        min_face_detection_confidence=_MIN_CONFIDENCE,
        min_face_presence_confidence=_MIN_CONFIDENCE,
    )
    points = np.full((len(images), 4, 2), np.nan, np.float32)
    spread = np.full(len(images), np.nan, np.float32)
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        for row, image in enumerate(images):
            straight = _four_points(landmarker, image)
            mirrored = _four_points(landmarker, np.ascontiguousarray(image[:, ::-1]))
            if straight is None:
                continue
            if mirrored is None:
                points[row] = straight
                continue
            back = mirror_landmarks(mirrored)
            points[row] = (straight + back) / 2
            spread[row] = np.linalg.norm(straight - back, axis=-1).mean()
    return GroundTruth(digest(images), points, spread)


def mirror_landmarks(landmarks: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Landmarks ``[..., 4, 2]`` of the mirrored crop: x turned round, left and right swapped."""
    swapped = landmarks[..., [1, 0, 3, 2], :].copy()
    swapped[..., 0] = 1 - swapped[..., 0]
    return swapped


def _four_points(landmarker: Any, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32] | None:
    import mediapipe

    side = len(image)
    for margin in MARGINS:
        picture, pad = with_margin(image, margin)
        frame = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture)
        result = landmarker.detect(frame)
        if result.face_landmarks:
            mesh = np.array([(p.x, p.y) for p in result.face_landmarks[0]], np.float32)
            four = np.stack(
                [
                    mesh[list(_LEFT_EYE)].mean(axis=0),
                    mesh[list(_RIGHT_EYE)].mean(axis=0),
                    mesh[_LEFT_LIP_CORNER],
                    mesh[_RIGHT_LIP_CORNER],
                ]
            )
            inside = (four * (side + 2 * pad) - pad) / side
            return inside.astype(np.float32)
    return None
