"""A detector whose faces of low score have to be seen a second time.

What passes for a face once (a knot in wood, a cloud) seldom does so again when it is framed in
another way, and the landmarks find no hold on it.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.detectors.base import Detection, Detector, check_rgb, thinned
from fer_sdk.detectors.blazeface import BlazeFaceDetector
from fer_sdk.face import Box
from fer_sdk.model import LandmarksModel
from fer_sdk.witness import is_face

SURE = 0.7
"""Faces with this detection score or more are not looked at again."""

# Chosen on faces of FER2013's Training part against pictures without faces, and measured on others
# by `fer-bench detection`.
_LEAST_EVIDENCE = 0.2
# Side of the second picture in sides of the box: what is around a face is part of what tells it.
_FRAME = 2.0
# Twice what the network sees, so that every two pixels become one without a gap between them.
_SIDE = 256
_SAME_FACE = 0.3


class ConfirmedDetector:
    """Another detector, whose doubtful faces BlazeFace and the landmarks have to confirm.

    For each face with a score below ``SURE`` that is one run of the small network on its mirrored
    surroundings and one of the landmarks; for the others, nothing. Holds nothing that a call
    changes.
    """

    def __init__(self, detector: Detector, landmarks: LandmarksModel) -> None:
        """Wrap a detector.

        Args:
            detector: what looks first; ``close`` closes it too.
            landmarks: what bears witness.

        Raises:
            ModelError: the bundled model does not open.
        """
        self._detector = detector
        self._landmarks = landmarks
        self._again = BlazeFaceDetector(_LEAST_EVIDENCE, threads=1)

    @property
    def name(self) -> str:
        return self._detector.name

    def detect(self, image: npt.NDArray[np.uint8]) -> list[Detection]:
        """Find the faces of an RGB image uint8 ``[H, W, 3]``, without those that are not confirmed.

        Raises:
            ImageError: not such an image.
            DetectorError: the detector failed, or was closed.
            ModelError: onnxruntime fails.
        """
        check_rgb(image)
        return [
            one
            for one in self._detector.detect(image)
            if one.score >= SURE or self._is_face(image, one.box)
        ]

    def close(self) -> None:
        """Close the detector that looks first."""
        self._detector.close()
        self._again.close()

    def _is_face(self, image: npt.NDArray[np.uint8], box: Box) -> bool:
        view, expected = _mirrored(image, box)
        score = max(
            (
                one.score
                for one in self._again.detect(view)
                if _overlap(one.box, expected) >= _SAME_FACE
            ),
            default=0.0,
        )
        square = self._landmarks.metadata.crop.square(box)
        return is_face(score, image, square, self._landmarks, least=_LEAST_EVIDENCE)


def _mirrored(image: npt.NDArray[np.uint8], box: Box) -> tuple[npt.NDArray[np.uint8], Box]:
    """A box's surroundings from right to left, ``[256, 256, 3]``, and where the box is in them."""
    image, step = thinned(image)
    across, down = box.width / step, box.height / step
    scale = _FRAME * max(across, down) / _SIDE
    x, y = box.x / step + across / 2, box.y / step + down / 2
    middle = (_SIDE - 1) / 2
    back = np.array(
        [[-scale, 0.0, x - 0.5 + scale * middle], [0.0, scale, y - 0.5 - scale * middle]]
    )
    view = cv2.warpAffine(
        image,
        back,
        (_SIDE, _SIDE),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    width, height = across / scale, down / scale
    there = Box((_SIDE - width) / 2, (_SIDE - height) / 2, width, height)
    return np.asarray(view, np.uint8), there


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    shared = max(across, 0.0) * max(down, 0.0)
    return shared / (one.width * one.height + other.width * other.height - shared)
