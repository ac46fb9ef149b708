"""MediaPipe's FaceDetector task with the bundled model: the one module that imports mediapipe.

Which release is installed is read from its metadata, so that one that must not run is not even
imported.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from importlib import metadata
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from fer_sdk.cpu_count import usable_cores
from fer_sdk.detectors.base import Detection, check_min_score, check_rgb, clamped, thinned
from fer_sdk.errors import DetectorError
from fer_sdk.models.packaged import read_bundled
from fer_sdk.types import Box

_INSTEAD = (
    "install 'mediapipe>=0.10.30,<0.10.32', or use detector=\"blazeface\": the same model on "
    "onnxruntime"
)
# What opening a task prints although nothing is wrong: TensorFlow Lite's remark on its delegate,
# abseil's on itself, and abseil's information and warnings. Only whole ones: TensorFlow Lite writes
# its line in pieces, and another thread's line between them is not ours to drop.
_CHATTER = re.compile(
    rb"INFO: Created TensorFlow Lite XNNPACK delegate for CPU\.\n"
    rb"|WARNING: All log messages before absl::[^\n]*\n"
    rb"|[IW]\d{4} \d\d:\d\d:\d+\.\d+ +\d+ \S+:\d+\] [^\n]*\n"
)
_IOU = 0.3

_FAILURES = (ImportError, AttributeError, OSError, TypeError, ValueError, RuntimeError)
"""What MediaPipe raises where it does not open."""

_FOR_EACH_PICTURE = ("MpFaceDetectorDetectImage", "MpFaceDetectorCloseResult")
"""The functions of MediaPipe's library that ``detect`` of a task calls."""

_LAST_CALLS = 10.0
"""Seconds that closing waits for calls that are under way."""


class _Stderr:
    """Who may hold stderr back, and where it is meanwhile; a forked process has it back at once."""

    lock = threading.Lock()
    kept: int | None = None

    @classmethod
    def after_fork(cls) -> None:
        cls.lock = threading.Lock()
        if cls.kept is not None:
            os.dup2(cls.kept, 2)
            os.close(cls.kept)
            cls.kept = None


def installed_version() -> str | None:
    """Version of the installed mediapipe, without importing it; None where there is none."""
    try:
        return metadata.version("mediapipe")
    except metadata.PackageNotFoundError:
        return None


def refusal(version: str | None, *, allow_telemetry: bool = False) -> str | None:
    """Why a mediapipe release is not used, and what to do; None for one that is.

    Args:
        version: as ``installed_version`` gives it.
        allow_telemetry: accept the releases that look up Google's logging host.
    """
    if version is None:
        return f"mediapipe is not installed: {_INSTEAD}"
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    release = tuple(int(number) for number in numbers.groups()) if numbers else ()
    if not release:
        fault = "is not a release that is known here"
    elif release < (0, 10, 30):
        fault = "is too old: its interface is another one"
    elif release < (0, 10, 32):
        return None
    elif release < (0, 10, 35):
        fault = (
            "brings opencv-contrib-python, which overwrites the installed OpenCV, and needs the "
            "system's EGL"
        )
    elif allow_telemetry:
        return None
    else:
        fault = (
            "contacts Google's logging host when a task closes, and cannot be told not to "
            "(MediaPipeDetector(allow_telemetry=True) runs it all the same)"
        )
    return f"mediapipe {version} {fault}: {_INSTEAD}"


class MediaPipeDetector:
    """Faces by MediaPipe. Safe to use from many threads.

    A task of MediaPipe looks at one picture at a time. Where calls from several threads meet, more
    tasks are opened, as many as there are cores at most, and kept.

    MediaPipe gives boxes in whole pixels, the fraction cut off, and moves a box that reaches over
    the left or top edge into the image instead of cutting it.
    """

    def __init__(self, min_score: float = 0.5, *, allow_telemetry: bool = False) -> None:
        """Open the task.

        Args:
            min_score: least detection score of a face, 0..1.
            allow_telemetry: also use a mediapipe that contacts Google's logging host.

        Raises:
            DetectorError: mediapipe is not installed, is a release that is not used, or does not
                open.
            SettingError: ``min_score`` is not from 0 to 1.
        """
        check_min_score(min_score)
        version = installed_version()
        reason = refusal(version, allow_telemetry=allow_telemetry)
        if reason is not None:
            raise DetectorError(reason)
        self._min_score = min_score
        try:
            task, self._to_frame = _open(min_score)
        except _FAILURES as error:
            raise DetectorError(
                f'mediapipe {version} does not open: {error}; use detector="blazeface"'
            ) from error
        self._tasks = [task]
        self._idle = [task]
        # How many tasks there may be, those that are being opened included.
        self._places = usable_cores()
        self._opening = 0
        self._turn = threading.Condition()
        self._gone: str | None = None
        _open_detectors.add(self)
        _watch_the_process()

    @property
    def name(self) -> str:
        return "mediapipe"

    def detect(self, image: npt.NDArray[np.uint8]) -> list[Detection]:
        """Find the faces of an RGB image uint8 ``[H, W, 3]``.

        Raises:
            ImageError: not such an image.
            DetectorError: closed, opened in another process, or MediaPipe failed.
        """
        check_rgb(image)
        height, width = image.shape[:2]
        smaller, step = thinned(image)
        with self._one_task() as task:
            try:
                found = task.detect(self._to_frame(smaller)).detections
            except (OSError, ValueError, RuntimeError) as error:
                raise DetectorError(
                    f"MediaPipe failed on an image of {width}x{height} pixels: {error}"
                ) from error
        detections = []
        for face in found:
            box = clamped(_restored(face.bounding_box, step), width, height)
            if box is not None:
                detections.append(Detection(box, float(face.categories[0].score)))
        return detections

    def close(self) -> None:
        """Let go of the tasks, once no call uses them. May be called more than once."""
        with self._turn:
            if self._gone is None:
                self._gone = "the MediaPipe detector was closed: open another one"
            self._turn.notify_all()
            self._turn.wait_for(self._is_quiet, _LAST_CALLS)
            with contextlib.ExitStack() as closing:
                for task in self._idle:
                    closing.callback(task.close)
                    self._tasks.remove(task)
                self._idle.clear()

    def _is_quiet(self) -> bool:
        return not self._opening and len(self._idle) == len(self._tasks)

    def _may_go_on(self) -> bool:
        can_open = len(self._tasks) + self._opening < self._places
        return self._gone is not None or bool(self._idle) or can_open

    @contextlib.contextmanager
    def _one_task(self) -> Iterator[Any]:
        """A task that nobody else uses meanwhile: a free one, a new one, or the next to be free."""
        with self._turn:
            try:
                self._turn.wait_for(self._may_go_on)
            except BaseException:
                # Interrupted, perhaps after it was woken up: then the next one's turn has come.
                self._turn.notify()
                raise
            if self._gone is not None:
                raise DetectorError(self._gone)
            task = self._idle.pop() if self._idle else None
            self._opening += task is None
        if task is None:
            task = self._another()
        if task is None:
            with self._one_task() as task:
                yield task
            return
        try:
            yield task
        finally:
            with self._turn:
                self._idle.append(task)
                # One task is for one of those who wait: woken up all together they would take the
                # cores from those who work. Once it is closed nobody waits for a task.
                if self._gone is None:
                    self._turn.notify()
                else:
                    self._turn.notify_all()

    def _another(self) -> Any:
        """One more task; None where there can be no more, which leaves it at those there are."""
        task = None
        try:
            with contextlib.suppress(*_FAILURES):
                task, _ = _open(self._min_score)
        finally:
            with self._turn:
                self._opening -= 1
                if task is None:
                    self._places = len(self._tasks)
                else:
                    self._tasks.append(task)
                self._turn.notify_all()
        return task

    def _forget(self) -> None:
        # The tasks' own threads did not come along into a forked process: closing one there, which
        # its destructor tries too, would wait for ever. Nor did the calls that used them.
        self._turn = threading.Condition()
        for task in self._tasks:
            task._handle = None
        self._tasks, self._idle, self._opening = [], [], 0
        if self._gone is None:
            self._gone = (
                "the MediaPipe detector was opened before this process was forked, which MediaPipe "
                "does not survive: open one in each process"
            )


def _open(min_score: float) -> tuple[Any, Any]:
    with _without_sound():
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision

    model = read_bundled("face_detection_short_range.tflite")
    options = vision.FaceDetectorOptions(
        base_options=BaseOptions(model_asset_buffer=model),
        min_detection_confidence=min_score,
        min_suppression_threshold=_IOU,
    )

    def to_frame(image: npt.NDArray[np.uint8]) -> Any:
        return mediapipe.Image(
            image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image)
        )

    with _without_chatter():
        task = vision.FaceDetector.create_from_options(options)
    _run_in_the_callers_thread(task)
    return task, to_frame


class _AtOnce(Executor):
    """Runs what it is given in the thread that gives it."""

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **settings: Any) -> Future[Any]:
        future: Future[Any] = Future()
        # What goes wrong is raised here and not kept: whoever submits asks for the result at once.
        future.set_result(call(*arguments, **settings))
        return future


def _run_in_the_callers_thread(task: Any) -> None:
    """Take the way through a thread of its own off what a task does for each picture.

    MediaPipe gives each task such a thread so that no two callers meet in it, which here they do
    not. On the way there and back a call waits for Python's lock four times, behind whatever other
    threads do; and one that is interrupted while it waits leaves the task at work. What opens and
    closes a task goes that way still. A release that is made in another way is left as it is.
    """
    with contextlib.suppress(*_FAILURES):
        from mediapipe.tasks.python.vision import face_detector

        dispatcher = task._lib
        for function in face_detector._CTYPES_SIGNATURES:
            if function.func_name in _FOR_EACH_PICTURE:
                called = function.create_python_wrapper(dispatcher._lib, _AtOnce())
                setattr(dispatcher, function.func_name, called)


def _restored(pixels: Any, step: int) -> Box:
    # Half a pixel is what cutting off the fraction takes away on average.
    x, y, width, height = (
        (value + 0.5) * step
        for value in (pixels.origin_x, pixels.origin_y, pixels.width, pixels.height)
    )
    return Box(x, y, width, height)


@contextlib.contextmanager
def _without_sound() -> Iterator[None]:
    """Keep mediapipe from importing ``sounddevice``, of which it makes no use for pictures.

    That opens the sound system, and where it has to look for its library it runs the compiler and
    writes temporary files. Whoever needs MediaPipe's recording of sound in the same process
    imports ``sounddevice`` first.
    """
    if "sounddevice" in sys.modules:
        yield
        return
    sys.modules["sounddevice"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["sounddevice"]


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep MediaPipe's native chatter off stderr; whatever else is written meanwhile gets there.

    A remark that was torn apart by another thread's line comes through: nothing of others is lost.
    MediaPipe writes to the file descriptor itself, and neither GLOG_minloglevel,
    TF_CPP_MIN_LOG_LEVEL nor anything that the library exports changes that.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_Stderr.lock)
        try:
            held = stack.enter_context(_memory())
            stderr = _Stderr.kept = os.dup(2)
        except OSError:
            # No stderr, or nowhere to keep what is written to it: chatter is the lesser evil.
            yield
            return
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            _Stderr.kept = None
            os.close(stderr)
            held.seek(0)
            others = _CHATTER.sub(b"", held.read())
            if others:
                os.write(2, others)


def _memory() -> IO[bytes]:
    """A file that has no name, and on Linux does not touch the disk either."""
    if not hasattr(os, "memfd_create"):
        return tempfile.TemporaryFile(buffering=0)
    import fcntl

    memory = os.memfd_create("fer_sdk")
    # Linux does not keep the place of two threads' writes apart in such a file: without this, one
    # overwrites the other.
    fcntl.fcntl(memory, fcntl.F_SETFL, fcntl.fcntl(memory, fcntl.F_GETFL) | os.O_APPEND)
    return open(memory, "w+b", buffering=0)  # noqa: PTH123


_open_detectors: weakref.WeakSet[MediaPipeDetector] = weakref.WeakSet()


@functools.cache
def _watch_the_process() -> None:
    # A task closes on a thread of its own, through an executor that no longer takes work when
    # atexit's functions run. These run before the executors end.
    threading._register_atexit(_close_all)  # type: ignore[attr-defined]
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget_all)


def _close_all() -> None:
    for detector in list(_open_detectors):
        detector.close()


def _forget_all() -> None:
    _Stderr.after_fork()
    for detector in list(_open_detectors):
        detector._forget()
