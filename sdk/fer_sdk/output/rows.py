"""A face as one flat row of a table."""

from __future__ import annotations

from collections.abc import Iterable

from fer_sdk.types import LANDMARKS, Face

_POINTS = tuple(name.replace(" ", "_") for name in LANDMARKS)


def columns(labels: Iterable[str]) -> dict[str, type]:
    """Name and type of each value of a row, in their order; those of ``face_row``.

    Args:
        labels: the emotions, in the order of ``Face.scores``.
    """
    return {
        "face": int,
        "x": float,
        "y": float,
        "width": float,
        "height": float,
        "detection_score": float,
        "emotion": str,
        "confidence": float,
        **{f"score_{label}": float for label in labels},
        **{f"{point}_{axis}": float for point in _POINTS for axis in "xy"},
        "track_id": int,
    }


def face_row(number: int, face: Face) -> dict[str, object]:
    """The values of a face.

    Args:
        number: its place among the faces of its image, from 0, the largest first.
        face: what the pipeline gave.
    """
    points = {
        f"{point}_{axis}": value
        for point, place in zip(_POINTS, face.landmarks, strict=True)
        for axis, value in zip("xy", place, strict=True)
    }
    return {
        "face": number,
        **face.box._asdict(),
        "detection_score": face.detection_score,
        "emotion": face.emotion,
        "confidence": face.confidence,
        **{f"score_{label}": score for label, score in face.scores.items()},
        **points,
        "track_id": face.track_id,
    }
