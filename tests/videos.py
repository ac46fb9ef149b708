"""Videos that tests make: by OpenCV, by FFmpeg, and byte by byte where neither makes them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.stream import Disposition

Image = npt.NDArray[np.uint8]
# FFmpeg's AV_CODEC_FLAG_INTERLACED_DCT and AV_CODEC_FLAG_INTERLACED_ME: +ildct+ilme.
_INTERLACED = 1 << 18 | 1 << 29
CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v", ".webm": "VP80"}


def write(path: Path, frames: Iterable[Image], fps: float = 30) -> Path:
    """BGR frames of one size, as the kind of video that the name ends in."""
    path.parent.mkdir(exist_ok=True)
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


def encode(
    target: Any,
    frames: Iterable[Image],
    codec: str,
    pixels: str = "yuv420p",
    *,
    container: str | None = None,
    interlaced: bool = False,
    audio: bool = False,
    fps: int = 30,
    **options: str,
) -> Any:
    """BGR frames of one size, in any codec that FFmpeg has an encoder of."""
    with av.open(target, "w", container) as out:
        stream: Any = out.add_stream(codec, fps, options)
        sound: Any = out.add_stream("aac", 16_000) if audio else None
        stream.pix_fmt = pixels
        if interlaced:
            stream.codec_context.flags |= _INTERLACED
        count = 0
        for count, frame in enumerate(frames, 1):
            if count == 1:
                stream.height, stream.width = frame.shape[:2]
            picture = av.VideoFrame.from_ndarray(frame, "bgr24")
            picture.pts, picture.time_base = count - 1, Fraction(1, fps)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
        if sound is not None:
            # Twice as long as what is seen.
            _silence(out, sound, 2 * count / fps)
    return target


def song(path: Path, *, cover: bool) -> Path:
    """A second of music, with or without a picture."""
    with av.open(path, "w", "mp4") as out:
        sound: Any = out.add_stream("aac", 16_000)
        if cover:
            picture: Any = out.add_stream("mjpeg", 25)
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuvj420p"
            picture.disposition = Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(plain(1, 64, 64)[0], "bgr24")
            frame.pts = 0
            out.mux(picture.encode(frame))
            out.mux(picture.encode(None))
        _silence(out, sound, 1)
    return path


def _silence(out: Any, stream: Any, seconds: float) -> None:
    samples = np.zeros((1, round(seconds * 16_000)), np.float32)
    frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
    frame.sample_rate, frame.pts = 16_000, 0
    out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def woven(frames: Sequence[Image]) -> list[Image]:
    """Interlaced frames: the even lines of one frame, the odd lines of the one after it."""
    pairs = []
    for first, second in zip(frames[::2], frames[1::2], strict=True):
        both = first.copy()
        both[1::2] = second[1::2]
        pairs.append(both)
    return pairs


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
    at = 0
    while (at := moov.find(b"stco", at + 1)) > 0:
        (count,) = struct.unpack_from(">I", moov, at + 8)
        for place in range(at + 12, at + 12 + 4 * count, 4):
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
