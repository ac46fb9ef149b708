"""From the boxes of an image to faces: crops, landmarks and emotions, one run of each model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fer_sdk.detectors.base import Detection, Detector
from fer_sdk.detectors.boxes import clamped
from fer_sdk.errors import DetectorError
from fer_sdk.image.crop import (
    Square,
    align_face,
    centred_square,
    crop_around,
    crop_gray,
    roll_angle,
)
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.landmarks import LandmarksModel
from fer_sdk.types import Box, Face, Point

Pixels = npt.NDArray[np.uint8]

StageHook = Callable[[str, float], None]
"""Is told the name of a stage of ``predict`` and the seconds that it took."""

# The landmarks model was trained on faces that are tilted less than this, in degrees.
_LANDMARKS_ROLL = 30.0


class Crop(NamedTuple):
    """A face that no model has seen yet.

    Attributes:
        image: RGB uint8 ``[H, W, 3]``.
        detection: where the face is; None where the image as a whole is the face.
        landmarks_square: what the landmarks model is shown, turned by ``roll``.
        emotion_square: the same for the emotion model.
        roll: degrees by which the face is turned back before the landmarks are read.
    """

    image: Pixels
    detection: Detection | None
    landmarks_square: Square
    emotion_square: Square
    roll: float


class Analyzer:
    """The two models, and how faces are cut out for them. Holds nothing that a call changes."""

    def __init__(
        self,
        emotion: EmotionModel,
        landmarks: LandmarksModel,
        detector: Detector | None,
        align_beyond: float | None,
    ) -> None:
        """Take open models; they stay their owner's to close."""
        self.emotion = emotion
        self.landmarks = landmarks
        self.detector = detector
        self.align_beyond = align_beyond
        self.on_stage: StageHook | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Tell ``on_stage``, if there is one, how long something took."""
        start = time.perf_counter()
        yield
        if self.on_stage is not None:
            self.on_stage(name, time.perf_counter() - start)

    def find(self, image: Pixels, max_faces: int | None) -> tuple[list[Crop], int]:
        """The faces of an RGB image, largest first, and what looking took.

        The cost is 1 for a first look, and more where the detector looked more closely: how many
        times as many pixels.

        Raises:
            DetectorError: the detector failed or gave something that is no detection.
        """
        if self.detector is None:
            return [self.whole(image)], 1
        with self.stage("detect"):
            look = getattr(self.detector, "look", None)
            found, cost = (self.detector.detect(image), 1) if look is None else look(image)
        detections = _checked(found, self.detector.name, image.shape[1], image.shape[0])
        detections.sort(key=lambda face: (-face.box.width * face.box.height, -face.score, face.box))
        return [self.crop(image, face) for face in detections[:max_faces]], cost

    def crop(self, image: Pixels, detection: Detection) -> Crop:
        """What the models are to see of a detected face."""
        roll = detection.roll or 0.0
        if self.align_beyond is None or abs(roll) <= max(_LANDMARKS_ROLL, self.align_beyond):
            roll = 0.0
        landmarks, emotion = (
            model.metadata.crop.square(detection.box, roll)
            for model in (self.landmarks, self.emotion)
        )
        return Crop(image, detection, landmarks, emotion, roll)

    def whole(self, image: Pixels) -> Crop:
        """An image that is one face: both models see its largest centred square."""
        square = centred_square(image.shape[1], image.shape[0])
        return Crop(image, None, square, square, 0.0)

    def faces(self, crops: Sequence[Crop]) -> list[Face]:
        """Run each model once over all faces.

        Raises:
            ModelError: onnxruntime fails.
        """
        if not crops:
            return []
        size = self.landmarks.metadata.input_size
        with self.stage("crop"):
            shown = np.stack(
                [_cut(crop.image, crop.landmarks_square, crop.roll, size) for crop in crops]
            )
        with self.stage("landmarks"):
            fractions = self.landmarks.landmarks(shown)
        with self.stage("align"):
            shown = self._for_emotion(crops, shown, fractions)
        with self.stage("emotion"):
            scores = self.emotion.scores(shown)
        labels = self.emotion.metadata.labels
        return [
            _face(*each, labels)
            for each in zip(crops, fractions.astype(np.float64), scores.tolist(), strict=True)
        ]

    def _for_emotion(
        self, crops: Sequence[Crop], shown: Pixels, fractions: npt.NDArray[np.float32]
    ) -> Pixels:
        """What the emotion model sees: each face by the angle that its landmarks have."""
        size = self.emotion.metadata.input_size
        same_size = size == self.landmarks.metadata.input_size
        upright = []
        for crop, before, roll in zip(crops, shown, roll_angle(fractions), strict=True):
            tilt = (crop.roll + float(roll) + 180) % 360 - 180
            aligned = self.align_beyond is not None and abs(tilt) > self.align_beyond
            if crop.detection is None or not aligned:
                tilt = 0.0
            if same_size and tilt == crop.roll and crop.landmarks_square == crop.emotion_square:
                upright.append(before)
            else:
                upright.append(_cut(crop.image, crop.emotion_square, tilt, size))
        return np.stack(upright)


def _cut(image: Pixels, square: Square, roll: float, size: int) -> Pixels:
    if not roll:
        return crop_gray(image, square, size)
    return align_face(crop_around(image, square, size), roll, size)


def _face(
    crop: Crop,
    fractions: npt.NDArray[np.float64],
    scores: list[float],
    labels: tuple[str, ...],
) -> Face:
    x, y, side = crop.landmarks_square
    points = fractions * side + (x, y)
    if crop.roll:
        cos, sin = math.cos(math.radians(crop.roll)), math.sin(math.radians(crop.roll))
        middle = (x + side / 2, y + side / 2)
        points = (points - middle) @ np.array([[cos, sin], [-sin, cos]]) + middle
    left_eye, right_eye, left_lip, right_lip = (Point(*point) for point in points.tolist())
    height, width = crop.image.shape[:2]
    confidence = max(scores)
    return Face(
        box=crop.detection.box if crop.detection else Box(0.0, 0.0, float(width), float(height)),
        detection_score=crop.detection.score if crop.detection else None,
        landmarks=(left_eye, right_eye, left_lip, right_lip),
        emotion=labels[scores.index(confidence)],
        confidence=confidence,
        scores=dict(zip(labels, scores, strict=True)),
    )


def _checked(detections: object, name: str, width: int, height: int) -> list[Detection]:
    """What a detector gave, with every box inside the image; boxes outside of it are left out."""
    if not isinstance(detections, list) or not all(
        isinstance(detection, Detection) for detection in detections
    ):
        raise DetectorError(
            f"detector {name}: detect() must return a list of fer_sdk.Detection, not {detections!r}"
        )
    inside = []
    for detection in detections:
        numbers = [float(number) for number in (*detection.box, detection.score)]
        if not all(map(math.isfinite, numbers)) or not 0 <= numbers[4] <= 1:
            raise DetectorError(
                f"detector {name}: {detection} has a number that is not finite or a score outside "
                "0..1"
            )
        box = clamped(Box(*numbers[:4]), width, height)
        if box is not None:
            inside.append(Detection(box, numbers[4], detection.roll))
    return inside
