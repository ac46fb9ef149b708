"""The pipeline itself in a process of its own, for as many processes as there are threads."""

from __future__ import annotations

import json

from fer_bench.baselines.adapter import Baseline, Image, Task, UnavailableError, require


class Adapter(Baseline):
    """A pipeline with the arguments of the options."""

    def __init__(self, task: Task) -> None:
        pipelines = require("fer_sdk.pipeline", "fer-sdk")
        errors = require("fer_sdk.errors", "fer-sdk")
        arguments = json.loads(task.options["arguments"])
        # As in the process that it is compared with.
        require("cv2", "opencv-python-headless").setNumThreads(arguments["threads"])
        try:
            self._pipeline = pipelines.FerPipeline(**arguments)
        except errors.FerError as error:
            raise UnavailableError(str(error)) from error
        self._image = task.image
        self.version = f"fer-sdk {self._pipeline.info.fer_sdk}"

    def run(self) -> object:
        return self._pipeline.predict(self._image)

    def classify(self, faces: Image) -> list[str | None]:
        # Each gray crop is an image here; one without a face that is found has no answer.
        answers = self._pipeline.predict_batch(list(faces), max_faces=1)
        return [
            faces[0].emotion if isinstance(faces, list) and faces else None for faces in answers
        ]
