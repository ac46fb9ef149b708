"""Frames as a video file, written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.errors import VideoError
from fer_sdk.native_logs import quiet, quiet_opening
from fer_sdk.output.atomic import path_written_whole
from fer_sdk.video.capture import open_capture
from fer_sdk.video.container import is_cut

_CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG", ".webm": "VP80"}
KINDS = tuple(_CODECS)
"""The kinds of videos, by the end of the file's name. Of these, browsers play ``.webm``."""

Show = Callable[[float, npt.NDArray[np.uint8]], None]

_LONGEST_PAUSE = 10.0
_LOWEST_RATE, _HIGHEST_RATE = 1.0, 1000.0
_ROOM, _FRAMES_A_LOOK = 2**20, 32
_FULL = "no space left on the disk"


@contextmanager
def open_video(path: str | os.PathLike[str], rate: float) -> Iterator[Show]:
    """A function that adds a frame, BGR uint8 ``[H, W, 3]`` with its time in seconds, to a video.

    The file appears under its name when the block ends without an error; what was there before
    stays until then. OpenCV writes videos of an even rate only: frames that come slower are
    repeated and of those that come faster some are left out, so that what is seen keeps its time.
    A pause is shortened to ten seconds. The first frame gives the size; others are fitted into it.

    Args:
        path: ends in one of ``KINDS``.
        rate: frames a second; kept between 1 and 1,000.

    Raises:
        VideoError: the name has another end, or the file cannot be written.
    """
    target = Path(path)
    check_video(target)
    try:
        with path_written_whole(target) as temporary:
            film = _Film(target, temporary, min(max(rate, _LOWEST_RATE), _HIGHEST_RATE))
            try:
                yield film.show
                film.finish()
            finally:
                film.release()
    except OSError as error:
        raise VideoError(f"{target}: cannot be written: {error.strerror or error}") from error


def check_video(path: str | os.PathLike[str]) -> None:
    """See that a file can be a video, as far as its name tells.

    Raises:
        VideoError: it cannot; says what to do.
    """
    if Path(path).suffix.lower() not in KINDS:
        raise VideoError(f"{path}: videos are written as {', '.join(KINDS)}; end the name in one")
    if not str(Path(path).absolute()).isprintable():
        raise VideoError(f"{str(path)!r}: OpenCV writes no file whose name is not plain text")


class _Film:
    def __init__(self, target: Path, temporary: Path, rate: float) -> None:
        self._target, self._temporary, self._rate = target, temporary, rate
        self._writer: Any = None
        self._size = (0, 0)
        self._last: npt.NDArray[np.uint8] | None = None
        self._start = 0.0
        self._written = 0

    def show(self, time: float, frame: npt.NDArray[np.uint8]) -> None:
        if self._writer is None:
            self._open(frame.shape[1], frame.shape[0])
            self._start = time
        # So many frames are past by now that the one before this one had to fill.
        due = round((time - self._start) * self._rate)
        if self._last is not None:
            pause = round(_LONGEST_PAUSE * self._rate)
            if due - self._written > pause:
                self._start += (due - self._written - pause) / self._rate
                due = self._written + pause
            self._write(due - self._written)
        self._last = _fitted(frame, *self._size)

    def finish(self) -> None:
        """Write the last frame, and see that all of them are in the file."""
        if self._writer is None:
            raise VideoError(f"{self._target}: not written, there is no frame to write")
        self._write(1)
        self.release()
        # OpenCV does not tell when a write failed: an end that is missing does.
        capture = open_capture(self._temporary)
        with quiet():
            there = capture.get(cv2.CAP_PROP_FRAME_COUNT) if capture.isOpened() else 0
            capture.release()
        missing = abs(there - self._written) > max(2, self._written / 100)
        if missing or is_cut(self._temporary):
            raise VideoError(
                f"{self._target}: cannot be written: "
                + (f"{_FULL}; " if self._is_full() else "")
                + "the file did not come out whole"
            )

    def release(self) -> None:
        if self._writer is not None:
            with quiet():
                self._writer.release()

    def _open(self, width: int, height: int) -> None:
        # The codecs halve the resolution of the colours.
        self._size = max(2, width & ~1), max(2, height & ~1)
        code = cv2.VideoWriter.fourcc(*_CODECS[self._target.suffix.lower()])
        try:
            with quiet_opening():
                self._writer = cv2.VideoWriter(str(self._temporary), code, self._rate, self._size)
        except cv2.error as error:
            raise VideoError(f"{self._target}: OpenCV cannot write it: {error.err}") from error
        if not self._writer.isOpened():
            raise VideoError(
                f"{self._target}: this build of OpenCV writes no {self._target.suffix} of "
                f"{width}x{height}; try another of {', '.join(KINDS)}"
            )

    def _write(self, times: int) -> None:
        for _ in range(times):
            if self._written % _FRAMES_A_LOOK == 0 and self._is_full():
                raise VideoError(f"{self._target}: cannot be written: {_FULL}")
            with quiet():
                self._writer.write(self._last)
            self._written += 1

    def _is_full(self) -> bool:
        return shutil.disk_usage(self._target.absolute().parent).free < _ROOM


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
