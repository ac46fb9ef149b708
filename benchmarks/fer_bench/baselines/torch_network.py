"""PyTorch on the trained network itself, eager or compiled: what it was before it was exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fer_bench.baselines.adapter import Baseline, Image, Task, UnavailableError, require


class Adapter(Baseline):
    """The checkpoint that the options name."""

    def __init__(self, task: Task) -> None:
        torch = require("torch", "fer-sdk[train]")
        checkpoints = require("fer_training.networks.checkpoint", "fer-sdk[train]")
        networks = require("fer_training.networks.architecture", "fer-sdk[train]")
        errors = require("fer_sdk.errors", "fer-sdk")
        path = task.options.get("checkpoint")
        if not path:
            raise UnavailableError(
                "no checkpoint was given: name the emotion model's .safetensors of fer-train with "
                "--checkpoint"
            )
        if task.faces is None:
            raise UnavailableError("it runs on face crops, and none were given")
        if task.threads is not None:
            torch.set_num_threads(task.threads)
        try:
            network, checkpoint = checkpoints.load(Path(path))
        except errors.DataError as error:
            raise UnavailableError(str(error)) from error
        architecture, temperature = checkpoint.architecture, checkpoint.temperature
        side = task.faces.shape[1]
        if (architecture.task, architecture.input_size) != ("emotion", side):
            raise UnavailableError(
                f"{path}: a network for {architecture.task} in {architecture.input_size} pixels; "
                f"it must be the emotion model's, which takes {side}"
            )

        def scores(faces: Any) -> Any:
            logits = network(networks.normalise(faces, architecture))
            return (logits / (temperature or 1.0)).softmax(dim=1)

        compiled = task.options.get("mode") == "compiled"
        self._torch: Any = torch
        self._scores: Any = torch.compile(scores) if compiled else scores
        self._faces: Any = torch.from_numpy(task.faces)
        self._labels = checkpoint.labels
        self.version = f"PyTorch {torch.__version__}, {'compiled' if compiled else 'eager'}"
        try:
            self.run()
        except Exception as error:  # its compiler needs one for C++, and fails in many ways
            first = str(error).strip().partition("\n")[0]
            raise UnavailableError(f"{path} does not run here: {first}") from error

    def run(self) -> object:
        with self._torch.inference_mode():
            return self._scores(self._faces)

    def classify(self, faces: Image) -> list[str | None]:
        with self._torch.inference_mode():
            scores = self._scores(self._torch.from_numpy(faces))
        return [self._labels[int(best)] for best in scores.argmax(dim=1)]
