"""Arithmetic of boxes: arrays of ``x, y, width, height``, one row a box."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.types import Box

Boxes = npt.NDArray[np.float64]


def iou(boxes: npt.ArrayLike, others: npt.ArrayLike) -> Boxes:
    """Intersection over union of each box with each other one.

    Args:
        boxes: ``[N, 4]``.
        others: ``[M, 4]``.

    Returns:
        ``[N, M]``, from 0 to 1.
    """
    a = np.asarray(boxes, np.float64).reshape(-1, 1, 4)
    b = np.asarray(others, np.float64).reshape(1, -1, 4)
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = (high - low).clip(min=0).prod(axis=-1)
    union = a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - shared
    shares = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return np.asarray(shares, np.float64)


def suppress(boxes: Boxes, scores: Boxes, most: float) -> list[int]:
    """Non-maximum suppression: which boxes stay, those with higher scores first.

    Args:
        boxes: ``[N, 4]``.
        scores: ``[N]``.
        most: a box stays if its ``iou`` with each better one that stays is at most this.
    """
    return [int(at) for at in cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), 0.0, most)]


def clamped(box: Box, width: int, height: int) -> Box | None:
    """The part of a box inside an image; None where there is none."""
    left, top = max(box.x, 0.0), max(box.y, 0.0)
    right, bottom = min(box.x + box.width, width), min(box.y + box.height, height)
    if right <= left or bottom <= top:
        return None
    return Box(left, top, right - left, bottom - top)


def roll(left_x: float, left_y: float, right_x: float, right_y: float) -> float:
    """Tilt of the line between the eyes in degrees, clockwise; left and right as in the image."""
    return math.degrees(math.atan2(right_y - left_y, right_x - left_x))
