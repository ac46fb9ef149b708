"""What the face detection finds, misses and makes up: the figures of ``fer-bench detection``.

Everything is drawn from one seed. Without FER2013 the parts that need it are None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from fer_bench.quality.detection_scenes import (
    Cutout,
    Scene,
    cropped,
    found,
    grid,
    of_training_face,
    place,
)
from fer_bench.quality.labelled import LabelledFaces, read_labelled
from fer_bench.quality.negatives import Faceless, faceless, photos, photos_of
from fer_bench.quality.scenes import bundled_portrait
from fer_sdk.errors import DataError
from fer_sdk.pipeline import FerPipeline
from fer_sdk.types import Box

Image = npt.NDArray[np.uint8]
Progress = Callable[[str, float], None]
Detectors = Literal["auto", "mediapipe", "blazeface"]

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7)
SIZES = (2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40)
"""The longer side of a scene in sides of the face in it."""
TILTS = (0, 15, 30, 45, 60, 75, 90)
COUNTS = (1, 4, 9, 16, 25, 36, 64, 100, 144, 256)

_SCENE = (1280, 960)
_CROWD = (1920, 1080)
_TILTED_SIDE = 4
_SCENES_EACH = 12
_FACE_OF_CELL = 0.6
_CANVAS = 3
_AT_ONCE = 64
# Photos in which, as a whole, the detector finds nothing.
_GROUNDS = ("brick.png", "grass.png", "ihc.png", "retina.jpg", "rocket.jpg", "china.jpg")


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of labelled faces.

    Attributes:
        pictures: how many there were.
        first: answered by the detector's first look, confirmed where it was in doubt.
        again: answered by a box that the second look found.
        whole: answered by taking the picture as a whole.
        accuracy: share of all pictures whose answer is their label; no answer is wrong.
        accuracy_of_answered: the same of those that got an answer.
        given_accuracy: the same with every picture taken as a face (``detector=None``).
    """

    pictures: int
    first: int
    again: int
    whole: int
    accuracy: float
    accuracy_of_answered: float | None
    given_accuracy: float

    @property
    def answered(self) -> float:
        """Share of the pictures that got an answer."""
        return (self.first + self.again + self.whole) / self.pictures


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """What is found in pictures without a face.

    Attributes:
        size: of the pictures, ``"large"`` or ``"small"``.
        tiles: as of ``FerPipeline``.
        pictures: how many.
        threshold: least detection score.
        first: pictures in which the detector's first look finds a face, confirmed where it was in
            doubt.
        again: pictures in which only the second look does; None where it was not tried at this
            threshold.
        sources: at the default threshold, how often each source gave one.
    """

    size: str
    tiles: int
    pictures: int
    threshold: float
    first: int
    again: int | None
    sources: dict[str, int]


@dataclass(frozen=True, slots=True)
class Reach:
    """How many of the faces of composed scenes are found.

    Attributes:
        what: ``"size"``, ``"tilt"`` or ``"count"``.
        value: the longer side of the scene in faces, degrees, or faces in the scene.
        face: whose faces, ``"portrait"`` or ``"FER2013"``.
        tiles: as of ``FerPipeline``.
        faces: how many there were.
        found: how many of them were found.
        extra: boxes that show none of them.
    """

    what: str
    value: int
    face: str
    tiles: int
    faces: int
    found: int
    extra: int


@dataclass(frozen=True, slots=True)
class DetectionResult:
    """All figures, and under what conditions they were taken.

    Attributes:
        pipeline: ``FerPipeline.info`` of the default one.
        seed: of everything that is drawn.
        split: which faces of FER2013; None without it.
        low_resolution: faces of FER2013 given as they are, 48x48.
        end_to_end: the same faces in the middle of a gray canvas three times as wide.
        false_alarms: by size and threshold.
        reach: by size, tilt and count.
    """

    pipeline: dict[str, object]
    seed: int
    split: str | None
    low_resolution: Answers | None
    end_to_end: Answers | None
    false_alarms: tuple[FalseAlarms, ...]
    reach: tuple[Reach, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain values, ready for ``json.dumps``."""
        return asdict(self)


def measure(
    data: Path | None,
    *,
    split: str = "PublicTest",
    limit: int | None = None,
    detector: Detectors = "auto",
    tiles: Sequence[int] = (1, 2, 4),
    folder: Path | None = None,
    seed: int = 0,
    progress: Progress = lambda what, share: None,
) -> DetectionResult:
    """Measure the face detection with the default settings.

    Args:
        data: ``fer2013.csv`` or ``.csv.gz``; None leaves out what needs it.
        split: which faces of it.
        limit: only this many of them, evenly spread.
        detector: as of ``FerPipeline``.
        tiles: settings of ``FerPipeline(tiles=...)`` for the scenes.
        folder: pictures without faces, in the place of those of scikit-image and scikit-learn.
        seed: of everything that is drawn.
        progress: is told what is being done, and which share of all is behind it.

    Raises:
        DataError: the data are not FER2013, or there are no pictures without faces.
        FerError: the pipeline cannot be opened.
    """
    progress("reading", 0.0)
    grounds = photos()
    sources = grounds if folder is None else photos_of(folder)
    faces = None if data is None else _some(read_labelled(data, split), limit)
    low = wide = None
    with FerPipeline(detector=detector) as pipeline:
        if faces is not None:
            progress("faces of 48x48 pixels", 0.1)
            given = _accuracy_of_given(faces, pipeline)
            low = answers(pipeline, faces, list(faces.images), given)
            progress("faces on a canvas", 0.3)
            wide = answers(pipeline, faces, [on_canvas(face) for face in faces.images], given)
        info = pipeline.info.to_dict()
        geometry = pipeline.parts.landmarks.metadata.crop
    alarms: list[FalseAlarms] = []
    cutouts = {"portrait": [_portrait()]}
    if faces is not None:
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(len(faces.images))[:_SCENES_EACH]
        cutouts["FER2013"] = [of_training_face(faces.images[at], geometry) for at in chosen]
    reaches: list[Reach] = []
    for at, count in enumerate(tiles):
        share = 0.5 + 0.5 * at / len(tiles)
        with FerPipeline(detector=detector, tiles=count) as pipeline:
            progress(f"pictures without faces, {count} tiles", share)
            alarms += false_alarms(pipeline, faceless(sources, seed), count)
            progress(f"scenes, {count} tiles", share)
            for name, of_name in cutouts.items():
                reaches += reach(pipeline, grounds, of_name, name, count, seed)
    return DetectionResult(
        pipeline=info,
        seed=seed,
        split=None if faces is None else split,
        low_resolution=low,
        end_to_end=wide,
        false_alarms=tuple(alarms),
        reach=tuple(reaches),
    )


def answers(
    pipeline: FerPipeline, faces: LabelledFaces, pictures: Sequence[Image], given_accuracy: float
) -> Answers:
    """Give each picture to the pipeline; its largest face is the answer."""
    count: Counter[str] = Counter()
    first = pipeline.with_parts(pipeline.parts._replace(again=None))
    for at in range(0, len(pictures), _AT_ONCE):
        part = list(pictures[at : at + _AT_ONCE])
        results = first.predict_batch(part, max_faces=1, on_error="raise")
        for picture, result, label in zip(
            part, results, faces.labels[at : at + _AT_ONCE], strict=True
        ):
            found_again = [] if result else pipeline.predict(picture, max_faces=1)
            for face in result:
                count["first"] += 1
                count["right"] += face.emotion == label
            for face in found_again:
                count["whole" if face.detection_score is None else "again"] += 1
                count["right"] += face.emotion == label
    answered = count["first"] + count["again"] + count["whole"]
    return Answers(
        pictures=len(pictures),
        first=count["first"],
        again=count["again"],
        whole=count["whole"],
        accuracy=count["right"] / len(pictures),
        accuracy_of_answered=count["right"] / answered if answered else None,
        given_accuracy=given_accuracy,
    )


def false_alarms(
    pipeline: FerPipeline, pictures: Iterator[Faceless], tiles: int
) -> list[FalseAlarms]:
    """Look for faces where there are none; with tiles in the large pictures only."""
    parts = pipeline.parts
    if parts.detector is None:
        raise DataError("false alarms need a pipeline with a detector")
    best: dict[str, list[float]] = {"large": []} if tiles > 1 else {"large": [], "small": []}
    again: Counter[str] = Counter()
    sources: dict[str, Counter[str]] = {size: Counter() for size in best}
    for picture in pictures:
        if picture.size not in best:
            continue
        score = max((one.score for one in parts.detector.detect(picture.rgb)), default=0.0)
        best[picture.size].append(score)
        second = (
            not score
            and parts.again is not None
            and parts.again.applies(picture.rgb)
            and parts.again.look(picture.rgb, parts.landmarks) is not None
        )
        again[picture.size] += second
        if score or second:
            sources[picture.size][picture.source.split()[0]] += 1
    default = THRESHOLDS[0]
    return [
        FalseAlarms(
            size=size,
            tiles=tiles,
            pictures=len(scores),
            threshold=threshold,
            first=sum(score >= threshold for score in scores),
            again=again[size] if threshold == default else None,
            sources=dict(sources[size].most_common()) if threshold == default else {},
        )
        for size, scores in best.items()
        for threshold in THRESHOLDS
    ]


def reach(
    pipeline: FerPipeline,
    grounds: Sequence[tuple[str, Image]],
    cutouts: Sequence[Cutout],
    name: str,
    tiles: int,
    seed: int,
) -> list[Reach]:
    """Find faces by size, tilt and count; the same scenes for every pipeline."""
    calm = [image for ground, image in grounds if ground in _GROUNDS]
    rng = np.random.default_rng(seed)
    detector = pipeline.parts.detector
    if detector is None:
        raise DataError("scenes need a pipeline with a detector")

    def row(what: str, value: int, scenes: Iterator[Scene]) -> Reach:
        total = hit = extra = 0
        for scene in scenes:
            boxes = [one.box for one in detector.detect(scene.rgb)]
            right, wrong = found(scene.boxes, boxes)
            total, hit, extra = total + len(scene.boxes), hit + right, extra + wrong
        return Reach(what, value, name, tiles, total, hit, extra)

    rows = [row("size", size, _sized(calm, cutouts, size, rng)) for size in SIZES]
    if tiles == 1:
        rows += [row("tilt", tilt, _tilted(calm, cutouts, tilt, rng)) for tilt in TILTS]
    rows += [row("count", count, _crowds(calm, cutouts, count)) for count in COUNTS]
    return rows


def _sized(
    grounds: Sequence[Image], cutouts: Sequence[Cutout], size: int, rng: np.random.Generator
) -> Iterator[Scene]:
    width, height = _SCENE
    side = max(_SCENE) / size
    for at in range(_SCENES_EACH):
        x = float(rng.uniform(side, width - side))
        y = float(rng.uniform(side / 2, height - side / 2)) if side < height else height / 2
        face = cutouts[at % len(cutouts)]
        yield place(cropped(grounds[at % len(grounds)], width, height), [(face, x, y, side, 0.0)])


def _tilted(
    grounds: Sequence[Image], cutouts: Sequence[Cutout], tilt: int, rng: np.random.Generator
) -> Iterator[Scene]:
    width, height = _SCENE
    side = max(_SCENE) / _TILTED_SIDE
    for at in range(_SCENES_EACH):
        x, y = (float(rng.uniform(side, whole - side)) for whole in _SCENE)
        face, angle = cutouts[at % len(cutouts)], float(tilt if at % 2 else -tilt)
        yield place(cropped(grounds[at % len(grounds)], width, height), [(face, x, y, side, angle)])


def _crowds(grounds: Sequence[Image], cutouts: Sequence[Cutout], count: int) -> Iterator[Scene]:
    middles, cell = grid(count, *_CROWD)
    for at in range(2):
        faces = [
            (cutouts[(at + place) % len(cutouts)], x, y, _FACE_OF_CELL * cell, 0.0)
            for place, (x, y) in enumerate(middles)
        ]
        yield place(cropped(grounds[at], *_CROWD), faces)


def on_canvas(gray: Image) -> Image:
    """A face uint8 ``[S, S]`` in the middle of its own mean gray, three times as wide."""
    margin = gray.shape[0] * (_CANVAS - 1) // 2
    level = [round(float(gray.mean()))]
    return np.asarray(
        cv2.copyMakeBorder(gray, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=level),
        np.uint8,
    )


def _accuracy_of_given(faces: LabelledFaces, pipeline: FerPipeline) -> float:
    parts = pipeline.parts
    given = pipeline.with_parts(parts._replace(detector=None, again=None))
    results = [
        result
        for at in range(0, len(faces.labels), _AT_ONCE)
        for result in given.predict_batch(list(faces.images[at : at + _AT_ONCE]), on_error="raise")
    ]
    right = sum(
        result[0].emotion == label for result, label in zip(results, faces.labels, strict=True)
    )
    return right / len(faces.labels)


def _portrait() -> Cutout:
    rgb = bundled_portrait()
    side = rgb.shape[0]
    # As `portrait_of` frames it: 1.35 sides of the face's box.
    across = side / 1.35
    return Cutout(rgb, Box((side - across) / 2, (side - across) / 2, across, across))


def _some(faces: LabelledFaces, limit: int | None) -> LabelledFaces:
    if limit is None or limit >= len(faces.labels):
        return faces
    chosen = np.linspace(0, len(faces.labels) - 1, limit).astype(int)
    return LabelledFaces(
        faces.images[chosen], tuple(faces.labels[at] for at in chosen), faces.split
    )
