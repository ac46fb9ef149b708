"""What a picture file says of itself in its header: its kind and how large the picture is.

It is read before a decoder sees the file, so that a small file that unpacks to a huge picture
costs nothing, and only kinds of files whose size is known here are decoded at all.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fer_sdk.errors import ImageError


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a picture before it is decoded.

    Attributes:
        kind: name of the file format.
        width: in pixels, as stored.
        height: in pixels, as stored.
        orientation: how the decoded picture still has to be turned, as an EXIF orientation 1..8;
            1 where OpenCV's decoder turns it by itself.
    """

    kind: str
    width: int
    height: int
    orientation: int = 1


KINDS = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, JPEG 2000 and PNM"


def read_header(data: bytes, source: str) -> Header:
    """Read the header of a picture file.

    Args:
        data: the whole file.
        source: what to call it in an error.

    Raises:
        ImageError: not a picture of a kind that is read here, or one whose header is damaged.
    """
    for pattern, kind, read in _READERS:
        if pattern.match(data):
            try:
                header = read(data)
            except _DamagedError as error:
                raise ImageError(f"{source}: damaged {kind} file: {error}") from error
            except _OtherError as error:
                raise ImageError(
                    f"{source}: this {kind} file is not read here: {error}; save it with 8 bits a "
                    "channel, as PNG for one"
                ) from error
            except (struct.error, IndexError, OverflowError) as error:
                raise ImageError(f"{source}: the {kind} file ends in its header") from error
            if header.width < 1 or header.height < 1:
                raise ImageError(
                    f"{source}: damaged {kind} file: a picture of {header.width}x{header.height} "
                    "pixels"
                )
            return header
    if _HEIF.match(data):
        raise ImageError(
            f"{source}: HEIC and HEIF pictures are not decoded here: save it as JPEG, or open it "
            "with Pillow and pillow-heif and pass the Pillow image"
        )
    raise ImageError(f"{source}: not a picture that can be read; {KINDS} files can")


class _DamagedError(Exception):
    pass


class _OtherError(Exception):
    """A sound file, of which the decoder would make a picture with the wrong colors."""


def _jpeg(data: bytes) -> Header:
    size: tuple[int, int] | None = None
    position = 2
    for _ in range(_MOST_PARTS):
        marker = _JPEG_MARKER.search(data, position)
        if marker is None:
            break
        code, position = marker[1][0], marker.end()
        if code == _JPEG_END or (code == _JPEG_SCAN and size is None):
            raise _DamagedError("it holds no picture")
        if code == _JPEG_SCAN:
            break
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC) and size is None:
            height, width = struct.unpack_from(">HH", data, position + 3)
            size = width, height
        position += struct.unpack_from(">H", data, position)[0]
    # OpenCV 4 fills what is missing with gray and says nothing. Compressed data cannot hold the
    # two bytes of the end, and a thumbnail with an end of its own comes before them.
    if size is None or data.rfind(bytes((0xFF, _JPEG_END)), position) < 0:
        raise _DamagedError("it is cut off before its end")
    # Each scan goes over the whole picture again, and eleven bytes are one.
    begin = bytes((0xFF, _JPEG_SCAN))
    if data.count(begin, position) > _MOST_JPEG_SCANS and _scans(data, position) > _MOST_JPEG_SCANS:
        raise _DamagedError(f"it goes over the picture more than {_MOST_JPEG_SCANS} times")
    return Header("JPEG", *size)


def _scans(data: bytes, position: int) -> int:
    """How many there are from the first on, whose marker ends at the position."""
    count = 1
    while count <= _MOST_JPEG_SCANS and (marker := _JPEG_MARKER.search(data, position)):
        code, position = marker[1][0], marker.end()
        if code == _JPEG_END:
            break
        count += code == _JPEG_SCAN
        position += int.from_bytes(data[position : position + 2], "big")
    return count


def _png(data: bytes) -> Header:
    # The decoder sets aside as much memory as a part of the file says that it needs.
    position = 8
    for _ in range(_MOST_PARTS):
        if position >= len(data):
            break
        length, name = struct.unpack_from(">I4s", data, position)
        if (name == b"IHDR") != (position == 8):
            raise _DamagedError("it does not begin with its one header")
        position += 12 + length
        if position > len(data):
            raise _DamagedError("it is cut off before its end")
        if name == b"IEND":
            return Header("PNG", *struct.unpack_from(">II", data, 16))
    raise _DamagedError("it is cut off before its end")


def _gif(data: bytes) -> Header:
    return Header("GIF", *struct.unpack_from("<HH", data, 6))


def _bmp(data: bytes) -> Header:
    if struct.unpack_from("<I", data, 14)[0] == 12:
        return Header("BMP", *struct.unpack_from("<HH", data, 18))
    width, height = struct.unpack_from("<ii", data, 18)
    bits, packing = struct.unpack_from("<HI", data, 28)
    if (bits, packing) == (32, _BMP_MASKS) and data[54:66] != _BMP_BGR:
        raise _OtherError("its bytes are in another order than blue, green, red")
    return Header("BMP", width, abs(height))


def _webp(data: bytes) -> Header:
    form = data[12:16]
    if form == b"VP8X":
        return Header(
            "WebP",
            1 + int.from_bytes(data[24:27], "little"),
            1 + int.from_bytes(data[27:30], "little"),
        )
    if form == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return Header("WebP", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    if form == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WebP", width & 0x3FFF, height & 0x3FFF)
    raise _DamagedError("it holds no picture")


def _tiff(data: bytes) -> Header:
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    if big:
        (directory,) = struct.unpack_from(f"{order}Q", data, 8)
        (entries,) = struct.unpack_from(f"{order}Q", data, directory)
        first, step, length = directory + 8, 20, "Q"
    else:
        (directory,) = struct.unpack_from(f"{order}I", data, 4)
        (entries,) = struct.unpack_from(f"{order}H", data, directory)
        first, step, length = directory + 2, 12, "I"
    room = struct.calcsize(length)
    found: dict[int, int] = {}
    if entries > _MOST_TIFF_ENTRIES:
        raise _DamagedError(f"it claims {entries} entries")
    for entry in range(entries):
        at = first + step * entry
        tag, form = struct.unpack_from(f"{order}HH", data, at)
        if tag not in _TIFF_TAGS or form not in _TIFF_FORMS:
            continue
        if tag in found:
            raise _DamagedError("it says one thing twice")
        value = f"{order}{_TIFF_FORMS[form]}"
        count, place = *struct.unpack_from(f"{order}{length}", data, at + 4), at + 4 + room
        # Of several values, one for each channel, only the place is there.
        if count * struct.calcsize(value) > room:
            (place,) = struct.unpack_from(f"{order}{length}", data, place)
        (found[tag],) = struct.unpack_from(value, data, place)
    if not {_TIFF_WIDTH, _TIFF_HEIGHT} <= found.keys():
        raise _DamagedError("it does not say how large it is")
    if found.get(_TIFF_SAMPLES, _TIFF_UNSIGNED) != _TIFF_UNSIGNED:
        raise _OtherError("its numbers have a sign or a fraction, and so no known range")
    if found.get(_TIFF_COLORS) in _TIFF_LAB:
        raise _OtherError("its colors are L*a*b*, which is not read here")
    return Header("TIFF", found[_TIFF_WIDTH], found[_TIFF_HEIGHT])


def _jpeg2000(data: bytes) -> Header:
    start = 0
    if not data.startswith(_CODESTREAM):
        # Other parts of the file may hold anything, also what looks like a picture's start.
        boxes = _boxes(data, 0, len(data))
        start = next((content for name, content, _ in boxes if name == b"jp2c"), -1)
        if start < 0 or not data.startswith(_CODESTREAM, start):
            raise _DamagedError("it holds no picture")
    right, bottom, left, top = struct.unpack_from(">IIII", data, start + 8)
    return Header("JPEG 2000", right - left, bottom - top)


def _avif(data: bytes) -> Header:
    size = 0, 0
    turns, mirror = 0, None
    for name, start, _ in _properties(data):
        if name == b"ispe":
            width, height = struct.unpack_from(">II", data, start + 4)
            # A file may also hold a thumbnail and a mask of transparency.
            size = max(size, (width, height), key=lambda pair: pair[0] * pair[1])
        elif name == b"irot":
            turns = data[start] & 3
        elif name == b"imir":
            mirror = data[start] & 1
    return Header("AVIF", *size, orientation=_AVIF_ORIENTATION[turns, mirror])


def _properties(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The boxes that describe an AVIF file's pictures."""
    described = False
    for name, start, end in _boxes(data, 0, len(data)):
        if name == b"meta":
            if described:
                raise _DamagedError("it describes itself twice")
            described = True
            for inner, inner_start, inner_end in _boxes(data, start + 4, end):
                if inner == b"iprp":
                    for part, part_start, part_end in _boxes(data, inner_start, inner_end):
                        if part == b"ipco":
                            yield from _boxes(data, part_start, part_end)


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the content of each box of the ISO base media file format."""
    for _ in range(_MOST_PARTS):
        if start + 8 > end:
            break
        length, name = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, content)
            content += 8
        stop = end if length == 0 else start + length
        if stop < content or stop > end:
            raise _DamagedError("it is cut off before its end")
        yield name, content, stop
        start = stop


def _pnm(data: bytes) -> Header:
    size = _PNM_SIZE.match(data)
    if size is None:
        raise _DamagedError("it does not say how large it is")
    if data[1:2] not in _PNM_BITMAPS:
        white = _PNM_WHITE.match(data, size.end())
        if white is None or int(white[1]) not in (255, 65535):
            raise _OtherError("its white is neither 255 nor 65535")
    return Header("PNM", int(size[1]), int(size[2]))


# Nothing here may go back over what it has passed: a file can be one long run of anything.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
_GAP = rb"(?:\s|#[^\n]*+\n)*+"
_CODESTREAM = b"\xff\x4f\xff\x51"
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
# A part is a few bytes at the least, so that a file of nothing else would take minutes.
_MOST_PARTS = 1_000_000
# What is written has about ten; libjpeg-turbo advises against more than 500.
_MOST_JPEG_SCANS = 100
_BMP_MASKS, _BMP_BGR = 3, struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
_MOST_TIFF_ENTRIES = 4096
_TIFF_FORMS = {3: "H", 4: "I", 16: "Q"}
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_COLORS, _TIFF_SAMPLES = _TIFF_TAGS = (256, 257, 262, 339)
_TIFF_UNSIGNED, _TIFF_LAB = 1, (8, 9, 10)
_PNM_BITMAPS = (b"1", b"4")
_PNM_WHITE = re.compile(rb"%b(\d{1,5})\s" % _GAP)
_PNM_SIZE = re.compile(rb"P[1-6]\s%b(\d{1,9})\s%b(\d{1,9})\s" % (_GAP, _GAP))
_HEIF = re.compile(rb".{4}ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)", re.DOTALL)
# AVIF turns anticlockwise first and mirrors after it, at the vertical (1) or horizontal axis (0).
_AVIF_ORIENTATION = {
    (0, None): 1,
    (0, 1): 2,
    (2, None): 3,
    (0, 0): 4,
    (1, 0): 5,
    (3, None): 6,
    (3, 0): 7,
    (1, None): 8,
    (1, 1): 7,
    (2, 0): 2,
    (2, 1): 4,
    (3, 1): 5,
}
_READERS: tuple[tuple[re.Pattern[bytes], str, Callable[[bytes], Header]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG", _jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG", _png),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "WebP", _webp),
    (re.compile(rb"GIF8[79]a"), "GIF", _gif),
    (re.compile(rb"BM"), "BMP", _bmp),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "TIFF", _tiff),
    (re.compile(rb".{4}ftyp(?:.{4}){0,8}?avi[fs]", re.DOTALL), "AVIF", _avif),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "JPEG 2000", _jpeg2000),
    (re.compile(rb"P[1-6]\s"), "PNM", _pnm),
)
