"""Face detectors, opened by name."""

from __future__ import annotations

import functools
import logging
from typing import Literal, get_args

from fer_sdk.detectors.base import Detection, Detector, check_min_score
from fer_sdk.errors import DetectorError

__all__ = ["Detection", "Detector", "DetectorName", "open_detector"]

DetectorName = Literal["auto", "mediapipe", "blazeface", "yunet"]

_BLAZEFACE_MIN_SCORE = 0.5

_log = logging.getLogger(__name__)


def open_detector(
    detector: DetectorName, *, min_score: float | None = None, threads: int | None = None
) -> tuple[Detector, str]:
    """Open a detector, and say in a sentence why it is this one.

    Args:
        detector: ``"auto"`` takes YuNet together with MediaPipe where a release that sends nothing
            is installed and opens, else together with the same model on onnxruntime. One of
            ``"yunet"``, ``"mediapipe"`` and ``"blazeface"`` runs alone.
        min_score: least detection score of a face, 0..1; None takes what was measured to be best.
        threads: onnxruntime threads; MediaPipe chooses its own.

    Raises:
        DetectorError: no detector of that name, or the named one cannot be used here.
        SettingError: ``min_score`` is not from 0 to 1.
    """
    from fer_sdk.detectors.blazeface import BlazeFaceDetector
    from fer_sdk.detectors.combined import NEAR_MIN_SCORE, CombinedDetector
    from fer_sdk.detectors.mediapipe import MediaPipeDetector, installed_version
    from fer_sdk.detectors.yunet import MIN_SCORE, YuNetDetector

    if min_score is not None:
        check_min_score(min_score)
    alone = _BLAZEFACE_MIN_SCORE if min_score is None else min_score
    wide = MIN_SCORE if min_score is None else min_score
    reason = f'"{detector}" was asked for'
    if detector == "yunet":
        return YuNetDetector(wide, threads), reason
    if detector == "blazeface":
        return BlazeFaceDetector(alone, threads), reason
    if detector == "mediapipe":
        return MediaPipeDetector(alone), reason
    if detector != "auto":
        names = ", ".join(repr(name) for name in get_args(DetectorName))
        raise DetectorError(f"there is no detector {detector!r}: use one of {names}")
    least = min(NEAR_MIN_SCORE, alone)
    near: Detector
    try:
        near = MediaPipeDetector(least)
        reason = f"YuNet for faces of every size, mediapipe {installed_version()} for the rest"
    except DetectorError as error:
        near = BlazeFaceDetector(least, threads)
        reason = f"YuNet for faces of every size, BlazeFace on onnxruntime for the rest: {error}"
        _say_once(reason)
    return CombinedDetector(near, YuNetDetector(wide, threads), min_score=min_score), reason


@functools.cache
def _say_once(reason: str) -> None:
    _log.info(reason)
