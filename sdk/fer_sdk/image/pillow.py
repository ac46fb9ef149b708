"""Pillow's images, and the kinds of picture files that Pillow opens here."""

from __future__ import annotations

import io
import logging
import math
import re
import struct
import sys
from importlib import import_module
from typing import Any, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt

from fer_sdk.errors import ImageError
from fer_sdk.image.depth import eight_bits

_log = logging.getLogger(__name__)

# Pillow's own classes and not Image.open: that refuses large pictures by a limit of the process.
_READERS = (
    (rb"GIF8[79]a", "GIF", "PIL.GifImagePlugin", "GifImageFile"),
    (rb"BM", "BMP", "PIL.BmpImagePlugin", "BmpImageFile"),
    (rb"II[*+]\0|MM\0[*+]", "TIFF", "PIL.TiffImagePlugin", "TiffImageFile"),
    (rb".{4}ftyp(?:.{4}){0,8}?avi[fs]", "AVIF", "PIL.AvifImagePlugin", "AvifImageFile"),
    (rb".{4}ftyp(hei[cmsx]|hev[cx]|mif1|msf1)", "HEIC", "pillow_heif", "HeifImageFile"),
    (rb"P[1-6]\s", "PNM", "PIL.PpmImagePlugin", "PpmImageFile"),
)
_EXIF_ORIENTATION, _TIFF_BITS, _TIFF_SAMPLE_FORMAT = 0x0112, 258, 339
# What readers of damaged files raise.
_FAILURES = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError),
    *(OSError, RuntimeError, SyntaxError, TypeError, ValueError, struct.error),
)


class PillowImage(Protocol):
    """What is used of a ``PIL.Image.Image``."""

    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def mode(self) -> str: ...
    def load(self) -> Any: ...
    def getexif(self) -> Any: ...
    def convert(self, mode: str) -> Any: ...


def is_pillow(image: object) -> TypeGuard[PillowImage]:
    # Whoever has a Pillow image has imported Pillow.
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def open_picture(data: bytes, source: str) -> PillowImage | None:
    """Open a picture file, which does not decode it yet; None where it is of no kind known here.

    Args:
        data: the whole file.
        source: what to call it in an error.

    Raises:
        ImageError: its header is damaged, or it is HEIC and pillow-heif is not installed.
    """
    from PIL.Image import DecompressionBombError

    for pattern, kind, module, name in _READERS:
        if not re.match(pattern, data, re.DOTALL):
            continue
        try:
            reader = getattr(import_module(module), name)
        except ImportError as error:
            raise ImageError(
                f"{source}: {kind} pictures need pillow-heif: pip install 'fer-sdk[heif]'"
            ) from error
        stream = _Header(data)
        try:
            if re.match(rb"P[23]", data) and not data[-1:].isspace():
                raise ValueError("it is cut off before its end")
            image: PillowImage = reader(stream, "")
        except (DecompressionBombError, *_FAILURES) as error:
            raise ImageError(
                f"{source}: damaged {kind} file, or a kind of it that is not read: {error}"
            ) from error
        stream.left = math.inf
        return image
    return None


class _Header(io.BytesIO):
    """A file of which no more is read than a header can need: some claim a part over and over."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.left: float = 2 * len(data) + 2**24

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.left -= len(content) + 64
        if self.left < 0:
            raise ValueError("its header has too many parts")
        return content


def pillow_pixels(image: PillowImage, source: str) -> npt.NDArray[np.uint8]:
    """The pixels of an opened file or of a caller's Pillow image, turned upright.

    Returns:
        uint8 RGB ``[H, W, 3]``, contiguous.

    Raises:
        ImageError: it cannot be decoded, or its numbers have no known range.
    """
    tags = getattr(image, "tag_v2", {})
    unsigned = set(tags.get(_TIFF_SAMPLE_FORMAT, (1,))) == {1}
    # Of integers of 32 bits only PNM files tell the range, which Pillow brings to 16 bits.
    from_pnm = image.mode == "I" and getattr(image, "format", None) == "PPM"
    if not unsigned or (image.mode in ("I", "F", "LAB") and not from_pnm):
        raise ImageError(
            f"{source} has no known range of brightness: numbers of 32 bits, with a sign or with a "
            "fraction, and L*a*b*, must be brought to 8 bits a channel first"
        )
    try:
        image.load()
        # Pillow itself turns some kinds of files while it loads them, and then forgets the tag.
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        # Pillow's own conversion of 16 bits cuts everything above 255 off.
        if from_pnm:
            rgb = np.dstack([(np.asarray(image) >> 8).astype(np.uint8)] * 3)
        elif image.mode.startswith("I;16"):
            rgb = np.dstack([eight_bits(np.asarray(image).astype(np.uint16))] * 3)
        else:
            rgb = np.array(image if image.mode == "RGB" else image.convert("RGB"), np.uint8)
    except _FAILURES as error:
        raise ImageError(f"{source}: Pillow cannot read it: {error}") from error
    if set(tags.get(_TIFF_BITS, ())) == {16} and image.mode == "RGB" and rgb.max() < 64:
        _log.warning("%s: uses few of its 16 bits a channel and is read as almost black", source)
    if orientation in (5, 6, 7, 8):
        rgb = rgb.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    return np.ascontiguousarray(rgb)
