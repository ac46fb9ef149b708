"""Series to be measured in rounds, each with the rows that come out of it."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import fmean
from typing import Protocol

import cv2
import numpy as np

from fer_bench.baselines.process import RivalProcess
from fer_bench.machine.health import complaints
from fer_bench.machine.sessions import Array, BoundModel
from fer_bench.measure.clock import Clock
from fer_bench.measure.percentiles import summarise
from fer_bench.measure.scenarios import Crowd, camera, multi_thread
from fer_bench.measure.series import Series, StopRule, WarmUp, collect, settle, timed, warm_up
from fer_bench.measure.stages import STAGES, StagedPipeline
from fer_bench.results.result import Camera, Conditions, Row

_BATCH_SIZES = 8
"""How many numbers of faces take turns at most."""


class _Closes(Protocol):
    def close(self) -> None: ...


class Job(ABC):
    """One series under one set of conditions.

    Attributes:
        conditions: of the series.
        provider: what runs the models.
        faces_found: faces in the image that the series is about; None where there is no image.
    """

    def __init__(
        self,
        conditions: Conditions,
        clock: Clock,
        *,
        provider: str | None = None,
        faces_found: int | None = None,
    ) -> None:
        self.conditions = conditions
        self.provider = provider
        self.faces_found = faces_found
        self._clock = clock
        self._rounds: list[list[float]] = []
        self._seconds = 0.0
        self._warm: WarmUp | None = None
        self._wanted = 0
        self._belongings: list[_Closes] = []

    @abstractmethod
    def call(self) -> object:
        """Once, untimed: what warms it up."""

    @abstractmethod
    def _series(self, rule: StopRule) -> list[float]:
        """Take one round; milliseconds. Adds to ``_seconds`` what it took."""

    def _take_threads(self) -> None:
        """Let OpenCV have as many threads as the models: rivals are held to them too."""
        if self.conditions.threads is not None:
            cv2.setNumThreads(self.conditions.threads)

    def warm_up(self) -> None:
        """Call until the times are stable."""
        self._take_threads()
        self._warm = warm_up(self.call, self._clock)

    def take_round(self, rule: StopRule) -> None:
        """Measure one round."""
        self._take_threads()
        # Since the last round of this series the others have had the caches.
        settle(self.call)
        self._wanted += rule.min_count
        self._rounds.append(self._series(rule))

    def rows(self) -> list[Row]:
        """What came out."""
        return [self._row(self.conditions, self._rounds, self._complaints(self._rounds))]

    def owns(self, one: _Closes) -> None:
        """Close something with this job."""
        self._belongings.append(one)

    def close(self) -> None:
        """Let go of what belongs to this job alone."""
        for one in self._belongings:
            one.close()

    def _complaints(self, rounds: list[list[float]]) -> list[str]:
        found = complaints(rounds, self._warm)
        taken = sum(map(len, rounds))
        if taken < self._wanted:
            found.append(f"the time limit ended it at {taken} of {self._wanted} samples")
        return found

    def _faces_a_call(self) -> float | None:
        if self.conditions.width is None:
            return self.conditions.batch
        return None if self.faces_found is None else self.conditions.batch * self.faces_found

    def _row(self, conditions: Conditions, rounds: list[list[float]], notes: list[str]) -> Row:
        samples = [value for part in rounds for value in part]
        calls = len(samples) / self._seconds if self._seconds > 0 else None
        of_images = conditions.width is not None
        faces = self._faces_a_call()
        return Row(
            conditions=conditions,
            latency=summarise(samples),
            rounds_ms=[[round(value, 6) for value in part] for part in rounds],
            provider=self.provider,
            faces_found=self.faces_found,
            images_per_second=calls * conditions.batch if calls and of_images else None,
            faces_per_second=calls * faces if calls and faces is not None else None,
            warm_up_calls=self._warm.count if self._warm else None,
            first_call_ms=self._warm.first_ms if self._warm else None,
            notes=notes,
        )


class CallJob(Job):
    """The next call starts when the last one ends."""

    def __init__(
        self,
        conditions: Conditions,
        clock: Clock,
        call: Callable[[], object],
        *,
        provider: str | None = None,
        faces_found: int | None = None,
    ) -> None:
        """Arguments as of ``Job``; ``call`` is what is timed."""
        super().__init__(conditions, clock, provider=provider, faces_found=faces_found)
        self._call = call

    def call(self) -> object:
        return self._call()

    def _series(self, rule: StopRule) -> list[float]:
        taken = collect(timed(self._call, self._clock), rule, self._clock)
        self._seconds += sum(taken) / 1e9
        return [one / 1e6 for one in taken]


class ThreadsJob(CallJob):
    """Several threads call without pause."""

    def _series(self, rule: StopRule) -> list[float]:
        crowd = multi_thread(self._call, self.conditions.workers, rule, self._clock)
        self._seconds += crowd.wall / 1e9
        return [one / 1e6 for one in crowd.samples]


class ProcessesJob(Job):
    """Several processes call without pause, each with a pipeline of its own."""

    def __init__(
        self,
        conditions: Conditions,
        clock: Clock,
        processes: Sequence[RivalProcess],
        *,
        provider: str | None = None,
        faces_found: int | None = None,
    ) -> None:
        """Arguments as of ``Job``; ``processes`` are closed with the job."""
        super().__init__(conditions, clock, provider=provider, faces_found=faces_found)
        self._processes = processes
        self._belongings += processes

    def call(self) -> object:
        return self._measure(StopRule(0, 1))

    def warm_up(self) -> None:
        warm = [one.warm_up() for one in self._processes]
        self._warm = next((one for one in warm if not one.stable), warm[0])

    def _series(self, rule: StopRule) -> list[float]:
        crowd = Crowd.of(self._measure(rule.share(len(self._processes))))
        self._seconds += crowd.wall / 1e9
        return [one / 1e6 for one in crowd.samples]

    def _measure(self, rule: StopRule) -> list[Series]:
        with ThreadPoolExecutor(len(self._processes)) as pool:
            # What settles them is ``call``, all together, before the round.
            return list(pool.map(lambda one: one.measure(rule, settled=True), self._processes))


class DynamicBatchJob(CallJob):
    """A model on another number of faces each time, as when people come and go."""

    def __init__(
        self,
        conditions: Conditions,
        clock: Clock,
        run: Callable[[Array], object],
        faces: Array,
        *,
        provider: str | None = None,
    ) -> None:
        """Arguments as of ``Job``; ``run`` gets the first one to all of ``faces`` ``[N, S, S]``."""
        super().__init__(
            conditions, clock, lambda: run(faces[: next(self._following)]), provider=provider
        )
        spread = np.linspace(1, len(faces), min(len(faces), _BATCH_SIZES))
        self._numbers = [int(number) for number in spread]
        self._following = itertools.cycle(self._numbers)
        self._taken: list[int] = []

    def call(self) -> object:
        # Times are stable from one turn to the next, not from one number to another.
        return [super(DynamicBatchJob, self).call() for _ in self._numbers]

    def _series(self, rule: StopRule) -> list[float]:
        self._following = itertools.cycle(self._numbers)
        series = super()._series(rule)
        self._taken += itertools.islice(itertools.cycle(self._numbers), len(series))
        return series

    def _faces_a_call(self) -> float | None:
        return fmean(self._taken)

    def rows(self) -> list[Row]:
        # What warms it up are whole turns.
        return [replace(row, warm_up_calls=None, first_call_ms=None) for row in super().rows()]


class CameraJob(CallJob):
    """The newest frame of a camera each time."""

    _offered = 0
    _dropped = 0

    def _series(self, rule: StopRule) -> list[float]:
        footage = camera(self._call, self.conditions.fps or 1.0, rule, self._clock)
        self._seconds += footage.wall / 1e9
        self._offered += footage.offered
        self._dropped += footage.dropped
        return [one / 1e6 for one in footage.delays]

    def rows(self) -> list[Row]:
        seen = Camera(self._offered, self._offered - self._dropped, self._dropped)
        return [replace(row, camera=seen) for row in super().rows()]


class PartsJob(Job):
    """A call that gives the times of its parts; a row for each part.

    The parts themselves come from a subclass; the last one is the whole.
    """

    def __init__(
        self,
        conditions: Conditions,
        clock: Clock,
        names: Sequence[str],
        *,
        provider: str | None = None,
        faces_found: int | None = None,
    ) -> None:
        """Arguments as of ``Job``; the stage of ``conditions`` is replaced by each name."""
        super().__init__(conditions, clock, provider=provider, faces_found=faces_found)
        self._names = tuple(names)
        self._parts: list[list[tuple[int, ...]]] = []

    @abstractmethod
    def _sample(self) -> tuple[int, ...]:
        """Nanoseconds of each part, in the order of the names."""

    def call(self) -> object:
        return self._sample()

    def _series(self, rule: StopRule) -> list[float]:
        taken = collect(self._sample, rule, self._clock)
        self._parts.append(taken)
        return [one[-1] / 1e6 for one in taken]

    def rows(self) -> list[Row]:
        # The last part is the whole: what is doubtful about the series is said once, there.
        notes = self._complaints(self._rounds)
        whole = len(self._names) - 1
        return [
            self._row(
                replace(self.conditions, stage=name),
                [[one[at] / 1e6 for one in part] for part in self._parts],
                notes if at == whole else [],
            )
            for at, name in enumerate(self._names)
        ]


class StagesJob(PartsJob):
    """The stages of the pipeline."""

    def __init__(
        self,
        conditions: Conditions,
        clock: Clock,
        staged: StagedPipeline,
        *,
        provider: str | None = None,
        faces_found: int | None = None,
    ) -> None:
        """Arguments as of ``Job``; ``staged`` is what is taken apart."""
        super().__init__(conditions, clock, STAGES, provider=provider, faces_found=faces_found)
        self._staged = staged

    def _sample(self) -> tuple[int, ...]:
        return self._staged.sample()


class BoundJob(PartsJob):
    """A model on a device, with the copies to and from it apart."""

    def __init__(
        self, conditions: Conditions, clock: Clock, model: BoundModel, faces: Array
    ) -> None:
        """Arguments as of ``Job``; the stage of ``conditions`` is the model's task.

        ``faces`` are copied in before each run.
        """
        parts = ("copy in", "compute", "copy out", "end to end")
        names = [f"{conditions.stage}, {part}" for part in parts]
        super().__init__(conditions, clock, names, provider=model.provider)
        self._model = model
        self._faces = faces

    def _sample(self) -> tuple[int, ...]:
        now = self._clock.now_ns
        start = now()
        self._model.copy_in(self._faces)
        copied = now()
        self._model.compute()
        computed = now()
        self._model.copy_out()
        end = now()
        return copied - start, computed - copied, end - computed, end - start


class RivalJob(Job):
    """A rival in its own process."""

    def __init__(self, conditions: Conditions, clock: Clock, rival: RivalProcess) -> None:
        """Arguments as of ``Job``; ``rival`` is closed with the job."""
        super().__init__(conditions, clock, provider=rival.version)
        self.rival = rival
        self.owns(rival)

    def call(self) -> object:
        return self.rival.measure(StopRule(0, 1))

    def warm_up(self) -> None:
        self._warm = self.rival.warm_up()
        if self.conditions.width is not None:
            self.faces_found = self.rival.faces_found

    def _series(self, rule: StopRule) -> list[float]:
        taken = self.rival.measure(rule).taken
        self._seconds += sum(taken) / 1e9
        return [one / 1e6 for one in taken]
