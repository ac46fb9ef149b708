"""Videos that tests make: by OpenCV, and byte by byte where it cannot make what is needed."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v", ".webm": "VP80"}


def write(path: Path, frames: Iterable[Image], fps: float = 30) -> Path:
    """BGR frames of one size, as the kind of video that the name ends in."""
    writer = None
    for frame in frames:
        if writer is None:
            code = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
            writer = cv2.VideoWriter(str(path), code, fps, frame.shape[1::-1])
            assert writer.isOpened()
        writer.write(frame)
    assert writer is not None
    writer.release()
    return path


def write_avi(path: Path, frames: Sequence[Image | None], fps: int) -> Path:
    """A Motion JPEG video; frames may have any sizes, and None is one that was dropped."""
    chunks = [
        b"" if frame is None else cv2.imencode(".jpg", frame)[1].tobytes() for frame in frames
    ]
    first = next(frame for frame in frames if frame is not None)
    height, width = first.shape[:2]
    count = len(chunks)
    main = struct.pack(
        "<14I", 1_000_000 // fps, 0, 0, 0x10, count, 0, 1, 0, width, height, *[0] * 4
    )
    stream = b"vidsMJPG" + struct.pack(
        "<IHHIIIIIIiI4h", 0, 0, 0, 0, 1, fps, 0, count, 0, -1, 0, 0, 0, width, height
    )
    picture = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MJPG", 0, 0, 0, 0, 0)
    movie, index = b"movi", b""
    for chunk in chunks:
        index += struct.pack("<4sIII", b"00dc", 0x10, len(movie), len(chunk))
        movie += _chunk(b"00dc", chunk)
    streams = _chunk(b"LIST", b"strl" + _chunk(b"strh", stream) + _chunk(b"strf", picture))
    header = _chunk(b"LIST", b"hdrl" + _chunk(b"avih", main) + streams)
    path.write_bytes(
        _chunk(b"RIFF", b"AVI " + header + _chunk(b"LIST", movie) + _chunk(b"idx1", index))
    )
    return path


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def cut(path: Path, share: float = 0.5) -> Path:
    """The first part of a file, beside it."""
    content = path.read_bytes()
    short = path.with_name(f"cut{path.suffix}")
    short.write_bytes(content[: int(share * len(content))])
    return short


def index_first(path: Path) -> Path:
    """An MP4 with its index before its frames, as it is made for streaming."""
    content = path.read_bytes()
    boxes = dict(_boxes(content))
    size = len(boxes[b"moov"])
    moov = bytearray(boxes[b"moov"])
    at = moov.index(b"stco") + 8
    (count,) = struct.unpack_from(">I", moov, at)
    for place in range(at + 4, at + 4 + 4 * count, 4):
        struct.pack_into(">I", moov, place, struct.unpack_from(">I", moov, place)[0] + size)
    start = boxes.pop(b"ftyp")
    del boxes[b"moov"]
    path.write_bytes(start + bytes(moov) + b"".join(boxes.values()))
    return path


def turned(path: Path) -> Path:
    """An MP4 that says it is to be shown a quarter turn to the right."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    struct.pack_into(">9i", content, at, 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def trimmed(path: Path, first: int, frames: int) -> Path:
    """An MP4 of 30 frames a second of which some are to be shown, the others still in it."""
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 8
    ticks = struct.unpack_from(">I", content, content.index(b"mvhd") + 16)[0]
    struct.pack_into(">II", content, at + 4, frames * ticks // 30, first * 512)
    path.write_bytes(content)
    return path


def uneven(path: Path, lasting: Sequence[int]) -> Path:
    """An MP4 with its index at the end, whose frames last that many ticks of its clock each."""
    # The list of edits would end it when it ended before.
    content = path.read_bytes().replace(b"edts", b"free")
    times = struct.pack(">II", 0, len(lasting))
    times += b"".join(struct.pack(">II", 1, units) for units in lasting)
    path.write_bytes(_with_box(content, [b"moov", b"trak", b"mdia", b"minf", b"stbl"], times))
    return path


def _with_box(content: bytes, inside: list[bytes], times: bytes) -> bytes:
    parts = []
    for kind, box in _boxes(content):
        if not inside and kind == b"stts":
            new = times
        elif inside and kind == inside[0]:
            new = _with_box(box[8:], inside[1:], times)
        else:
            parts.append(box)
            continue
        parts.append(struct.pack(">I", 8 + len(new)) + kind + new)
    return b"".join(parts)


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        yield kind, content[at : at + size]
        at += size


def plain(count: int, width: int = 160, height: int = 120) -> list[Image]:
    """Gray frames, each a little lighter than the one before."""
    return [np.full((height, width, 3), 20 + 2 * (i % 100), np.uint8) for i in range(count)]


def walk(photo: Path, count: int, width: int = 480, height: int = 360) -> Iterator[Image]:
    """A photo that is moved along a path before a plain background."""
    image = cv2.imread(str(photo))
    for i in range(count):
        move = np.array([[0.6, 0, -40 + 4.0 * i], [0, 0.6, 30 + 15 * np.sin(i / 9)]])
        yield cv2.warpAffine(image, move, (width, height), borderValue=(120, 110, 100))
