"""MediaPipe's FaceDetector task with the bundled model: the one module that imports mediapipe.

Which release is installed is read from its metadata, so that one that must not run is not even
imported.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_sdk.detectors.base import Detection, check_min_score, check_rgb, thinned
from fer_sdk.detectors.boxes import clamped, roll
from fer_sdk.errors import DetectorError
from fer_sdk.models.packaged import read_bundled
from fer_sdk.types import Box

_INSTEAD = (
    "install 'mediapipe>=0.10.30,<0.10.32', or use detector=\"blazeface\": the same model on "
    "onnxruntime"
)
_IOU = 0.3
_FAILURES = (ImportError, AttributeError, OSError, TypeError, ValueError, RuntimeError)
"""What MediaPipe raises where it does not open."""

_opening = threading.Lock()


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
    """Faces by MediaPipe. Safe to use from many threads, which take turns.

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
        try:
            with _quiet_opening():
                import mediapipe
                from mediapipe.tasks.python import BaseOptions, vision

                model = read_bundled("face_detection_short_range.tflite")
                options = vision.FaceDetectorOptions(
                    base_options=BaseOptions(model_asset_buffer=model),
                    min_detection_confidence=min_score,
                    min_suppression_threshold=_IOU,
                )
                self._task: Any = vision.FaceDetector.create_from_options(options)
        except _FAILURES as error:
            raise DetectorError(
                f'mediapipe {version} does not open: {error}; use detector="blazeface"'
            ) from error
        self._image, self._format = mediapipe.Image, mediapipe.ImageFormat.SRGB
        self._process = os.getpid()
        self._turn = threading.Lock()
        # A task closes by an executor, which takes no work any more when atexit's functions run.
        threading._register_atexit(self.close)  # type: ignore[attr-defined]

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
        if self._process != os.getpid():
            raise DetectorError(
                "the MediaPipe detector was opened before this process was forked, which MediaPipe "
                "does not survive: open one in each process"
            )
        height, width = image.shape[:2]
        smaller, step = thinned(image)
        with self._turn:
            if self._task is None:
                raise DetectorError("the MediaPipe detector was closed: open another one")
            try:
                frame = self._image(image_format=self._format, data=np.ascontiguousarray(smaller))
                found = self._task.detect(frame).detections
            except (OSError, ValueError, RuntimeError) as error:
                raise DetectorError(
                    f"MediaPipe failed on an image of {width}x{height} pixels: {error}"
                ) from error
        detections = []
        for face in found:
            pixels = face.bounding_box
            # Half a pixel is what cutting off the fraction takes away on average.
            x, y, across, down = (
                (value + 0.5) * step
                for value in (pixels.origin_x, pixels.origin_y, pixels.width, pixels.height)
            )
            box = clamped(Box(x, y, across, down), width, height)
            if box is not None:
                left, right = face.keypoints[:2]
                tilt = roll(left.x * width, left.y * height, right.x * width, right.y * height)
                detections.append(Detection(box, float(face.categories[0].score), tilt))
        return detections

    def close(self) -> None:
        """Let go of the task, once no call uses it. May be called more than once."""
        if self._process != os.getpid():
            # The task's own thread did not come along into a forked process: closing it there,
            # which its destructor tries too, would wait for ever.
            if self._task is not None:
                self._task._handle = None
            return
        with self._turn:
            task, self._task = self._task, None
            if task is not None:
                task.close()


@contextlib.contextmanager
def _quiet_opening() -> Iterator[None]:
    """Keep what MediaPipe prints while it opens off standard error, and sound out of it.

    It writes to the file descriptor itself, and nothing that it exports changes that. Its import of
    ``sounddevice`` would open the sound system, of which pictures make no use.
    """
    with _opening, contextlib.ExitStack() as stack:
        if "sounddevice" not in sys.modules:
            sys.modules["sounddevice"] = None  # type: ignore[assignment]
            stack.callback(sys.modules.pop, "sounddevice")
        with contextlib.suppress(OSError):
            stderr = os.dup(2)
            stack.callback(os.close, stderr)
            stack.callback(os.dup2, stderr, 2)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            stack.callback(os.close, nowhere)
            os.dup2(nowhere, 2)
        yield
