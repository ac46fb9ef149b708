"""How the scores of each person of a stream went, as figures and as a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.image.crop import CropGeometry
from fer_sdk.output.draw import PALETTE
from fer_sdk.stream import Frame
from fer_sdk.types import Face

Pixels = npt.NDArray[np.uint8]

_FINEST = 0.02
_MOST_BINS = 50_000
_MOST_ROWS = 12
_HOLD = 2.5
_PORTRAIT = 160
_AROUND = CropGeometry(scale=1.35, shift_x=0.0, shift_y=-0.05)

# The picture in pixels of its width of 1600; it is drawn twice as large and shrunk.
_WIDTH, _ROW, _GAP, _EDGE = 1600, 132, 18, 28
_LEFT, _TOP, _BOTTOM, _LINE = 330, 84, 62, 1
_ZOOM = 2
_INK, _PALE, _GRID, _PAPER = (32, 33, 38), (110, 113, 122), (226, 228, 233), (255, 255, 255)
_ABSENT = (244, 245, 247)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_STEPS = (
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    14400,
    43200,
)


class Person(NamedTuple):
    """One face of a stream, over all the time that it was seen.

    Attributes:
        track_id: of its ``Face``.
        first: when it was first seen, in seconds.
        last: when it was last seen.
        frames: in how many frames.
        scores: means of its scores.
    """

    track_id: int
    first: float
    last: float
    frames: int
    scores: dict[str, float]


@dataclass(slots=True)
class _Record:
    first: float
    last: float
    frames: int = 0
    total: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    bins: dict[int, npt.NDArray[np.float64]] = field(default_factory=dict)
    portrait: Pixels | None = None
    portrait_worth: float = 0.0


class Timeline:
    """Takes frame after frame of a stream. What it holds does not grow with their number.

    Scores are kept as means over short times; the longer the stream, the longer they get.
    """

    def __init__(self) -> None:
        self._records: dict[int, _Record] = {}
        self._labels: tuple[str, ...] = ()
        self._bin = _FINEST
        self._bins = 0
        self._first = self._last = 0.0
        self._frames = 0

    def add(self, frame: Frame) -> None:
        """Take a frame; with its ``image`` (BGR) the picture will show what each face is."""
        if not self._frames:
            self._first = frame.time
        self._last = frame.time
        self._frames += 1
        for face in frame.faces:
            self._add_face(frame, face)
        while self._bins > _MOST_BINS:
            self._coarsen()

    def people(self) -> list[Person]:
        """Everybody who was seen, those first who were seen in most frames."""
        people = [
            Person(
                number,
                record.first,
                record.last,
                record.frames,
                dict(zip(self._labels, (record.total / record.frames).tolist(), strict=True)),
            )
            for number, record in self._records.items()
        ]
        return sorted(people, key=lambda person: (-person.frames, person.track_id))

    def draw(self) -> Pixels:
        """The scores over time, one row a person: how high a colour is, is its emotion's score.

        Up to twelve people, those who were seen longest. Gray is where a person was not seen.

        Returns:
            RGB uint8 ``[H, W, 3]``.
        """
        everybody = self.people()
        shown = sorted(everybody[:_MOST_ROWS], key=lambda person: person.first)
        height = _TOP + max(len(shown), 1) * (_ROW + _GAP) + _BOTTOM
        canvas = np.full((height * _ZOOM, _WIDTH * _ZOOM, 3), _PAPER, np.uint8)
        self._draw_legend(canvas)
        bottom = height - _BOTTOM
        for place, person in enumerate(shown):
            self._draw_row(canvas, _TOP + place * (_ROW + _GAP), person)
        if not shown:
            _write(canvas, "nobody was seen", _LEFT + 16, _TOP + _ROW // 2, 0.7, _PALE)
        self._draw_axis(canvas, bottom)
        hidden = len(everybody) - len(shown)
        if hidden:
            _write(canvas, f"and {hidden} more, seen for less", _EDGE, bottom + 34, 0.5, _PALE)
        small = cv2.resize(canvas, (_WIDTH, height), interpolation=cv2.INTER_AREA)
        return np.asarray(small, np.uint8)

    def _add_face(self, frame: Frame, face: Face) -> None:
        self._labels = self._labels or tuple(face.scores)
        scores = np.fromiter(face.scores.values(), np.float64)
        record = self._records.setdefault(face.track_id or 0, _Record(frame.time, frame.time))
        record.last = frame.time
        record.frames += 1
        record.total = scores + (record.total if len(record.total) else 0.0)
        at = math.floor((frame.time - self._first) / self._bin)
        if at not in record.bins:
            record.bins[at] = np.zeros(len(scores) + 1)
            self._bins += 1
        record.bins[at] += np.append(scores, 1.0)
        # Faces at the edge of the picture or far away are poor portraits.
        worth = math.sqrt(face.box.width * face.box.height) * (face.detection_score or 1.0)
        if frame.image is not None and worth > 1.15 * record.portrait_worth:
            record.portrait, record.portrait_worth = _portrait(frame.image, face), worth

    def _coarsen(self) -> None:
        """Join every two means into one."""
        self._bin *= 2
        self._bins = 0
        for record in self._records.values():
            joined: dict[int, npt.NDArray[np.float64]] = {}
            for at, values in record.bins.items():
                joined[at // 2] = joined.get(at // 2, 0.0) + values
            record.bins = joined
            self._bins += len(joined)
        if self._bins > _MOST_BINS and all(len(one.bins) == 1 for one in self._records.values()):
            # Crowds pass by: those who were seen least make room.
            fewest = sorted(self._records, key=lambda number: self._records[number].frames)
            for number in fewest[: len(fewest) // 2]:
                del self._records[number]
            self._bins = len(self._records)

    @property
    def _length(self) -> float:
        return max(self._last - self._first, _FINEST)

    def _columns(self, record: _Record, wide: int) -> npt.NDArray[np.float64]:
        """Mean scores ``[wide, labels]`` for each column of pixels; NaN where it was not seen."""
        sums = np.zeros((wide, len(self._labels) + 1))
        span = self._length
        for at, values in record.bins.items():
            middle = (at + 0.5) * self._bin / span * wide
            sums[min(max(int(middle), 0), wide - 1)] += values
        with np.errstate(invalid="ignore"):
            means = np.asarray(sums[:, :-1] / sums[:, -1:], np.float64)
        apart = span / max(self._frames - 1, 1)
        hold = max(1, math.ceil(_HOLD * max(apart, self._bin) / span * wide))
        last = -hold - 1
        for column in range(wide):
            if sums[column, -1]:
                last = column
            elif column - last <= hold and column - last > 0 and last >= 0:
                means[column] = means[last]
        return means

    def _draw_legend(self, canvas: Pixels) -> None:
        x = _LEFT
        for place, label in enumerate(self._labels):
            _fill(canvas, x, 34, 18, 18, PALETTE[place % len(PALETTE)])
            _write(canvas, label, x + 26, 49, 0.56, _INK)
            x += 60 + _text_width(label, 0.56)
        _write(canvas, "scores of each person over time", _EDGE, 49, 0.56, _PALE)

    def _draw_row(self, canvas: Pixels, top: int, person: Person) -> None:
        record = self._records[person.track_id]
        if record.portrait is not None:
            side = _ROW * _ZOOM
            tile = cv2.resize(record.portrait, (side, side), interpolation=cv2.INTER_CUBIC)
            canvas[top * _ZOOM : top * _ZOOM + side, _EDGE * _ZOOM : _EDGE * _ZOOM + side] = tile
        else:
            _fill(canvas, _EDGE, top, _ROW, _ROW, _ABSENT)
        best, score = max(person.scores.items(), key=lambda one: one[1])
        x = _EDGE + _ROW + 16
        _write(canvas, f"#{person.track_id}", x, top + 34, 0.9, _INK, 2)
        _write(canvas, f"{best} {score:.0%}", x, top + 66, 0.56, _INK)
        when = f"{clock(person.first)} to {clock(person.last)}"
        _write(canvas, when, x, top + 96, 0.46, _PALE)
        wide, high = (_WIDTH - _LEFT - _EDGE) * _ZOOM, _ROW * _ZOOM
        means = self._columns(record, wide)
        below = np.cumsum(means, axis=1).T
        level = 1 - (np.arange(high) + 0.5) / high
        colours = np.array(
            [PALETTE[at % len(PALETTE)] for at in range(len(self._labels))], np.uint8
        )
        which = (level[:, None, None] > below[None, :-1]).sum(axis=1)
        area = colours[which]
        area[:, np.isnan(means[:, 0])] = _ABSENT
        canvas[top * _ZOOM : top * _ZOOM + high, _LEFT * _ZOOM : _LEFT * _ZOOM + wide] = area

    def _draw_axis(self, canvas: Pixels, bottom: int) -> None:
        wide = _WIDTH - _LEFT - _EDGE
        step = next((one for one in _STEPS if self._length / one <= 10), 86400)
        for tick in range(math.ceil(self._first / step), math.floor(self._last / step) + 1):
            x = _LEFT + (tick * step - self._first) / self._length * wide
            _fill(canvas, round(x), bottom - _GAP + 2, _LINE, 10, _PALE)
            words = clock(tick * step)
            middle = round(x) - _text_width(words, 0.5) // 2
            right = _WIDTH - _text_width(words, 0.5) - 6
            _write(canvas, words, min(middle, right), bottom + 12, 0.5, _PALE)


def _portrait(image: Pixels, face: Face) -> Pixels:
    """The head of a face with a little around it, RGB."""
    x, y, side = _AROUND.square(face.box)
    height, width = image.shape[:2]
    bgr = image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)
    inside = bgr[top:bottom, left:right, :3]
    square = cv2.copyMakeBorder(
        inside, top - y, y + side - bottom, left - x, x + side - right, cv2.BORDER_REPLICATE
    )
    shrinks = side > _PORTRAIT
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    small = cv2.resize(square, (_PORTRAIT, _PORTRAIT), interpolation=method)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB), np.uint8)


def clock(seconds: float) -> str:
    """Seconds as people read them: 0:07.5, 12:30 or 1:02:30."""
    sign = "-" if seconds < 0 else ""
    tenths = round(abs(seconds) * 10)
    hours, rest = divmod(tenths, 36000)
    minutes, rest = divmod(rest, 600)
    words = f"{hours}:{minutes:02}:{rest // 10:02}" if hours else f"{minutes}:{rest // 10:02}"
    return sign + words + (f".{rest % 10}" if rest % 10 else "")


def _fill(
    canvas: Pixels, x: int, y: int, width: int, height: int, color: tuple[int, int, int]
) -> None:
    z = _ZOOM
    canvas[y * z : (y + height) * z, x * z : (x + width) * z] = color


def _write(
    canvas: Pixels,
    words: str,
    x: int,
    y: int,
    scale: float,
    color: tuple[int, int, int],
    weight: int = 1,
) -> None:
    cv2.putText(
        canvas,
        words,
        (x * _ZOOM, y * _ZOOM),
        _FONT,
        scale * _ZOOM,
        color,
        weight * _ZOOM,
        cv2.LINE_AA,
    )


def _text_width(words: str, scale: float) -> int:
    (width, _), _ = cv2.getTextSize(words, _FONT, scale * _ZOOM, _ZOOM)
    return -(-int(width) // _ZOOM)
