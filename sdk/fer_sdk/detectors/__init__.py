"""Face detectors, opened by name."""

from __future__ import annotations

import functools
import logging
from typing import Literal, get_args

from fer_sdk.detectors.base import Detection, Detector, check_min_score
from fer_sdk.errors import DetectorError

__all__ = ["Detection", "Detector", "DetectorName", "open_detector"]

DetectorName = Literal["auto", "mediapipe", "blazeface"]

_log = logging.getLogger(__name__)


def open_detector(
    detector: DetectorName, *, min_score: float = 0.5, threads: int | None = None
) -> tuple[Detector, str]:
    """Open a detector, and say in a sentence why it is this one.

    Args:
        detector: ``"auto"`` takes MediaPipe where a release that sends nothing is installed and
            opens, else the same model on onnxruntime, ``"blazeface"``.
        min_score: least detection score of a face, 0..1.
        threads: onnxruntime threads of ``"blazeface"``; MediaPipe chooses its own.

    Raises:
        DetectorError: no detector of that name, or the named one cannot be used here.
        SettingError: ``min_score`` is not from 0 to 1.
    """
    check_min_score(min_score)
    if detector == "blazeface":
        return _blazeface(min_score, threads), "BlazeFace on onnxruntime was asked for"
    if detector not in get_args(DetectorName):
        names = ", ".join(repr(name) for name in get_args(DetectorName))
        raise DetectorError(f"there is no detector {detector!r}: use one of {names}")

    from fer_sdk.detectors.mediapipe import MediaPipeDetector, installed_version

    if detector == "mediapipe":
        return MediaPipeDetector(min_score), "MediaPipe was asked for"
    try:
        return MediaPipeDetector(min_score), f"mediapipe {installed_version()} is installed"
    except DetectorError as error:
        reason = f"BlazeFace on onnxruntime in place of MediaPipe: {error}"
    _say_once(reason)
    return _blazeface(min_score, threads), reason


def _blazeface(min_score: float, threads: int | None) -> Detector:
    from fer_sdk.detectors.blazeface import BlazeFaceDetector

    return BlazeFaceDetector(min_score, threads)


@functools.cache
def _say_once(reason: str) -> None:
    _log.info(reason)
