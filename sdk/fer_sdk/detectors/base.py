"""What a face detector is, for the pipeline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from fer_sdk.errors import ImageError, SettingError
from fer_sdk.types import Box

# OpenCV, MediaPipe's own included, warps pictures of less than 32,767 pixels a side; in MediaPipe
# a larger one ends the whole process. MediaPipe counts bytes in 32 bits.
_LARGEST_SIDE = 32_766
_MOST_BYTES = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Detection:
    """A face that a detector found.

    Attributes:
        box: in pixels of the image, clamped to it.
        score: how sure the detector is, 0..1.
        roll: tilt of the line between the eyes in degrees, clockwise; None where the detector does
            not tell.
    """

    box: Box
    score: float
    roll: float | None = None


@runtime_checkable
class Detector(Protocol):
    """Finds faces. Anything with these members may be given as ``FerPipeline(detector=...)``.

    ``detect`` is called by several threads at once. A detector that also has ``look`` is asked by
    that: it takes the same image and returns ``(detections, cost)``, and ``stream`` lets ``cost``
    frames pass until it asks again.
    """

    @property
    def name(self) -> str:
        """What ``FerPipeline.info`` calls it."""
        ...

    def detect(self, image: npt.NDArray[np.uint8]) -> list[Detection]:
        """Find the faces of an RGB image uint8 ``[H, W, 3]``, in any order."""
        ...

    def close(self) -> None:
        """Let go of what it holds. May be called more than once."""
        ...


def check_rgb(image: npt.NDArray[np.uint8]) -> None:
    """See that an array is an RGB image uint8 ``[H, W, 3]`` with at least one pixel.

    Raises:
        ImageError: it is not; says what it is.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ImageError(
            f"a detector takes RGB images as uint8 [H, W, 3], not {image.dtype} {list(image.shape)}"
        )


def thinned(image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], int]:
    """An image that detectors can take: every ``step``-th pixel of ``image``, and ``step``.

    Up to 32,766 pixels a side that is every one. A larger image loses nothing that would be seen:
    the network looks at one pixel in 256 of it.
    """
    sides = max(image.shape[:2]) / _LARGEST_SIDE
    step = math.ceil(max(sides, math.sqrt(image.size / _MOST_BYTES)))
    return image[::step, ::step], step


def check_min_score(min_score: float) -> None:
    """See that a least detection score is one.

    Raises:
        SettingError: it is not from 0 to 1.
    """
    if not 0 <= min_score <= 1:
        raise SettingError(f"min_score must be from 0 to 1, not {min_score}")
