"""The timing loop: warm up until stable, then sample until there is enough.

It needs nothing but the standard library, since baselines run it in interpreters that do not have
the SDK.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

Sample = TypeVar("Sample")

_WINDOW = 5
CALLS_TO_JUDGE = 2 * _WINDOW
"""With fewer calls nothing can be said about whether they got stable."""


class Clock(Protocol):
    """A clock that never goes back, and a way to wait by it."""

    def now_ns(self) -> int:
        """Nanoseconds since some fixed moment."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; returns at once for zero or less."""
        ...


class SystemClock:
    """The finest clock that this machine has."""

    now_ns = staticmethod(time.perf_counter_ns)

    def sleep(self, seconds: float) -> None:
        """Wait; returns at once for zero or less."""
        if seconds > 0:
            time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class StopRule:
    """When a series is long enough: both the time and the count have been reached.

    Attributes:
        min_seconds: go on at least this long.
        min_count: take at least this many samples.
        time_limit: give up waiting for the count after this many seconds; None never does.
    """

    min_seconds: float
    min_count: int
    time_limit: float | None = None

    def enough(self, elapsed: float, count: int) -> bool:
        """Whether a series of ``count`` samples that took ``elapsed`` seconds may end."""
        if self.time_limit is not None and elapsed >= self.time_limit and count > 0:
            return True
        return elapsed >= self.min_seconds and count >= self.min_count

    def split(self, rounds: int) -> StopRule:
        """The rule for one of ``rounds`` series that together keep this rule."""
        return StopRule(
            self.min_seconds / rounds,
            -(-self.min_count // rounds),
            None if self.time_limit is None else self.time_limit / rounds,
        )

    def share(self, callers: int) -> StopRule:
        """The rule for each of ``callers`` that go on at the same time and keep it together."""
        return StopRule(self.min_seconds, -(-self.min_count // callers), self.time_limit)


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What happened before the samples.

    Attributes:
        count: calls that were made and thrown away.
        first_ms: how long the very first one took.
        stable: whether the last calls took as long as those before them.
    """

    count: int
    first_ms: float
    stable: bool


_CALLS_TO_SETTLE = 3


def settle(call: Callable[[], object]) -> None:
    """Make a series start as it goes on: nothing to collect, and the caches filled by the call."""
    gc.collect()
    for _ in range(_CALLS_TO_SETTLE):
        call()


def collect(sample: Callable[[], Sample], rule: StopRule, clock: Clock) -> list[Sample]:
    """Take samples until the rule says that there are enough."""
    samples: list[Sample] = []
    start = clock.now_ns()
    while True:
        samples.append(sample())
        if rule.enough((clock.now_ns() - start) / 1e9, len(samples)):
            return samples


class Series(NamedTuple):
    """The calls of one round.

    Attributes:
        taken: time of each call, nanoseconds; for a camera, from a frame's arrival to its answer.
        wall: the time that throughput is worked out from, nanoseconds.
        parts: for a call that is taken apart, the times of its parts, the last of them the whole.
        faces: faces in all calls, where that is not the same number in each.
        offered: frames that a camera delivered.
    """

    taken: list[int]
    wall: int
    parts: list[tuple[int, ...]] | None = None
    faces: int | None = None
    offered: int | None = None


def timed(call: Callable[[], object], clock: Clock) -> Callable[[], int]:
    """A sample that is the time of one call, in nanoseconds."""
    now = clock.now_ns

    def sample() -> int:
        start = now()
        call()
        return now() - start

    return sample


def warm_up(
    call: Callable[[], object],
    clock: Clock,
    *,
    tolerance: float = 0.1,
    max_seconds: float = 3.0,
    max_count: int = 200,
) -> WarmUp:
    """Call until the median of the last five calls is within ``tolerance`` of the five before.

    A call that is slow is warm after fewer: the series also ends after ``max_seconds`` or
    ``max_count`` calls, and then says that it was not stable.
    """
    sample = timed(call, clock)
    times: list[int] = []
    start = clock.now_ns()
    while True:
        times.append(sample())
        stable = _is_stable(times, tolerance)
        spent = (clock.now_ns() - start) / 1e9
        if stable or len(times) >= max_count or spent >= max_seconds:
            return WarmUp(len(times), times[0] / 1e6, stable)


def _is_stable(times: list[int], tolerance: float) -> bool:
    if len(times) < CALLS_TO_JUDGE:
        return False
    before = sorted(times[-CALLS_TO_JUDGE:-_WINDOW])[_WINDOW // 2]
    last = sorted(times[-_WINDOW:])[_WINDOW // 2]
    return abs(last - before) <= tolerance * before
