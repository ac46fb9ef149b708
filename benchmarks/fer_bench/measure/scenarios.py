"""The ways in which a call is used: one after the other, by several threads, by a camera."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from fer_bench.measure.series import Clock, Series, StopRule, collect, timed

Faces = npt.NDArray[np.uint8]

_BATCH_SIZES = 8
"""How many numbers of faces take turns at most."""


def one_caller(call: Callable[[], object], rule: StopRule, clock: Clock) -> Series:
    """The next call starts when the last one ends."""
    taken = collect(timed(call, clock), rule, clock)
    return Series(taken, sum(taken))


def in_parts(sample: Callable[[], tuple[int, ...]], rule: StopRule, clock: Clock) -> Series:
    """Calls that give the times of their parts, nanoseconds; the last one is the whole."""
    parts = collect(sample, rule, clock)
    taken = [sample[-1] for sample in parts]
    return Series(taken, sum(taken), parts)


def changing_batch(
    run: Callable[[Faces], object], faces: Faces, clock: Clock
) -> tuple[Callable[[], object], Callable[[StopRule], Series]]:
    """A model on another number of faces each time, as when people come and go.

    Args:
        run: gets the first one to all of the faces.
        faces: uint8 ``[N, S, S]``.
        clock: what the calls are timed by.

    Returns:
        One turn of all numbers, which warms it up, and what takes a round.
    """
    numbers = [int(number) for number in np.linspace(1, len(faces), min(len(faces), _BATCH_SIZES))]

    def turn() -> None:
        for number in numbers:
            run(faces[:number])

    def take(rule: StopRule) -> Series:
        following = itertools.cycle(numbers)
        series = one_caller(lambda: run(faces[: next(following)]), rule, clock)
        every = itertools.islice(itertools.cycle(numbers), len(series.taken))
        return series._replace(faces=sum(every))

    return turn, take


def together(callers: Sequence[Series]) -> Series:
    """Add up callers by their rates, each over its own time.

    They do not stop in the same moment: what the last one does alone would count as the whole
    crowd's time, and for threads and processes in different measure.
    """
    rate = sum(len(series.taken) / series.wall for series in callers if series.taken)
    taken = [time for series in callers for time in series.taken]
    return Series(taken, round(len(taken) / rate))


def multi_thread(call: Callable[[], object], workers: int, rule: StopRule, clock: Clock) -> Series:
    """Let ``workers`` threads call without pause; the rule's count is that of all of them.

    Each thread makes its first call before any of them is timed.
    """
    gate = threading.Barrier(workers)
    done = threading.Event()
    callers = [Series([], 0) for _ in range(workers)]

    def work(own: int) -> None:
        sample, taken = timed(call, clock), callers[own].taken
        try:
            call()
            gate.wait()
            start = clock.now_ns()
            while not done.is_set():
                taken.append(sample())
                wall = clock.now_ns() - start
                callers[own] = Series(taken, wall)
                if rule.enough(wall / 1e9, sum(len(series.taken) for series in callers)):
                    break
        except threading.BrokenBarrierError:
            # Another one failed before it got there, and says why.
            return
        except BaseException:
            gate.abort()
            raise
        finally:
            # The others finish the call that they are in; a failure ends all of them too.
            done.set()

    with ThreadPoolExecutor(workers) as pool:
        for caller in [pool.submit(work, own) for own in range(workers)]:
            caller.result()
    return together(callers)


def camera(call: Callable[[], object], fps: float, rule: StopRule, clock: Clock) -> Series:
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
            return Series(delays, end, offered=following)
