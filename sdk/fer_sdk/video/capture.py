"""How OpenCV opens a video file: as this one file, never as a way to others."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

from fer_sdk.native_logs import quiet_opening

_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# FFmpeg also takes playlists, which lead to other files and addresses, and the name of a picture
# for the first of many. These hold their frames themselves.
_FORMATS = (
    *("avi", "mov", "matroska", "mpegts", "mpeg", "flv", "ogg", "asf", "mxf", "nut", "rm", "wtv"),
    *("ivf", "dv", "gif", "apng", "mjpeg", "yuv4mpegpipe"),
    *("mpegvideo", "m4v", "h263", "h264", "hevc", "vvc", "obu", "vc1"),
)
_ONE_FILE = f"protocol_whitelist;file|format_whitelist;{','.join(_FORMATS)}"


def open_capture(path: Path) -> Any:
    """A ``cv2.VideoCapture`` of a file, which is not open where OpenCV cannot read it.

    Raises:
        cv2.error: OpenCV fails.
    """
    capture = cv2.VideoCapture()
    with quiet_opening(), _one_file():
        for backend in _backends():
            capture = cv2.VideoCapture(str(path), backend)
            if capture.isOpened():
                break
    return capture


@contextmanager
def _one_file() -> Iterator[None]:
    """Tell FFmpeg, which OpenCV gives the options that stand in a variable while it opens."""
    chosen = os.environ.get(_OPTIONS)
    # Of two that name the same option the later one holds.
    os.environ[_OPTIONS] = _ONE_FILE if chosen is None else f"{_ONE_FILE}|{chosen}"
    try:
        yield
    finally:
        if chosen is None:
            del os.environ[_OPTIONS]
        else:
            os.environ[_OPTIONS] = chosen


def _backends() -> Sequence[int]:
    known = cv2.videoio_registry
    if known.hasBackend(cv2.CAP_FFMPEG):
        return [cv2.CAP_FFMPEG]
    return [backend for backend in known.getStreamBackends() if backend != cv2.CAP_IMAGES]
