"""What is fuzzed: each takes any bytes and returns, or the SDK broke a promise.

Only errors of the SDK's own may come of bytes from outside, and what is answered must hold up.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping

import numpy as np

from fer_sdk.detectors.blazeface import BlazeFaceDetector
from fer_sdk.errors import ImageError, ModelError
from fer_sdk.image.load import load_image
from fer_sdk.models.emotion import EmotionModel

_MOST_PIXELS = 2**18
_ANCHORS = 896
_LARGEST = 300
_NAME = "the fuzzer's file"


def decode(data: bytes) -> None:
    """A picture file in memory: an RGB picture no larger than the limit, or ImageError."""
    try:
        found = load_image(data, max_pixels=_MOST_PIXELS)
    except ImageError as error:
        assert str(error).startswith(f"picture of {len(data)} bytes: "), str(error)  # noqa: PT017
        return
    assert found.dtype == np.uint8
    assert found.ndim == 3
    assert found.shape[2] == 3
    assert 0 < found.shape[0] * found.shape[1] <= _MOST_PIXELS
    assert found.flags.c_contiguous


def model(data: bytes) -> None:
    """A model file: an emotion model whose scores are probabilities, or ModelError."""
    try:
        opened = EmotionModel(data, source=_NAME, device="cpu", threads=1)
    except ModelError as error:
        assert str(error).startswith(f"{_NAME}: "), str(error)  # noqa: PT017
        return
    side = opened.metadata.input_size
    scores = opened.scores(np.zeros((3, side, side), np.uint8))
    assert scores.shape == (3, len(opened.metadata.labels))


@functools.cache
def _detector() -> BlazeFaceDetector:
    return BlazeFaceDetector()


class _Session:
    """In the place of the network: gives what the fuzzer wants."""

    def __init__(self, numbers: np.ndarray) -> None:
        self._numbers = numbers

    def run(self, _: np.ndarray) -> list[np.ndarray]:
        return [self._numbers[None, :, :16], self._numbers[None, :, 16:]]


def blazeface(data: bytes) -> None:
    """What the detector makes of a network's output: finite boxes inside the picture.

    The first four bytes are the size of the picture and the next the least score; the rest are the
    16 numbers and the logit of as many anchors as there are. The others are left out, because 896
    boxes that a least score of 0 keeps take a quarter of a second and teach nothing.
    """
    head, rest = data[:5].ljust(5, b"\x01"), data[5:]
    width = 1 + int.from_bytes(head[:2], "little") % _LARGEST
    height = 1 + int.from_bytes(head[2:4], "little") % _LARGEST
    count = min(len(rest) // (17 * 4), _ANCHORS)
    numbers = np.full((_ANCHORS, 17), np.nan, np.float32)
    numbers[:count] = np.frombuffer(rest[: count * 17 * 4], np.float32).reshape(count, 17)
    detector = copy.copy(_detector())
    detector._min_score = head[4] / 255
    detector._session = _Session(numbers)  # type: ignore[assignment]
    found = detector.detect(np.zeros((height, width, 3), np.uint8))
    assert len(found) <= count
    for detection in found:
        x, y, across, down = detection.box
        assert all(np.isfinite(detection.box)), detection
        assert 0 <= detection.score <= 1, detection
        assert 0 <= x <= width, detection
        assert 0 <= y <= height, detection
        assert 0 < across <= width - x + 1e-6 * width, detection
        assert 0 < down <= height - y + 1e-6 * height, detection


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "decode": decode,
    "model": model,
    "blazeface": blazeface,
}
