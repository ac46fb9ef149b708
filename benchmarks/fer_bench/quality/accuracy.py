"""How often an answer is right, for the column beside the speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fer_bench.quality.labelled import LabelledFaces
from fer_bench.results.result import Accuracy
from fer_sdk.image.crop import resize_square

_AT_ONCE = 64


def of_scores(
    scores: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]],
    labels: Sequence[str],
    side: int,
    faces: LabelledFaces,
) -> Accuracy:
    """The accuracy of a model that takes uint8 gray ``[N, side, side]``.

    Args:
        scores: gives ``[N, labels]``.
        labels: in the order of the scores.
        side: what the model takes.
        faces: what to try it on.
    """
    images = resized(faces.images, side)
    answers = [
        labels[best]
        for at in range(0, len(images), _AT_ONCE)
        for best in np.argmax(scores(images[at : at + _AT_ONCE]), axis=1)
    ]
    return of_answers(answers, faces)


def resized(images: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Gray faces ``[N, S, S]`` as ``[N, side, side]``."""
    return np.stack([resize_square(image, side) for image in images])


def of_answers(answers: Sequence[str | None], faces: LabelledFaces) -> Accuracy:
    """The accuracy of one answer per face; None where the code gave none, which is wrong."""
    right = sum(answer == label for answer, label in zip(answers, faces.labels, strict=True))
    return Accuracy(right / len(faces.labels), faces.split, len(faces.labels), "measured")


def of_metadata(metrics: Mapping[str, Mapping[str, float]]) -> Accuracy | None:
    """The accuracy that a model file claims; None where it claims none."""
    for split in ("PublicTest", *metrics):
        value = metrics.get(split, {}).get("accuracy")
        if value is not None:
            return Accuracy(value, split, None, "model metadata")
    return None
