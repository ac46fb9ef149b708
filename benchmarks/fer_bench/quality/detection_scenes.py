"""Faces of known size, tilt and number on photos that show none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.image.crop import CropGeometry
from fer_sdk.types import Box

Image = npt.NDArray[np.uint8]

# How much of the way from a face's middle to its edge is opaque: an outline of its own, such as a
# pasted square has, is not what a face in a photo has.
_OPAQUE = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """A face to be put into scenes.

    Attributes:
        rgb: uint8 ``[S, S, 3]``, the face in its middle.
        box: where the face is in it, in pixels of it.
    """

    rgb: Image
    box: Box


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A picture with faces, and where they are.

    Attributes:
        rgb: uint8 ``[H, W, 3]``.
        boxes: of the faces.
    """

    rgb: Image
    boxes: tuple[Box, ...]


def of_training_face(gray: Image, geometry: CropGeometry) -> Cutout:
    """A face as FER2013 frames it; where the face is in it follows from the models' geometry."""
    side = gray.shape[0]
    across = side / geometry.scale
    x = side / 2 - (0.5 + geometry.shift_x) * across
    y = side / 2 - (0.5 + geometry.shift_y) * across
    return Cutout(np.repeat(gray[..., None], 3, axis=2), Box(x, y, across, across))


def place(ground: Image, faces: Sequence[tuple[Cutout, float, float, float, float]]) -> Scene:
    """Draw faces on a copy of a picture.

    Args:
        ground: uint8 ``[H, W, 3]``.
        faces: for each the cutout, the x and y of its middle and the side of its box in pixels, and
            by how many degrees it is tilted to the left.
    """
    canvas = ground.astype(np.float32)
    height, width = ground.shape[:2]
    boxes = []
    for cutout, x, y, side, tilt in faces:
        scale = side / cutout.box.width
        rgb = cutout.rgb
        if scale < 1:
            # Warping alone would skip pixels.
            size = max(2, round(rgb.shape[0] * scale))
            rgb = np.asarray(cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
        ratio = rgb.shape[0] / cutout.rgb.shape[0]
        middle = (
            (cutout.box.x + cutout.box.width / 2) * ratio - 0.5,
            (cutout.box.y + cutout.box.height / 2) * ratio - 0.5,
        )
        matrix = cv2.getRotationMatrix2D(middle, tilt, scale / ratio)
        matrix[:, 2] += (x - 0.5 - middle[0], y - 0.5 - middle[1])
        # Only where the face is: a crowd on a large picture would take minutes otherwise.
        half = math.ceil(cutout.rgb.shape[0] * scale)
        left, top = max(round(x) - half, 0), max(round(y) - half, 0)
        right, bottom = min(round(x) + half, width), min(round(y) + half, height)
        matrix[:, 2] -= (left, top)
        area = (right - left, bottom - top)
        layer = cv2.warpAffine(rgb.astype(np.float32), matrix, area)
        alpha = cv2.warpAffine(_mask(rgb.shape[0]), matrix, area)[..., None]
        part = canvas[top:bottom, left:right]
        canvas[top:bottom, left:right] = part + alpha * (layer - part)
        boxes.append(Box(x - side / 2, y - side / 2, side, side))
    return Scene(np.asarray(canvas.round(), np.uint8), tuple(boxes))


def _mask(side: int) -> npt.NDArray[np.float32]:
    at = (np.arange(side) + 0.5) / side * 2 - 1
    away = np.hypot(at[:, None], at[None, :])
    return np.asarray(np.clip((1 - away) / (1 - _OPAQUE), 0, 1), np.float32)


def cropped(ground: Image, width: int, height: int) -> Image:
    """The middle of a picture in another shape and size."""
    scale = max(width / ground.shape[1], height / ground.shape[0])
    size = math.ceil(ground.shape[1] * scale), math.ceil(ground.shape[0] * scale)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    larger = cv2.resize(ground, size, interpolation=method)
    top, left = (larger.shape[0] - height) // 2, (larger.shape[1] - width) // 2
    return np.asarray(larger[top : top + height, left : left + width], np.uint8)


def grid(count: int, width: int, height: int) -> tuple[list[tuple[float, float]], float]:
    """Middles of ``count`` cells that fill a picture, and the side of the largest square cell."""
    columns = max(range(1, count + 1), key=lambda n: min(width / n, height / math.ceil(count / n)))
    rows = math.ceil(count / columns)
    middles = [
        ((at % columns + 0.5) * width / columns, (at // columns + 0.5) * height / rows)
        for at in range(count)
    ]
    return middles, min(width / columns, height / rows)


def darkened(scene: Scene, by: int) -> Scene:
    """A scene in so many times less light."""
    return Scene(np.asarray(np.rint(scene.rgb / by), np.uint8), scene.boxes)
