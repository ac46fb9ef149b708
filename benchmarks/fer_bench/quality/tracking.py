"""How well faces keep their track ids, on scenes whose truth is known.

Two kinds: boxes with a detector's noise, which try the tracker alone on many scenes; and pictures,
in which portraits walk on the same paths before the whole pipeline.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fer_bench.quality.detection_photos import RELATIVE, Found, bin_of
from fer_bench.quality.matching import match
from fer_bench.quality.scenes import bundled_portrait
from fer_bench.quality.tracking_scenes import HEIGHT, SCENES, WIDTH, Noise, Scene, sightings
from fer_sdk.pipeline import FerPipeline
from fer_sdk.tracker import Tracker
from fer_sdk.types import Box

Image = npt.NDArray[np.uint8]

_COUNTED = ("scenes", "people", "visible", "seen", "switches", "mixed", "away")
RATES = (5.0, 10.0, 30.0, 60.0)
_KEPT = 1.0
_SAME = 0.3
"""Least overlap (intersection over union) of a face that was found with the one that is there."""


@dataclass(frozen=True, slots=True)
class TrackingResult:
    """What tracking made of scenes of one kind.

    Attributes:
        scene: name of the kind.
        rate: frames a second.
        pictures: whether the pipeline ran on pictures; else the tracker on boxes.
        detect_every: as of ``FerPipeline.stream``; of boxes None.
        scenes: how many, each with other people and paths.
        people: in all of them.
        seen: times that somebody who could be seen was found, of ``visible``.
        visible: times that somebody could be seen.
        switches: times that somebody had another number than when last found.
        mixed: times that a number went over to somebody else.
        away: times that somebody was not found for longer than a face is kept, after which another
            number is right.
        off: mean distance of the box from the truth, in sides; None where boxes were given.
        by_size: seen and visible of faces of each size in the picture, see
            ``detection_photos.RELATIVE``.
    """

    scene: str
    rate: float
    pictures: bool
    detect_every: int | None
    scenes: int
    people: int
    visible: int
    seen: int
    switches: int
    mixed: int
    away: int
    off: float | None
    by_size: dict[str, Found]

    def to_dict(self) -> dict[str, object]:
        """Plain values, ready for ``json.dumps``."""
        return asdict(self)


class _Tally:
    """Counts the track ids that people have, over scenes of one kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.off: list[float] = []
        self.by_size = {name: Found() for name in RELATIVE}

    def start(self, scene: Scene) -> None:
        """Begin with another scene."""
        self.counts["scenes"] += 1
        self.counts["people"] += len(scene.people)
        self._last_seen: dict[int, float] = {}
        self._id_of: dict[int, int] = {}
        self._owner_of: dict[int, int] = {}

    def add(self, time: float, person: int, track_id: int) -> None:
        """Somebody was found under an id."""
        self.counts["seen"] += 1
        self.counts["away"] += time - self._last_seen.get(person, time) > _KEPT
        self.counts["switches"] += self._id_of.get(person, track_id) != track_id
        self.counts["mixed"] += self._owner_of.get(track_id, person) != person
        self._last_seen[person] = time
        self._id_of[person] = track_id
        self._owner_of[track_id] = person

    def picture(self, there: dict[int, Box], found: dict[int, Box]) -> list[tuple[int, int]]:
        """Who was found in a picture under which track id."""
        people, ids = list(there), list(found)
        pairs = match(list(there.values()), list(found.values()), _SAME)
        seen = [(people[person], ids[number]) for person, number in pairs]
        for person, number in seen:
            box, other = there[person], found[number]
            x = box.x + box.width / 2 - other.x - other.width / 2
            y = box.y + box.height / 2 - other.y - other.height / 2
            self.off.append(math.hypot(x, y) / box.width)
        hit = {person for person, _ in seen}
        for person, box in there.items():
            of_size = self.by_size[bin_of(RELATIVE, box.width / WIDTH)]
            of_size.faces += 1
            of_size.found += person in hit
        return seen

    def result(
        self, name: str, rate: float, *, pictures: bool, detect_every: int | None
    ) -> TrackingResult:
        """What came out."""
        named = {what: self.counts[what] for what in _COUNTED}
        off = float(np.mean(self.off)) if self.off else None
        return TrackingResult(
            name, rate, pictures, detect_every, **named, off=off, by_size=self.by_size
        )


def measure_boxes(
    name: str, rate: float, *, seeds: Iterable[int], noise: Noise | None = None
) -> TrackingResult:
    """The tracker alone, on boxes as a noisy detector would give them.

    Args:
        name: of the scene, one of ``SCENES``.
        rate: frames a second.
        seeds: one scene for each.
        noise: of the detector; None takes the usual.
    """
    tally = _Tally()
    for seed in seeds:
        scene = SCENES[name](np.random.default_rng(seed))
        tracker = Tracker(_KEPT)
        tally.start(scene)
        for sighting in sightings(scene, rate, noise or Noise(), seed):
            numbers = tracker.assign(sighting.time, sighting.boxes, WIDTH, HEIGHT)
            for number, person in zip(numbers, sighting.people, strict=True):
                if person is not None:
                    tally.add(sighting.time, person, number)
            tally.counts["visible"] += len(scene.visible(sighting.time))
    return tally.result(name, rate, pictures=False, detect_every=None)


def measure_pictures(
    name: str,
    pipeline: FerPipeline,
    portrait: Image,
    *,
    detect_every: int | None,
    seeds: Iterable[int],
    rate: float = 30.0,
) -> TrackingResult:
    """The whole pipeline, on portraits that walk before a plain background.

    Args:
        name: of the scene, one of ``SCENES``.
        pipeline: with any detector.
        portrait: RGB uint8 ``[H, W, 3]``, as ``fer_bench.quality.scenes`` makes it.
        detect_every: as of ``FerPipeline.stream``.
        seeds: one scene for each.
        rate: frames a second.
    """
    framing = _framing(pipeline, portrait)
    tally = _Tally()
    for seed in seeds:
        scene = SCENES[name](np.random.default_rng(seed))
        frames = round(scene.seconds * rate)
        pictures = (draw(scene, frame / rate, portrait, framing) for frame in range(frames))
        tally.start(scene)
        for frame in pipeline.stream(
            pictures, color="rgb", fps=rate, detect_every=detect_every, smoothing=None, keep=_KEPT
        ):
            there = scene.visible(frame.time)
            tally.counts["visible"] += len(there)
            found = {face.track_id or 0: face.box for face in frame.faces}
            for person, number in tally.picture(there, found):
                tally.add(frame.time, person, number)
    return tally.result(name, rate, pictures=True, detect_every=detect_every)


def measure(
    *,
    scenes: int,
    pictures: int,
    every: Iterable[int | None],
    pipeline: FerPipeline,
    progress: Callable[[str, float], None],
) -> list[TrackingResult]:
    """All scenes: as boxes at several rates, and as pictures.

    Args:
        scenes: of each kind and rate, as boxes.
        pictures: of each kind, as pictures; 0 leaves them out.
        every: values of ``detect_every`` to try.
        pipeline: for the pictures.
        progress: is told what comes next, and which share is behind.
    """
    results = []
    portrait = bundled_portrait()
    for at, name in enumerate(SCENES):
        for rate in RATES:
            progress(f"{name}, boxes, {rate:.0f} frames a second", at / len(SCENES))
            results.append(measure_boxes(name, rate, seeds=range(scenes)))
        for step in every if pictures else ():
            progress(f"{name}, pictures, detector on every {step or 'auto'}", at / len(SCENES))
            results.append(
                measure_pictures(name, pipeline, portrait, detect_every=step, seeds=range(pictures))
            )
    return results


def draw(scene: Scene, time: float, portrait: Image, framing: Box) -> Image:
    """A scene as a picture: who stands in front is drawn last, pillars before all.

    Args:
        scene: people on paths.
        time: in seconds.
        portrait: RGB.
        framing: where the face is in it, as fractions of its sides.
    """
    canvas = np.full((HEIGHT, WIDTH, 3), (128, 124, 118), np.uint8)
    there = scene.boxes(time)
    for person in sorted(there, key=lambda person: -scene.people[person].depth):
        box = there[person]
        scale = box.width / (framing.width * portrait.shape[1])
        x = box.x - framing.x * portrait.shape[1] * scale
        y = box.y - framing.y * portrait.shape[0] * scale
        move = np.array([[scale, 0, x], [0, scale, y]])
        cv2.warpAffine(
            portrait,
            move,
            (WIDTH, HEIGHT),
            dst=canvas,
            flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_TRANSPARENT,
        )
    for left, right in scene.pillars:
        canvas[:, max(round(left), 0) : max(round(right), 0)] = (92, 84, 80)
    return canvas


def _framing(pipeline: FerPipeline, portrait: Image) -> Box:
    """Where the pipeline finds the face of the portrait, as fractions of its sides."""
    height, width = portrait.shape[:2]
    canvas = cv2.copyMakeBorder(
        portrait, height, height, width, width, cv2.BORDER_CONSTANT, value=(128, 124, 118)
    )
    box = pipeline.predict(np.asarray(canvas, np.uint8), color="rgb", max_faces=1)[0].box
    return Box(box.x / width - 1, box.y / height - 1, box.width / width, box.height / height)
