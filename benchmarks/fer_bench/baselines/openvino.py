"""OpenVINO on the same ONNX file."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from fer_bench.baselines.adapter import Baseline, Image, Task, UnavailableError, require


class Adapter(Baseline):
    """The task's model, compiled for this CPU."""

    def __init__(self, task: Task) -> None:
        openvino = require("openvino", "openvino")
        if task.model is None or task.faces is None:
            raise UnavailableError("it runs a model file, and none was given")
        core: Any = openvino.Core()
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if task.threads is not None:
            settings["INFERENCE_NUM_THREADS"] = task.threads
        try:
            self._compiled: Any = core.compile_model(str(task.model), "CPU", settings)
        except RuntimeError as error:
            raise UnavailableError(
                f"it cannot compile {task.model.name}: {str(error).strip().splitlines()[-1]}"
            ) from error
        self._request: Any = self._compiled.create_infer_request()
        self._faces = task.faces
        self._labels = json.loads(task.options.get("labels", "[]"))
        # On some CPUs it computes in bfloat16 what the file holds in float32.
        computed = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.version = f"OpenVINO {openvino.__version__.split('-')[0]}, computes in {computed}"

    def run(self) -> object:
        return self._request.infer([self._faces])

    def classify(self, faces: Image) -> list[str | None]:
        scores = self._request.infer([faces])[self._compiled.output(0)]
        return [self._labels[best] for best in np.argmax(scores, axis=1)]
