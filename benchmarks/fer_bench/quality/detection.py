"""What the face detection finds, misses and makes up in composed pictures.

Everything is drawn from one seed. Without FER2013 the parts that need it are None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fer_bench.quality.detection_scenes import (
    Cutout,
    Scene,
    cropped,
    darkened,
    grid,
    of_training_face,
    place,
)
from fer_bench.quality.labelled import LabelledFaces, read_labelled
from fer_bench.quality.matching import match
from fer_bench.quality.negatives import Faceless, faceless, photos, photos_of
from fer_bench.quality.scenes import bundled_portrait
from fer_sdk.detectors import Detector, DetectorName
from fer_sdk.errors import DataError
from fer_sdk.pipeline import FerPipeline
from fer_sdk.types import Box

Image = npt.NDArray[np.uint8]
Progress = Callable[[str, float], None]

SIZES = (2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40)
"""The longer side of a scene in sides of the face in it."""
TILTS = (0, 15, 30, 45, 60, 75, 90)
DARKS = (1, 2, 4, 8, 16, 32)
"""What the light of a scene is divided by."""
COUNTS = (1, 4, 9, 16, 25, 36, 64, 100, 144, 256)

_SCENE = (1280, 960)
_CROWD = (1920, 1080)
_SIDE = 4
"""Size of the faces that are tilted, or in the dark."""
_SCENES_EACH = 12
_FACE_OF_CELL = 0.6
_CANVAS = 3
_AT_ONCE = 64
_OVERLAP = 0.3
# Photos in which, as a whole, the detector finds nothing.
_GROUNDS = ("brick.png", "grass.png", "ihc.png", "retina.jpg", "rocket.jpg", "china.jpg")


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of labelled faces.

    Attributes:
        pictures: how many there were.
        answered: in how many a face was found; the largest is the answer.
        accuracy: share of all pictures whose answer is their label; no answer is wrong.
        accuracy_of_answered: the same of those that got an answer.
        given_accuracy: the same with every picture taken as a face (``detector=None``).
    """

    pictures: int
    answered: int
    accuracy: float
    accuracy_of_answered: float | None
    given_accuracy: float


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """What is found in pictures without a face.

    Attributes:
        size: of the pictures, ``"large"`` or ``"small"``.
        pictures: how many.
        found: in how many of them a face is found.
        sources: how often each source gave one.
    """

    size: str
    pictures: int
    found: int
    sources: dict[str, int]


@dataclass(frozen=True, slots=True)
class Reach:
    """How many of the faces of composed scenes are found.

    Attributes:
        what: ``"size"``, ``"tilt"``, ``"dark"`` or ``"count"``.
        value: the longer side of the scene in faces, degrees, what the light is divided by, or
            faces in the scene.
        face: whose faces, ``"portrait"`` or ``"FER2013"``.
        faces: how many there were.
        found: how many of them were found.
        extra: boxes that show none of them.
    """

    what: str
    value: int
    face: str
    faces: int
    found: int
    extra: int


@dataclass(frozen=True, slots=True)
class DetectionResult:
    """All figures of a detector, and under what conditions they were taken.

    Attributes:
        detector: by which name it was asked for.
        pipeline: ``FerPipeline.info``.
        seed: of everything that is drawn.
        split: which faces of FER2013; None without it.
        low_resolution: faces of FER2013 given as they are, 48x48.
        end_to_end: the same faces in the middle of a gray canvas three times as wide.
        false_alarms: by size.
        reach: by size, tilt, darkness and count.
    """

    detector: str
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
    detectors: Sequence[DetectorName] = ("auto",),
    folder: Path | None = None,
    seed: int = 0,
    progress: Progress = lambda what, share: None,
) -> list[DetectionResult]:
    """Measure face detectors with their default settings, on the same pictures.

    Args:
        data: ``fer2013.csv`` or ``.csv.gz``; None leaves out what needs it.
        split: which faces of it.
        limit: only this many of them, evenly spread.
        detectors: names as of ``FerPipeline``.
        folder: pictures without faces, in the place of those of scikit-image and scikit-learn.
        seed: of everything that is drawn.
        progress: is told what is being done, and which share of all is behind it.

    Raises:
        DataError: the data are not FER2013, or there are no pictures without faces.
        FerError: a pipeline cannot be opened.
    """
    progress("reading", 0.0)
    grounds = photos()
    sources = grounds if folder is None else photos_of(folder)
    cutouts = {"portrait": [_portrait()]}
    faces, given = None, 0.0
    if data is not None:
        faces = _some(read_labelled(data, split), limit)
        with FerPipeline(detector=None) as pipeline:
            given = _accuracy_of_given(faces, pipeline)
            geometry = pipeline.analyzer.landmarks.metadata.crop
        chosen = np.random.default_rng(seed).permutation(len(faces.images))[:_SCENES_EACH]
        cutouts["FER2013"] = [of_training_face(faces.images[at], geometry) for at in chosen]
    results = []
    for at, name in enumerate(detectors):
        low = wide = None
        share = at / len(detectors)
        with FerPipeline(detector=name) as pipeline:
            detector = pipeline.analyzer.detector
            if detector is None:
                raise DataError("false alarms and scenes need a detector")
            if faces is not None:
                progress(f"{name}: faces of 48x48 pixels", share)
                low = answers(pipeline, faces, list(faces.images), given)
                progress(f"{name}: faces on a canvas", share)
                wide = answers(pipeline, faces, [on_canvas(face) for face in faces.images], given)
            progress(f"{name}: pictures without faces", share)
            alarms = false_alarms(detector, faceless(sources, seed))
            progress(f"{name}: scenes", share)
            reaches = [
                row
                for face, of_face in cutouts.items()
                for row in reach(detector, grounds, of_face, face, seed)
            ]
            info = pipeline.info.to_dict()
        results.append(
            DetectionResult(
                detector=name,
                pipeline=info,
                seed=seed,
                split=None if faces is None else split,
                low_resolution=low,
                end_to_end=wide,
                false_alarms=tuple(alarms),
                reach=tuple(reaches),
            )
        )
    return results


def answers(
    pipeline: FerPipeline, faces: LabelledFaces, pictures: Sequence[Image], given_accuracy: float
) -> Answers:
    """Give each picture to the pipeline; its largest face is the answer."""
    answered = right = 0
    for result, label in zip(
        pipeline.predict_batch(pictures, max_faces=1, on_error="raise"), faces.labels, strict=True
    ):
        answered += len(result)
        right += any(face.emotion == label for face in result)
    return Answers(
        pictures=len(pictures),
        answered=answered,
        accuracy=right / len(pictures),
        accuracy_of_answered=right / answered if answered else None,
        given_accuracy=given_accuracy,
    )


def false_alarms(detector: Detector, pictures: Iterator[Faceless]) -> list[FalseAlarms]:
    """Look for faces where there are none."""
    count: Counter[str] = Counter()
    sources: dict[str, Counter[str]] = {"large": Counter(), "small": Counter()}
    for picture in pictures:
        count[picture.size] += 1
        if detector.detect(picture.rgb):
            sources[picture.size][picture.source.split()[0]] += 1
    return [
        FalseAlarms(size, count[size], of_size.total(), dict(of_size.most_common()))
        for size, of_size in sources.items()
        if count[size]
    ]


def reach(
    detector: Detector,
    grounds: Sequence[tuple[str, Image]],
    cutouts: Sequence[Cutout],
    name: str,
    seed: int,
) -> list[Reach]:
    """Find faces by size, tilt, darkness and count; the same scenes for every detector."""
    calm = [image for ground, image in grounds if ground in _GROUNDS]
    rng = np.random.default_rng(seed)

    def row(what: str, value: int, scenes: Iterator[Scene]) -> Reach:
        total = hit = extra = 0
        for scene in scenes:
            boxes = [one.box for one in detector.detect(scene.rgb)]
            pairs = len(match(scene.boxes, boxes, _OVERLAP))
            total, hit, extra = (
                total + len(scene.boxes),
                hit + pairs,
                extra + len(boxes) - pairs,
            )
        return Reach(what, value, name, total, hit, extra)

    rows = [row("size", size, _alone(calm, cutouts, rng, size, 0)) for size in SIZES]
    rows += [row("tilt", tilt, _alone(calm, cutouts, rng, _SIDE, tilt)) for tilt in TILTS]
    rows += [
        row("dark", dark, (darkened(one, dark) for one in _alone(calm, cutouts, rng, _SIDE, 0)))
        for dark in DARKS
    ]
    rows += [row("count", count, _crowds(calm, cutouts, count)) for count in COUNTS]
    return rows


def _alone(
    grounds: Sequence[Image],
    cutouts: Sequence[Cutout],
    rng: np.random.Generator,
    size: int,
    tilt: int,
) -> Iterator[Scene]:
    """One face a scene, somewhere in it."""
    width, height = _SCENE
    side = max(_SCENE) / size
    for at in range(_SCENES_EACH):
        x = float(rng.uniform(side, width - side))
        y = float(rng.uniform(side / 2, height - side / 2)) if side < height else height / 2
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
    results = pipeline.predict_batch(list(faces.images), on_error="raise")
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
