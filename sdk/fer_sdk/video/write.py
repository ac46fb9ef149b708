"""Frames as a video file, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.cpu_count import usable_cores
from fer_sdk.errors import VideoError
from fer_sdk.output.atomic import path_written_whole

if TYPE_CHECKING:
    from av.video.stream import VideoStream


class _Kind(NamedTuple):
    format: str
    codec: str
    pixels: str
    options: dict[str, str]


# H.264 in this form is what every browser and phone plays.
_H264 = "h264", "yuv420p", {"preset": "superfast", "crf": "21"}
_VP9 = {"crf": "32", "b": "0", "deadline": "realtime", "cpu-used": "8", "row-mt": "1"}
_KINDS = {
    ".mp4": _Kind("mp4", *_H264),
    ".mov": _Kind("mov", *_H264),
    ".mkv": _Kind("matroska", *_H264),
    ".webm": _Kind("webm", "libvpx-vp9", "yuv420p", _VP9),
    ".avi": _Kind("avi", "mjpeg", "yuvj420p", {"qmin": "3", "qmax": "3"}),
}
KINDS = tuple(_KINDS)
"""The kinds of videos, by the end of the file's name. Browsers play ``.mp4`` and ``.webm``."""

Show = Callable[[float, npt.NDArray[np.uint8]], None]

_LOWEST_RATE, _HIGHEST_RATE = 1, 1000
_TICKS = 90_000
_MOST_THREADS = 4
_BT601, _LIMITED_RANGE = 6, 1


@contextmanager
def open_video(path: str | os.PathLike[str], rate: float) -> Iterator[Show]:
    """A function that adds a frame, BGR uint8 ``[H, W, 3]`` with its time in seconds, to a video.

    The file appears under its name when the block ends without an error; what was there before
    stays until then. Every frame is shown at its own time; of more than 1,000 a second (in ``.avi``
    more than ``rate``) some are left out. The first frame gives the size; others are fitted into
    it.

    Args:
        path: ends in one of ``KINDS``.
        rate: frames a second, about; kept between 1 and 1,000.

    Raises:
        VideoError: the name has another end, or the file cannot be written.
    """
    target = Path(path)
    check_video(target)
    with (
        _named(target),
        path_written_whole(target) as temporary,
        temporary.open("wb") as file,
    ):
        film = _Film(target, file, min(max(rate, _LOWEST_RATE), _HIGHEST_RATE))
        yield film.show
        film.finish()


def check_video(path: str | os.PathLike[str]) -> None:
    """See that a file can be a video, as far as its name and what is installed tell.

    Raises:
        VideoError: it cannot; says what to do.
    """
    if Path(path).suffix.lower() not in KINDS:
        raise VideoError(f"{path}: videos are written as {', '.join(KINDS)}; end the name in one")
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise VideoError(
            f"{path}: videos are written by PyAV, which is not installed: pip install av"
        ) from error


@contextmanager
def _named(target: Path) -> Iterator[None]:
    from av.error import FFmpegError

    try:
        yield
    except (OSError, FFmpegError) as error:
        raise VideoError(f"{target}: cannot be written: {error.strerror or error}") from error


class _Film:
    def __init__(self, target: Path, file: BinaryIO, rate: float) -> None:
        import av

        kind = _KINDS[target.suffix.lower()]
        self._target, self._kind = target, kind

        def again(*_: object) -> BinaryIO:
            file.flush()
            return Path(file.name).open("rb")

        # Of MP4, the index goes before the frames, for which what was written is read once more.
        self._container = av.open(
            file,
            "w",
            kind.format,
            container_options={"movflags": "faststart"} if kind.codec == "h264" else {},
            io_open=again,
        )
        whole = Fraction(rate).limit_denominator(1001)
        # AVI has frames at even distances only.
        self._base = 1 / whole if kind.format == "avi" else Fraction(1, _TICKS)
        self._apart = max(1, int(1 / self._base / _HIGHEST_RATE))
        self._rate = whole
        self._stream: VideoStream | None = None
        self._start = 0.0
        self._last = -self._apart

    def show(self, time: float, frame: npt.NDArray[np.uint8]) -> None:
        import av

        if self._stream is None:
            self._stream = self._opened(frame.shape[1], frame.shape[0])
            self._start = time
        tick = round((time - self._start) / self._base)
        if tick < self._last + self._apart:
            return
        self._last = tick
        picture = av.VideoFrame.from_ndarray(
            _fitted(frame, self._stream.width, self._stream.height), "bgr24"
        )
        picture.pts, picture.time_base = tick, self._base
        # Here, because other files that are being written would take the error for theirs.
        with _named(self._target):
            self._container.mux(self._stream.encode(picture))

    def finish(self) -> None:
        """Write what is left, and see that all of it is in the file."""
        if self._stream is None:
            raise VideoError(f"{self._target}: not written, there is no frame to write")
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def _opened(self, width: int, height: int) -> VideoStream:
        stream = cast(
            "VideoStream",
            self._container.add_stream(self._kind.codec, self._rate, dict(self._kind.options)),
        )
        # The codecs halve the resolution of the colours.
        stream.width, stream.height = max(2, width & ~1), max(2, height & ~1)
        stream.pix_fmt = self._kind.pixels
        stream.codec_context.time_base = self._base
        stream.codec_context.thread_count = min(usable_cores(), _MOST_THREADS)
        return stream


def _fitted(frame: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    """A frame in the middle of a size, with black beside it where its shape is another."""
    if (frame.shape[1] & ~1, frame.shape[0] & ~1) == (width, height):
        return np.ascontiguousarray(frame[:height, :width])
    scale = min(width / frame.shape[1], height / frame.shape[0])
    inner = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(
        frame, inner, interpolation=method
    )
    return canvas
