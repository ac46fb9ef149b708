"""The time of each part of ``FerPipeline.predict``, taken while it runs."""

from __future__ import annotations

from collections import Counter

from fer_bench.measure.series import Clock
from fer_sdk import FerPipeline
from fer_sdk.image.load import ImageLike

_TIMED = ("read", "detect", "crop", "landmarks", "align", "emotion")
STAGES = (*_TIMED, "other", "end to end")
"""In the order of ``StagedPipeline.sample``. The last is the sum of the others.

read: reading the picture into RGB; detect: the detector; crop: cutting the faces out for the
landmarks; align: turning them upright for the emotion; landmarks, emotion: the two models; other:
what lies between them, and making the ``Face`` objects.
"""


class StagedPipeline:
    """A pipeline whose calls can be taken apart. Not for several threads."""

    def __init__(self, pipeline: FerPipeline, image: ImageLike, clock: Clock) -> None:
        """Arguments: an open pipeline, what each sample predicts, and what the call is timed by."""
        self._pipeline = pipeline
        self._image = image
        self._now = clock.now_ns

    def sample(self) -> tuple[int, ...]:
        """Nanoseconds of each of ``STAGES`` in one ``predict``."""
        spent: Counter[str] = Counter()

        def add(stage: str, seconds: float) -> None:
            spent[stage] += round(seconds * 1e9)

        analyzer = self._pipeline.analyzer
        analyzer.on_stage = add
        try:
            start = self._now()
            self._pipeline.predict(self._image)
            whole = self._now() - start
        finally:
            analyzer.on_stage = None
        parts = tuple(spent[stage] for stage in _TIMED)
        return (*parts, whole - sum(parts), whole)
