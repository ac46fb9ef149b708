"""Pictures in whatever form the caller has them, as RGB arrays."""

from __future__ import annotations

import os
import stat
import struct
import sys
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, cast, get_args

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.errors import ImageError
from fer_sdk.image.guards import read_header
from fer_sdk.native_logs import quiet

Color = Literal["bgr", "rgb"]
"""Order of the channels of an array."""

MAX_PIXELS = 200_000_000
"""The largest picture that is decoded unless told otherwise: that of the largest phone cameras."""

MAX_BYTES = 256 * 2**20
"""The largest file that is read unless told otherwise."""

PICTURES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"),
    *(".jp2", ".pnm", ".pbm", ".pgm", ".ppm"),
)
"""What the files of a folder that are taken for pictures end in."""

_EXIF_ORIENTATION = 0x0112


class PillowImage(Protocol):
    """What is used of a ``PIL.Image.Image``."""

    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def mode(self) -> str: ...
    def load(self) -> Any: ...
    def getexif(self) -> Any: ...
    def convert(self, mode: str) -> Any: ...


ImageLike: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | npt.NDArray[np.uint8] | PillowImage
)
"""What can be given as an image: a path, the content of a picture file, a uint8 array ``[H, W]``,
``[H, W, 3]`` or ``[H, W, 4]``, or a Pillow image."""


def load_image(
    image: ImageLike,
    *,
    color: Color = "bgr",
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> npt.NDArray[np.uint8]:
    """Bring an image into the form that detectors and crops take.

    Files are decoded by OpenCV: JPEG, PNG, WebP, GIF (its first frame), BMP, TIFF, AVIF,
    JPEG 2000 and PNM. The orientation that a file or a Pillow image carries is applied (OpenCV 4
    knows that of JPEG, TIFF and AVIF files only). 16 bits per channel become 8. Transparency is
    left out, not blended: a pixel has the color that is stored for it. Files whose numbers have no
    known range (floating point and signed TIFF) or another meaning (L*a*b*, PNM whose white is not
    255 or 65535) are refused.

    Args:
        image: a path, the content of a picture file (bytes), a Pillow image, or a numpy array of
            uint8 ``[H, W]``, ``[H, W, 3]`` or ``[H, W, 4]``.
        color: order of an array's channels, ``"bgr"`` or ``"rgb"``; the alpha channel of four
            comes last. Files and Pillow images know theirs.
        max_pixels: a larger picture is refused before it is decoded. An array is in memory
            already and not limited.
        max_bytes: a larger file is refused before it is read.

    Returns:
        uint8 RGB ``[H, W, 3]``, contiguous. An array that is that already is returned as it is.

    Raises:
        ImageError: there is no such file, it is too large, damaged or not a picture, or the array
            is not one that is an image; names the input and says why.
    """
    if color not in get_args(Color):
        raise ImageError(f'color must be "bgr" or "rgb", not {color!r}')
    if isinstance(image, np.ndarray):
        return _from_array(image, color)
    if isinstance(image, bytes | bytearray | memoryview):
        try:
            data = bytes(image)
        except ValueError as error:
            raise ImageError(f"{type(image).__name__} cannot be read: {error}") from error
        return _decode(data, f"picture of {len(data)} bytes", max_pixels)
    if isinstance(image, str | os.PathLike):
        source = _name(image)
        return _decode(_read(image, source, max_bytes), source, max_pixels)
    # Whoever has a Pillow image has imported Pillow.
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(image, pillow.Image):
        return _from_pillow(cast(PillowImage, image), max_pixels)
    raise ImageError(
        f"{type(image).__name__} is not an image: give a path, the bytes of a picture file, a "
        "numpy array of uint8 or a Pillow image"
    )


def to_gray(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Brightness of an RGB image uint8 ``[H, W, 3]``, as uint8 ``[H, W]`` (ITU-R BT.601)."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def _from_array(array: npt.NDArray[Any], color: Color) -> npt.NDArray[np.uint8]:
    what = f"array of {array.dtype} {list(array.shape)}"
    if array.dtype != np.uint8:
        raise ImageError(f"{what} is not an image: it must be uint8, 0 to 255{_as_uint8(array)}")
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ImageError(
            f"{what} is not an image: it must be [H, W], [H, W, 3] or [H, W, 4]{_as_shape(array)}"
        )
    if array.size == 0:
        raise ImageError(f"{what} holds no pixels")
    if channels == 3 and array[..., ::-1].flags.c_contiguous:
        # Somebody turned the channels by array[..., ::-1]: to copy that takes as long as a model.
        array, color = array[..., ::-1], "rgb" if color == "bgr" else "bgr"
    pixels = np.ascontiguousarray(array)
    if channels == 1:
        return _rgb(pixels, cv2.COLOR_GRAY2RGB)
    if color == "bgr":
        return _rgb(pixels, cv2.COLOR_BGR2RGB if channels == 3 else cv2.COLOR_BGRA2RGB)
    return pixels if channels == 3 else _rgb(pixels, cv2.COLOR_RGBA2RGB)


def _as_uint8(array: npt.NDArray[Any]) -> str:
    if array.dtype.kind == "f":
        return "; from 0..1 it is (array * 255).round().astype(numpy.uint8)"
    if array.dtype.kind == "b":
        return "; from a mask it is array.astype(numpy.uint8) * 255"
    if array.dtype == np.uint16:
        return "; from 16 bits it is (array >> 8).astype(numpy.uint8)"
    return ""


def _as_shape(array: npt.NDArray[Any]) -> str:
    if array.ndim == 4:
        return "; several images go to predict_batch as list(array)"
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        return "; from channels first it is array.transpose(1, 2, 0)"
    return ""


def _rgb(pixels: npt.NDArray[np.uint8], conversion: int) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(pixels, conversion), np.uint8)


def _name(path: str | os.PathLike[str]) -> str:
    name = os.fspath(path)
    return name if isinstance(name, str) and name.isprintable() and name else repr(name)


def _read(path: str | os.PathLike[str], source: str, max_bytes: int) -> bytes:
    if source.startswith(("http://", "https://")):
        raise ImageError(f"{source}: fer-sdk never uses the network; download the picture first")
    file = Path(os.fsdecode(path))
    try:
        # Looked at before it is opened, because opening a named pipe waits for a writer.
        found = file.stat()
        # What the kernel makes up has no size, and reading some of it waits too.
        if stat.S_ISREG(found.st_mode) and 0 < found.st_size <= max_bytes:
            with file.open("rb") as stream:
                return stream.read(max_bytes)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ImageError(f"{source}: cannot be read: {reason}") from error
    if stat.S_ISDIR(found.st_mode):
        raise ImageError(f"{source}: a folder, not a picture")
    if not stat.S_ISREG(found.st_mode):
        raise ImageError(f"{source}: neither a file nor a link to one")
    if not found.st_size:
        raise ImageError(f"{source}: empty")
    raise ImageError(f"{source}: {found.st_size} bytes are more than the {max_bytes} that are read")


def _decode(data: bytes, source: str, max_pixels: int) -> npt.NDArray[np.uint8]:
    if not data:
        raise ImageError(f"{source}: empty")
    header = read_header(data, source)
    _check_size(header.width, header.height, source, max_pixels)
    try:
        with quiet():
            bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError(
            f"{source}: OpenCV cannot decode this {header.kind} file: {error.err}"
        ) from error
    if bgr is None:
        raise ImageError(
            f"{source}: damaged {header.kind} file, or a kind of it that OpenCV does not decode"
        )
    # Whatever the header says, the limit holds.
    _check_size(bgr.shape[1], bgr.shape[0], source, max_pixels)
    rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr), np.uint8)
    return _upright(rgb, header.orientation)


def _check_size(width: int, height: int, source: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            f"{source}: {width}x{height} is more than the {max_pixels} pixels that are decoded; "
            "make it smaller, or raise max_pixels"
        )


def _from_pillow(image: PillowImage, max_pixels: int) -> npt.NDArray[np.uint8]:
    source = f"Pillow image ({image.mode}, {image.size[0]}x{image.size[1]})"
    if 0 in image.size:
        raise ImageError(f"{source} holds no pixels")
    _check_size(*image.size, source, max_pixels)
    if image.mode in ("I", "F"):
        raise ImageError(
            f"{source} has no known range of brightness: scale it to 0..255 and convert it to "
            '"L" first'
        )
    try:
        image.load()
        # Pillow itself turns some kinds of files while it loads them, and then forgets the tag.
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        if image.mode.startswith("I;16"):
            # Pillow's own conversion cuts everything above 255 off.
            pixels = np.asarray(image).astype(np.uint16)
            rgb = _rgb((pixels >> 8).astype(np.uint8), cv2.COLOR_GRAY2RGB)
        else:
            rgb = np.array(image.convert("RGB"), np.uint8)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, MemoryError) as error:
        raise ImageError(f"{source}: Pillow cannot read it: {error}") from error
    return _upright(rgb, orientation)


def _upright(rgb: npt.NDArray[np.uint8], orientation: object) -> npt.NDArray[np.uint8]:
    match orientation:
        case 2:
            turned = rgb[:, ::-1]
        case 3:
            turned = rgb[::-1, ::-1]
        case 4:
            turned = rgb[::-1]
        case 5:
            turned = rgb.transpose(1, 0, 2)
        case 6:
            turned = rgb.transpose(1, 0, 2)[:, ::-1]
        case 7:
            turned = rgb.transpose(1, 0, 2)[::-1, ::-1]
        case 8:
            turned = rgb.transpose(1, 0, 2)[::-1]
        case _:
            turned = rgb
    return np.ascontiguousarray(turned)
