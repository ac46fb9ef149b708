"""The time of each part of ``FerPipeline.predict``, taken while it runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fer_bench.measure.series import Clock
from fer_sdk import FerPipeline
from fer_sdk.detectors.base import Detection, Detector
from fer_sdk.image.load import ImageLike
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.landmarks import LandmarksModel

_TIMED = ("read", "detect", "crop", "landmarks", "align", "emotion")
STAGES = (*_TIMED, "other", "end to end")
"""In the order of ``StagedPipeline.sample``. The last is the sum of the others.

read: reading the picture into RGB; detect: the detector; crop: cutting the faces out; align:
turning them upright; landmarks, emotion: the two models; other: what lies between them, and making
the ``Face`` objects.
"""


class StagedPipeline:
    """A pipeline whose calls can be taken apart. Not for several threads."""

    def __init__(self, pipeline: FerPipeline, image: ImageLike, clock: Clock) -> None:
        """Arguments: an open pipeline, what each sample predicts, and what the call is timed by."""
        self._image = image
        self._now = clock.now_ns
        self._spent: dict[str, int] = {}
        self._predict = _with_hook(pipeline, self._add, clock)

    def sample(self) -> tuple[int, ...]:
        """Nanoseconds of each of ``STAGES`` in one ``predict``."""
        self._spent = {}
        start = self._now()
        self._predict(self._image)
        whole = self._now() - start
        parts = tuple(self._spent.get(stage, 0) for stage in _TIMED)
        return (*parts, whole - sum(parts), whole)

    def _add(self, stage: str, seconds: float) -> None:
        self._spent[stage] = self._spent.get(stage, 0) + round(seconds * 1e9)


def _with_hook(
    pipeline: FerPipeline, note: Callable[[str, float], None], clock: Clock
) -> Callable[[ImageLike], object]:
    """Something that predicts and tells the seconds of each stage.

    The pipeline's detector and models are replaced by ones that note when they are called.
    """
    marks: list[int] = []

    def mark() -> None:
        marks.append(clock.now_ns())

    parts = pipeline.parts
    timed = pipeline.with_parts(
        parts._replace(
            detector=None if parts.detector is None else _TimedDetector(parts.detector, mark),
            landmarks=_TimedLandmarks(parts.landmarks, mark),
            emotion=_TimedEmotion(parts.emotion, mark),
        )
    )

    def predict(image: ImageLike) -> object:
        marks.clear()
        mark()
        answer = timed.predict(image)
        start, detect, detected, landmarks, landmarked, emotion, judged = marks
        note("read", (detect - start) / 1e9)
        note("detect", (detected - detect) / 1e9)
        # The two models' crops are stacked one after the other, each before its model.
        note("crop", (landmarks - detected + emotion - landmarked) / 1e9)
        note("landmarks", (landmarked - landmarks) / 1e9)
        note("emotion", (judged - emotion) / 1e9)
        return answer

    return predict


class _TimedDetector:
    def __init__(self, detector: Detector, mark: Callable[[], None]) -> None:
        self._detector = detector
        self._mark = mark
        self.name = detector.name

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
