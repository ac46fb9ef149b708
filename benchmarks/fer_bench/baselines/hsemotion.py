"""``hsemotion-onnx`` and its successor ``emotiefflib``: EfficientNets on face crops."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from fer_bench.baselines.adapter import (
    FER2013_WORDS,
    Baseline,
    Image,
    Task,
    as_colour,
    cut,
    limit_onnxruntime,
    require,
    require_weights,
    torch_before_tensorflow,
)

_MODEL = "enet_b0_8_best_vgaf"
_HOMES = {"hsemotion-onnx": "~/.hsemotion", "emotiefflib": "~/.emotiefflib"}


class Adapter(Baseline):
    """The recogniser of the package that the options name."""

    def __init__(self, task: Task) -> None:
        package = task.options["package"]
        limit_onnxruntime(task.threads)
        if package == "hsemotion-onnx":
            module = require("hsemotion_onnx.facial_emotions", package)
            require_weights(Path(_HOMES[package]), f"{_MODEL}.onnx")
            recogniser: Any = module.HSEmotionRecognizer(model_name=_MODEL)
            self._predict: Any = recogniser.predict_multi_emotions
        else:
            torch_before_tensorflow()
            module = require("emotiefflib.facial_analysis", package)
            require_weights(Path(_HOMES[package]), f"{_MODEL}.onnx")
            recogniser = module.EmotiEffLibRecognizer(engine="onnx", model_name=_MODEL)
            self._predict = recogniser.predict_emotions
        self._image = task.image
        self._squares = task.squares
        self.version = f"{package} {metadata.version(package)}, {_MODEL}"

    def run(self) -> object:
        if self._image is None:
            return []
        crops = cut(np.asarray(self._image[..., ::-1]), self._squares)
        return self._predict(crops)[0] if crops else []

    def classify(self, faces: Image) -> list[str | None]:
        words: list[str] = self._predict([as_colour(face) for face in faces])[0]
        return [FER2013_WORDS.get(word.lower(), word.lower()) for word in words]
