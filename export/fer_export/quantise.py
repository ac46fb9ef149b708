"""Static int8 quantisation of a float32 graph, in the QDQ form that every onnxruntime can fuse.

What is quantised is what costs time: convolutions, matrix products and what lies between them.
Preprocessing, the mean over the last feature map, the sigmoid and the product of the attention,
temperature and softmax stay in float32; together they are far below a thousandth of the work.

Weights have 7 bits: on x86 CPUs without VNNI, onnxruntime multiplies 8-bit activations with 8-bit
weights by ``vpmaddubsw``, which adds pairs of products into 16 bits and saturates: 255 * 127 * 2
does not fit. 255 * 64 * 2 = 32640 does, whatever the input. CPUs with VNNI or AVX-VNNI and ARM's
``sdot``, ``udot`` and ``ummla`` add into 32 bits. ``kernel_error`` measures it on the CPU at hand.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from fer_export.graph import IR_VERSION, checked, weighted_layers
from fer_sdk.errors import DataError, ModelError
from fer_sdk.models.metadata import INPUT
from fer_sdk.models.session import Session
from fer_training.data.faces import FaceSet

_OPERATORS = ["Conv", "Gemm", "Add", "Relu", "MaxPool"]
_BATCH = 32
_EXACT_KERNELS = {"session.x64quantprecision": "1"}


@dataclass(frozen=True, slots=True)
class Quantisation:
    """How a graph is quantised. The defaults are those of the shipped models.

    Attributes:
        float_layers: layers that stay in float32; a name stands for all layers that start with it.
        faces: how many faces calibrate it; each activation gets the range of what they give.
        seed: which faces.
    """

    float_layers: tuple[str, ...] = ("backbone.conv1", "head")
    faces: int = 512
    seed: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for reports and a model's metadata."""
        return asdict(self) | {
            "float_layers": list(self.float_layers),
            "calibration": "minmax",
            "activations": "uint8",
            "weight_bits": 7,
            "weights": "int8, symmetric",
            "per_channel": True,
            "format": "QDQ",
        }


def balanced(faces: FaceSet, count: int, seed: int) -> FaceSet:
    """Faces of every label in equal numbers, as far as there are so many, chosen at random.

    Args:
        faces: to choose from.
        count: about how many to choose.
        seed: of the choice.

    Raises:
        DataError: there is nothing to choose from.
    """
    if len(faces) == 0:
        raise DataError("no training faces to calibrate with: give data that has a training part")
    present = np.unique(faces.labels)
    each = -(-count // len(present))
    random = np.random.default_rng(seed)
    chosen = [random.permutation(np.flatnonzero(faces.labels == label))[:each] for label in present]
    return faces.take(np.sort(np.concatenate(chosen)))


def quantise(
    model: onnx.ModelProto, faces: npt.NDArray[np.uint8], settings: Quantisation
) -> onnx.ModelProto:
    """The int8 form of a float32 graph.

    Args:
        model: from ``graph.build_graph``.
        faces: to calibrate with, uint8 ``[N, S, S]``.
        settings: the rest.

    Raises:
        ModelError: ``settings.float_layers`` names a layer that the graph does not have.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    excluded = _excluded(model, settings.float_layers)
    # onnxruntime's quantiser tells of itself on stdout, which is for results, and advises to
    # preprocess what is preprocessed.
    root = logging.getLogger()
    with TemporaryDirectory(prefix="fer-export-") as folder, redirect_stdout(StringIO()):
        plain, target = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, plain)
        disabled, root.disabled = root.disabled, True
        try:
            quantize_static(
                plain,
                target,
                _Reader(faces),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=_OPERATORS,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=excluded,
                extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
            )
        finally:
            root.disabled = disabled
        result = onnx.load(target)
    result.ir_version = IR_VERSION
    del result.metadata_props[:]
    return checked(result)


def largest_weight(model: onnx.ModelProto) -> int:
    """The largest magnitude of an integer weight: up to 64, no CPU's sums can overflow."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    sources = {name: node for node in model.graph.node for name in node.output}
    weights = [
        numpy_helper.to_array(stored[source.input[0]])
        for layer in weighted_layers(model)
        if (source := sources.get(layer.input[1])) and source.op_type == "DequantizeLinear"
    ]
    return max((int(np.abs(weight.astype(int)).max()) for weight in weights), default=0)


def kernel_error(model: onnx.ModelProto, faces: npt.NDArray[np.uint8], *, source: str) -> float:
    """How far this CPU's integer kernels are from exact integer arithmetic, for an int8 model.

    The same file runs twice: as the SDK runs it, and with the option by which onnxruntime takes
    kernels that cannot saturate (it has an effect on x86 without VNNI only, where alone they
    differ).

    Returns:
        The largest difference of any output; 0 when nothing saturates.
    """
    content = model.SerializeToString()
    usual = Session(content, source=source, threads=1)
    exact = _exact_session(content)
    worst = 0.0
    for start in range(0, len(faces), _BATCH):
        batch = faces[start : start + _BATCH]
        difference = usual.run(batch)[0] - exact.run(None, {INPUT: batch})[0]
        worst = max(worst, float(np.abs(difference).max()))
    return worst


def _exact_session(content: bytes) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    for key, value in _EXACT_KERNELS.items():
        options.add_session_config_entry(key, value)
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _excluded(model: onnx.ModelProto, names: tuple[str, ...]) -> list[str]:
    layers = [node.name for node in weighted_layers(model)]
    unknown = [name for name in names if not any(_covers(name, layer) for layer in layers)]
    if unknown:
        raise ModelError(
            f"float_layers: the network has no {', '.join(unknown)}; its layers are "
            f"{', '.join(layers)}"
        )
    return [layer for layer in layers if any(_covers(name, layer) for name in names)]


def _covers(name: str, layer: str) -> bool:
    return layer == name or layer.startswith(f"{name}.")


class _Reader:
    """Faces in batches, as onnxruntime's calibrators read them."""

    def __init__(self, faces: npt.NDArray[np.uint8]) -> None:
        self._batches: Iterator[npt.NDArray[np.uint8]] = (
            faces[start : start + _BATCH] for start in range(0, len(faces), _BATCH)
        )

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}
