"""PyTorch on an exported program (``torch.export.save``), eager or compiled.

A program holds the network without the code that made it, which benchmarks may not import.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fer_bench.rivals.adapter import Image, Rival, Task, UnavailableError, require


class _Torch:
    def __init__(self, task: Task) -> None:
        torch = require("torch", "torch")
        program = task.options.get("program")
        if not program:
            raise UnavailableError(
                "no program was given: name a torch.export program that takes the model's "
                "'faces' with --torch-program"
            )
        if task.faces is None:
            raise UnavailableError("it runs on face crops, and none were given")
        if task.threads is not None:
            torch.set_num_threads(task.threads)
        try:
            network: Any = torch.export.load(Path(program)).module()
        except Exception as error:
            raise UnavailableError(f"{program}: torch cannot load it: {error}") from error
        compiled = task.options.get("mode") == "compiled"
        self._torch: Any = torch
        self._network: Any = torch.compile(network) if compiled else network
        self._faces: Any = torch.from_numpy(task.faces)
        self._labels = json.loads(task.options.get("labels", "[]"))
        self.version = f"PyTorch {torch.__version__}, {'compiled' if compiled else 'eager'}"
        try:
            self.run()
        except Exception as error:
            raise UnavailableError(f"{program} does not run here: {error}") from error

    def run(self) -> object:
        with self._torch.inference_mode():
            return self._network(self._faces)

    def faces_in(self, answer: object) -> int | None:
        return len(self._faces)

    def classify(self, faces: Image) -> list[str | None]:
        with self._torch.inference_mode():
            scores = self._network(self._torch.from_numpy(faces))
        return [self._labels[int(best)] for best in scores.argmax(dim=1)]


def open_rival(task: Task) -> Rival:
    """Load the program of the options.

    Raises:
        UnavailableError: no torch, no program, or one that does not run here.
    """
    return _Torch(task)
