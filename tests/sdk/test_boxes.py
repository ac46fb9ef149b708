"""Arithmetic of boxes, against counted pixels and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_sdk.detectors.boxes import clamped, iou, roll, suppress
from fer_sdk.types import Box

_whole = st.tuples(
    st.integers(-8, 8), st.integers(-8, 8), st.integers(1, 12), st.integers(1, 12)
)  # fmt: skip


def _pixels(box: tuple[int, int, int, int]) -> set[tuple[int, int]]:
    x, y, width, height = box
    return {(a, b) for a in range(x, x + width) for b in range(y, y + height)}


@given(st.lists(_whole, min_size=1, max_size=4), st.lists(_whole, min_size=1, max_size=4))
def test_the_overlap_is_that_of_the_pixels_that_boxes_share(
    boxes: list[tuple[int, int, int, int]], others: list[tuple[int, int, int, int]]
) -> None:
    expected = [
        [len(_pixels(a) & _pixels(b)) / len(_pixels(a) | _pixels(b)) for b in others] for a in boxes
    ]
    np.testing.assert_allclose(iou(boxes, others), expected, atol=1e-12)
    np.testing.assert_array_equal(iou(boxes, others), iou(others, boxes).T)


_number = st.floats(-1e4, 1e4)
_side = st.floats(0, 1e4)
_any = st.tuples(_number, _number, _side, _side)


@given(_any, _any, st.floats(0.01, 100), _number, _number)
def test_the_overlap_does_not_depend_on_place_and_scale(
    box: tuple[float, ...], other: tuple[float, ...], scale: float, dx: float, dy: float
) -> None:
    (found,) = iou([box], [other]).ravel()
    assert 0 <= found <= 1 + 1e-9
    moved = [np.array(one) * scale + (dx, dy, 0, 0) for one in (box, other)]
    if min(*box[2:], *other[2:]) > 1:
        assert iou(moved[:1], moved[1:])[0, 0] == pytest.approx(found, abs=1e-3)


def test_overlaps_that_are_known() -> None:
    one = Box(10.0, 20.0, 30.0, 40.0)
    assert iou([one], [one]).tolist() == [[1.0]]
    # Half of each is shared: 1 of 3 parts.
    assert iou([(0, 0, 2, 2)], [(1, 0, 2, 2)])[0, 0] == pytest.approx(1 / 3)
    assert iou([(0, 0, 10, 10)], [(2, 2, 5, 5)])[0, 0] == pytest.approx(0.25)
    # Touching is not sharing; what has no area shares nothing, not even with itself.
    assert iou([(0, 0, 2, 2)], [(2, 0, 2, 2), (5, 5, 0, 0)]).tolist() == [[0.0, 0.0]]
    assert iou([(1, 1, 0, 0)], [(1, 1, 0, 0)]).tolist() == [[0.0]]
    assert iou([], [one]).shape == (0, 1)
    assert iou([one, one], []).shape == (2, 0)


@given(st.lists(st.tuples(_whole, st.floats(0.01, 1)), min_size=1, max_size=12), st.floats(0, 0.9))
def test_suppression_keeps_the_best_of_what_overlaps(
    scored: list[tuple[tuple[int, int, int, int], float]], most: float
) -> None:
    # float32 is what OpenCV compares in.
    scored = [(box, float(np.float32(score))) for box, score in scored]
    boxes = np.array([box for box, _ in scored], np.float64)
    scores = np.array([score for _, score in scored])
    overlaps = iou(boxes, boxes)
    if (np.abs(overlaps - most) < 1e-5).any():
        return
    kept: list[int] = []
    for at in sorted(range(len(scored)), key=lambda at: -scores[at]):
        if all(overlaps[at, better] <= most for better in kept):
            kept.append(at)
    assert suppress(boxes, scores, most) == kept


def test_suppression_of_nothing() -> None:
    assert suppress(np.zeros((0, 4)), np.zeros(0), 0.3) == []


def test_clamped() -> None:
    assert clamped(Box(-2, 3, 10, 4), 20, 30) == Box(0, 3, 8, 4)
    assert clamped(Box(15, 25, 10, 10), 20, 30) == Box(15, 25, 5, 5)
    assert clamped(Box(1, 2, 3, 4), 20, 30) == Box(1, 2, 3, 4)
    assert clamped(Box(20, 5, 3, 3), 20, 30) is None
    assert clamped(Box(5, -3, 3, 3), 20, 30) is None


@pytest.mark.parametrize("degrees", [0, 30, -45, 90, 135, -170, 180])
def test_roll_is_clockwise_as_seen(degrees: float) -> None:
    # y grows downwards: a right eye that is lower than the left one is a tilt clockwise.
    x, y = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    assert roll(5.0, 7.0, 5.0 + 20 * x, 7.0 + 20 * y) == pytest.approx(degrees)
