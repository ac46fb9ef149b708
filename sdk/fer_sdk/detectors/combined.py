"""The one place where detectors are combined: YuNet first, BlazeFace where that is in doubt.

YuNet finds faces of every size. BlazeFace, which MediaPipe runs, is better at faces that are
tilted far, very dark, or so near that they fill the picture. Both see things that are no faces,
but seldom the same ones: what one is not sure of, the other is asked about.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.detectors.base import Detection, Detector, check_rgb
from fer_sdk.detectors.boxes import clamped, iou
from fer_sdk.detectors.upright import middle_face, upright_view
from fer_sdk.detectors.yunet import YuNetDetector
from fer_sdk.types import Box

NEAR_MIN_SCORE = 0.3
"""Least score of BlazeFace of a box that YuNet is asked about."""

# Chosen as YuNet's figures: the score with which BlazeFace needs nobody's help; else, what the mean
# of its own score and of both detectors' in an upright view has to reach.
_NEAR_SURE, _MEAN_SURE = 0.75, 0.66
_TURNS = (0.0, -20.0, 20.0, 90.0, 180.0, 270.0)
"""Degrees by which a roll of BlazeFace may be wrong where a face is tilted far."""
# A small picture may be the crop of a face: less is asked of it, with gray around it or without.
_CROP_SIDE = 256
_CROPS = ((0.0, 0.57), (0.25, 0.5), (0.5, 0.5))
"""How much gray, in sides of the picture, and what the mean score has to reach with it."""
# BlazeFace sees no smaller ones, in sides of the picture.
_NEAR_SIDE = 1 / 8
_SAME_FACE = 0.2


class CombinedDetector:
    """YuNet and a BlazeFace detector together. Holds nothing that a call changes."""

    def __init__(
        self, near: Detector, yunet: YuNetDetector, *, min_score: float | None = None
    ) -> None:
        """Put two open detectors together; ``close`` closes both.

        Args:
            near: gives BlazeFace's boxes, from a score of ``NEAR_MIN_SCORE`` on.
            yunet: looks first, and at what ``near`` is not sure of.
            min_score: leave out faces below this score, 0..1; None leaves none out.
        """
        self._near = near
        self._yunet = yunet
        self._min_score = min_score or 0.0

    @property
    def name(self) -> str:
        return f"{self._yunet.name}+{self._near.name}"

    def detect(self, image: npt.NDArray[np.uint8]) -> list[Detection]:
        """Find the faces of an RGB image uint8 ``[H, W, 3]``, in any order.

        Raises:
            ImageError: not such an image.
            DetectorError: a detector failed, or was closed.
        """
        return self.look(image)[0]

    def look(self, image: npt.NDArray[np.uint8]) -> tuple[list[Detection], int]:
        """``detect``, and how much more the widest look took than the first one: 1, 4 or 16."""
        check_rgb(image)
        height, width = image.shape[:2]
        faces, doubtful, cost = self._yunet.search(image)
        near = _NEAR_SIDE * max(height, width)
        others = [one for one in doubtful if max(one.box[2:]) >= near]
        if not faces or others:
            faces += self._near_faces(image, faces, _MEAN_SURE)
        if max(height, width) <= _CROP_SIDE:
            for share, least in _CROPS:
                margin = round(share * max(height, width))
                faces = faces or self._crop(image, margin, least)
        return [face for face in faces if face.score >= self._min_score], cost

    def close(self) -> None:
        """Close both detectors."""
        self._near.close()
        self._yunet.close()

    def _near_faces(
        self, image: npt.NDArray[np.uint8], found: list[Detection], least: float
    ) -> list[Detection]:
        """What BlazeFace finds beside the faces there are, where an upright view confirms it."""
        near = [
            face
            for face in self._near.detect(image)
            if (iou([face.box], [other.box for other in found]) <= _SAME_FACE).all()
        ]
        faces = []
        for face in near:
            rolls = [(face.roll or 0.0) + turn for turn in _TURNS]
            views = [upright_view(image, face.box, roll) for roll in rolls]
            confirmed = self._yunet.confirm(views)
            best = max(range(len(rolls)), key=lambda at: confirmed[at][0])
            by_yunet, rest = confirmed[best]
            by_near, _ = middle_face(
                (again.box, again.score, 0.0) for again in self._near.detect(views[best])
            )
            score = (face.score + by_near + by_yunet) / 3
            if face.score >= _NEAR_SURE:
                score = max(score, face.score)
            if score >= least:
                faces.append(Detection(face.box, score, rolls[best] + rest))
        return faces

    def _crop(self, image: npt.NDArray[np.uint8], margin: int, least: float) -> list[Detection]:
        """The face that fills a small picture, looked for with so many pixels of gray around it."""
        height, width = image.shape[:2]
        padded = np.asarray(
            cv2.copyMakeBorder(
                image,
                margin,
                margin,
                margin,
                margin,
                cv2.BORDER_CONSTANT,
                value=cv2.mean(image)[:3],
            ),
            np.uint8,
        )
        faces = []
        for face in self._yunet.search(padded).faces or self._near_faces(padded, [], least):
            x, y, across, down = face.box
            box = clamped(Box(x - margin, y - margin, across, down), width, height)
            if box is not None:
                faces.append(Detection(box, face.score, face.roll))
        return faces
