"""The ways in which a call is used: by several threads, or for the frames of a camera.

One caller after the other needs no code of its own: that is ``measure.collect``.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fer_bench.measure.clock import Clock
from fer_bench.measure.series import Series, StopRule, timed


@dataclass(frozen=True, slots=True)
class Crowd:
    """What several callers saw.

    Attributes:
        samples: time of every call of every caller, nanoseconds.
        wall: how long the crowd took for all of them, nanoseconds.
    """

    samples: list[int]
    wall: int

    @classmethod
    def of(cls, callers: Sequence[Series]) -> Crowd:
        """Add up callers by their rates, each over its own time.

        They do not stop in the same moment: what the last one does alone would count as the
        whole crowd's time, and for threads and processes in different measure.
        """
        rate = sum(len(one.taken) / one.wall for one in callers if one.taken)
        samples = [taken for one in callers for taken in one.taken]
        return cls(samples, round(len(samples) / rate))


def multi_thread(call: Callable[[], object], workers: int, rule: StopRule, clock: Clock) -> Crowd:
    """Let ``workers`` threads call without pause; the rule's count is that of all of them.

    Each thread makes its first call before any of them is timed.
    """
    together = threading.Barrier(workers)
    done = threading.Event()
    callers = [Series([], 0) for _ in range(workers)]

    def work(own: int) -> None:
        sample, taken = timed(call, clock), callers[own].taken
        try:
            call()
            together.wait()
            start = clock.now_ns()
            while not done.is_set():
                taken.append(sample())
                wall = clock.now_ns() - start
                callers[own] = Series(taken, wall)
                if rule.enough(wall / 1e9, sum(len(one.taken) for one in callers)):
                    break
        except threading.BrokenBarrierError:
            # Another one failed before it got there, and says why.
            return
        except BaseException:
            together.abort()
            raise
        finally:
            # The others finish the call that they are in; a failure ends all of them too.
            done.set()

    with ThreadPoolExecutor(workers) as pool:
        for caller in [pool.submit(work, own) for own in range(workers)]:
            caller.result()
    return Crowd.of(callers)


@dataclass(frozen=True, slots=True)
class Footage:
    """What became of a camera's frames.

    Attributes:
        delays: from a frame's arrival to its answer, nanoseconds, for each frame that got one.
        offered: frames that arrived up to the last one that got an answer.
        wall: from the first frame's arrival to the last answer, nanoseconds.
    """

    delays: list[int]
    offered: int
    wall: int

    @property
    def dropped(self) -> int:
        """Frames that a newer one replaced before they were looked at."""
        return self.offered - len(self.delays)


def camera(call: Callable[[], object], fps: float, rule: StopRule, clock: Clock) -> Footage:
    """Call for the newest frame of a camera that delivers ``fps`` frames a second.

    Frame number k arrives k / fps seconds after the start. As in a live view, only the newest
    frame waits: when a call takes longer than a frame, the frames between are dropped.
    """
    period = 1e9 / fps
    delays: list[int] = []
    start = clock.now_ns()
    following = 0
    while True:
        waited = round(following * period) - (clock.now_ns() - start)
        clock.sleep(waited / 1e9)
        # A frame arrives at its rounded time; the margin keeps rounding from losing it.
        newest = max(following, math.floor((clock.now_ns() - start + 0.5) / period))
        arrived = round(newest * period)
        call()
        end = clock.now_ns() - start
        delays.append(end - arrived)
        following = newest + 1
        if rule.enough(end / 1e9, len(delays)):
            return Footage(delays, following, end)
