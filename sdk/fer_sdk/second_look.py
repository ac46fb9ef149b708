"""A second look at small pictures in which the detector found nothing.

Detectors are trained on faces with something around them, and miss some of those that fill a
picture, as in FER2013: 5 % of them. A margin of even gray brings most of these back, but lets a
clouded sky pass for a face more often too. So the mirrored picture is looked at as well, and the
landmarks have to bear witness.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.detectors.base import Detection, clamped
from fer_sdk.detectors.blazeface import BlazeFaceDetector
from fer_sdk.image.crop import Square, centred_square
from fer_sdk.models.landmarks import LandmarksModel
from fer_sdk.types import Box
from fer_sdk.witness import is_face

LARGEST_SIDE = 256
"""Pictures with a longer side get no second look: crops of faces are smaller."""

LONGEST_RATIO = 1.5
"""Nor do pictures whose longer side is more than this many times the shorter one."""

# Both were chosen on faces of FER2013's Training part against pictures without faces, and are
# measured on others by `fer-bench detection`.
_MARGIN = 0.5
_LEAST_EVIDENCE = 0.25


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
        self._strictness = max(1.0, min_score / 0.5)
        self._detector = BlazeFaceDetector(min(min_score, _LEAST_EVIDENCE), threads=1)

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
        best, mirrored = (
            max(self._detector.detect(view), key=lambda one: one.score, default=None)
            for view in (padded, np.ascontiguousarray(padded[:, ::-1]))
        )
        if best is None or mirrored is None:
            return None
        score = (best.score + mirrored.score) / 2
        square = centred_square(width, height)
        if not is_face(
            score, image, square, landmarks, least=_LEAST_EVIDENCE, strictness=self._strictness
        ):
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
