"""The detector and the models of a pipeline alone, on input that is ready."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from fer_bench.measure.subjects import Subject
from fer_bench.quality.scenes import Picture
from fer_sdk.image.crop import crop_gray
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.landmarks import LandmarksModel

Faces = npt.NDArray[np.uint8]


def every_crop(subject: Subject, model: EmotionModel | LandmarksModel, picture: Picture) -> Faces:
    """All faces of a picture, framed for a model; uint8 ``[N, S, S]``."""
    meta = model.metadata
    found = [
        crop_gray(picture.rgb, meta.crop.square(face.box), meta.input_size)
        for face in subject.found_by.detect(picture.rgb)
    ]
    return np.stack(found) if found else np.empty((0, meta.input_size, meta.input_size), np.uint8)


def crops(
    subject: Subject, model: EmotionModel | LandmarksModel, picture: Picture, batch: int
) -> Faces:
    """A batch of the first face of a picture, framed for a model; uint8 ``[batch, S, S]``."""
    found = every_crop(subject, model, picture)
    if not len(found):
        side = model.metadata.input_size
        return np.zeros((batch, side, side), np.uint8)
    return np.repeat(found[:1], batch, axis=0)


def three_calls(subject: Subject, picture: Picture) -> Callable[[], None]:
    """The detector and the two models, each called once on input that is ready."""
    detect = partial(subject.found_by.detect, picture.rgb)
    landmarks, emotion = (
        partial(model.session.run, every_crop(subject, model, picture))
        for model in (subject.landmarks, subject.emotion)
    )

    def call() -> None:
        detect()
        landmarks()
        emotion()

    return call
