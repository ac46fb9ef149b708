"""The time of each part of ``FerPipeline.predict``, taken while it runs.

The pipeline's detector and models are replaced by ones that note when they are called. What is
timed is therefore the pipeline itself: no second copy of it could drift away.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fer_bench.measure.clock import Clock
from fer_sdk import FerPipeline
from fer_sdk.detectors.base import Detection, Detector
from fer_sdk.errors import FerError
from fer_sdk.image.load import ImageLike
from fer_sdk.models.networks import EmotionModel, LandmarksModel
from fer_sdk.pipeline import Parts

STAGES = ("decode", "detect", "crop", "landmarks", "emotion", "post-processing", "end to end")
"""In the order of ``StagedPipeline.sample``. The last is the sum of the others.

decode: reading the picture into RGB; detect: the detector; crop: everything from its detections to
the models' input; landmarks, emotion: the two models; post-processing: making the ``Face`` objects.
"""


class NoFaceError(FerError, RuntimeError):
    """Without a face there are no stages after the detector."""


class StagedPipeline:
    """A pipeline whose calls can be taken apart. Not for several threads."""

    def __init__(self, pipeline: FerPipeline, image: ImageLike, clock: Clock) -> None:
        """Look into an open pipeline without changing it.

        Args:
            pipeline: with a detector; it is closed by its owner.
            image: what each sample predicts.
            clock: what the stages are timed by.

        Raises:
            NoFaceError: the pipeline has no detector or finds no face in the image.
        """
        parts = pipeline.parts
        if parts.detector is None:
            raise NoFaceError("stages need a pipeline with a detector")
        self._image = image
        self._now = clock.now_ns
        self._marks: list[int] = []
        # The same sessions are behind it: a second pipeline would hold all of them twice.
        self._pipeline = pipeline.with_parts(
            Parts(
                detector=_TimedDetector(parts.detector, self._mark),
                landmarks=_TimedLandmarks(parts.landmarks, self._mark),
                emotion=_TimedEmotion(parts.emotion, self._mark),
                align_beyond=parts.align_beyond,
            )
        )
        if not self._pipeline.predict(image):
            raise NoFaceError("the detector finds no face in the picture")

    def sample(self) -> tuple[int, ...]:
        """Nanoseconds of each of ``STAGES`` in one ``predict``."""
        self._marks.clear()
        start = self._now()
        self._pipeline.predict(self._image)
        end = self._now()
        detect, detected, landmarks, landmarked, emotion, judged = self._marks
        return (
            detect - start,
            detected - detect,
            # The two models' crops are stacked one after the other, each before its model.
            (landmarks - detected) + (emotion - landmarked),
            landmarked - landmarks,
            judged - emotion,
            end - judged,
            end - start,
        )

    def _mark(self) -> None:
        self._marks.append(self._now())


class _TimedDetector:
    def __init__(self, detector: Detector, mark: Callable[[], None]) -> None:
        self._detector = detector
        self._mark = mark

    @property
    def name(self) -> str:
        return self._detector.name

    def detect(self, image: npt.NDArray[np.uint8]) -> list[Detection]:
        self._mark()
        found = self._detector.detect(image)
        self._mark()
        return found

    def close(self) -> None:
        self._detector.close()


class _TimedLandmarks(LandmarksModel):
    def __init__(self, model: LandmarksModel, mark: Callable[[], None]) -> None:
        self.__dict__.update(model.__dict__)
        self._mark = mark

    def landmarks(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self._mark()
        found = super().landmarks(faces)
        self._mark()
        return found


class _TimedEmotion(EmotionModel):
    def __init__(self, model: EmotionModel, mark: Callable[[], None]) -> None:
        self.__dict__.update(model.__dict__)
        self._mark = mark

    def scores(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self._mark()
        found = super().scores(faces)
        self._mark()
        return found
