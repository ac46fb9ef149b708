"""Who is who from frame to frame: the tracker on paths whose truth is known, and smoothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from scipy.signal import lfilter

from fer_sdk.smooth import Smoother
from fer_sdk.tracker import Tracker
from fer_sdk.types import Box

SIZE = 1280, 720


def _square(x: float, y: float, side: float = 100) -> Box:
    return Box(x - side / 2, y - side / 2, side, side)


def _numbers(
    tracker: Tracker, paths: list[Callable[[float], Box | None]], rate: float, seconds: float
) -> Iterator[list[int | None]]:
    for frame in range(round(rate * seconds)):
        there = {at: box for at, path in enumerate(paths) if (box := path(frame / rate))}
        numbers = tracker.assign(frame / rate, list(there.values()), *SIZE)
        known = dict(zip(there, numbers, strict=True))
        yield [known.get(at) for at in range(len(paths))]


@pytest.mark.parametrize("rate", [5, 30, 1000])
def test_everybody_keeps_a_number_at_any_frame_rate(rate: float) -> None:
    paths = [lambda t: _square(200 + 150 * t, 200), lambda t: _square(1000 - 200 * t, 500, 140)]
    for numbers in _numbers(Tracker(), paths, rate, 2):
        assert numbers == [1, 2]


def test_two_who_cross_keep_their_numbers_although_one_is_hidden() -> None:
    def behind(t: float) -> Box | None:
        x = 1000 - 250 * t
        hidden = abs(x - (300 + 250 * t)) < 60
        return None if hidden else _square(x, 360, 90)

    ends = list(_numbers(Tracker(), [lambda t: _square(300 + 250 * t, 350), behind], 30, 2.6))
    assert [None in numbers for numbers in ends].count(True) >= 6
    assert {numbers[0] for numbers in ends} == {1}
    assert {numbers[1] for numbers in ends} == {2, None}


@pytest.mark.parametrize(("gap", "same"), [(0.4, True), (0.9, True), (1.2, False), (5.0, False)])
def test_a_face_may_be_out_of_sight_for_as_long_as_it_is_kept(gap: float, same: bool) -> None:
    tracker = Tracker(keep=1.0)
    for frame in range(30):
        tracker.assign(frame / 30, [_square(600, 300)], *SIZE)
    for time in np.arange(1.0, 29 / 30 + gap - 1e-6, 1 / 30):
        tracker.assign(float(time), [], *SIZE)
    (number,) = tracker.assign(29 / 30 + gap, [_square(605, 300)], *SIZE)
    assert number == (1 if same else 2)


def test_who_walks_out_of_the_picture_is_not_taken_for_who_comes_in_there() -> None:
    tracker = Tracker(keep=2.0)
    for frame in range(31):
        tracker.assign(frame / 30, [_square(900 + 12.0 * frame, 300)], *SIZE)
    for frame in range(31, 45):
        tracker.assign(frame / 30, [], *SIZE)
    assert tracker.assign(45 / 30, [_square(1240, 300)], *SIZE) == [2]


def test_numbers_are_never_used_again_and_nothing_piles_up() -> None:
    tracker = Tracker(keep=0.5)
    given: list[int] = []
    random = np.random.default_rng(0)
    for visit in range(500):
        x, y = random.uniform(100, 600, 2)
        for step in range(3):
            given += tracker.assign(10.0 * visit + step / 30, [_square(x, y)], *SIZE)
        tracker.assign(10.0 * visit + 5, [], *SIZE)
        assert len(tracker.numbers) <= 1
    assert len(set(given)) == 500
    assert given == sorted(given)


def test_a_box_that_is_much_larger_is_somebody_else() -> None:
    tracker = Tracker()
    tracker.assign(0.0, [_square(300, 300, 60)], *SIZE)
    assert tracker.assign(0.03, [_square(300, 300, 180)], *SIZE) == [2]


def test_between_detections_faces_go_on_as_they_moved() -> None:
    tracker = Tracker()
    for frame in range(30):
        tracker.assign(frame / 30, [_square(200 + 10 * frame, 300)], *SIZE)
    predicted = tracker.predict(31 / 30)[1]
    assert predicted.x + predicted.width / 2 == pytest.approx(200 + 10 * 31, abs=2)
    # What is not seen is not believed to go on for ever.
    far = tracker.predict(100.0)[1]
    assert far.x - predicted.x < 300


def test_a_frame_of_another_size_moves_nobody_to_another_number() -> None:
    tracker = Tracker()
    tracker.assign(0.0, [_square(300, 300), _square(800, 300)], *SIZE)
    tracker.scale(0.25, 0.25)
    assert tracker.assign(0.03, [_square(200, 75, 25), _square(75, 75, 25)], 320, 180) == [2, 1]


def test_nothing_found_is_nothing_given() -> None:
    assert Tracker().assign(0.0, [], *SIZE) == []
    assert Tracker().predict(1.0) == {}


def test_smoothing_is_an_exponential_filter() -> None:
    values = np.random.default_rng(1).uniform(0, 1, 200)
    smoother = Smoother(0.3)
    ours = [smoother.step(i / 25, [v])[0] for i, v in enumerate(values)]
    share = 1 - math.exp(-1 / 25 / 0.3)
    theirs, _ = lfilter([share], [1, share - 1], values, zi=[(1 - share) * values[0]])
    assert ours == pytest.approx(list(theirs))


@pytest.mark.parametrize("rate", [10, 30, 1000])
def test_of_a_change_63_percent_show_after_the_time_constant(rate: int) -> None:
    smoother = Smoother(0.5)
    for i in range(rate):
        smoother.step(i / rate, [1.0, 0.0])
    for i in range(rate, rate + rate // 2):
        shown = smoother.step(i / rate, [0.0, 1.0])
    # The new value counts from the frame before it on.
    passed = rate // 2 / rate
    assert shown[1] == pytest.approx(1 - math.exp(-passed / 0.5))
    assert sum(shown) == pytest.approx(1)


def test_frames_at_uneven_distances_give_what_even_ones_give() -> None:
    random = np.random.default_rng(2)
    fine = np.arange(0, 4, 0.001)
    some = np.sort(random.choice(fine, 300, replace=False))
    ends = []
    for times in (fine, some):
        smoother = Smoother(0.4)
        at = {t: smoother.step(float(t), [0.5 + 0.5 * math.sin(3 * t)])[0] for t in times}
        ends.append(at[some[-1]])
    assert ends[0] == pytest.approx(ends[1], abs=0.02)


def test_a_long_absence_is_forgotten() -> None:
    smoother = Smoother(0.3)
    smoother.step(0, [1.0, 0.0])
    assert smoother.step(30, [0.2, 0.8]) == pytest.approx((0.2, 0.8))
    for _, scores in itertools.product(range(3), [(0.2, 0.8)]):
        assert smoother.step(30, scores) == pytest.approx((0.2, 0.8))
