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
        RGB uint8 ``[SIDE, SIDE, 3]``; what lies outside the image has the mean color around the
        face.
    """
    x, y, width, height = box
    side = 2 * max(width, height)
    # All that a view can show, and no more: the image may be large.
    reach = math.ceil(side * math.sqrt(0.5)) + 2
    centre_x, centre_y = x + width / 2, y + height / 2
    left, top = max(round(centre_x) - reach, 0), max(round(centre_y) - reach, 0)
    step = max(1, int(side / SIDE))
    around = np.ascontiguousarray(
        image[top : round(centre_y) + reach : step, left : round(centre_x) + reach : step]
    )
    scale = side / SIDE / step
    turn = math.radians(roll)
    cos, sin = scale * math.cos(turn), scale * math.sin(turn)
    middle = (SIDE - 1) / 2
    in_x, in_y = (centre_x - left) / step, (centre_y - top) / step
    source = np.array(
        [[cos, -sin, in_x - (cos - sin) * middle], [sin, cos, in_y - (sin + cos) * middle]]
    )
    view = cv2.warpAffine(
        around,
        source,
        (SIDE, SIDE),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=cv2.mean(around)[:3],
    )
    low, high = np.percentile(view[::4, ::4], (1, 99))
    stretched = (view - low) * (255 / max(high - low, 8.0))
    return np.asarray(stretched.clip(0, 255), np.uint8)


def middle_face(found: Iterable[tuple[Sequence[float], float, float]]) -> tuple[float, float]:
    """Of the boxes, scores and rolls that a detector gives for a view, what is in its middle.

    Returns:
        Score and roll of the best face there; two zeros where there is none.
    """
    return max(
        ((score, roll) for box, score, roll in found if iou([box], [_MIDDLE]) > _SAME_FACE),
        default=(0.0, 0.0),
    )
