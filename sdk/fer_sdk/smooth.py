"""Scores that follow a face over time without their flicker."""

from __future__ import annotations

import math
from collections.abc import Sequence


class Smoother:
    """Exponential smoothing of one face's scores, by time and not by frame.

    After a change, ``1 - exp(-t / seconds)`` of it shows ``t`` seconds later: 63 % after
    ``seconds``, 95 % after three times that, at any frame rate and with frames at any distance.
    Each frame's scores count for the time since the frame before it. Source: Eckner, "Algorithms
    for Unevenly Spaced Time Series: Moving Averages and Other Rolling Operators", 2012 (the
    exponential moving average with "next" interpolation).
    """

    def __init__(self, seconds: float) -> None:
        """Start without a past.

        Args:
            seconds: the time constant, above 0.
        """
        self._seconds = seconds
        self._time = 0.0
        self._scores: tuple[float, ...] | None = None

    def step(self, time: float, scores: Sequence[float]) -> tuple[float, ...]:
        """Take the scores of a frame; give the smoothed ones.

        Args:
            time: of the frame in seconds, not before that of the frame before.
            scores: probabilities; what sums to 1 still does afterwards.
        """
        if self._scores is None:
            self._scores = tuple(scores)
        else:
            share = -math.expm1((self._time - time) / self._seconds)
            self._scores = tuple(
                before + share * (now - before)
                for before, now in zip(self._scores, scores, strict=True)
            )
        self._time = time
        return self._scores
