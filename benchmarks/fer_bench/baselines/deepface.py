"""``deepface``, emotion only, with its default detector."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Any

from fer_bench.baselines.adapter import (
    FER2013_WORDS,
    Baseline,
    Image,
    Task,
    as_colour,
    limit_onnxruntime,
    require,
    require_weights,
)


class Adapter(Baseline):
    """DeepFace's emotion action."""

    def __init__(self, task: Task) -> None:
        home = Path(os.environ.get("DEEPFACE_HOME", "~")) / ".deepface" / "weights"
        limit_onnxruntime(task.threads)
        self._module: Any = require("deepface.DeepFace", "deepface")
        require_weights(home, "facial_expression_model_weights.*")
        cv2 = require("cv2", "opencv-contrib-python-headless")
        if task.threads is not None:
            cv2.setNumThreads(task.threads)
        self._image = task.image
        self.version = f"deepface {metadata.version('deepface')}, detector opencv"

    def _analyse(self, image: Image | None, detector: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._module.analyze(
            image,
            actions=("emotion",),
            detector_backend=detector,
            enforce_detection=False,
            silent=True,
        )
        return found

    def run(self) -> object:
        return self._analyse(self._image, "opencv")

    def faces_in(self, answer: object) -> int | None:
        # Without a face it answers for the whole image, with no confidence in it.
        if not isinstance(answer, list):
            return None
        return sum(bool(face.get("face_confidence")) for face in answer)

    def classify(self, faces: Image) -> list[str | None]:
        answers: list[str | None] = []
        for face in faces:
            found = self._analyse(as_colour(face), "skip")
            answers.append(FER2013_WORDS.get(found[0]["dominant_emotion"]) if found else None)
        return answers
