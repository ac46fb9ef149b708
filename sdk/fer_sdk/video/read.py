"""Frames with their times, out of a video, a camera, or whatever the caller has."""

from __future__ import annotations

import inspect
import io
import itertools
import math
import operator
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias, cast, get_args

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.errors import ImageError, SettingError, VideoError
from fer_sdk.image.folder import PICTURES
from fer_sdk.image.load import Color, ImageLike, load_image
from fer_sdk.native_logs import quiet
from fer_sdk.video.container import HIGHEST_RATE, USUAL_RATE, Film, Frames, is_address

_LETTERS = bytes({*range(0x20, 0x100), *b"\t\n\r\f\x1b"})
_LOOKED_AT = 4096
_STILL = frozenset(PICTURES) - {".gif", ".png"}
_DEVICE = re.compile(r"/dev/video(\d+)")
_PASSWORD = re.compile(r"//[^/@]*@")
# The clocks of some systems are so coarse that two frames of a camera fall into one tick.
_TICK = 1e-6

VideoLike: TypeAlias = str | os.PathLike[str] | int | BinaryIO | Iterable[ImageLike]
"""What can be given as a video: a path, a URL, the number of a camera or its ``/dev/video0``, a
binary file object, or frames one after the other."""

_Clock = Callable[[int, float], float]
"""When a frame was taken, by its index and the time that its source gives, which may be NaN."""


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
    """What a video tells about itself.

    Attributes:
        rate: frames a second, on average.
        duration: in seconds; None where the video does not tell.
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
        source: a path, a URL, a camera, a binary file object, or images one after the other.
        color: order of the channels of arrays that are given, and of ``Shot.image``.
        times: of the frames; None goes by ``fps``, or else by what the source tells.
        fps: frames a second.
        max_pixels: larger frames of a video are refused.
        max_bytes: larger picture files among images are refused; a video may have any size.

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
    if fps is not None and not 0 < fps <= HIGHEST_RATE:
        raise SettingError(f"fps must be frames a second, above 0, not {fps!r}")
    given = _given(times) if times is not None else None if fps is None else _even(fps)
    number = _camera_number(source)
    if number is not None:
        frames = _camera_frames(f"camera {number}", _open_camera(number))
        return _shots(frames, color, given or _own(_TICK))
    if isinstance(source, str | os.PathLike) or hasattr(source, "read"):
        opened = ExitStack()
        film = opened.enter_context(_film(cast(Any, source), max_pixels))
        return _shots(film.frames(), color, given or _own(1 / film.rate), opened)
    images = _checked_frames(source)
    return _given_shots(images, color, given or _even(USUAL_RATE), max_pixels, max_bytes)


def read_facts(source: str | os.PathLike[str] | BinaryIO) -> VideoFacts:
    """What a video tells about itself before it is read.

    Raises:
        VideoError: it cannot be opened.
    """
    with _film(source, None) as film:
        return VideoFacts(film.rate, film.duration)


def _given(times: Iterable[float]) -> _Clock:
    """Times that the caller has."""
    following, before = iter(times), -math.inf

    def clock(index: int, own: float) -> float:
        nonlocal before
        try:
            moment = float(next(following))
        except StopIteration:
            raise VideoError(f"there are more frames than times: only {index} times") from None
        except (TypeError, ValueError) as error:
            raise VideoError(f"times[{index}] is not a number of seconds: {error}") from error
        if not before < moment < math.inf:
            raise VideoError(
                f"times[{index}] is {moment}, which is not after {before}: give seconds that "
                "grow from frame to frame"
            )
        before = moment
        return moment

    return clock


def _even(rate: float) -> _Clock:
    """So many frames a second."""
    return lambda index, own: index / rate


def _own(step: float) -> _Clock:
    """The times of the source; where they stand still or go back, a step further."""
    before = -math.inf

    def clock(index: int, own: float) -> float:
        nonlocal before
        if not index:
            before = own if 0 <= own < math.inf else 0.0
        else:
            before = own if before < own < math.inf else before + step
        return before

    return clock


def _shots(
    frames: Frames, color: Color, clock: _Clock, opened: AbstractContextManager[Any] | None = None
) -> Iterator[Shot]:
    with opened or nullcontext(), closing(frames):
        for index, (own, pixels) in enumerate(frames):
            image = pixels if color == "rgb" else _swapped(pixels)
            yield Shot(clock(index, own), pixels, image)


def _camera_frames(name: str, capture: Any) -> Frames:
    start: float | None = None
    try:
        for index in itertools.count():
            try:
                with quiet():
                    there, bgr = capture.read()
            except cv2.error as error:
                raise VideoError(f"{name}: OpenCV cannot decode it: {error.err}") from error
            if not there:
                raise VideoError(
                    f"{name} gives no {'more ' if index else ''}frames, after {index}: see that it "
                    "is still plugged in and that no other program uses it"
                )
            now = time.monotonic()
            start = now if start is None else start
            code = cv2.COLOR_BGR2RGB if bgr.ndim == 3 else cv2.COLOR_GRAY2RGB
            yield now - start, np.asarray(cv2.cvtColor(bgr, code), np.uint8)
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
        yield Shot(clock(index, math.nan), pixels, image)


def _swapped(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


@contextmanager
def _film(source: str | os.PathLike[str] | BinaryIO, max_pixels: int | None) -> Iterator[Film]:
    """An open video, and its file where that was opened for it."""
    with ExitStack() as stack:
        if isinstance(source, str) and is_address(source):
            # Without the password: a message may be shown to anybody.
            film = Film(source, _PASSWORD.sub("//", source), max_pixels)
        elif isinstance(source, str | os.PathLike):
            text = os.fspath(source)
            name = text if isinstance(text, str) and text.isprintable() and text else repr(text)
            film = Film(stack.enter_context(_opened(source, name)), name, max_pixels)
        else:
            _check_file(source)
            film = Film(source, f"video of {type(source).__name__}", max_pixels)
        yield stack.enter_context(closing(film))


def _opened(source: str | os.PathLike[str], name: str) -> BinaryIO:
    file, head = None, b""
    try:
        path = Path(source)
        # Looked at before it is opened, because opening a named pipe waits for a writer.
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            file = path.open("rb")
            head = file.peek(_LOOKED_AT)
    except (OSError, ValueError, TypeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise VideoError(f"{name}: cannot be read: {reason}") from error
    if stat.S_ISDIR(mode):
        raise VideoError(f"{name}: a folder, not a video")
    if file is None:
        raise VideoError(f"{name}: neither a file nor a link to one, nor a camera")
    problem = None
    if not head:
        problem = "empty"
    elif path.suffix.lower() in _STILL:
        problem = "a picture, not a video: predict is what takes it"
    # Raw video begins with a line of text too.
    elif not head.translate(None, _LETTERS) and not head.startswith(b"YUV4MPEG2 "):
        problem = "a text file or a playlist, not a video"
    if problem is not None:
        file.close()
        raise VideoError(f"{name}: {problem}")
    return file


def _check_file(source: BinaryIO) -> None:
    """See that FFmpeg can read from it.

    Raises:
        SettingError: it gives no bytes.
    """
    if isinstance(source, io.TextIOBase):
        raise SettingError("a file that gives text is not a video: open it in binary mode")
    if inspect.iscoroutinefunction(source.read):
        raise SettingError(
            f"{type(source).__name__} is read asynchronously: give the file in it, such as "
            "upload.file"
        )


def _camera_number(source: object) -> int | None:
    if isinstance(source, str | os.PathLike):
        # Links such as those in /dev/v4l/by-id lead there too.
        path = os.fsdecode(source)
        device = _DEVICE.fullmatch(os.path.realpath(path)) if "\0" not in path else None
        return None if device is None else int(device[1])
    if isinstance(source, bool | np.ndarray):
        return None
    try:
        number = operator.index(source)  # type: ignore[arg-type]
    except TypeError:
        return None
    if number < 0:
        raise SettingError(f"cameras are numbered from 0, not {number}")
    return number


def _open_camera(number: int) -> Any:
    with quiet():
        capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise VideoError(
            f"camera {number} does not open: see that one is plugged in, that no other program "
            "uses it, and that this one may (in a container: --device /dev/video0)"
        )
    # What waits in the driver's queue is old by the time that it is looked at.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


def _checked_frames(source: object) -> Iterable[ImageLike]:
    one_image = isinstance(source, np.ndarray) and source.ndim < 3
    if (
        one_image
        or isinstance(source, bytes | bytearray | memoryview)
        or not isinstance(source, Iterable)
    ):
        raise SettingError(
            f"{type(source).__name__} is not a video: give a path, a URL, the number of a camera, "
            "a binary file object (io.BytesIO of bytes), or frames one after the other"
        )
    return source
