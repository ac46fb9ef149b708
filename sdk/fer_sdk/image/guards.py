"""The kinds of picture files that OpenCV decodes, each looked through before.

OpenCV takes the memory and the time that a file asks for, and does not say when one is cut off.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from fer_sdk.errors import ImageError

# Nothing here may go back over what it has passed: a file can be one long run of anything.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
_SCAN, _END = 0xDA, 0xD9
# What is written has about ten; libjpeg-turbo advises against more than 500.
_MOST_SCANS = 100
# A part is a few bytes at the least, so that a file of nothing else would take minutes.
_MOST_PARTS = 1_000_000


_CODESTREAM = b"\xff\x4f\xff\x51"


class Header(NamedTuple):
    """The size of a picture in pixels, and whether the file's end is there."""

    width: int
    height: int
    complete: bool = True


def read_header(data: bytes, source: str) -> tuple[str, Header] | None:
    """The kind of a file that OpenCV decodes, and its header; None for a file of another kind.

    Args:
        data: the whole file.
        source: what to call it in an error.

    Raises:
        ImageError: it is damaged, or takes more memory or time than there can be need for.
    """
    for pattern, kind, read in _KINDS:
        if pattern.match(data):
            try:
                return kind, read(data)
            except _DamagedError as error:
                raise ImageError(f"{source}: damaged {kind} file: {error}") from error
    return None


class _DamagedError(Exception):
    pass


def _jpeg(data: bytes) -> Header:
    width = height = scans = code = 0
    position = 2
    for _ in range(_MOST_PARTS):
        marker = _JPEG_MARKER.search(data, position)
        code, position = (marker[1][0], marker.end()) if marker else (0, position)
        if marker is None or code == _END:
            break
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC) and not width:
            height, width = _number(data, position + 3, 2), _number(data, position + 5, 2)
        # Each scan goes over the whole picture again, and eleven bytes are one.
        scans += code == _SCAN
        if scans > _MOST_SCANS:
            raise _DamagedError(f"it goes over the picture more than {_MOST_SCANS} times")
        position += _number(data, position, 2)
    if not (width and scans):
        raise _DamagedError("it holds no picture, or ends before it")
    return Header(width, height, complete=code == _END)


def _png(data: bytes) -> Header:
    # The decoder sets aside as much memory as a part of the file says that it needs.
    position = start = 8
    for _ in range(_MOST_PARTS):
        name = data[position + 4 : position + 8]
        if (name == b"IHDR") != (position == start):
            break
        position += 12 + _number(data, position, 4)
        if position > len(data):
            break
        if name == b"IEND":
            return Header(_number(data, 16, 4), _number(data, 20, 4))
    raise _DamagedError("it is cut off before its end")


def _webp(data: bytes) -> Header:
    if data[12:16] == b"VP8X":
        return Header(
            1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
        )
    bits = int.from_bytes(data[21:25], "little")
    if data[12:16] == b"VP8L":
        return Header(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    bits = int.from_bytes(data[26:30], "little")
    return Header(bits & 0x3FFF, bits >> 16 & 0x3FFF)


def _jpeg2000(data: bytes) -> Header:
    position = 0
    # Other parts of the file may hold anything, also what looks like a picture's start.
    while not data.startswith(_CODESTREAM, position):
        length, name = _number(data, position, 4), data[position + 4 : position + 8]
        wide = length == 1
        length = _number(data, position + 8, 8) if wide else length
        position += (16 if wide else 8) if name == b"jp2c" else length
        if (length < 8 and name != b"jp2c") or position > len(data):
            raise _DamagedError("it holds no picture")
    right, bottom, left, top = (_number(data, position + at, 4) for at in (8, 12, 16, 20))
    return Header(right - left, bottom - top)


def _number(data: bytes, position: int, length: int) -> int:
    return int.from_bytes(data[position : position + length], "big")


_KINDS: tuple[tuple[re.Pattern[bytes], str, Callable[[bytes], Header]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG", _jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG", _png),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "WebP", _webp),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "JPEG 2000", _jpeg2000),
)
