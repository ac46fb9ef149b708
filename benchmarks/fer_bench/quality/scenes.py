"""Pictures with a known number of faces, made of one portrait."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.detectors.base import Detector
from fer_sdk.errors import ImageError
from fer_sdk.image.load import load_image
from fer_sdk.types import Box

Image = npt.NDArray[np.uint8]

BUNDLED = "bundled portrait"
BUNDLED_PHOTOGRAPH = "bundled photograph"

_BACKGROUND = 128
_JPEG_QUALITY = 90
_PORTRAIT_SIDES = 1.35
"""Side of the portrait in sides of the face's box: with less background around them, more faces
fit into one picture before they get too small for the detector."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture with faces in it.

    Attributes:
        rgb: uint8 ``[H, W, 3]``.
        jpeg: the same as a file would hold it.
        faces: how many faces are drawn in it.
        source: what it is made of.
    """

    rgb: Image
    jpeg: bytes
    faces: int
    source: str

    @property
    def bgr(self) -> Image:
        """The pixels as ``FerPipeline.predict`` takes arrays by default."""
        return np.ascontiguousarray(self.rgb[..., ::-1])

    @property
    def sha256(self) -> str:
        """Of the pixels."""
        return hashlib.sha256(self.rgb.tobytes()).hexdigest()


def bundled_portrait() -> Image:
    """The portrait that comes with fer-bench, RGB."""
    return load_image(resources.files("fer_bench").joinpath("assets/portrait.jpg").read_bytes())


def bundled_photograph() -> Image:
    """The photograph that comes with fer-bench, RGB: one face, and a room behind it."""
    return load_image(resources.files("fer_bench").joinpath("assets/photograph.jpg").read_bytes())


def portrait_of(image: Image, detector: Detector, source: str) -> Image:
    """The largest face of a photo with a little background, RGB.

    Raises:
        ImageError: the detector finds no face in it; names it.
    """
    box = _largest(image, detector, source)
    half = _PORTRAIT_SIDES * max(box.width, box.height) / 2
    middle_x, middle_y = box.x + box.width / 2, box.y + box.height / 2
    rows = slice(max(round(middle_y - half), 0), round(middle_y + half))
    columns = slice(max(round(middle_x - half), 0), round(middle_x + half))
    return np.ascontiguousarray(image[rows, columns])


def photograph(image: Image, width: int, height: int, detector: Detector, source: str) -> Picture:
    """As much of a photo around its largest face as has the shape of the picture.

    Raises:
        ImageError: the detector finds no face in it; names it.
    """
    box = _largest(image, detector, source)
    rows, columns = image.shape[:2]
    scale = max(width / columns, height / rows)
    across, down = min(columns, round(width / scale)), min(rows, round(height / scale))
    left = min(max(round(box.x + box.width / 2 - across / 2), 0), columns - across)
    top = min(max(round(box.y + box.height / 2 - down / 2), 0), rows - down)
    part = image[top : top + down, left : left + across]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    rgb = np.asarray(cv2.resize(part, (width, height), interpolation=method), np.uint8)
    return _picture(rgb, 1, source)


def _largest(image: Image, detector: Detector, source: str) -> Box:
    found = detector.detect(image)
    if not found:
        raise ImageError(
            f"{source}: {detector.name} finds no face in it; use a photo with a clear face"
        )
    return max((detection.box for detection in found), key=lambda box: box.width * box.height)


def compose(portrait: Image, width: int, height: int, faces: int, source: str) -> Picture:
    """Draw ``faces`` copies of a portrait in a grid on a gray picture.

    A portrait takes at most half of the picture's shorter side, as a face before a webcam does.
    """
    canvas = np.full((height, width, 3), _BACKGROUND, np.uint8)
    if faces:
        columns = _columns(width, height, faces)
        rows = math.ceil(faces / columns)
        side = min(width // columns, height // rows, min(width, height) // 2)
        tile = _fit(portrait, side)
        for at in range(faces):
            row, column = divmod(at, columns)
            top = round((row + 0.5) * height / rows - tile.shape[0] / 2)
            left = round((column + 0.5) * width / columns - tile.shape[1] / 2)
            canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return _picture(canvas, faces, source)


def _picture(rgb: Image, faces: int, source: str) -> Picture:
    encoded, jpeg = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not encoded:
        height, width = rgb.shape[:2]
        raise ImageError(f"OpenCV cannot encode a {width}x{height} picture as JPEG")
    return Picture(rgb, jpeg.tobytes(), faces, source)


def _columns(width: int, height: int, faces: int) -> int:
    def cell(columns: int) -> float:
        return min(width / columns, height / math.ceil(faces / columns))

    return max(range(1, faces + 1), key=cell)


def _fit(portrait: Image, side: int) -> Image:
    scale = side / max(portrait.shape[:2])
    size = (max(1, int(portrait.shape[1] * scale)), max(1, int(portrait.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(portrait, size, interpolation=method), np.uint8)


def all_of(
    portrait: Image, sizes: Sequence[tuple[int, int]], faces: Sequence[int], source: str
) -> list[Picture]:
    """A picture for every size (width, height) and number of faces."""
    return [
        compose(portrait, width, height, count, source)
        for width, height in sizes
        for count in faces
    ]
