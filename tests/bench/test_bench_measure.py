"""The timing loop, the percentiles and the scenarios, on a clock that the test moves."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_bench.machine.health import complaints
from fer_bench.measure.scenarios import camera, multi_thread, together
from fer_bench.measure.series import Series, StopRule, SystemClock, WarmUp, collect, timed, warm_up
from fer_bench.results.percentiles import SAMPLES_FOR_P99, summarise

MS = 1_000_000


class HandClock:
    """Time passes only when somebody works or sleeps."""

    def __init__(self) -> None:
        self.time = 0

    def now_ns(self) -> int:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += max(round(seconds * 1e9), 0)

    def work(self, milliseconds: float) -> None:
        self.time += round(milliseconds * MS)


def test_summary_is_numpys() -> None:
    samples = np.random.default_rng(1).lognormal(1, 0.5, 1001).tolist()
    summary = summarise(samples)
    assert summary.count == 1001
    assert summary.mean == pytest.approx(np.mean(samples))
    assert summary.sd == pytest.approx(np.std(samples, ddof=1))
    found = (summary.min, summary.p50, summary.p90, summary.p95, summary.p99, summary.max)
    assert found == pytest.approx(tuple(np.percentile(samples, [0, 50, 90, 95, 99, 100])))


def test_p99_needs_more_than_300_samples() -> None:
    assert SAMPLES_FOR_P99 == 300
    assert summarise([1.0] * 300).p99 is None
    assert summarise([1.0] * 301).p99 == 1.0


def test_one_sample_has_no_spread() -> None:
    summary = summarise([2.5])
    assert (summary.sd, summary.p50, summary.max) == (None, 2.5, 2.5)


def test_series_stops_when_both_time_and_count_are_met() -> None:
    clock = HandClock()
    by_count = collect(timed(lambda: clock.work(10), clock), StopRule(0.05, 20), clock)
    assert by_count == [10 * MS] * 20
    by_time = collect(timed(lambda: clock.work(10), clock), StopRule(1.0, 20), clock)
    assert by_time == [10 * MS] * 100


def test_time_limit_ends_a_slow_series() -> None:
    clock = HandClock()
    rule = StopRule(1.0, 300, time_limit=5.0)
    taken = collect(timed(lambda: clock.work(1500), clock), rule, clock)
    assert len(taken) == 4  # 4.5 s are below the limit, 6 s are not


@given(
    st.floats(0, 100),
    st.integers(1, 1000),
    st.integers(1, 9),
)
def test_rounds_together_keep_the_rule(seconds: float, count: int, rounds: int) -> None:
    part = StopRule(seconds, count, None).split(rounds)
    assert part.min_count * rounds >= count
    assert part.min_seconds * rounds == pytest.approx(seconds)


def test_warm_up_ends_when_times_are_stable() -> None:
    clock = HandClock()
    times = iter([500, 90, 60, 40, 30, 20, *[10] * 100])
    done = warm_up(lambda: clock.work(next(times)), clock)
    # Ten calls at 10 ms have to be seen, or five after a median within a tenth of theirs.
    assert done.stable
    assert done.first_ms == 500
    assert 11 <= done.count <= 16


def test_warm_up_says_that_it_never_got_stable() -> None:
    clock = HandClock()
    step = [1.0]

    def slower_each_time() -> None:
        step[0] *= 1.2
        clock.work(step[0])

    done = warm_up(slower_each_time, clock, max_count=30, max_seconds=1e9)
    assert (done.count, done.stable) == (30, False)


def test_warm_up_of_a_slow_call_is_short() -> None:
    clock = HandClock()
    assert warm_up(lambda: clock.work(1000), clock, max_seconds=3.0).count == 3


def test_camera_takes_each_frame_when_it_is_fast_enough() -> None:
    clock = HandClock()
    footage = camera(lambda: clock.work(30), 10.0, StopRule(1.0, 5), clock)
    assert footage.taken == [30 * MS] * 11
    assert footage.offered == 11


def test_camera_drops_the_frames_that_come_while_it_works() -> None:
    clock = HandClock()
    footage = camera(lambda: clock.work(250), 10.0, StopRule(1.0, 5), clock)
    # By hand: a frame every 100 ms and 250 ms for each. The newest frames when it is free are
    # number 0, 2, 5, 7 and 10; their answers come at 250, 500, 750, 1000 and 1250 ms.
    assert footage.taken == [250 * MS, 300 * MS, 250 * MS, 300 * MS, 250 * MS]
    assert footage.offered == 11
    assert footage.wall == 1250 * MS


def test_camera_at_odd_rates_loses_no_frame_to_rounding() -> None:
    for fps in (7.0, 29.97, 30.0, 59.94, 60.0, 144.0):
        clock = HandClock()
        footage = camera(lambda clock=clock: clock.work(0.1), fps, StopRule(5.0, 1), clock)
        assert footage.offered == len(footage.taken)
        assert footage.taken == pytest.approx([0.1 * MS] * len(footage.taken), abs=1)


def test_threads_share_one_count() -> None:
    calls: list[str] = []

    def call() -> None:
        calls.append(threading.current_thread().name)
        time.sleep(0.002)

    crowd = multi_thread(call, 4, StopRule(0.0, 40), SystemClock())
    assert len(set(calls)) == 4
    # The first call of each thread is not timed.
    assert len(crowd.taken) == len(calls) - 4
    assert 40 <= len(crowd.taken) < 40 + 4
    # They wait at the same time: four callers cannot take as long as one after the other.
    assert crowd.wall < sum(crowd.taken)
    assert min(crowd.taken) >= 2 * MS


@pytest.mark.parametrize("failing", [1, 9])
def test_a_failing_call_ends_all_threads(failing: int) -> None:
    calls: list[int] = []

    def call() -> None:
        calls.append(1)
        if len(calls) == failing:
            raise ValueError("this call")
        time.sleep(0.001)

    with pytest.raises(ValueError, match="this call"):
        multi_thread(call, 3, StopRule(60.0, 1), SystemClock())
    assert len(calls) < 25


def test_what_lies_between_the_calls_counts_against_a_crowd() -> None:
    # One caller makes ten calls of 10 ms in 200 ms, another ten of 10 ms in 100: 50 and 100 calls
    # a second, so that twenty calls take the two of them 20 / 150 seconds.
    crowd = together([Series([10 * MS] * 10, 200 * MS), Series([10 * MS] * 10, 100 * MS)])
    assert crowd.taken == [10 * MS] * 20
    assert crowd.wall == pytest.approx(20 / 150 * 1e9)


def test_a_quiet_series_has_no_complaints() -> None:
    random = np.random.default_rng(0)
    rounds = [random.normal(10, 0.3, 200).tolist() for _ in range(3)]
    assert complaints(rounds, WarmUp(12, 30.0, True)) == []


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda rounds: rounds[0].__setitem__(0, 35.0), "first sample"),
        (lambda rounds: rounds[1].__setitem__(slice(0, 20), [40.0] * 20), "took over 3 times"),
        (lambda rounds: rounds.__setitem__(2, [1.3 * one for one in rounds[2]]), "moved between"),
    ],
)
def test_a_spoiled_series_says_by_what(spoil, word: str) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng(0)
    rounds = [random.normal(10, 0.3, 200).tolist() for _ in range(3)]
    spoil(rounds)
    (found,) = complaints(rounds, WarmUp(12, 30.0, True))
    assert word in found


def test_an_unstable_warm_up_is_said() -> None:
    (found,) = complaints([[1.0] * 10], WarmUp(200, 5.0, False))
    assert "still changing after 200" in found


def test_a_call_too_slow_to_warm_up_is_said() -> None:
    (found,) = complaints([[900.0] * 10], WarmUp(3, 950.0, False))
    assert "only 3 warm-up calls" in found
