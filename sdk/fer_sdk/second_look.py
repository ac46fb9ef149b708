"""A second look at small pictures in which the detector found nothing.

Detectors are trained on faces with something around them, and miss some of those that fill a
picture, as in FER2013: 5 % of them. A margin of even gray brings most of these back, but lets a
clouded sky pass for a face more often too. So there is a second witness: the landmarks model finds
its four points on anything, but only on a face do they stay where they are when the crop is moved,
resized or mirrored.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.crop import Square, centred_square, crop_gray
from fer_sdk.detectors.base import Detection, clamped
from fer_sdk.detectors.blazeface import BlazeFaceDetector
from fer_sdk.face import Box
from fer_sdk.model import LandmarksModel

LARGEST_SIDE = 256
"""Pictures with a longer side get no second look: crops of faces are smaller."""

LONGEST_RATIO = 1.5
"""Nor do pictures whose longer side is more than this many times the shorter one."""

# All four were chosen on faces of FER2013's Training part against pictures without faces, and are
# measured on others by `fer-bench detection`.
_MARGIN = 0.5
_LEAST_EVIDENCE = 0.3
_WEIGHT_OF_SPREAD = 4.0
# How the crop is moved (right, down) and resized, in sides of it; the mirrored one comes last.
_VIEWS = (
    (0.0, 0.0, 1.0),
    (0.08, 0.05, 1.0),
    (-0.08, -0.05, 1.0),
    (0.0, 0.0, 1.15),
    (0.0, 0.0, 0.87),
)
_MIRRORED = (1, 0, 3, 2)


class SecondLook:
    """Says whether a small picture is the crop of a face. Holds nothing that a call changes."""

    def __init__(self, min_score: float) -> None:
        """Open BlazeFace, which is asked about faces below ``min_score`` too.

        Args:
            min_score: least detection score of a face, 0..1. One above 0.5 asks more of a picture
                that is taken for a face as a whole too.

        Raises:
            SettingError: ``min_score`` is not from 0 to 1.
            ModelError: the bundled model does not open.
        """
        self._min_score = min_score
        self._least = _LEAST_EVIDENCE * max(1.0, min_score / 0.5)
        self._detector = BlazeFaceDetector(min(min_score, self._least), threads=1)

    @staticmethod
    def applies(image: npt.NDArray[np.uint8]) -> bool:
        """Whether a picture ``[H, W, 3]`` is of the size and shape of a face crop."""
        shorter, longer = sorted(image.shape[:2])
        return bool(longer <= min(LARGEST_SIDE, LONGEST_RATIO * shorter))

    def look(
        self, image: npt.NDArray[np.uint8], landmarks: LandmarksModel
    ) -> Detection | Square | None:
        """Look for one face that fills an RGB image uint8 ``[H, W, 3]``.

        Returns:
            What the detector finds where the picture has a margin; the centred square of the
            picture where it finds that only below the least detection score; None where this is
            not the crop of a face.

        Raises:
            ModelError: onnxruntime fails.
        """
        height, width = image.shape[:2]
        padded, margin = _padded(image)
        found = self._detector.detect(padded)
        if not found:
            return None
        best = max(found, key=lambda detection: detection.score)
        square = centred_square(width, height)
        if best.score - _WEIGHT_OF_SPREAD * _spread(image, square, landmarks) < self._least:
            return None
        x, y, across, down = best.box
        box = clamped(Box(x - margin, y - margin, across, down), width, height)
        if box is None or best.score < self._min_score:
            return square
        return Detection(box, best.score)


def _padded(image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], int]:
    margin = max(1, round(_MARGIN * max(image.shape[:2])))
    gray = [round(cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0])] * 3
    padded = cv2.copyMakeBorder(
        image, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=gray
    )
    return np.asarray(padded, np.uint8), margin


def _spread(image: npt.NDArray[np.uint8], square: Square, landmarks: LandmarksModel) -> float:
    """How far the four points move between views of one square, as a fraction of its side.

    It is the root of the mean squared distance to each point's mean place.
    """
    views = [_view(square, *how) for how in _VIEWS]
    crops = [crop_gray(image, view, landmarks.metadata.input_size) for view in views]
    found = landmarks.landmarks(np.stack([*crops, crops[0][:, ::-1]])).astype(np.float64)
    mirrored = found[-1, _MIRRORED, :]
    mirrored[:, 0] = 1 - mirrored[:, 0]
    places = [
        fractions * view.side + (view.x, view.y)
        for fractions, view in zip([*found[:-1], mirrored], [*views, square], strict=True)
    ]
    points = np.stack(places)
    moved = ((points - points.mean(axis=0)) ** 2).sum(axis=-1)
    return float(np.sqrt(moved.mean())) / square.side


def _view(square: Square, right: float, down: float, scale: float) -> Square:
    x, y, side = square
    scaled = max(1, round(scale * side))
    return Square(
        round(x + side / 2 + right * side - scaled / 2),
        round(y + side / 2 + down * side - scaled / 2),
        scaled,
    )
