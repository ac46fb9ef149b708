"""Frames with their times, out of a video file, a camera, or whatever the caller has."""

from __future__ import annotations

import itertools
import math
import operator
import os
import stat
import statistics
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, get_args

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.errors import ImageError, SettingError, VideoError
from fer_sdk.image.folder import PICTURES
from fer_sdk.image.load import Color, ImageLike, load_image
from fer_sdk.native_logs import quiet, quiet_opening
from fer_sdk.video.capture import open_capture
from fer_sdk.video.container import COUNTED, container, is_cut, shown_seconds

USUAL_RATE = 30.0
"""Frames a second of what does not tell."""

_HIGHEST_RATE = 1e5
_PROBED_FRAMES = 60
_ALMOST_ALL, _LAST_FRAMES = 0.98, 2

VideoLike: TypeAlias = str | os.PathLike[str] | int | Iterable[ImageLike]
"""What can be given as a video: a path, the number of a camera, or frames one after the other."""


class Shot(NamedTuple):
    """A frame as it was taken.

    Attributes:
        time: in seconds, later than that of the shot before it.
        pixels: RGB uint8 ``[H, W, 3]``.
        image: the same pixels in the caller's order of channels; of an array, the array itself.
    """

    time: float
    pixels: npt.NDArray[np.uint8]
    image: npt.NDArray[np.uint8]


class VideoFacts(NamedTuple):
    """What a video file tells about itself.

    Attributes:
        rate: frames a second, by the times of its first frames.
        duration: in seconds; None where the file does not tell.
    """

    rate: float
    duration: float | None


def open_frames(
    source: VideoLike,
    *,
    color: Color,
    times: Iterable[float] | None,
    fps: float | None,
    max_pixels: int,
    max_bytes: int,
) -> Iterator[Shot]:
    """Open a video now, to be read frame by frame.

    Args:
        source: a path, the number of a camera, or images one after the other.
        color: order of the channels of arrays that are given, and of ``Shot.image``.
        times: of the frames; None goes by ``fps``, or else by what the source tells.
        fps: frames a second.
        max_pixels: larger frames of a file are refused before they are decoded.
        max_bytes: larger picture files among images are refused; a video file may have any size.

    Raises:
        VideoError: it cannot be opened; or, while it is read, it is damaged or cut, the camera
            vanished, or the times do not go with the frames.
        ImageError: while it is read, a frame that was given is not an image.
        SettingError: ``source``, ``fps`` or ``color`` is not one of those that there are.
    """
    if color not in get_args(Color):
        raise SettingError(f'color must be "bgr" or "rgb", not {color!r}')
    if times is not None and fps is not None:
        raise SettingError("give either times or fps: each of them says when a frame was taken")
    if fps is not None and not 0 < fps <= _HIGHEST_RATE:
        raise SettingError(f"fps must be frames a second, above 0, not {fps!r}")
    given = _Given(times) if times is not None else None if fps is None else _Rate(fps)
    if isinstance(source, str | os.PathLike):
        path, name = _checked_path(source)
        capture = _open_file(path, name, max_pixels)
        return _file_shots(path, name, capture, color, given or _Container(_claimed_rate(capture)))
    number = _camera_number(source)
    if number is not None:
        return _camera_shots(f"camera {number}", _open_camera(number), color, given or _Watch())
    return _given_shots(
        _checked_frames(source), color, given or _Rate(USUAL_RATE), max_pixels, max_bytes
    )


def read_facts(source: str | os.PathLike[str]) -> VideoFacts:
    """What a video file tells about itself, after a look at its first frames.

    Raises:
        VideoError: it cannot be opened.
    """
    path, name = _checked_path(source)
    capture = _open_file(path, name, None)
    claimed = _claimed_rate(capture)
    with quiet():
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        times: list[float] = []
        while len(times) < _PROBED_FRAMES and capture.grab():
            times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        capture.release()
    duration = count / claimed if claimed is not None and 0 < count < math.inf else None
    apart = statistics.median_low(
        [later - one for one, later in itertools.pairwise(times)] or [0.0]
    )
    if not 1 / _HIGHEST_RATE <= apart < math.inf:
        return VideoFacts(claimed or USUAL_RATE, duration)
    # A container may claim its clock's unit as its rate; times may be rounded to milliseconds.
    seen = 1 / apart
    agree = claimed is not None and abs(seen / claimed - 1) < 0.1
    return VideoFacts(claimed if claimed is not None and agree else seen, duration)


class _Clock(Protocol):
    def now(self, index: int, capture: Any) -> float:
        """When the frame was taken that was just read, in seconds."""
        ...


class _Given:
    """Times that the caller has."""

    def __init__(self, times: Iterable[float]) -> None:
        self._times = iter(times)
        self._before = -math.inf

    def now(self, index: int, capture: Any) -> float:
        try:
            moment = float(next(self._times))
        except StopIteration:
            raise VideoError(f"there are more frames than times: only {index} times") from None
        except (TypeError, ValueError) as error:
            raise VideoError(f"times[{index}] is not a number of seconds: {error}") from error
        if not self._before < moment < math.inf:
            raise VideoError(
                f"times[{index}] is {moment}, which is not after {self._before}: give seconds that "
                "grow from frame to frame"
            )
        self._before = moment
        return moment


class _Rate:
    """So many frames a second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def now(self, index: int, capture: Any) -> float:
        return index / self._rate


class _Watch:
    """The time since the first frame, for what is live."""

    def __init__(self) -> None:
        self._start: float | None = None
        self._before = -1.0

    def now(self, index: int, capture: Any) -> float:
        moment = time.monotonic()
        if self._start is None:
            self._start = moment
        # Clocks of some systems are so coarse that two frames fall into one tick.
        self._before = max(moment - self._start, math.nextafter(self._before, math.inf))
        return self._before


class _Container:
    """The times of a file; where they stand still or go back, the usual step further."""

    def __init__(self, claimed: float | None) -> None:
        self._step = 1 / (claimed or USUAL_RATE)
        self._before = -math.inf

    def now(self, index: int, capture: Any) -> float:
        moment = float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
        if not index:
            moment = moment if 0 <= moment < math.inf else 0.0
        elif not self._before < moment < math.inf:
            moment = self._before + self._step
        self._before = moment
        return moment


def _file_shots(path: Path, name: str, capture: Any, color: Color, clock: _Clock) -> Iterator[Shot]:
    index, moment, end = 0, 0.0, 0.0
    try:
        while (bgr := _read(capture, name)) is not None:
            moment = clock.now(index, capture)
            end = max(end, _claimed(capture, cv2.CAP_PROP_POS_MSEC) / 1000)
            yield _shot(moment, bgr, color)
            index += 1
        count, rate = _claimed(capture, cv2.CAP_PROP_FRAME_COUNT), _claimed_rate(capture)
    finally:
        capture.release()
    if not index:
        raise VideoError(f"{name}: holds no frame that can be decoded: it is damaged or cut")
    try:
        cut, counted, shown = is_cut(path), container(path) in COUNTED, shown_seconds(path)
    except OSError as error:
        raise VideoError(f"{name}: cannot be read: {error.strerror or error}") from error
    if cut:
        raise VideoError(
            f"{name}: the file is cut: it ends after {index} frames, at {moment:.2f} s, before its "
            "container does"
        )
    if shown is not None and rate is not None:
        count = min(count, shown * rate)
    # Frames that were left out on purpose leave no gap at the end.
    few = index < _ALMOST_ALL * count - _LAST_FRAMES
    if counted and few and rate and end < (_ALMOST_ALL * count - _LAST_FRAMES) / rate:
        raise VideoError(
            f"{name}: damaged: only {index} of {count:.0f} frames can be decoded, to {moment:.2f} s"
        )


def _camera_shots(name: str, capture: Any, color: Color, clock: _Clock) -> Iterator[Shot]:
    try:
        for index in itertools.count():
            bgr = _read(capture, name)
            if bgr is None:
                raise VideoError(
                    f"{name} gives no {'more ' if index else ''}frames, after {index}: see that it "
                    "is still plugged in and that no other program uses it"
                )
            yield _shot(clock.now(index, capture), bgr, color)
    finally:
        capture.release()


def _given_shots(
    frames: Iterable[ImageLike], color: Color, clock: _Clock, max_pixels: int, max_bytes: int
) -> Iterator[Shot]:
    for index, frame in enumerate(frames):
        try:
            pixels = load_image(frame, color=color, max_pixels=max_pixels, max_bytes=max_bytes)
        except ImageError as error:
            raise ImageError(f"frame {index}: {error}") from error
        if isinstance(frame, np.ndarray):
            image = frame
        else:
            image = pixels if color == "rgb" else _swapped(pixels)
        yield Shot(clock.now(index, None), pixels, image)


def _shot(moment: float, bgr: npt.NDArray[np.uint8], color: Color) -> Shot:
    pixels = _swapped(bgr)
    return Shot(moment, pixels, bgr if color == "bgr" else pixels)


def _swapped(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def _read(capture: Any, name: str) -> npt.NDArray[np.uint8] | None:
    try:
        with quiet():
            there, bgr = capture.read()
    except cv2.error as error:
        raise VideoError(f"{name}: OpenCV cannot decode it: {error.err}") from error
    if not there:
        return None
    return np.asarray(bgr if bgr.ndim == 3 else cv2.cvtColor(bgr, cv2.COLOR_GRAY2BGR), np.uint8)


def _checked_path(source: str | os.PathLike[str]) -> tuple[Path, str]:
    text = os.fspath(source)
    name = text if isinstance(text, str) and text.isprintable() and text else repr(text)
    if "://" in name and not Path(name).exists():
        raise VideoError(f"{name}: fer-sdk never uses the network; give a file or a camera")
    try:
        # Absolute, because FFmpeg takes what stands before a colon for a protocol.
        path = Path(source).absolute()
        found = path.stat()
    except (OSError, ValueError, TypeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise VideoError(f"{name}: cannot be read: {reason}") from error
    if stat.S_ISDIR(found.st_mode):
        raise VideoError(f"{name}: a folder, not a video")
    if not stat.S_ISREG(found.st_mode):
        raise VideoError(f"{name}: neither a file nor a link to one; a camera goes by its number")
    if not found.st_size:
        raise VideoError(f"{name}: empty")
    # OpenCV ends the whole process over a name that is no text.
    if not _is_text(str(path)):
        raise VideoError(f"{name}: OpenCV takes no file whose name is not Unicode; rename it")
    try:
        kind = container(path)
    except OSError as error:
        raise VideoError(f"{name}: cannot be read: {error.strerror or error}") from error
    # FFmpeg would draw its letters, or follow a playlist to other files and to the network.
    if kind == "text":
        raise VideoError(f"{name}: a text file or a playlist, not a video")
    return path, name


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _open_file(path: Path, name: str, max_pixels: int | None) -> Any:
    try:
        capture = open_capture(path)
    except cv2.error as error:
        raise VideoError(f"{name}: OpenCV cannot open it: {error.err}") from error
    if not capture.isOpened():
        if path.suffix.lower() in PICTURES:
            raise VideoError(f"{name}: a picture, not a video: predict is what takes it")
        raise VideoError(f"{name}: not a video that OpenCV can read, or one that is damaged or cut")
    width, height = (
        _claimed(capture, cv2.CAP_PROP_FRAME_WIDTH),
        _claimed(capture, cv2.CAP_PROP_FRAME_HEIGHT),
    )
    if max_pixels is not None and width * height > max_pixels:
        raise VideoError(
            f"{name}: frames of {width:.0f}x{height:.0f} are more than the {max_pixels} pixels "
            "that are decoded; make them smaller, or raise max_pixels"
        )
    return capture


def _open_camera(number: int) -> Any:
    with quiet_opening():
        capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise VideoError(
            f"camera {number} does not open: see that one is plugged in, that no other program "
            "uses it, and that this one may (in a container: --device /dev/video0)"
        )
    # What waits in the driver's queue is old by the time that it is looked at.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


def _camera_number(source: object) -> int | None:
    if isinstance(source, bool | np.ndarray):
        return None
    try:
        number = operator.index(source)  # type: ignore[arg-type]
    except TypeError:
        return None
    if number < 0:
        raise SettingError(f"cameras are numbered from 0, not {number}")
    return number


def _checked_frames(source: object) -> Iterable[ImageLike]:
    one_image = isinstance(source, np.ndarray) and source.ndim < 3
    if (
        one_image
        or isinstance(source, bytes | bytearray | memoryview)
        or not isinstance(source, Iterable)
    ):
        raise SettingError(
            f"{type(source).__name__} is not a video: give a path, the number of a camera, or "
            "frames one after the other"
        )
    return source


def _claimed_rate(capture: Any) -> float | None:
    rate = _claimed(capture, cv2.CAP_PROP_FPS)
    return rate if 0 < rate <= _HIGHEST_RATE else None


def _claimed(capture: Any, what: int) -> float:
    value = float(capture.get(what))
    return value if math.isfinite(value) else 0.0
