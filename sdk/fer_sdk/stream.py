"""Faces over time: the pipeline on frame after frame, with who is who."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from fer_sdk.detectors.boxes import clamped
from fer_sdk.errors import SettingError
from fer_sdk.smooth import Smoother
from fer_sdk.tracker import Tracker
from fer_sdk.types import Box, Face
from fer_sdk.video.read import Shot

# In sides of the face: a model that looks beside a face must not throw it across the picture.
_FARTHEST_STEP, _LARGEST_GROWTH = 0.3, 1.1


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a stream.

    Attributes:
        index: its place in the stream, from 0.
        time: in seconds; it grows from frame to frame.
        width: in pixels.
        height: in pixels.
        faces: as ``FerPipeline.predict`` gives them, largest first, with ``track_id`` and with
            smoothed scores.
        image: the pixels, where ``stream`` was told to keep them; else None.
    """

    # pydantic has no schema of an array, and takes what is one as it is.
    __pydantic_config__: ClassVar[dict[str, bool]] = {"arbitrary_types_allowed": True}

    index: int
    time: float
    width: int
    height: int
    faces: tuple[Face, ...]
    image: npt.NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, object]:
        """Plain values, ready for ``json.dumps``: what ``fer video --json`` prints."""
        return {
            "frame": self.index,
            "time": self.time,
            "width": self.width,
            "height": self.height,
            "faces": [face.to_dict() for face in self.faces],
        }


class Looker(Protocol):
    """What a stream needs of a pipeline."""

    def find(self, image: npt.NDArray[np.uint8]) -> tuple[list[Face], int]:
        """The faces of an RGB image, by the detector, and the cost of that as of a first look."""
        ...

    def look(self, image: npt.NDArray[np.uint8], faces: Sequence[Face]) -> list[Face]:
        """What the models see at the boxes of faces, without the detector; in their order.

        A face without a detection score is the image as a whole.
        """
        ...


def check_settings(detect_every: int | None, smoothing: float | None, keep: float) -> None:
    """See that the settings of a stream are ones.

    Raises:
        SettingError: one is not; says which.
    """
    if detect_every is not None and (
        isinstance(detect_every, bool) or not isinstance(detect_every, int) or detect_every < 1
    ):
        raise SettingError(
            f"detect_every must be a number of frames from 1, or None, not {detect_every!r}"
        )
    if smoothing is not None and not 0 < smoothing < math.inf:
        raise SettingError(
            f"smoothing must be seconds above 0, or None for scores as they are, not {smoothing!r}"
        )
    if not 0 < keep < math.inf:
        raise SettingError(f"keep must be seconds above 0, not {keep!r}")


def follow(
    shots: Iterator[Shot],
    looker: Looker,
    *,
    detect_every: int | None,
    smoothing: float | None,
    keep: float,
    images: bool,
) -> Generator[Frame, None, None]:
    """Look at frame after frame. Holds one frame, and what is known of the faces there are."""
    tracker = Tracker(keep)
    smoothers: dict[int, Smoother] = {}
    detected: dict[int, Face] = {}
    size: tuple[int, int] | None = None
    due = 0
    for index, shot in enumerate(shots):
        height, width = shot.pixels.shape[:2]
        changed = size is not None and size != (width, height)
        if size is not None and changed:
            tracker.scale(width / size[0], height / size[1])
        size = width, height
        if index >= due or changed:
            found, cost = looker.find(shot.pixels)
            # A look that costs as much as 16 first ones is taken every 16 frames.
            due = (
                index + cost
                if detect_every is None
                else index - index % detect_every + detect_every
            )
            numbers = tracker.assign(shot.time, [face.box for face in found], width, height)
            faces = detected = dict(zip(numbers, found, strict=True))
            for gone in smoothers.keys() - tracker.numbers:
                del smoothers[gone]
        else:
            faces = _between(shot, looker, tracker, detected)
        if smoothing is not None:
            faces = {
                number: _rescored(
                    face,
                    smoothers.setdefault(number, Smoother(smoothing)).step(
                        shot.time, list(face.scores.values())
                    ),
                )
                for number, face in faces.items()
            }
        largest_first = sorted(
            (replace(face, track_id=number) for number, face in faces.items()),
            key=lambda face: -face.box.width * face.box.height,
        )
        image = shot.image if images else None
        yield Frame(index, shot.time, width, height, tuple(largest_first), image)


def _between(
    shot: Shot, looker: Looker, tracker: Tracker, detected: dict[int, Face]
) -> dict[int, Face]:
    """Faces where they should be by now, put right by where the landmarks are found there.

    The models look at every face anyway, so that this costs nothing more: an optical flow that
    follows the boxes equally well takes as long as the detector that it would save.
    """
    height, width = shot.pixels.shape[:2]
    predicted = {
        number: inside
        for number, box in tracker.predict(shot.time).items()
        if (inside := _inside(box, detected[number], width, height)) is not None
    }
    asked = [replace(detected[number], box=box) for number, box in predicted.items()]
    faces: dict[int, Face] = {}
    for number, face in zip(predicted, looker.look(shot.pixels, asked), strict=True):
        box = _inside(_recentred(face, detected[number]), face, width, height) or face.box
        tracker.correct(shot.time, number, box)
        faces[number] = replace(face, box=box)
    return faces


def _inside(box: Box, face: Face, width: int, height: int) -> Box | None:
    """The part of a face's box inside the frame; all of a frame that is a face as a whole."""
    if face.detection_score is None:
        return Box(0.0, 0.0, float(width), float(height))
    return clamped(box, width, height)


def _recentred(face: Face, detected: Face) -> Box:
    """The box that lies to a face's landmarks as the detector's box lay to those that it had."""
    (then_x, then_y, then_span), (x, y, span) = _spread(detected), _spread(face)
    growth = span / then_span if then_span > 0 else 1.0
    width, height = (
        min(max(growth * then, now / _LARGEST_GROWTH), now * _LARGEST_GROWTH)
        for then, now in zip(detected.box[2:], face.box[2:], strict=True)
    )
    here_x, here_y = face.box.x + face.box.width / 2, face.box.y + face.box.height / 2
    step_x = x + growth * (detected.box.x + detected.box.width / 2 - then_x) - here_x
    step_y = y + growth * (detected.box.y + detected.box.height / 2 - then_y) - here_y
    farthest = _FARTHEST_STEP * max(face.box.width, face.box.height)
    share = min(1.0, farthest / max(math.hypot(step_x, step_y), farthest))
    return Box(
        here_x + share * step_x - width / 2, here_y + share * step_y - height / 2, width, height
    )


def _spread(face: Face) -> tuple[float, float, float]:
    """Middle of the landmarks, and how far from it they are together."""
    x = sum(point.x for point in face.landmarks) / len(face.landmarks)
    y = sum(point.y for point in face.landmarks) / len(face.landmarks)
    return x, y, sum(math.dist((x, y), point) for point in face.landmarks)


def _rescored(face: Face, scores: Sequence[float]) -> Face:
    confidence = max(scores)
    labels = list(face.scores)
    return replace(
        face,
        scores=dict(zip(labels, scores, strict=True)),
        emotion=labels[list(scores).index(confidence)],
        confidence=confidence,
    )
