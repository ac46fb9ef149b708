"""From a detector's box to the gray square that the models take.

Training, export, pipeline and benchmarks all come through here: the models see faces framed and
resized in one way only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.types import Box

# A larger square is thinned before it is cut: the memory that it takes grows with its area.
_LARGEST_SIDE = 8192

# What is kept around a square so that it can be turned by any angle: just over its diagonal.
_AROUND = 1.5
_AROUND_PIXELS = 2

ALIGN_BEYOND = 15.0
"""From which tilt on, in degrees, turning a face upright helps to read its emotion.

Chosen by ``fer-train align`` on PublicTest: turning every face makes no difference where all are
tilted by 10 degrees, and does at 20.
"""


class Square(NamedTuple):
    """A square in whole pixels of an image; it may reach beyond the image's edges."""

    x: int
    y: int
    side: int


@dataclass(frozen=True, slots=True)
class CropGeometry:
    """How the square given to the models is made from a detector's box.

    All three are fractions of the box's side (the longer one), measured on the training faces.

    Attributes:
        scale: side of the square.
        shift_x: how far the square's centre lies to the right of the box's.
        shift_y: how far the square's centre lies below the box's.
    """

    scale: float
    shift_x: float
    shift_y: float

    def square(self, box: Box, roll: float = 0.0) -> Square:
        """The square for a box, at least one pixel wide.

        Args:
            box: of a detector.
            roll: tilt of the face in degrees, clockwise; the shift turns with it.
        """
        box_side = max(box.width, box.height)
        side = max(1, round(self.scale * box_side))
        cos, sin = math.cos(math.radians(roll)), math.sin(math.radians(roll))
        across, down = self.shift_x * box_side, self.shift_y * box_side
        centre_x = box.x + box.width / 2 + cos * across - sin * down
        centre_y = box.y + box.height / 2 + sin * across + cos * down
        return Square(
            math.floor(centre_x - side / 2 + 0.5), math.floor(centre_y - side / 2 + 0.5), side
        )


def centred_square(width: int, height: int) -> Square:
    """The largest square in the middle of an image."""
    side = min(width, height)
    return Square((width - side) // 2, (height - side) // 2, side)


def crop_gray(image: npt.NDArray[np.uint8], square: Square, size: int) -> npt.NDArray[np.uint8]:
    """Cut a square out of an image and bring it to the models' size.

    Args:
        image: uint8 RGB ``[H, W, 3]`` or gray ``[H, W]``.
        square: what to cut; where it reaches beyond the image, the edge pixels are repeated.
        size: side of the result in pixels.

    Returns:
        uint8 gray ``[size, size]``.
    """
    step = -(-square.side // _LARGEST_SIDE)
    if step > 1:
        # Every step-th pixel is still many more than the models see, and fits into memory.
        image = image[::step, ::step]
        square = Square(square.x // step, square.y // step, square.side // step)
    height, width = image.shape[:2]
    left, right, before_x, after_x = _span(square.x, square.side, width)
    top, bottom, before_y, after_y = _span(square.y, square.side, height)
    inside = image[top:bottom, left:right]
    gray = inside if inside.ndim == 2 else cv2.cvtColor(inside, cv2.COLOR_RGB2GRAY)
    if before_x or before_y or after_x or after_y:
        gray = cv2.copyMakeBorder(gray, before_y, after_y, before_x, after_x, cv2.BORDER_REPLICATE)
    return resize_square(np.asarray(gray, np.uint8), size)


def roll_angle(landmarks: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Angle of the line between the eyes, in degrees ``[N]``: positive where the right one of the
    image is the lower one.

    Args:
        landmarks: ``[N, 4, 2]``, in the SDK's order.
    """
    across = (landmarks[:, 1] - landmarks[:, 0]).astype(np.float64)
    return np.degrees(np.arctan2(across[:, 1], across[:, 0]))


def crop_around(image: npt.NDArray[np.uint8], square: Square, size: int) -> npt.NDArray[np.uint8]:
    """Cut out what ``upright`` needs of an image.

    Args:
        image: as of ``crop_gray``.
        square: the square that is to be turned.
        size: side of the upright square in pixels.

    Returns:
        uint8 gray ``[2 * size, 2 * size]``, of half as much again as the square's side.
    """
    side = math.ceil(_AROUND * square.side)
    before = (side - square.side) // 2
    around = Square(square.x - before, square.y - before, side)
    return crop_gray(image, around, _AROUND_PIXELS * size)


def align_face(around: npt.NDArray[np.uint8], degrees: float, size: int) -> npt.NDArray[np.uint8]:
    """The square that ``crop_around`` was given, turned about its middle.

    Args:
        around: what ``crop_around`` gave for ``size``.
        degrees: how far the face is tilted clockwise: its ``roll_angle``.
        size: side of the result in pixels.

    Returns:
        uint8 gray ``[size, size]``, in which the line between the eyes is level.
    """
    turn = math.radians(degrees)
    scale = _AROUND_PIXELS / _AROUND
    cos, sin = scale * math.cos(turn), scale * math.sin(turn)
    middle, centre = (size - 1) / 2, (around.shape[0] - 1) / 2
    # Where each pixel of the result comes from.
    source = np.array(
        [
            [cos, -sin, centre - (cos - sin) * middle],
            [sin, cos, centre - (sin + cos) * middle],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    turned = cv2.warpAffine(
        around, source, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(turned, np.uint8)


def _span(start: int, side: int, length: int) -> tuple[int, int, int, int]:
    """What ``start`` to ``start + side`` covers of ``0`` to ``length``.

    Returns:
        Begin and end of what is covered, and how often its first and last pixel are to be repeated
        before and after it. What lies wholly outside covers the pixel nearest to it.
    """
    begin = min(max(start, 0), length - 1)
    end = max(min(start + side, length), begin + 1)
    before = min(max(begin - start, 0), side - 1)
    return begin, end, before, side - before - (end - begin)


def resize_square(gray: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Resize a gray square uint8 ``[S, S]`` to ``[size, size]``; always a new array."""
    if gray.shape == (size, size):
        return gray.copy()
    # Averaging over the covered area is what keeps a shrunken face free of aliasing.
    shrinks = gray.shape[0] > size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(gray, (size, size), interpolation=method), np.uint8)
