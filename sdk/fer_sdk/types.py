"""What the pipeline returns for a face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

LANDMARKS = ("left eye", "right eye", "left lip corner", "right lip corner")
"""The four points in the order of ``Face.landmarks``; left and right as seen in the image."""


class Box(NamedTuple):
    """A rectangle in pixels of the caller's image; ``x`` and ``y`` are its top left corner."""

    x: float
    y: float
    width: float
    height: float


class Point(NamedTuple):
    """A point in pixels of the caller's image."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Face:
    """One face of an image.

    Attributes:
        box: where the face is, inside the image.
        detection_score: how sure the detector is, 0..1; None when the whole image was taken as
            the face.
        landmarks: four points in the order of ``LANDMARKS``. They may lie outside the box.
        emotion: the label with the highest score.
        confidence: the score of ``emotion``, 0..1.
        scores: probability of each label, in the model's label order; they sum to 1. A dict of this
            face's own.
        track_id: the same number for the same face over the frames of a stream; None elsewhere.
    """

    box: Box
    detection_score: float | None
    landmarks: tuple[Point, Point, Point, Point]
    emotion: str
    confidence: float
    scores: Mapping[str, float] = field(hash=False)
    track_id: int | None = None

    def __post_init__(self) -> None:
        # A plain dict, so that everything that takes dataclasses and dicts apart knows it.
        object.__setattr__(self, "scores", dict(self.scores))

    def to_dict(self) -> dict[str, object]:
        """Plain values, ready for ``json.dumps``: what the command line prints with ``--json``."""
        return {
            "box": self.box._asdict(),
            "detection_score": self.detection_score,
            "landmarks": {
                name: point._asdict() for name, point in zip(LANDMARKS, self.landmarks, strict=True)
            },
            "emotion": self.emotion,
            "confidence": self.confidence,
            "scores": dict(self.scores),
            "track_id": self.track_id,
        }
