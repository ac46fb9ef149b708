"""What kind of file a video is in, and whether it is all there."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

Kind = Literal["avi", "mp4", "matroska", "text", "other"]

COUNTED: tuple[Kind, ...] = ("avi", "mp4")
"""Those that know the number of their frames; others know no more than their length in time."""

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_LETTERS = bytes({*range(0x20, 0x100), *b"\t\n\r\f\x1b"})
_LOOKED_AT = 4096
_MOST_BOXES = 100_000
_LARGEST_INDEX = 2**26


def container(path: Path) -> Kind:
    """What kind of file it is, by its first bytes.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(_LOOKED_AT)
    if start[:4] == b"RIFF":
        return "avi"
    if start[:4] == _EBML:
        return "matroska"
    if start[4:8] in _BOXES:
        return "mp4"
    # Raw video begins with a line of text too.
    raw = start.startswith(b"YUV4MPEG2 ")
    return "other" if raw or start.translate(None, _LETTERS) else "text"


def is_cut(path: Path) -> bool:
    """Whether a file ends before its container does.

    AVI (RIFF), MP4 and QuickTime (ISO base media), and Matroska and WebM (EBML) are known; of other
    files, and of those that were written live without a length, nobody can tell: False.

    Raises:
        OSError: it cannot be read.
    """
    kind = container(path)
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        if kind == "avi":
            return int.from_bytes(file.read(8)[4:], "little") + 8 > length
        if kind == "matroska":
            return _matroska_end(file) > length
        return kind == "mp4" and _mp4_end(file, length) > length


def shown_seconds(path: Path) -> float | None:
    """How much of its first video an MP4 shows, where it has a list of edits; else None.

    A video that was cut without encoding it again keeps frames that are not to be shown.

    Raises:
        OSError: it cannot be read.
    """
    if container(path) != "mp4":
        return None
    with path.open("rb") as file:
        movie = _movie(file, os.fstat(file.fileno()).st_size)
    try:
        (header,) = _inside(movie, b"mvhd")
        ticks = struct.unpack_from(">I", header, 20 if header[0] else 12)[0]
        for track in _inside(movie, b"trak"):
            kinds = [
                handler[8:12]
                for media in _inside(track, b"mdia")
                for handler in _inside(media, b"hdlr")
            ]
            if kinds == [b"vide"]:
                lists = [
                    part for edits in _inside(track, b"edts") for part in _inside(edits, b"elst")
                ]
                return sum(map(_edited, lists)) / ticks or None
    except (struct.error, ValueError, IndexError, ZeroDivisionError):
        pass  # what is damaged shows when it is decoded
    return None


def _edited(edits: bytes) -> int:
    """Ticks of the movie's clock; an edit that begins before the start shows nothing."""
    one = struct.Struct(">QqI" if edits[0] else ">IiI")
    (count,) = struct.unpack_from(">I", edits, 4)
    found = (one.unpack_from(edits, 8 + one.size * i) for i in range(count))
    return sum(length for length, start, _ in found if start >= 0)


def _movie(file: BinaryIO, length: int) -> bytes:
    """The index of an MP4, empty where there is none of a sane size."""
    at = 0
    for _ in range(_MOST_BOXES):
        file.seek(at)
        header = file.read(16)
        size, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if size == 1:
            size = int.from_bytes(header[8:], "big")
        if size < 8 or at + size > length:
            break
        if kind == b"moov":
            file.seek(at + 8)
            return file.read(size - 8) if size <= _LARGEST_INDEX else b""
        at += size
    return b""


def _inside(content: bytes, kind: bytes) -> Iterator[bytes]:
    """The content of each box of a kind that lies in another one."""
    at = 0
    while at + 8 <= len(content):
        size, found = struct.unpack_from(">I4s", content, at)
        if size < 8:
            break
        if found == kind:
            yield content[at + 8 : at + size]
        at += size


def _mp4_end(file: BinaryIO, length: int) -> int:
    """Where the last box says that it ends."""
    end = 0
    for _ in range(_MOST_BOXES):
        if end >= length:
            break
        file.seek(end)
        header = file.read(16)
        size = int.from_bytes(header[:4], "big")
        if size == 1 and len(header) == 16:
            size = int.from_bytes(header[8:], "big")
        if len(header) < 8:
            return length + 1
        if size < 8:  # 0 reaches to the end of the file; less than a header is damage, not a cut
            return length
        end += size
    return end


def _matroska_end(file: BinaryIO) -> int:
    """Where the segment says that it ends; 0 where it does not say."""
    file.seek(len(_EBML))
    header = _size(file)
    if header is None:
        return 0
    file.seek(header, os.SEEK_CUR)
    if file.read(len(_SEGMENT)) != _SEGMENT:
        return 0
    size = _size(file)
    return 0 if size is None else file.tell() + size


def _size(file: BinaryIO) -> int | None:
    """A length as EBML writes it; None for the one that means unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(more), "big") & ((1 << 7 * (more + 1)) - 1)
    return None if value == (1 << 7 * (more + 1)) - 1 else value
