"""Faces in the forms that other libraries take: a pandas table, and supervision's arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from fer_sdk.errors import DataError, ImageError, SettingError
from fer_sdk.output.rows import columns, face_row
from fer_sdk.types import Face

if TYPE_CHECKING:
    import pandas as pd


@runtime_checkable
class Faces(Protocol):
    """What a stream gives for a frame."""

    @property
    def index(self) -> int: ...
    @property
    def time(self) -> float: ...
    @property
    def faces(self) -> Sequence[Face]: ...


def to_dataframe(
    results: Iterable[Face] | Iterable[Sequence[Face] | ImageError] | Iterable[Faces],
    *,
    images: Iterable[object] | None = None,
) -> pd.DataFrame:
    """One row for each face, as a pandas table.

    An image without a face, or with an error in the place of its faces, has no row: the values of
    the column ``image`` that are missing tell which. Take all results of one call together::

        table = to_dataframe(pipeline.predict_batch(paths), images=paths)
        table.groupby("image")["emotion"].value_counts()

    Args:
        results: what ``predict``, ``predict_batch`` or ``stream`` gives.
        images: a name for each image, in their order; None takes their numbers from 0.

    Returns:
        The columns ``image``, or of a stream ``frame`` and ``time`` (seconds); then ``face`` (its
        place in the image, from 0), ``x``, ``y``, ``width``, ``height`` (pixels),
        ``detection_score``, ``emotion``, ``confidence``, a ``score_...`` for each emotion, x and y
        of each landmark (pixels), and ``track_id``. Without any face the columns of the scores are
        left out, because no face tells which emotions there are.

    Raises:
        DataError: pandas is not installed.
        SettingError: there are not as many names as images.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise DataError(
            "to_dataframe needs pandas, which is not installed: pip install pandas"
        ) from error
    several = list(results)
    if several and isinstance(several[0], Face):
        several = [several]  # type: ignore[list-item]
    names = range(len(several)) if images is None else [_name(image) for image in images]
    if len(names) != len(several):
        raise SettingError(f"{len(names)} images are named, but there are {len(several)} results")
    rows: list[dict[str, object]] = []
    labels: dict[str, None] = {}
    where = ["image"]
    for name, result in zip(names, several, strict=True):
        place: dict[str, object] = {"image": name}
        faces: object = result
        if isinstance(result, Faces):
            place, faces = {"frame": result.index, "time": result.time}, result.faces
            where = list(place)
        if isinstance(faces, ImageError):
            continue
        for number, face in enumerate(_checked(faces)):
            labels.update(dict.fromkeys(face.scores))
            rows.append(place | face_row(number, face))
    kinds = columns(labels)
    table = pd.DataFrame.from_records(rows, columns=[*where, *kinds])
    numbers = {name: "float64" for name, kind in kinds.items() if kind is float}
    return table.astype({"face": "int64", "track_id": "Int64"} | numbers)


def to_supervision(faces: Iterable[Face]) -> dict[str, Any]:
    """The faces of one image or frame as the arrays that ``supervision.Detections`` is made of::

        detections = supervision.Detections(**to_supervision(pipeline.predict("photo.jpg")))

    supervision itself is neither needed nor imported.

    Args:
        faces: what ``predict`` gives, or the faces of a frame.

    Returns:
        For N faces ``xyxy`` float32 ``[N, 4]`` (left, top, right, bottom in pixels); ``class_id``
        int64 ``[N]``, the place of the emotion among the labels; ``confidence`` float32 ``[N]``,
        of the emotion; ``tracker_id`` int64 ``[N]``, None where no face has one (-1 for a face
        without, where another has one); and ``data``: ``class_name`` ``[N]``, ``scores`` float32
        ``[N, labels]``, ``landmarks`` float32 ``[N, 4, 2]`` and ``detection_score`` float32 ``[N]``
        (NaN where the image was taken as the face).
    """
    several = list(_checked(faces))
    boxes = [
        (face.box.x, face.box.y, face.box.x + face.box.width, face.box.y + face.box.height)
        for face in several
    ]
    tracks = [face.track_id for face in several]
    labels = len(several[0].scores) if several else 0
    return {
        "xyxy": _floats(boxes, 4),
        "class_id": np.array([list(face.scores).index(face.emotion) for face in several], np.int64),
        "confidence": _floats([face.confidence for face in several]),
        "tracker_id": None
        if all(track is None for track in tracks)
        else np.array([-1 if track is None else track for track in tracks], np.int64),
        "data": {
            "class_name": np.array([face.emotion for face in several], np.str_),
            "scores": _floats([list(face.scores.values()) for face in several], labels),
            "landmarks": _floats([face.landmarks for face in several], 4, 2),
            "detection_score": _floats(
                [
                    np.nan if face.detection_score is None else face.detection_score
                    for face in several
                ]
            ),
        },
    }


def _floats(values: Sequence[object], *shape: int) -> npt.NDArray[np.float32]:
    return np.array(values, np.float32).reshape(len(values), *shape)


def _checked(faces: object) -> Iterable[Face]:
    if not isinstance(faces, Iterable):
        raise SettingError(f"{faces!r} is not a list of faces")
    for face in faces:
        if not isinstance(face, Face):
            raise SettingError(f"{face!r} is not a face: give what the pipeline returns")
        yield face


def _name(image: object) -> object:
    return os.fspath(image) if isinstance(image, os.PathLike) else image
