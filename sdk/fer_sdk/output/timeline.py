"""Who was seen in a stream, when, and how their scores change over time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.stream import Frame
from fer_sdk.types import Face

Pixels = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float64]

_FINEST_BIN = 0.02
_MOST_BINS = 1500
_MOST_PEOPLE = 1000
_PORTRAIT = 120
_HOLD = 2.5


class Person(NamedTuple):
    """One face of a stream, over all the time that it was seen.

    Attributes:
        track_id: the ``track_id`` of its ``Face``.
        first: when it was first seen, in seconds.
        last: when it was last seen, in seconds.
        frames: in how many frames it was seen.
        scores: the mean of its scores.
    """

    track_id: int
    first: float
    last: float
    frames: int
    scores: dict[str, float]


@dataclass(slots=True)
class _Record:
    """Of one person: the sum of scores and the number of frames, in all and for each bin."""

    first: float
    last: float
    total: Scores
    bins: dict[int, Scores] = field(default_factory=dict)
    portrait: Pixels | None = None
    portrait_side: float = 0.0


class Timeline:
    """Takes the frames of a stream one by one. Its memory does not grow with their number.

    It keeps mean scores of short spans of time, which get longer as the stream does. Of more than
    1,000 people it keeps those who were seen most.
    """

    def __init__(self) -> None:
        self._records: dict[int, _Record] = {}
        self._labels: tuple[str, ...] = ()
        self._bin = _FINEST_BIN
        self._first = self._last = 0.0
        self._frames = 0

    def add(self, frame: Frame) -> None:
        """Take a frame. If it has its ``image`` (BGR), there are portraits."""
        self._first = frame.time if not self._frames else self._first
        self._last = frame.time
        self._frames += 1
        while (self._last - self._first) / self._bin > _MOST_BINS:
            self._bin *= 2
            for record in self._records.values():
                joined: dict[int, Scores] = {}
                for index, sums in record.bins.items():
                    joined[index // 2] = joined.get(index // 2, 0.0) + sums
                record.bins = joined
        for face in frame.faces:
            self._add_face(frame, face)
        if len(self._records) > _MOST_PEOPLE:
            kept = {person.track_id for person in self.people()[: _MOST_PEOPLE // 2]}
            kept |= {face.track_id or 0 for face in frame.faces}
            self._records = {number: self._records[number] for number in sorted(kept)}

    def people(self) -> list[Person]:
        """Everybody who was seen; those who were seen in most frames come first."""
        people = []
        for number, record in self._records.items():
            means = (record.total[:-1] / record.total[-1]).tolist()
            scores = dict(zip(self._labels, means, strict=True))
            people.append(Person(number, record.first, record.last, int(record.total[-1]), scores))
        return sorted(people, key=lambda person: (-person.frames, person.track_id))

    @property
    def span(self) -> tuple[float, float]:
        """When the stream begins and ends, in seconds."""
        return self._first, self._last

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions, in the order of the scores; empty before the first face."""
        return self._labels

    def portrait(self, track_id: int) -> Pixels | None:
        """A person's face, the largest that was seen: RGB uint8 ``[120, 120, 3]``."""
        return self._records[track_id].portrait

    def curve(self, track_id: int) -> tuple[Scores, Scores]:
        """How a person's scores change.

        Returns:
            The edges of N spans of time ``[N + 1]`` in seconds, and the mean scores in each of them
            ``[N, labels]``; NaN where the person was not seen.
        """
        bins = int((self._last - self._first) / self._bin) + 1
        means: Scores = np.full((bins, len(self._labels)), np.nan)
        # A frame counts until the next one, which may be some spans away.
        apart = (self._last - self._first) / max(self._frames - 1, 1)
        hold = int(np.ceil(_HOLD * max(apart, self._bin) / self._bin))
        for index, sums in sorted(self._records[track_id].bins.items()):
            means[index : index + hold] = sums[:-1] / sums[-1]
        return np.asarray(self._first + np.arange(bins + 1) * self._bin), means

    def _add_face(self, frame: Frame, face: Face) -> None:
        self._labels = self._labels or tuple(face.scores)
        values = np.array([*face.scores.values(), 1.0])
        number = face.track_id or 0
        if number not in self._records:
            self._records[number] = _Record(frame.time, frame.time, np.zeros_like(values))
        record = self._records[number]
        record.last = frame.time
        record.total = record.total + values
        index = int((frame.time - self._first) / self._bin)
        record.bins[index] = record.bins.get(index, 0.0) + values
        side = min(face.box.width, face.box.height) * (face.detection_score or 1.0)
        if frame.image is not None and side > 1.15 * record.portrait_side:
            record.portrait, record.portrait_side = _portrait(frame.image, face), side


def clock(seconds: float) -> str:
    """Seconds as people read them: 0:07.5, 12:30 or 1:02:30."""
    sign = "-" if seconds < 0 else ""
    tenths = round(abs(seconds) * 10)
    hours, rest = divmod(tenths, 36000)
    minutes, rest = divmod(rest, 600)
    words = f"{hours}:{minutes:02}:{rest // 10:02}" if hours else f"{minutes}:{rest // 10:02}"
    return sign + words + (f".{rest % 10}" if rest % 10 else "")


def _portrait(image: Pixels, face: Face) -> Pixels | None:
    """The face with a little around it, RGB."""
    x, y, width, height = face.box
    top, bottom = max(int(y - 0.3 * height), 0), max(int(y + 1.15 * height), 0)
    left, right = max(int(x - 0.2 * width), 0), max(int(x + 1.2 * width), 0)
    inside = image[top:bottom, left:right]
    if not inside.size:
        return None
    rgb = cv2.cvtColor(inside, cv2.COLOR_GRAY2RGB if inside.ndim == 2 else cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.resize(rgb, (_PORTRAIT, _PORTRAIT), interpolation=cv2.INTER_AREA))
