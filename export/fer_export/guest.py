"""Runs ONNX files on the CPU that it finds itself on; needs numpy and onnxruntime, nothing of ours.

``python guest.py JOBS.json``, a list of objects with ``model``, ``inputs`` (an ``.npz`` of one or
more runs: ``RUN/NAME`` is what the input NAME gets in that run) and ``outputs`` (where to write the
first output of each run, as ``RUN``). Prints the version of onnxruntime. This is what goes into an
emulated CPU, where the rest of the package is not.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime as ort


def run(model: str, inputs: str, outputs: str) -> None:
    """One job."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    runs: dict[str, dict[str, object]] = {}
    with np.load(inputs) as stored:
        for key in stored.files:
            name, _, part = key.partition("/")
            runs.setdefault(name, {})[part] = stored[key]
    given = {name: session.run(None, feed)[0] for name, feed in runs.items()}
    np.savez(outputs, **given)


if __name__ == "__main__":
    for job in json.loads(Path(sys.argv[1]).read_text("utf-8")):
        run(**job)
    sys.stdout.write(f"{ort.__version__}\n")
