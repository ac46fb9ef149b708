"""Pictures that show no face, large and small, on which every detection is a false one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.errors import DataError
from fer_sdk.image.folder import PICTURES
from fer_sdk.image.load import load_image

Image = npt.NDArray[np.uint8]
Size = Literal["large", "small"]

# What scikit-image and scikit-learn carry in their wheels. Left out: the astronaut and the coins,
# which show faces, and all of the photographer but the field behind him. The cat stays in: its
# face is not one that the models know.
_PHOTOS = (
    ("skimage.data", "brick.png"),
    ("skimage.data", "camera.png"),
    ("skimage.data", "cell.png"),
    ("skimage.data", "chelsea.png"),
    ("skimage.data", "chessboard_GRAY.png"),
    ("skimage.data", "clock_motion.png"),
    ("skimage.data", "coffee.png"),
    ("skimage.data", "color.png"),
    ("skimage.data", "grass.png"),
    ("skimage.data", "gravel.png"),
    ("skimage.data", "horse.png"),
    ("skimage.data", "hubble_deep_field.jpg"),
    ("skimage.data", "ihc.png"),
    ("skimage.data", "logo.png"),
    ("skimage.data", "microaneurysms.png"),
    ("skimage.data", "moon.png"),
    ("skimage.data", "motorcycle_left.png"),
    ("skimage.data", "page.png"),
    ("skimage.data", "phantom.png"),
    ("skimage.data", "retina.jpg"),
    ("skimage.data", "rocket.jpg"),
    ("skimage.data", "text.png"),
    ("sklearn.datasets.images", "china.jpg"),
    ("sklearn.datasets.images", "flower.jpg"),
)
_FIELD = slice(310, None)

SMALL_SIDES = (48, 100, 224)
"""Sides of the small pictures: FER2013's, and those that face crops often come in."""

_LARGE_SIDES = (257, 640)
_LARGE_CROPS, _SMALL_CROPS, _TEXTURES = 10, 8, 16


@dataclass(frozen=True, slots=True, eq=False)
class Faceless:
    """A picture without a face.

    Attributes:
        rgb: uint8 ``[H, W, 3]``.
        source: what it was made of.
        size: ``"small"`` pictures are squares of ``SMALL_SIDES``, ``"large"`` ones larger.
    """

    rgb: Image
    source: str
    size: Size


def photos() -> list[tuple[str, Image]]:
    """The pictures without faces that scikit-image and scikit-learn carry, RGB, by file name.

    Raises:
        DataError: one of the two is not installed.
    """
    found = []
    for package, name in _PHOTOS:
        try:
            content = resources.files(package).joinpath(name).read_bytes()
        except (ModuleNotFoundError, FileNotFoundError) as error:
            raise DataError(
                f"{package} with {name} is not here: pip install scikit-image scikit-learn"
            ) from error
        rgb = load_image(content)
        found.append((name, rgb[:, _FIELD] if name == "camera.png" else rgb))
    return found


def photos_of(folder: Path) -> list[tuple[str, Image]]:
    """The pictures of a folder, in the order of their names.

    Raises:
        DataError: there are none.
        ImageError: one of them cannot be read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    if not paths:
        raise DataError(f"{folder}: has no pictures ({', '.join(PICTURES)})")
    return [(str(path.relative_to(folder)), load_image(path)) for path in paths]


def faceless(sources: Sequence[tuple[str, Image]], seed: int = 0) -> Iterator[Faceless]:
    """Each picture as a whole, parts of it at random, and textures; large, and shrunk to small.

    The small ones are squares of random size out of a picture, down to their own side, shrunk to
    each of ``SMALL_SIDES``.
    """
    rng = np.random.default_rng(seed)
    for name, rgb in sources:
        yield from _of_one(name, rgb, rng)
    for number in range(_TEXTURES):
        for name, rgb in _textures(rng):
            source = f"{name} {number}"
            yield Faceless(rgb, source, "large")
            for side in SMALL_SIDES:
                yield Faceless(_square(rgb, side, rng), source, "small")


def _of_one(name: str, rgb: Image, rng: np.random.Generator) -> Iterator[Faceless]:
    if max(rgb.shape[:2]) >= _LARGE_SIDES[0]:
        yield Faceless(rgb, name, "large")
        for _ in range(_LARGE_CROPS):
            height, width = (
                int(rng.integers(min(_LARGE_SIDES[0], side), min(_LARGE_SIDES[1], side) + 1))
                for side in rgb.shape[:2]
            )
            if max(height, width) >= _LARGE_SIDES[0]:
                yield Faceless(_part(rgb, height, width, rng), name, "large")
    for side in SMALL_SIDES:
        for _ in range(_SMALL_CROPS):
            yield Faceless(_square(rgb, side, rng), name, "small")


def _part(rgb: Image, height: int, width: int, rng: np.random.Generator) -> Image:
    top = int(rng.integers(rgb.shape[0] - height + 1))
    left = int(rng.integers(rgb.shape[1] - width + 1))
    return np.ascontiguousarray(rgb[top : top + height, left : left + width])


def _square(rgb: Image, side: int, rng: np.random.Generator) -> Image:
    most = min(rgb.shape[:2])
    cut = int(rng.integers(min(side, most), most + 1))
    part = _part(rgb, cut, cut, rng)
    method = cv2.INTER_AREA if cut > side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (side, side), interpolation=method), np.uint8)


def _textures(rng: np.random.Generator) -> Iterator[tuple[str, Image]]:
    side = 320
    y, x = np.mgrid[:side, :side] / side
    noise = rng.integers(0, 256, (side, side, 3), np.uint8)
    yield "noise", noise
    blurred = cv2.GaussianBlur(noise, (0, 0), float(rng.uniform(2, 24))).astype(np.float64)
    low, high = blurred.min(), blurred.max()
    yield "clouds", np.asarray((blurred - low) / (high - low) * 255, np.uint8)
    angle, waves = rng.uniform(0, np.pi), rng.uniform(2, 20)
    stripes = np.sin(2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle)))
    yield "stripes", _gray(stripes)
    yield "waves", _gray(stripes * np.cos(2 * np.pi * rng.uniform(2, 20) * y))
    yield "slope", _gray(2 * (x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1)))
    discs = np.full((side, side, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(int(rng.integers(3, 12))):
        centre = [int(at) for at in rng.integers(0, side, 2)]
        ink = [int(level) for level in rng.integers(0, 256, 3)]
        cv2.circle(discs, centre, int(rng.integers(5, 60)), ink, cv2.FILLED, cv2.LINE_AA)
    yield "discs", discs


def _gray(levels: npt.NDArray[np.float64]) -> Image:
    return np.repeat(np.asarray((levels.clip(-1, 1) + 1) * 127.5, np.uint8)[..., None], 3, axis=2)
