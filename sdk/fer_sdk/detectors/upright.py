"""A second view of what may be a face: upright, alone, and in full contrast."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.detectors.boxes import iou

SIDE = 128
"""Of a view, in pixels."""

_MIDDLE = (SIDE / 4, SIDE / 4, SIDE / 2, SIDE / 2)
_SAME_FACE = 0.3


def upright_view(
    image: npt.NDArray[np.uint8], box: Sequence[float], roll: float
) -> npt.NDArray[np.uint8]:
    """A face upright in the middle of a square, with half its side around it.

    Args:
        image: RGB uint8 ``[H, W, 3]``.
        box: ``x, y, width, height``; the longer side becomes half of the view's.
        roll: tilt of the face in degrees, clockwise.

    Returns:
        RGB uint8 ``[SIDE, SIDE, 3]``; what lies outside the image has its mean color.
    """
    x, y, width, height = (float(number) for number in box)
    scale = 2 * max(width, height) / SIDE
    step = max(1, int(scale))
    thin = np.ascontiguousarray(image[::step, ::step])
    turn = math.radians(roll)
    cos, sin = scale / step * math.cos(turn), scale / step * math.sin(turn)
    middle = (SIDE - 1) / 2
    centre_x, centre_y = (x + width / 2) / step, (y + height / 2) / step
    source = np.array(
        [[cos, -sin, centre_x - (cos - sin) * middle], [sin, cos, centre_y - (sin + cos) * middle]]
    )
    view = cv2.warpAffine(
        thin,
        source,
        (SIDE, SIDE),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=cv2.mean(thin)[:3],
    )
    low, high = np.percentile(view, (1, 99))
    stretched = (view - low) * (255 / max(high - low, 8.0))
    return np.asarray(stretched.clip(0, 255), np.uint8)


def middle_score(found: Iterable[tuple[Sequence[float], float]]) -> float:
    """Of the boxes that a detector found in a view, the best score of one in its middle; else 0."""
    return max((score for box, score in found if iou([box], [_MIDDLE]) > _SAME_FACE), default=0.0)
