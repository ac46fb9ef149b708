"""Faces of known size, tilt and place, and pictures that show none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.image.load import load_image
from fer_sdk.types import Box

Pixels = npt.NDArray[np.uint8]

PORTRAIT = Path(__file__).parents[1] / "benchmarks/fer_bench/assets/portrait.jpg"
"""One upright face in the middle."""

FRAMED = 1.35
"""Sides of the face's box along a side of the portrait."""


def portrait() -> Pixels:
    """RGB uint8 ``[S, S, 3]``."""
    return load_image(PORTRAIT)


def ground(width: int, height: int) -> Pixels:
    """Two colours that run into each other, without any edge."""
    across = np.linspace(0, 1, width)[None, :, None]
    down = np.linspace(0, 1, height)[:, None, None]
    colours = 90 + 60 * across * (1, 0.8, 0.5) + 40 * down * (0.2, 0.5, 1)
    return np.asarray(colours, np.uint8)


def placed(onto: Pixels, faces: Iterable[tuple[float, float, float, float]]) -> Pixels:
    """Portraits on a copy of a picture.

    Args:
        onto: RGB uint8 ``[H, W, 3]``.
        faces: x and y of the middle and side of each face's box, in pixels, and degrees by which
            the portrait is turned clockwise.
    """
    scene = onto.astype(np.float32)
    face = portrait().astype(np.float32)
    for x, y, side, degrees in faces:
        size = max(2, round(FRAMED * side))
        method = cv2.INTER_AREA if size < len(face) else cv2.INTER_LINEAR
        small = cv2.resize(face, (size, size), interpolation=method)
        turn = cv2.getRotationMatrix2D(((size - 1) / 2, (size - 1) / 2), -degrees, 1.0)
        small = cv2.warpAffine(small, turn, (size, size), borderMode=cv2.BORDER_REPLICATE)
        at = (np.arange(size) + 0.5) / size * 2 - 1
        # A pasted square has an outline, which no face in a photo has.
        alpha = np.clip(5 * (1 - np.hypot(at[:, None], at)), 0, 1)[..., None]
        left, top = round(x - size / 2), round(y - size / 2)
        low_x, low_y = max(-left, 0), max(-top, 0)
        part = scene[top + low_y : top + size, left + low_x : left + size]
        shown = np.s_[low_y : low_y + part.shape[0], low_x : low_x + part.shape[1]]
        part += alpha[shown] * (small[shown] - part)
    return np.asarray(scene.round(), np.uint8)


def crowd(columns: int, rows: int, cell: int) -> tuple[Pixels, list[Box]]:
    """Upright faces in a grid, each half as wide as its cell; the picture and their boxes."""
    middles = [
        ((column + 0.5) * cell, (row + 0.5) * cell)
        for row in range(rows)
        for column in range(columns)
    ]
    side = cell / 2
    scene = placed(ground(columns * cell, rows * cell), [(x, y, side, 0.0) for x, y in middles])
    return scene, [Box(x - side / 2, y - side / 2, side, side) for x, y in middles]


def tight(side: int) -> Pixels:
    """Only eyes, nose and mouth of the portrait."""
    part = portrait()[28:-28, 28:-28]
    return np.asarray(cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def clouds(rng: np.random.Generator, side: int) -> Pixels:
    """Smooth noise in full contrast."""
    noise = rng.integers(0, 256, (96, 96, 3), np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), float(rng.uniform(2, 16)))
    larger = cv2.resize(blurred, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.normalize(larger, None, 0, 255, cv2.NORM_MINMAX), np.uint8)


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    shared = max(across, 0.0) * max(down, 0.0)
    return shared / (one.width * one.height + other.width * other.height - shared)


def matched(truth: Sequence[Box], found: Sequence[Box], least: float) -> dict[int, int]:
    """Which box shows which face: each is given to one at most, the largest overlap first."""
    pairs = sorted(
        ((overlap(face, box), a, b) for a, face in enumerate(truth) for b, box in enumerate(found)),
        reverse=True,
    )
    given: dict[int, int] = {}
    for shared, a, b in pairs:
        if shared >= least and a not in given and b not in given.values():
            given[a] = b
    return given


def upright(points: Sequence[Sequence[float]], degrees: float, x: float, y: float) -> list[float]:
    """Points turned back by ``degrees`` around a point, as one flat list."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned: list[float] = []
    for px, py in points:
        dx, dy = px - x, py - y
        turned += [x + cos * dx + sin * dy, y - sin * dx + cos * dy]
    return turned
