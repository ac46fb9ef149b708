"""YuNet on onnxruntime: faces of every size, at the resolution that the picture needs.

Source: Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence
Research, 2023. The file is that of ShiqiYu/libfacedetection.train (Apache-2.0), unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.detectors.base import Detection, check_min_score, check_rgb
from fer_sdk.detectors.boxes import Boxes, clamped, suppress
from fer_sdk.detectors.upright import middle_face, upright_view
from fer_sdk.errors import DetectorError
from fer_sdk.models.packaged import read_bundled
from fer_sdk.models.session import Session
from fer_sdk.types import Box

Pixels = npt.NDArray[np.uint8]

MIN_SCORE = 0.7
"""Least score of a face unless told otherwise."""

# All figures here were chosen on photos without faces, on FER2013's faces, and on group photos as a
# whole; `fer-bench detection` measures them.
_SURELY_UPRIGHT, _SURE, _DOUBTFUL = 0.9, 0.8, 0.3
_LOOKS = (320, 640, 1280)
"""Longer sides to which a picture is brought, one after the other."""
_HALF_SURE, _CROWD = 0.5, 2
_SMALLEST, _READABLE = 10.0, 24.0
"""Pixels of a box: below the first nothing is to be seen, below the second nothing to be read."""
_STRIDES = (8, 16, 32)
_MULTIPLE = 32
_MOST_OVERLAP = 0.3

# What an upright view of a face that is not sure has to reach, and how many are looked at in a run.
_CONFIRMED, _CONFIRMED_TURNED, _UPRIGHT_VIEW = 0.5, 0.7, 0.86
_TURNS = tuple(float(turn) for turn in range(45, 360, 45))
_AT_ONCE = 32
_LEAST = 0.2

# From YuNet's box, which is as tall as a face, to the square that BlazeFace draws and the models'
# crop geometry is measured for. Fitted on FER2013's Training faces, where both find one.
_SIDE, _DOWN = 0.97, 0.075


class Candidate(NamedTuple):
    """Something that may be a face.

    Attributes:
        box: ``x, y, width, height`` in pixels of the image, as YuNet draws it.
        score: of YuNet, 0..1.
        roll: tilt of the line between the eyes in degrees, clockwise.
    """

    box: Boxes
    score: float
    roll: float


class Look(NamedTuple):
    """What was found in a picture.

    Attributes:
        faces: in any order.
        doubtful: what may be a face too.
        cost: how much more the last look took than the first one, in pixels: 1, 4 or 16.
    """

    faces: list[Detection]
    doubtful: list[Candidate]
    cost: int


class YuNetDetector:
    """Faces by YuNet on the CPU. Holds nothing that a call changes.

    A picture is looked at with 320 pixels along its longer side, with 640 where it is larger and
    something small in it may be a face, and with 1280 where that shows several tiny ones. A look
    that shows no face at all is followed by the next too. A face with a score below 0.8 is looked
    at again, turned upright and alone, and left out if it is not one there.
    """

    def __init__(self, min_score: float = MIN_SCORE, threads: int | None = None) -> None:
        """Open the bundled model.

        Args:
            min_score: least detection score of a face, 0..1.
            threads: onnxruntime's threads; None: every core this process may use.

        Raises:
            SettingError: ``min_score`` is not from 0 to 1.
            ModelError: the bundled model does not open.
        """
        check_min_score(min_score)
        name = "face_detection_yunet_n.onnx"
        self._session: Session | None = Session(read_bundled(name), source=name, threads=threads)
        self._min_score = min_score

    @property
    def name(self) -> str:
        return "yunet"

    def detect(self, image: Pixels) -> list[Detection]:
        """Find the faces of an RGB image uint8 ``[H, W, 3]``, those with higher scores first.

        Raises:
            ImageError: not such an image.
            DetectorError: the detector was closed.
        """
        return self.search(image).faces

    def look(self, image: Pixels) -> tuple[list[Detection], int]:
        """``detect``, and how much more the widest look took than the first one: 1, 4 or 16."""
        found = self.search(image)
        return found.faces, found.cost

    def search(self, image: Pixels) -> Look:
        """``detect``, with what may be a face too, and how closely the picture was looked at.

        Raises:
            ImageError: not such an image.
            DetectorError: the detector was closed.
        """
        check_rgb(image)
        longer = max(image.shape[:2])
        step = max(1, longer // _LOOKS[-1])
        thin = image[::step, ::step]
        for side in _LOOKS:
            candidates = self._candidates(thin, step, side)
            found = any(one.score >= self._min_score for one in candidates)
            if longer <= side or (found and not _hints(candidates, side, longer)):
                break
        height, width = image.shape[:2]
        inside = [one for one in candidates if clamped(_square(one.box), width, height)]
        likely = [one for one in inside if one.score >= self._min_score]
        confirmed = self._upright(image, likely)
        boxes = [clamped(_square(one.box), width, height) for one in confirmed]
        faces = [
            Detection(box, one.score, one.roll)
            for one, box in zip(confirmed, boxes, strict=True)
            if box is not None and max(box.width, box.height) >= _SMALLEST
        ]
        kept = {id(one.box) for one in confirmed}
        doubtful = [one for one in candidates if one.score >= _DOUBTFUL and id(one.box) not in kept]
        return Look(faces, doubtful, (side // _LOOKS[0]) ** 2)

    def confirm(self, views: Sequence[Pixels]) -> list[tuple[float, float]]:
        """Score and roll of the face in the middle of each ``upright_view``; zeros without one."""
        found: list[list[Candidate]] = []
        for start in range(0, len(views), _AT_ONCE):
            found += self._decoded(np.stack(views[start : start + _AT_ONCE]), _LEAST)
        return [
            middle_face((one.box.tolist(), one.score, one.roll) for one in faces) for faces in found
        ]

    def _upright(self, image: Pixels, faces: list[Candidate]) -> list[Candidate]:
        """The sure ones, and those that an upright view confirms; with the roll of the best view.

        YuNet takes a face that lies on its side or is upside down for an upright one, with a lower
        score.
        """
        best = {id(one): (0.0, 0.0) for one in faces if one.score >= _SURE}

        def show(asked: list[tuple[Candidate, float]], least: float) -> None:
            views = [upright_view(image, one.box.tolist(), one.roll + turn) for one, turn in asked]
            for (one, turn), (score, rest) in zip(asked, self.confirm(views), strict=True):
                if score > max(least, best.get(id(one), (0.0, 0.0))[0]):
                    best[id(one)] = score, turn + rest

        readable = [one for one in faces if max(one.box[2:]) >= _READABLE]
        small = [one for one in faces if max(one.box[2:]) < _READABLE and one.score < _SURE]
        doubted = [one for one in readable if one.score < _SURELY_UPRIGHT]
        # The score in the picture is no measure for a view: there the face is smaller.
        show([(one, 0.0) for one in small + doubted], _CONFIRMED)
        leaning = [one for one in doubted if best.get(id(one), (0.0, 0.0))[0] < _UPRIGHT_VIEW]
        show([(one, turn) for one in leaning for turn in _TURNS], _CONFIRMED_TURNED)
        return [one._replace(roll=one.roll + best[id(one)][1]) for one in faces if id(one) in best]

    def close(self) -> None:
        """Let go of the session. May be called more than once."""
        self._session = None

    def _candidates(self, thin: Pixels, step: int, side: int) -> list[Candidate]:
        """What may be a face in a picture that is brought to a side; in pixels of the original."""
        height, width = thin.shape[:2]
        scale = side / max(height, width)
        if side > _LOOKS[0]:
            scale = min(scale, 1.0)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = cv2.resize(thin, size, interpolation=method)
        right, bottom = (-length % _MULTIPLE for length in size)
        padded = cv2.copyMakeBorder(small, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=0)
        (found,) = self._decoded(np.asarray(padded, np.uint8)[None], min(self._min_score, _LEAST))
        back = np.tile([step * width / size[0], step * height / size[1]], 2)
        return [one._replace(box=one.box * back) for one in found]

    def _decoded(self, batch: Pixels, least: float) -> list[list[Candidate]]:
        """The candidates of RGB pictures ``[N, H, W, 3]``, those with higher scores first."""
        session = self._session
        if session is None:
            raise DetectorError("the YuNet detector was closed: open another one")
        outputs = session.run(cv2.dnn.blobFromImages(list(batch), swapRB=True))
        return [
            _decode([output[at] for output in outputs], batch.shape[2], least)
            for at in range(len(batch))
        ]


def _decode(outputs: list[npt.NDArray[np.float32]], width: int, least: float) -> list[Candidate]:
    """What the network says of one picture: classes, objects, boxes, points, each by stride."""
    boxes, scores, rolls = [], [], []
    for stride, classes, objects, offsets, points in zip(
        _STRIDES, outputs[:3], outputs[3:6], outputs[6:9], outputs[9:], strict=True
    ):
        likely = classes[:, 0].clip(0, 1) * objects[:, 0].clip(0, 1)
        at = np.flatnonzero(likely >= least**2)
        if not len(at):
            continue
        cells = np.stack(np.divmod(at, width // stride)[::-1], axis=1)
        offset = offsets[at].astype(np.float64)
        size = np.exp(offset[:, 2:].clip(max=16.0)) * stride
        boxes.append(np.hstack([(cells + offset[:, :2]) * stride - size / 2, size]))
        scores.append(np.sqrt(likely[at]).astype(np.float64))
        across = points[at, 2:4] - points[at, 0:2]
        rolls.append(np.degrees(np.arctan2(across[:, 1], across[:, 0])))
    if not boxes:
        return []
    box, score, roll = map(np.concatenate, (boxes, scores, rolls))
    return [
        Candidate(box[at], float(score[at]), float(roll[at]))
        for at in suppress(box, score, _MOST_OVERLAP)
    ]


def _hints(candidates: list[Candidate], side: int, longer: int) -> bool:
    """Whether a look with that many pixels along the longer side hints at more, smaller faces."""
    sizes = [(one.score, float(max(one.box[2:])) / longer) for one in candidates]
    if side == _LOOKS[0]:
        # Something small that may be a face, or a face that is smaller still.
        return any(size < (1 / 8 if score < MIN_SCORE else 1 / 10) for score, size in sizes)
    # One tiny face may be a mistake. A crowd has several.
    return sum(score >= _HALF_SURE and size < 1 / 32 for score, size in sizes) >= _CROWD


def _square(box: Boxes) -> Box:
    x, y, width, height = box.tolist()
    mean = math.sqrt(width * height)
    side = _SIDE * mean
    return Box(x + (width - side) / 2, y + (height - side) / 2 + _DOWN * mean, side, side)
