"""``fer`` (Justin Shenk), with its Haar cascade or MTCNN."""

from __future__ import annotations

from importlib import metadata, resources
from typing import Any

import numpy as np

from fer_bench.baselines.adapter import (
    FER2013_WORDS,
    Baseline,
    Image,
    Task,
    UnavailableError,
    as_colour,
    require,
    torch_before_tensorflow,
)


class Adapter(Baseline):
    """The detector and the network of ``fer``."""

    def __init__(self, task: Task) -> None:
        mtcnn = task.options.get("detector") == "mtcnn"
        if mtcnn:
            torch_before_tensorflow()
            require("facenet_pytorch", "fer facenet-pytorch")
        module = require("fer.fer", "fer")
        cv2 = require("cv2", "opencv-contrib-python")
        if not hasattr(cv2, "CascadeClassifier"):
            raise UnavailableError(
                "it needs cv2.CascadeClassifier, which this OpenCV lacks: give it an environment "
                "with opencv-contrib-python and name its interpreter with --baseline-python"
            )
        if task.threads is not None:
            cv2.setNumThreads(task.threads)
        # OpenCV's newer wheels leave the cascades out; the package carries the same file.
        cascade = str(resources.files("fer").joinpath("data/haarcascade_frontalface_default.xml"))
        self._model: Any = module.FER(cascade_file=cascade, mtcnn=mtcnn)
        # Its usual ten pixels of offset assume a face inside a photo, not a crop of one.
        self._on_crops: Any = module.FER(cascade_file=cascade, offsets=(0, 0))
        self._image = task.image
        self.version = f"fer {metadata.version('fer')}, {'MTCNN' if mtcnn else 'Haar cascade'}"

    def run(self) -> object:
        return self._model.detect_emotions(self._image)

    def classify(self, faces: Image) -> list[str | None]:
        whole = np.array([[0, 0, faces.shape[2], faces.shape[1]]])
        answers: list[str | None] = []
        for face in faces:
            found = self._on_crops.detect_emotions(as_colour(face), face_rectangles=whole)
            scores = found[0]["emotions"] if found else None
            answers.append(FER2013_WORDS.get(max(scores, key=scores.get)) if scores else None)
        return answers
