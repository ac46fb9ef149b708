"""Which box of a frame is which of the faces before it.

Tracking by detection: where each face should be by now is predicted from how it moved, and the
boxes that were found are given to the faces by overlap and distance. After Bewley et al., "Simple
Online and Realtime Tracking", 2016, with velocities that are smoothed by time in the place of its
Kalman filter, so that it works alike at any frame rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fer_sdk.types import Box

# Times in seconds, lengths in sides of the face.
_VELOCITY_SECONDS = 0.2
_COAST_SECONDS = 1.0
_REACH, _REACH_A_SECOND, _FARTHEST = 0.7, 2.0, 2.0
_LARGEST_RATIO = 1.8
# Who is in sight goes before who is hidden close by.
_LOST = 0.4
_NOT_ALLOWED = 1e6


@dataclass(slots=True)
class _Track:
    number: int
    box: Box
    time: float
    velocity: tuple[float, float] = (0.0, 0.0)
    found: bool = True

    def at(self, time: float) -> Box:
        """Where it should be: on its way, and slower and slower the longer it was not seen."""
        reach = _COAST_SECONDS * -math.expm1((self.time - time) / _COAST_SECONDS)
        x, y, width, height = self.box
        return Box(x + reach * self.velocity[0], y + reach * self.velocity[1], width, height)

    def see(self, time: float, box: Box) -> None:
        passed = time - self.time
        if passed > 0:
            share = -math.expm1(-passed / _VELOCITY_SECONDS)
            before, now = _centre(self.box), _centre(box)
            across, down = (
                speed + share * ((there - here) / passed - speed)
                for speed, here, there in zip(self.velocity, before, now, strict=True)
            )
            self.velocity = across, down
        self.box, self.time = box, time


class Tracker:
    """Gives the same number to the same face, frame after frame. Numbers are never used again."""

    def __init__(self, keep: float = 1.0) -> None:
        """Start with no faces.

        Args:
            keep: seconds that a face may be out of sight and still be the same; above 0.
        """
        self._keep = keep
        self._tracks: list[_Track] = []
        self._given = 0

    @property
    def numbers(self) -> set[int]:
        """Of the faces that are in sight or may come back."""
        return {track.number for track in self._tracks}

    def assign(self, time: float, boxes: Sequence[Box], width: int, height: int) -> list[int]:
        """Take what a detector found.

        Args:
            time: of the frame in seconds, not before that of the frame before.
            boxes: of the faces in it.
            width: of the frame, in pixels.
            height: of the frame, in pixels.

        Returns:
            The number of each box; new ones, from 1 upwards, for those that were not there before.
        """
        self._tracks = [
            track
            for track in self._tracks
            if track.found or self._may_come_back(track, time, width, height)
        ]
        pairs = dict(_pairs(self._costs(time, boxes)))
        owners = {column: self._tracks[row] for row, column in pairs.items()}
        for track in self._tracks:
            track.found = False
        numbers = []
        for place, box in enumerate(boxes):
            track = owners.get(place) or self._newcomer(time, box)
            track.see(time, box)
            track.found = True
            numbers.append(track.number)
        return numbers

    def predict(self, time: float) -> dict[int, Box]:
        """Where the faces that were last found should be at a later time, by their numbers."""
        return {track.number: track.at(time) for track in self._tracks if track.found}

    def correct(self, time: float, number: int, box: Box) -> None:
        """Say where a face of ``predict`` really is."""
        for track in self._tracks:
            if track.number == number:
                track.see(time, box)

    def scale(self, across: float, down: float) -> None:
        """Follow a change of the frames' size, by the new width and height over the old."""
        for track in self._tracks:
            x, y, width, height = track.box
            track.box = Box(x * across, y * down, width * across, height * down)
            track.velocity = track.velocity[0] * across, track.velocity[1] * down

    def _newcomer(self, time: float, box: Box) -> _Track:
        self._given += 1
        track = _Track(self._given, box, time)
        self._tracks.append(track)
        return track

    def _may_come_back(self, track: _Track, time: float, width: int, height: int) -> bool:
        x, y = _centre(track.at(time))
        return time - track.time <= self._keep and 0 <= x <= width and 0 <= y <= height

    def _costs(self, time: float, boxes: Sequence[Box]) -> npt.NDArray[np.float64]:
        """What it costs to take each box ``[M]`` for each track ``[N]``: ``[N, M]``."""
        there = np.array([track.at(time) for track in self._tracks]).reshape(-1, 1, 4)
        here = np.array(boxes, np.float64).reshape(1, -1, 4)
        unseen = np.array([time - track.time for track in self._tracks]).reshape(-1, 1)
        sides = np.sqrt(there[..., 2] * there[..., 3]), np.sqrt(here[..., 2] * here[..., 3])
        middles = there[..., :2] + there[..., 2:] / 2 - here[..., :2] - here[..., 2:] / 2
        distance = np.hypot(middles[..., 0], middles[..., 1]) / ((sides[0] + sides[1]) / 2)
        ratio = np.abs(np.log(sides[0] / sides[1]))
        low = np.maximum(there[..., :2], here[..., :2])
        high = np.minimum(there[..., :2] + there[..., 2:], here[..., :2] + here[..., 2:])
        shared = (high - low).clip(min=0).prod(axis=-1)
        overlap = shared / (sides[0] ** 2 + sides[1] ** 2 - shared)
        reach = np.minimum(_REACH + _REACH_A_SECOND * unseen, _FARTHEST)
        allowed = (distance <= reach) & (ratio <= math.log(_LARGEST_RATIO))
        lost = np.array([not track.found for track in self._tracks]).reshape(-1, 1)
        return np.where(allowed, distance + ratio + 1 - overlap + _LOST * lost, _NOT_ALLOWED)


def _pairs(costs: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """Rows and columns of the cheapest pairs first, each row and each column once.

    The assignment that is cheapest as a whole (Kuhn's Hungarian method) was tried in its place and
    mixed up no fewer faces: 125 switches against 119 on the scenes of ``fer-bench tracking``.
    """
    rows, columns = np.nonzero(costs < _NOT_ALLOWED)
    order = np.argsort(costs[rows, columns], kind="stable")
    pairs: list[tuple[int, int]] = []
    free_rows, free_columns = set(rows.tolist()), set(columns.tolist())
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row in free_rows and column in free_columns:
            pairs.append((row, column))
            free_rows.remove(row)
            free_columns.remove(column)
    return pairs


def _centre(box: Box) -> tuple[float, float]:
    return box.x + box.width / 2, box.y + box.height / 2
