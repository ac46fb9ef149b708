"""A detector that also looks at parts of a picture, for faces that are small in the whole."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

from fer_sdk.detectors.base import Detection, Detector, check_rgb
from fer_sdk.errors import SettingError
from fer_sdk.types import Box

# Of a tile's side. A face up to that size lies wholly inside one tile at least; a larger one is
# large enough in the whole picture.
_OVERLAP = 0.25
# BlazeFace brings every picture to this side: a smaller tile would show it nothing new.
_SMALLEST = 128
_SAME_FACE = 0.5


class TiledDetector:
    """Another detector, on the whole picture and on overlapping square parts of it.

    Source: Akyon et al., "Slicing Aided Hyper Inference and Fine-tuning for Small Object
    Detection", 2022.
    """

    def __init__(self, detector: Detector, tiles: int) -> None:
        """Wrap a detector.

        Args:
            detector: what looks; ``close`` closes it too.
            tiles: how many of them lie along the longer side of a picture, 2 or more. Faces may be
                smaller by the factor ``0.75 * tiles + 0.25``.

        Raises:
            SettingError: fewer than 2 tiles.
        """
        if tiles < 2:
            raise SettingError(f"tiles must be at least 2, not {tiles}")
        self._detector = detector
        self._tiles = tiles

    @property
    def name(self) -> str:
        return f"{self._detector.name} in {self._tiles} tiles"

    def detect(self, image: npt.NDArray[np.uint8]) -> list[Detection]:
        """Find the faces of an RGB image uint8 ``[H, W, 3]``, each of them once.

        Raises:
            ImageError: not such an image.
            DetectorError: the detector failed.
        """
        check_rgb(image)
        height, width = image.shape[:2]
        found = [(False, detection) for detection in self._detector.detect(image)]
        side = max(
            math.ceil(max(height, width) / (self._tiles - (self._tiles - 1) * _OVERLAP)), _SMALLEST
        )
        if side >= max(height, width):
            return [detection for _, detection in found]
        for top, left in itertools.product(_starts(height, side), _starts(width, side)):
            part = image[top : top + side, left : left + side]
            for box, score in (
                (one.box, one.score) for one in self._detector.detect(np.ascontiguousarray(part))
            ):
                moved = Box(box.x + left, box.y + top, box.width, box.height)
                cut = (
                    (box.x <= 0 < left)
                    or (box.y <= 0 < top)
                    or (box.x + box.width >= part.shape[1] and left + part.shape[1] < width)
                    or (box.y + box.height >= part.shape[0] and top + part.shape[0] < height)
                )
                found.append((cut, Detection(moved, score)))
        return _once(found)

    def close(self) -> None:
        """Close the detector that looks."""
        self._detector.close()


def _starts(length: int, side: int) -> list[int]:
    """Where tiles begin so that they cover a length evenly, with at least the overlap."""
    if length <= side:
        return [0]
    count = math.ceil((length - side * _OVERLAP) / (side * (1 - _OVERLAP)) - 1e-6)
    return [round(place * (length - side) / (count - 1)) for place in range(count)]


def _once(found: list[tuple[bool, Detection]]) -> list[Detection]:
    """Of detections that show the same face one: the surest of those that no tile's edge cuts."""
    kept: list[Detection] = []
    for _, detection in sorted(found, key=lambda one: (one[0], -one[1].score)):
        if all(_shared(detection.box, other.box) <= _SAME_FACE for other in kept):
            kept.append(detection)
    return sorted(kept, key=lambda detection: -detection.score)


def _shared(one: Box, other: Box) -> float:
    """What two boxes share, as a fraction of the smaller one: parts of a face lie inside of it."""
    across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    smaller = min(one.width * one.height, other.width * other.height)
    return max(across, 0.0) * max(down, 0.0) / smaller
