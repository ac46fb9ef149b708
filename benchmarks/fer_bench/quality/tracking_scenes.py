"""People on known paths before a camera, as boxes: what tracking is measured on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fer_sdk.types import Box

WIDTH, HEIGHT = 1280, 720

_HIDDEN_SHARE = 0.45
"""A face of which this share is behind another, or behind a pillar, is not seen."""


@dataclass(frozen=True, slots=True)
class Person:
    """Someone on a path.

    Attributes:
        box: where the face is at a time in seconds; None when the person is not there.
        depth: who has less of it stands in front.
    """

    box: Callable[[float], Box | None]
    depth: float


@dataclass(frozen=True, slots=True)
class Scene:
    """People, how long they are watched, and what stands before all of them.

    Attributes:
        people: each with a path.
        seconds: length.
        pillars: left and right edges, in pixels, of what hides everything behind it.
    """

    people: tuple[Person, ...]
    seconds: float
    pillars: tuple[tuple[float, float], ...] = ()

    def boxes(self, time: float) -> dict[int, Box]:
        """The face of everybody who is there, hidden or not, by the place in ``people``."""
        there = {place: person.box(time) for place, person in enumerate(self.people)}
        return {place: box for place, box in there.items() if box is not None}

    def visible(self, time: float) -> dict[int, Box]:
        """Those of ``boxes`` that a detector can find."""
        there = self.boxes(time)
        return {
            place: box
            for place, box in there.items()
            if self._hidden(place, box, there) < _HIDDEN_SHARE and _inside(box) >= 1 - _HIDDEN_SHARE
        }

    def _hidden(self, place: int, box: Box, there: dict[int, Box]) -> float:
        depth = self.people[place].depth
        before = [
            _shared(box, other)
            for at, other in there.items()
            if at != place and self.people[at].depth < depth
        ]
        behind = [
            max(0.0, min(box.x + box.width, right) - max(box.x, left)) * box.height
            for left, right in self.pillars
        ]
        return max(before + behind, default=0.0) / (box.width * box.height)


class Sighting(NamedTuple):
    """What a detector gives for a frame: boxes, and whose each one is; None for a false one."""

    time: float
    boxes: list[Box]
    people: list[int | None]


@dataclass(frozen=True, slots=True)
class Noise:
    """How a detector differs from the truth.

    Attributes:
        centre: standard deviation of a box's centre, in sides.
        side: standard deviation of its side, as a share.
        missed: share of the faces that are not found, each frame on its own.
        false: boxes a frame where there is no face.
    """

    centre: float = 0.03
    side: float = 0.04
    missed: float = 0.05
    false: float = 0.02


def sightings(scene: Scene, rate: float, noise: Noise, seed: int) -> list[Sighting]:
    """A scene through a noisy detector, ``rate`` frames a second."""
    random = np.random.default_rng(seed)
    seen = []
    for frame in range(round(scene.seconds * rate)):
        found: list[tuple[Box, int | None]] = [
            (_noisy(box, noise, random), place)
            for place, box in scene.visible(frame / rate).items()
            if random.random() >= noise.missed
        ]
        for _ in range(random.poisson(noise.false)):
            x, y, side = random.uniform((0, 0, 40), (WIDTH - 140, HEIGHT - 140, 140))
            found.append((Box(x, y, side, side), None))
        random.shuffle(found)
        seen.append(
            Sighting(frame / rate, [box for box, _ in found], [place for _, place in found])
        )
    return seen


def crossing(random: np.random.Generator) -> Scene:
    """Two walk past each other; the one behind is hidden for a moment."""
    y = random.uniform(200, 500)
    speeds, sides = random.uniform(0.6, 2.5, 2), random.uniform(70, 130, 2)
    meet, seconds = random.uniform(500, 780), 5.0
    people = []
    for way, speed, side in zip((1, -1), speeds, sides, strict=True):
        height = y + random.uniform(-0.25, 0.25) * side
        people.append(
            Person(
                _line(meet - way * speed * side * seconds / 2, height, way * speed * side, side),
                depth=-side,
            )
        )
    return Scene(tuple(people), seconds)


def turning_back(random: np.random.Generator) -> Scene:
    """Two walk up to each other until their faces touch, and back again."""
    y = random.uniform(200, 500)
    speeds, sides = random.uniform(0.6, 2.0, 2), random.uniform(80, 120, 2)
    gap, seconds = random.uniform(0.6, 1.1) * sides.mean(), 5.0
    people = []
    for way, speed, side in zip((1, -1), speeds, sides, strict=True):
        height = y + random.uniform(-0.25, 0.25) * side

        def box(
            time: float,
            way: int = way,
            speed: float = speed,
            side: float = side,
            height: float = height,
        ) -> Box | None:
            # A hyperbola: straight towards each other, a soft turn, and straight back.
            away = np.hypot(gap / 2, speed * side * (time - seconds / 2))
            return _square(640 - way * away, height, side)

        people.append(Person(box, depth=-side))
    return Scene(tuple(people), seconds)


def hidden(random: np.random.Generator) -> Scene:
    """One walks behind a pillar, for 0.2 to 0.8 seconds."""
    side, speed = random.uniform(70, 130), random.uniform(0.8, 2.0)
    unseen = random.uniform(0.2, 0.8)
    # From the moment when too much is hidden to the one when enough is visible again.
    wide = max(unseen * speed * side + (2 * _HIDDEN_SHARE - 1) * side, _HIDDEN_SHARE * side)
    way = random.choice((-1, 1))
    path = _line(640 - way * speed * side * 2.5, random.uniform(150, 550), way * speed * side, side)
    return Scene((Person(path, 0.0),), 5.0, ((640 - wide / 2, 640 + wide / 2),))


def coming_and_going(random: np.random.Generator) -> Scene:
    """Six walk through the picture on one height, each in from where the one before went out."""
    side, y = random.uniform(80, 120), random.uniform(200, 500)
    people = []
    start, way = 0.0, 1
    for _ in range(6):
        speed = random.uniform(3.0, 5.0) * side
        seconds = (WIDTH + 2 * side) / speed
        origin = -side if way == 1 else WIDTH + side
        height = y + random.uniform(-0.2, 0.2) * side
        people.append(
            Person(
                _visit(
                    _line(origin - way * speed * start, height, way * speed, side),
                    start,
                    start + seconds,
                ),
                0.0,
            )
        )
        # The next one comes in where this one went out, a moment later.
        start, way = start + seconds + random.uniform(0.1, 1.5), -way
    return Scene(tuple(people), start)


def crowd(random: np.random.Generator) -> Scene:
    """Eight wander about, before and behind each other."""
    people = []
    for _ in range(8):
        side = random.uniform(60, 120)
        middle = random.uniform((250, 200), (WIDTH - 250, HEIGHT - 200))
        reach = random.uniform(0.5, 2.0, 2) * side
        pace, phase = random.uniform(0.5, 1.2, 2), random.uniform(0, 6.28, 2)
        people.append(Person(_wander(middle, reach, pace, phase, side), -side))
    return Scene(tuple(people), 10.0)


def panning(random: np.random.Generator) -> Scene:
    """The camera pans over a group: large faces in front, and small ones far behind."""
    people = []
    speed, seconds = float(random.uniform(100, 150)), 10.0
    for y, sides in _ROWS:
        x, end = float(random.uniform(150, 300)), WIDTH + speed * seconds - 150
        for side in itertools.cycle(sides):
            if x > end:
                break
            people.append(Person(_line(x, y, -speed, side * random.uniform(0.92, 1)), 0.0))
            x += random.uniform(1.6, 1.8) * max(sides[0], 150)
    return Scene(tuple(people), seconds)


# Height of each row of a group, and the sides of the faces in it, in turn.
_ROWS = ((540.0, (280.0, 210.0)), (250.0, (140.0, 90.0)), (122.0, (48.0,)), (64.0, (30.0,)))

SCENES: dict[str, Callable[[np.random.Generator], Scene]] = {
    "crossing": crossing,
    "turning back": turning_back,
    "hidden": hidden,
    "coming and going": coming_and_going,
    "crowd": crowd,
    "panning": panning,
}
"""Each takes a random generator. A face is about a tenth of the picture's width, but in a group."""


def _line(x: float, y: float, speed: float, side: float) -> Callable[[float], Box | None]:
    return lambda time: _square(x + speed * time, y, side)


def _visit(
    path: Callable[[float], Box | None], start: float, end: float
) -> Callable[[float], Box | None]:
    return lambda time: path(time) if start <= time <= end else None


def _wander(
    middle: npt.NDArray[np.float64],
    reach: npt.NDArray[np.float64],
    pace: npt.NDArray[np.float64],
    phase: npt.NDArray[np.float64],
    side: float,
) -> Callable[[float], Box | None]:
    def box(time: float) -> Box | None:
        x, y = middle + reach * np.sin(pace * time + phase)
        return _square(float(x), float(y), side)

    return box


def _square(x: float, y: float, side: float) -> Box | None:
    box = Box(x - side / 2, y - side / 2, side, side)
    return box if _inside(box) > 0 else None


def _noisy(box: Box, noise: Noise, random: np.random.Generator) -> Box:
    side = box.width * float(np.exp(random.normal(0, noise.side)))
    x, y = random.normal(0, noise.centre * box.width, 2)
    return Box(box.x + x + (box.width - side) / 2, box.y + y + (box.height - side) / 2, side, side)


def _inside(box: Box) -> float:
    return _shared(box, Box(0, 0, WIDTH, HEIGHT)) / (box.width * box.height)


def _shared(one: Box, other: Box) -> float:
    across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    return max(across, 0.0) * max(down, 0.0)
