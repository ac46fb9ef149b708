"""Which of the annotated faces of photos the detectors find: ``fer-bench detection --photos``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from fer_bench.machine.provenance import machine, software
from fer_bench.quality.annotated import Annotated, read_annotated
from fer_bench.quality.matching import match
from fer_sdk.detectors import Detection, Detector, DetectorName, open_detector
from fer_sdk.detectors.boxes import iou
from fer_sdk.errors import DataError, ImageError
from fer_sdk.image.load import load_image

RELATIVE: Mapping[str, float] = {
    ">= 1/5": 1 / 5,
    "1/7-1/5": 1 / 7,
    "1/10-1/7": 1 / 10,
    "1/20-1/10": 1 / 20,
    "< 1/20": 0,
}
"""Least of a face's longer side in longer sides of its photo, the largest first."""
PIXELS: Mapping[str, float] = {
    ">= 128 px": 128,
    "64-127 px": 64,
    "32-63 px": 32,
    "16-31 px": 16,
    "< 16 px": 0,
}
"""The same in pixels."""

FEW = 15
"""Faces of a photo that is no crowd."""


@dataclass(slots=True)
class Found:
    """How many faces there were, and how many of them were found."""

    faces: int = 0
    found: int = 0

    @property
    def recall(self) -> float | None:
        """Share that was found; None where there were none."""
        return self.found / self.faces if self.faces else None


@dataclass(slots=True)
class OfDetector:
    """What a detector made of all photos.

    Attributes:
        detector: by which name it was asked for.
        runs: what it really is.
        reason: why it is that.
        all: all faces that count.
        few: those of photos with at most ``FEW`` of them.
        relative: by size in the photo, see ``RELATIVE``.
        pixels: by size in pixels, see ``PIXELS``.
        photos_with_faces: photos with at least one face that counts.
        photos_without_any_found: those of them where none was found.
        false_boxes: boxes on no face.
        milliseconds: of each photo's ``detect``.
    """

    detector: str
    runs: str
    reason: str
    all: Found = field(default_factory=Found)
    few: Found = field(default_factory=Found)
    relative: dict[str, Found] = field(default_factory=lambda: {name: Found() for name in RELATIVE})
    pixels: dict[str, Found] = field(default_factory=lambda: {name: Found() for name in PIXELS})
    photos_with_faces: int = 0
    photos_without_any_found: int = 0
    false_boxes: int = 0
    milliseconds: list[float] = field(default_factory=list)

    def add(
        self, photo: Annotated, longer: int, detections: Sequence[Detection], overlap: float
    ) -> None:
        """Count one photo, whose longer side has so many pixels."""
        boxes = np.array([one.box for one in detections]).reshape(-1, 4)
        pairs = match(photo.faces, boxes, overlap)
        hit = {face for face, _ in pairs}
        for place, side in enumerate(photo.faces[:, 2:].max(axis=1).tolist()):
            for counted in (
                self.all,
                *([self.few] if len(photo.faces) <= FEW else []),
                self.relative[bin_of(RELATIVE, side / longer)],
                self.pixels[bin_of(PIXELS, side)],
            ):
                counted.faces += 1
                counted.found += place in hit
        self.photos_with_faces += len(photo.faces) > 0
        self.photos_without_any_found += len(photo.faces) > 0 and not hit
        left = np.delete(boxes, [box for _, box in pairs], axis=0)
        self.false_boxes += int((iou(left, photo.others).max(axis=1, initial=0) < overlap).sum())

    def to_dict(self) -> dict[str, object]:
        """Plain values: the times as their median and 95th percentile."""
        values = asdict(self)
        del values["milliseconds"]
        half, most = self.times()
        return values | {"median_ms": half, "p95_ms": most}

    def times(self) -> tuple[float, float]:
        """Median and 95th percentile of the milliseconds for a photo."""
        half, most = np.percentile(self.milliseconds, (50, 95))
        return float(half), float(most)


@dataclass(frozen=True, slots=True)
class PhotosResult:
    """All figures, and under what conditions they were taken.

    Attributes:
        photos: how many were read.
        overlap: intersection over union from which on a box shows a face.
        detectors: one each, in the order they were asked for.
        unreadable: what is wrong with each of the other photos.
    """

    photos: int
    overlap: float
    detectors: tuple[OfDetector, ...]
    unreadable: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain values, ready for ``json.dumps``."""
        return {
            "machine": msgspec.to_builtins(machine()),
            "software": msgspec.to_builtins(software(None)),
            "threads": 1,
            "photos": self.photos,
            "overlap": self.overlap,
            "unreadable": list(self.unreadable),
            "detectors": [one.to_dict() for one in self.detectors],
        }


def measure_photos(
    folder: Path,
    truth: Path,
    names: Sequence[DetectorName],
    *,
    overlap: float = 0.35,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> PhotosResult:
    """Look for the faces of annotated photos, with one detector after the other on each.

    Args:
        folder: of the photos, which may lie in folders of it.
        truth: in WIDER FACE's format.
        names: of the detectors; each runs with one thread.
        overlap: intersection over union from which on a box shows a face.
        progress: is told the photo, and which share of all is behind.

    Raises:
        DataError: the truth is not what it must be, or none of its photos can be read.
        DetectorError: a detector does not open.
    """
    annotated = read_annotated(truth)
    unreadable: list[str] = []
    with ExitStack() as stack:
        opened: list[tuple[Detector, OfDetector]] = []
        for name in names:
            detector, reason = open_detector(name, threads=1)
            stack.callback(detector.close)
            # The first call is slower.
            detector.detect(np.zeros((64, 64, 3), np.uint8))
            opened.append((detector, OfDetector(name, detector.name, reason)))
        for at, photo in enumerate(annotated):
            progress(photo.path, at / len(annotated))
            try:
                rgb = load_image(folder / photo.path)
            except ImageError as error:
                unreadable.append(str(error))
                continue
            for detector, counts in opened:
                start = time.perf_counter()
                found = detector.detect(rgb)
                counts.milliseconds.append((time.perf_counter() - start) * 1e3)
                counts.add(photo, max(rgb.shape[:2]), found, overlap)
    photos = len(annotated) - len(unreadable)
    if not photos:
        raise DataError(f"{folder}: none of the photos of {truth} can be read: {unreadable[0]}")
    return PhotosResult(photos, overlap, tuple(one for _, one in opened), tuple(unreadable))


def bin_of(bins: Mapping[str, float], size: float) -> str:
    """Which of ``RELATIVE`` or ``PIXELS`` a size belongs to."""
    return next(name for name, least in bins.items() if size >= least)
