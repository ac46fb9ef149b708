"""The detector that MediaPipe runs, BlazeFace for short range, on onnxruntime.

What MediaPipe does around the network is done here in the same way: the letterbox and how it
samples, the anchors, the decoding, and the weighted non-maximum suppression.
Source: Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", 2019,
and MediaPipe's face detector graph.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.detectors.base import Detection, check_min_score, check_rgb, thinned
from fer_sdk.detectors.boxes import clamped, roll
from fer_sdk.errors import DetectorError
from fer_sdk.models.packaged import read_bundled
from fer_sdk.models.session import Session
from fer_sdk.types import Box

_SIDE = 128
# Per layer of anchors: cells a side, and anchors a cell.
_LAYERS = ((16, 2), (8, 6))
_SCORE_LIMIT = 100.0
_IOU = 0.3
_FARTHEST = 1000.0
"""In sides of the picture's square."""
# OpenCV 4 rounds where it samples to 1/32 pixel, and computes it in blocks of 64 columns.
_STEPS = 32
_BLOCK = 64


class BlazeFaceDetector:
    """Faces by BlazeFace on the CPU. Holds nothing that a call changes."""

    def __init__(self, min_score: float = 0.5, threads: int | None = None) -> None:
        """Open the bundled model.

        Args:
            min_score: least detection score of a face, 0..1.
            threads: onnxruntime's threads; None: one, more do not pay for so small a network.

        Raises:
            SettingError: ``min_score`` is not from 0 to 1.
            ModelError: the bundled model does not open.
        """
        check_min_score(min_score)
        name = "face_detection_short_range.onnx"
        self._session: Session | None = Session(
            read_bundled(name), source=name, threads=1 if threads is None else threads
        )
        self._min_score = min_score
        self._anchors = _anchors()

    @property
    def name(self) -> str:
        return "blazeface"

    def detect(self, image: npt.NDArray[np.uint8]) -> list[Detection]:
        """Find the faces of an RGB image uint8 ``[H, W, 3]``, those with higher scores first.

        Raises:
            ImageError: not such an image.
            DetectorError: the detector was closed.
        """
        check_rgb(image)
        session = self._session
        if session is None:
            raise DetectorError("the BlazeFace detector was closed: open another one")
        height, width = image.shape[:2]
        regressors, logits = session.run(_letterboxed(image)[None])
        corners, scores = self._decode(regressors[0], logits[0, :, 0])
        side = max(height, width)
        detections = []
        for (left, top, right, bottom, *eyes), score in _suppressed(corners, scores):
            box = Box(
                left * side + (width - side) / 2,
                top * side + (height - side) / 2,
                (right - left) * side,
                (bottom - top) * side,
            )
            inside = clamped(box, width, height)
            if inside is not None:
                detections.append(Detection(inside, score, roll(*eyes)))
        return detections

    def close(self) -> None:
        """Let go of the session. May be called more than once."""
        self._session = None

    def _decode(
        self, regressors: npt.NDArray[np.float32], logits: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """Boxes and eyes in 0..1 of the square, and their scores.

        A row is left, top, right, bottom, and x and y of the left and of the right eye.
        """
        clipped = logits.clip(-_SCORE_LIMIT, _SCORE_LIMIT).astype(np.float64)
        scores = 1 / (1 + np.exp(-clipped))
        raw = regressors[:, :8] / _SIDE
        # No face is farther off; and nothing that follows has to do with infinity or NaN.
        near = (np.abs(raw) < _FARTHEST).all(axis=1)
        kept = near & (scores >= self._min_score) & (raw[:, 2:4] >= 0).all(axis=1)
        raw, anchors = raw[kept], self._anchors[kept]
        centre, half = raw[:, :2] + anchors, raw[:, 2:4] / 2
        eyes = raw[:, 4:] + np.tile(anchors, 2)
        return np.hstack([centre - half, centre + half, eyes]), scores[kept]


def _anchors() -> npt.NDArray[np.float32]:
    """Centres of the 896 anchors ``[896, 2]``, x and y in 0..1 of the square."""
    layers = []
    for cells, anchors in _LAYERS:
        middles = (np.arange(cells, dtype=np.float32) + 0.5) / cells
        y, x = np.meshgrid(middles, middles, indexing="ij")
        layers.append(np.stack([x, y], axis=-1).reshape(-1, 2).repeat(anchors, axis=0))
    return np.concatenate(layers)


def _letterboxed(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The image in the middle of a black square, brought to ``[128, 128, 3]``."""
    image, _ = thinned(image)
    whole, fraction = _sampling(*image.shape[:2])
    square = cv2.remap(
        image, whole, fraction, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    )
    return np.asarray(square, np.uint8)


@functools.lru_cache(maxsize=16)
def _sampling(height: int, width: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint16]]:
    """Where in an image each pixel of the letterbox is taken from, as ``cv2.remap`` has it.

    MediaPipe calls ``warpPerspective`` of an OpenCV 4, which rounds these places to 1/32 pixel;
    OpenCV 5 does not. The arithmetic is that of OpenCV 4 to the last bit, because very many places
    lie in the middle of two steps.
    """
    side = float(max(height, width))
    corners = cv2.boxPoints(((width / 2, height / 2), (side, side), 0.0))
    square = np.array([[0, _SIDE], [0, 0], [_SIDE, 0], [_SIDE, _SIDE]], np.float32)
    back = cv2.invert(cv2.getPerspectiveTransform(corners, square))[1][..., None, None]
    row = np.arange(_SIDE)[:, None]
    block, column = np.divmod(np.arange(_SIDE), _BLOCK)
    places = back[:, 0] * (block * _BLOCK) + back[:, 1] * row + back[:, 2] + back[:, 0] * column
    x, y = np.rint(places[:2] * (_STEPS / places[2])).astype(np.int64)
    whole = np.stack([x // _STEPS, y // _STEPS], axis=-1).astype(np.int16)
    return whole, (y % _STEPS * _STEPS + x % _STEPS).astype(np.uint16)


def _suppressed(
    corners: npt.NDArray[np.float32], scores: npt.NDArray[np.float64]
) -> list[tuple[list[float], float]]:
    """One row for each group that overlaps: its mean weighted by the scores, and the best score."""
    order = np.argsort(-scores, kind="stable")
    corners, scores = corners[order], scores[order]
    areas = (corners[:, 2:4] - corners[:, :2]).prod(axis=1)
    kept = []
    while len(scores):
        low = np.maximum(corners[0, :2], corners[:, :2])
        high = np.minimum(corners[0, 2:4], corners[:, 2:4])
        shared = (high - low).clip(min=0).prod(axis=1)
        union = areas[0] + areas - shared
        group = shared > _IOU * union
        group[0] = True  # also where the box has no area
        weights = scores[group]
        kept.append(((weights @ corners[group] / weights.sum()).tolist(), float(scores[0])))
        corners, scores, areas = corners[~group], scores[~group], areas[~group]
    return kept
