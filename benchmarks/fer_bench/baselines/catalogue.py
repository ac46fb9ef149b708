"""Which baselines there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Entry:
    """A baseline by the name that a user gives.

    Attributes:
        subject: what tables call it.
        adapter: module of this package that knows it.
        kind: ``"package"`` takes a picture, ``"runtime"`` runs a model on crops.
        stage: what its time covers.
        options: what the adapter wants to know.
    """

    subject: str
    adapter: str
    kind: Literal["package", "runtime"]
    stage: str
    options: Mapping[str, str] = field(default_factory=dict)


BASELINES: Mapping[str, Entry] = {
    "openvino": Entry("OpenVINO", "openvino", "runtime", "emotion"),
    "torch": Entry("PyTorch eager", "torch_network", "runtime", "emotion", {"mode": "eager"}),
    "torch-compiled": Entry(
        "PyTorch compiled", "torch_network", "runtime", "emotion", {"mode": "compiled"}
    ),
    "fer": Entry("fer (Haar)", "fer_package", "package", "end to end", {"detector": "haar"}),
    "fer-mtcnn": Entry(
        "fer (MTCNN)", "fer_package", "package", "end to end", {"detector": "mtcnn"}
    ),
    "hsemotion-onnx": Entry(
        "hsemotion-onnx", "hsemotion", "package", "given boxes", {"package": "hsemotion-onnx"}
    ),
    "emotiefflib": Entry(
        "emotiefflib", "hsemotion", "package", "given boxes", {"package": "emotiefflib"}
    ),
    "deepface": Entry("deepface", "deepface", "package", "end to end"),
}
