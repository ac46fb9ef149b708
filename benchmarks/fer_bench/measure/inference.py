"""The networks of a pipeline alone, on input that is ready."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from fer_bench.measure.subjects import Subject, detector_file
from fer_bench.quality.scenes import Picture
from fer_sdk.detectors import Detector, DetectorName, open_detector
from fer_sdk.image.crop import crop_gray
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.landmarks import LandmarksModel
from fer_sdk.models.session import Session

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


class ThreeCalls:
    """The detector's network and the two models, each called once on input that is ready.

    MediaPipe cannot be had without what it does before and after its network: there that counts.
    """

    def __init__(self, subject: Subject, picture: Picture) -> None:
        """Open the detector once more, without what the pipeline puts around it.

        Raises:
            FerError: it does not open.
        """
        self._models = [
            partial(model.session.run, every_crop(subject, model, picture))
            for model in (subject.landmarks, subject.emotion)
        ]
        self._bare: Detector | None = None
        file = detector_file()
        if subject.detector == "blazeface" and file is not None:
            name, content = file
            network = Session(content, source=name, threads=subject.threads)
            _, _, (_, height, width, _) = network.inputs[0]
            size = int(str(width)), int(str(height))
            ready = np.asarray(cv2.resize(picture.rgb, size), np.uint8)[None]
            self._detect: Callable[[], object] = partial(network.run, ready)
        else:
            self._bare, _ = open_detector(cast(DetectorName, subject.detector))
            self._detect = partial(self._bare.detect, picture.rgb)

    def __call__(self) -> None:
        """Run the three networks."""
        self._detect()
        for run in self._models:
            run()

    def close(self) -> None:
        """Let go of the detector."""
        if self._bare is not None:
            self._bare.close()
