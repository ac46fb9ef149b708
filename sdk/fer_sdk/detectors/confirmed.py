"""A detector whose faces of low score have to be seen a second time.

What passes for a face once (a knot in wood, a cloud) seldom does so again when it is framed in
another way, and the landmarks find no hold on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.detectors.base import Detection, Detector, check_rgb, thinned
from fer_sdk.detectors.blazeface import BlazeFaceDetector
from fer_sdk.models.landmarks import LandmarksModel
from fer_sdk.types import Box
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
# From this many doubtful faces on, four at a time are first looked at in one picture: small ones
# in a crowd are all in doubt, and a look for each would cost as much as the models. Who has this
# score there needs none: of 98 false ones nobody, of 36 faces in crowds 29. The score and the cell
# were chosen on those, which are of FER2013's PublicTest.
_CROWD = 3
_SURE_IN_CROWD = 0.75
_CELL = 64
_ACROSS = 2


class ConfirmedDetector:
    """Another detector, whose doubtful faces BlazeFace and the landmarks have to confirm.

    For each face with a score below ``SURE`` that is one run of the small network on its mirrored
    surroundings and one of the landmarks; for the others, nothing. In a crowd most are confirmed
    four in a run. Holds nothing that a call changes.
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
        found = self._detector.detect(image)
        doubtful = [one for one in found if one.score < SURE]
        sure = self._sure_together(image, doubtful) if len(doubtful) >= _CROWD else set()
        return [
            one
            for one in found
            if one.score >= SURE or one in sure or self._is_face(image, one.box)
        ]

    def close(self) -> None:
        """Close the detector that looks first."""
        self._detector.close()
        self._again.close()

    def _sure_together(
        self, image: npt.NDArray[np.uint8], doubtful: Sequence[Detection]
    ) -> set[Detection]:
        """Those that the network is sure of where it sees the surroundings of four at once."""
        sure: set[Detection] = set()
        for start in range(0, len(doubtful), _ACROSS**2):
            group = doubtful[start : start + _ACROSS**2]
            picture = np.zeros((_ACROSS * _CELL, _ACROSS * _CELL, 3), np.uint8)
            places = []
            for at, one in enumerate(group):
                top, left = (_CELL * cell for cell in divmod(at, _ACROSS))
                view, there = _mirrored(image, one.box, _CELL)
                picture[top : top + _CELL, left : left + _CELL] = view
                places.append(there._replace(x=there.x + left, y=there.y + top))
            seen = self._again.detect(picture)
            sure.update(
                one
                for one, place in zip(group, places, strict=True)
                if _best(seen, place) >= _SURE_IN_CROWD
            )
        return sure

    def _is_face(self, image: npt.NDArray[np.uint8], box: Box) -> bool:
        view, expected = _mirrored(image, box, _SIDE)
        score = _best(self._again.detect(view), expected)
        square = self._landmarks.metadata.crop.square(box)
        return is_face(score, image, square, self._landmarks, least=_LEAST_EVIDENCE)


def _best(seen: Sequence[Detection], place: Box) -> float:
    """The score of what was seen at a place; 0 where nothing was."""
    return max((one.score for one in seen if _overlap(one.box, place) >= _SAME_FACE), default=0.0)


def _mirrored(
    image: npt.NDArray[np.uint8], box: Box, side: int
) -> tuple[npt.NDArray[np.uint8], Box]:
    """A box's surroundings from right to left, ``[side, side, 3]``, and where it is in them."""
    image, step = thinned(image)
    across, down = box.width / step, box.height / step
    scale = _FRAME * max(across, down) / side
    x, y = box.x / step + across / 2, box.y / step + down / 2
    middle = (side - 1) / 2
    back = np.array(
        [[-scale, 0.0, x - 0.5 + scale * middle], [0.0, scale, y - 0.5 - scale * middle]]
    )
    view = cv2.warpAffine(
        image,
        back,
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    width, height = across / scale, down / scale
    there = Box((side - width) / 2, (side - height) / 2, width, height)
    return np.asarray(view, np.uint8), there


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    shared = max(across, 0.0) * max(down, 0.0)
    return shared / (one.width * one.height + other.width * other.height - shared)
