"""A series that is measured in rounds, with the rows that come out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import cv2
from msgspec.structs import replace

from fer_bench.baselines.process import BaselineProcess
from fer_bench.machine.health import complaints
from fer_bench.measure.scenarios import one_caller
from fer_bench.measure.series import Clock, Series, StopRule, WarmUp, settle, warm_up
from fer_bench.results.percentiles import summarise
from fer_bench.results.result import Camera, Conditions, Row


class _Closes(Protocol):
    def close(self) -> None: ...


class Job:
    """One series under one set of conditions.

    Attributes:
        conditions: of the series.
        provider: what runs the models.
        faces_found: faces in the image that the series is about; None where there is no image.
        baseline: the process that it measures, if that is another package's or runtime's.
    """

    def __init__(
        self,
        conditions: Conditions,
        clock: Clock,
        call: Callable[[], object],
        take: Callable[[StopRule], Series] | None = None,
        *,
        parts: Sequence[str] = (),
        provider: str | None = None,
        faces_found: int | None = None,
        baseline: BaselineProcess | None = None,
        warm: Callable[[], WarmUp] | None = None,
        owned: Sequence[_Closes] = (),
    ) -> None:
        """Prepare a series; nothing is called yet.

        Args:
            conditions: of the series.
            clock: what it is timed by.
            call: once, untimed: what warms it up.
            take: takes one round; by default ``call`` is timed, one after the other.
            parts: stages that the parts of each sample belong to, a row for each.
            provider: what runs the models.
            faces_found: faces in the image; None where there is no image.
            baseline: see above.
            warm: warms up in the place of ``call``.
            owned: is closed with the job.
        """
        self.conditions = conditions
        self.provider = provider
        self.faces_found = faces_found
        self.baseline = baseline
        self._call = call
        self._take = take or (lambda rule: one_caller(call, rule, clock))
        self._parts = parts
        self._warm_up = warm or (lambda: warm_up(call, clock))
        self._owned = owned
        self._rounds: list[Series] = []
        self._warm: WarmUp | None = None
        self._wanted = 0

    def warm_up(self) -> None:
        """Call until the times are stable."""
        self._take_threads()
        self._warm = self._warm_up()
        if self.baseline is not None and self.conditions.width is not None:
            self.faces_found = self.baseline.faces_found

    def take_round(self, rule: StopRule) -> None:
        """Measure one round."""
        self._take_threads()
        # Since the last round of this series the others have had the caches.
        settle(self._call)
        self._wanted += rule.min_count
        self._rounds.append(self._take(rule))

    def _take_threads(self) -> None:
        """Let OpenCV have as many threads as the models: baselines are held to them too."""
        if self.conditions.threads is not None:
            cv2.setNumThreads(self.conditions.threads)

    def rows(self) -> list[Row]:
        """What came out: one row, or one for each part that ever ran."""
        whole = [[time / 1e6 for time in series.taken] for series in self._rounds]
        notes = complaints(whole, self._warm)
        taken = sum(map(len, whole))
        if taken < self._wanted:
            notes.append(f"the time limit ended it at {taken} of {self._wanted} samples")
        if not self._parts:
            return [self._row(self.conditions, whole, notes)]
        rows = []
        for at, name in enumerate(self._parts):
            rounds = [
                [sample[at] / 1e6 for sample in series.parts or ()] for series in self._rounds
            ]
            # The last part is the whole: what is doubtful about the series is said once, there.
            doubts = notes if at == len(self._parts) - 1 else []
            if any(map(any, rounds)):
                rows.append(self._row(replace(self.conditions, stage=name), rounds, doubts))
        return rows

    def _row(self, conditions: Conditions, rounds: list[list[float]], notes: list[str]) -> Row:
        samples = [value for part in rounds for value in part]
        # A part of a call has no throughput of its own.
        seconds = 0.0 if self._parts else sum(series.wall for series in self._rounds) / 1e9
        of_images = conditions.width is not None
        images = len(samples) * conditions.batch
        a_picture = self.faces_found if of_images else 1
        faces: float | None = None if a_picture is None else images * a_picture
        changing = [series.faces for series in self._rounds if series.faces is not None]
        if changing:
            faces = sum(changing)
        offered = [series.offered for series in self._rounds if series.offered is not None]
        seen = sum(offered)
        # Where batches change, what warms up are whole turns of them, not single calls.
        warm = None if changing else self._warm
        return Row(
            conditions=conditions,
            latency=summarise(samples),
            rounds_ms=[[round(value, 6) for value in part] for part in rounds],
            provider=self.provider,
            faces_found=self.faces_found,
            images_per_second=images / seconds if seconds and of_images else None,
            faces_per_second=faces / seconds if seconds and faces is not None else None,
            warm_up_calls=warm.count if warm else None,
            first_call_ms=warm.first_ms if warm else None,
            camera=Camera(seen, len(samples), seen - len(samples)) if offered else None,
            notes=notes,
        )

    def close(self) -> None:
        """Let go of what belongs to this job alone."""
        for thing in self._owned:
            thing.close()
