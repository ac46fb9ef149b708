"""Pictures in whatever form the caller has them, as RGB arrays."""

from __future__ import annotations

import logging
import os
import re
import stat
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.errors import ImageError
from fer_sdk.image.depth import eight_bits, excess_bits
from fer_sdk.image.folder import VIDEOS
from fer_sdk.image.guards import read_header
from fer_sdk.image.pillow import PillowImage, is_pillow, open_picture, pillow_pixels
from fer_sdk.native_logs import quiet

_log = logging.getLogger(__name__)

Color = Literal["bgr", "rgb"]
"""Order of the channels of an array."""

MAX_PIXELS = 200_000_000
"""The largest picture that is decoded unless told otherwise: that of the largest phone cameras."""

MAX_BYTES = 256 * 2**20
"""The largest file that is read unless told otherwise."""


class Readable(Protocol):
    """A file that was opened in binary mode, ``io.BytesIO`` or an upload."""

    def read(self, size: int, /) -> bytes: ...


ImageLike: TypeAlias = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | Readable
    | npt.NDArray[np.uint8]
    | PillowImage
)
"""What can be given as an image: a path, the content of a picture file, a file opened in binary
mode, a uint8 array ``[H, W]``, ``[H, W, 3]`` or ``[H, W, 4]``, or a Pillow image."""


def load_image(
    image: ImageLike,
    *,
    color: Color = "bgr",
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> npt.NDArray[np.uint8]:
    """Bring an image into the form that detectors and crops take.

    JPEG, PNG, WebP and JPEG 2000 files are decoded by OpenCV, GIF, BMP, TIFF, AVIF and PNM by
    Pillow, and HEIC by pillow-heif (``fer-sdk[heif]``). Of several pictures the first is taken.
    The orientation that a file or a Pillow image carries is applied (OpenCV 4 does not know that
    of PNG and WebP). 16 bits per channel become 8, by the bit depth that the largest number needs
    (8, 10, 12, 14 or 16); color TIFF keeps the upper 8. Transparency is left out, not blended: a
    pixel has the color that is stored for it. Files whose numbers have no known range (floating
    point and signed TIFF, L*a*b*) are refused.

    A JPEG file without its end is read as browsers read it: what is missing is gray, and a warning
    is logged. Other files that are cut off are refused.

    Args:
        image: a path, the content of a picture file (bytes), a file opened in binary mode or
            anything else whose ``read`` gives bytes, a Pillow image, or a numpy array of uint8
            ``[H, W]``, ``[H, W, 3]`` or ``[H, W, 4]``.
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
        return _decode(_read_file(image, source, max_bytes), source, max_pixels)
    if is_pillow(image):
        source = f"Pillow image ({image.mode}, {image.size[0]}x{image.size[1]})"
        if 0 in image.size:
            raise ImageError(f"{source} holds no pixels")
        _check_size(*image.size, source, max_pixels)
        return pillow_pixels(image, source)
    if callable(getattr(image, "read", None)) and not isinstance(image, type):
        data, source = _read_stream(image, max_bytes)
        return _decode(data, source, max_pixels)
    raise ImageError(
        f"{type(image).__name__} is not an image: {_instead(image)}give a path, the bytes of a "
        "picture file, a file opened in binary mode, a numpy array of uint8 or a Pillow image"
    )


def _instead(thing: object) -> str:
    """What makes an image of something that holds one."""
    if isinstance(thing, list | tuple):
        return "several images go to predict_batch, and nested numbers through numpy.array; "
    if type(thing).__module__.partition(".")[0] == "torch":
        return (
            "from a tensor [3, H, W] of 0..1 it is (tensor * 255).byte().permute(1, 2, 0).cpu()"
            '.numpy() with color="rgb"; '
        )
    if hasattr(thing, "__array__"):
        return "pass numpy.asarray(image); "
    return ""


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
    if array.dtype == np.uint16 and array.size:
        return f"; here it is (array >> {excess_bits(array)}).astype(numpy.uint8)"
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


def _read_file(path: str | os.PathLike[str], source: str, max_bytes: int) -> bytes:
    if source.startswith("data:"):
        raise ImageError(
            "data: address instead of a path: pass the bytes, "
            'base64.b64decode(address.partition(",")[2])'
        )
    if _ADDRESS.match(source):
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
    raise ImageError(
        f"{source}: {found.st_size} bytes are more than the {max_bytes} that are read"
        f"{_video_hint(source)}"
    )


def _read_stream(stream: Any, max_bytes: int) -> tuple[bytes, str]:
    source = type(stream).__name__
    parts, length = [], 0
    try:
        # A read may give less than it was asked for.
        while length <= max_bytes and (part := stream.read(max_bytes + 1 - length)):
            if not isinstance(part, bytes | bytearray | memoryview):
                how = "open it in binary mode"
                if hasattr(part, "__await__"):
                    getattr(part, "close", int)()
                    how = "pass await upload.read()"
                raise ImageError(
                    f"{source}: its read() gives {type(part).__name__}, not bytes; {how}"
                )
            parts.append(part)
            length += len(part)
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{source}: cannot be read: {error}") from error
    if length > max_bytes:
        raise ImageError(f"{source}: holds more than the {max_bytes} bytes that are read")
    if not length:
        raise ImageError(f"{source}: empty, or read to its end already: seek(0) goes back")
    return b"".join(parts), f"{source} of {length} bytes"


def _decode(data: bytes, source: str, max_pixels: int) -> npt.NDArray[np.uint8]:
    if not data:
        raise ImageError(f"{source}: empty")
    if (found := read_header(data, source)) is None:
        with quiet():
            if image := open_picture(data, source):
                _check_size(*image.size, source, max_pixels)
                return pillow_pixels(image, source)
        raise ImageError(
            f"{source}: not a picture that can be read; {_KINDS} files can{_video_hint(source)}"
        )
    kind, header = found
    _check_size(header.width, header.height, source, max_pixels)
    if header.complete:
        rgb = _by_opencv(data, kind, source)
    else:
        rgb = _by_opencv(data + _JPEG_END, kind, source)
        _log.warning("%s: this JPEG file is damaged or cut off; what is missing is gray", source)
    # Whatever the header says, the limit holds.
    _check_size(rgb.shape[1], rgb.shape[0], source, max_pixels)
    return rgb


def _by_opencv(data: bytes, kind: str, source: str) -> npt.NDArray[np.uint8]:
    depth = cv2.IMREAD_ANYDEPTH if kind == "PNG" else 0
    try:
        with quiet():
            bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | depth)
    except cv2.error as error:
        raise ImageError(f"{source}: OpenCV cannot decode this {kind} file: {error.err}") from error
    if bgr is None:
        raise ImageError(
            f"{source}: damaged {kind} file, or a kind of it that OpenCV does not decode"
        )
    if bgr.dtype == np.uint16:
        bgr = eight_bits(np.asarray(bgr, np.uint16))
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr), np.uint8)


def _check_size(width: int, height: int, source: str, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{source}: damaged: a picture of {width}x{height} pixels")
    if width * height > max_pixels:
        raise ImageError(
            f"{source}: {width}x{height} is more than the {max_pixels} pixels that are decoded; "
            "make it smaller, or raise max_pixels"
        )


def _video_hint(source: str) -> str:
    is_video = source.lower().endswith(VIDEOS)
    return "; it is a video: fer video and FerPipeline.stream take it" if is_video else ""


_KINDS = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC, JPEG 2000 and PNM"
_JPEG_END = b"\xff\xd9"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
