"""Static int8 quantisation of a float32 graph, in the QDQ form that every onnxruntime can fuse.

What is quantised is what costs time: convolutions, matrix products and what lies between them.
Preprocessing, the mean over the last feature map, the sigmoid and the product of the attention,
temperature and softmax stay in float32; together they are far below a thousandth of the work.

Saturation: on x86 CPUs without VNNI, onnxruntime multiplies 8-bit activations with 8-bit weights by
``vpmaddubsw``, which adds pairs of products into 16 bits and saturates: 255 * 127 * 2 does not fit.
With 7-bit weights 255 * 64 * 2 = 32640 does, whatever the input. CPUs with VNNI or AVX-VNNI and
ARM's ``sdot``, ``udot`` and ``ummla`` add into 32 bits and cannot saturate, with either.
``kernel_error`` measures it on the CPU at hand, ``fer_export.emulate`` on others.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import onnx

from fer_export.bias import correct_biases
from fer_export.graph import IR_VERSION, checked, weighted_layers
from fer_sdk.errors import DataError, ModelError
from fer_sdk.models.metadata import INPUT
from fer_sdk.models.session import Session
from fer_training.faces import FaceSet

Calibration = Literal["minmax", "entropy", "percentile"]

_OPERATORS = ["Conv", "Gemm", "Add", "Relu", "MaxPool"]
_BATCH = 32
_CORRECTION_FACES = 128
_EXACT_KERNELS = {"session.x64quantprecision": "1"}


class TensorRanges(Protocol):
    """onnxruntime's ``TensorsData``: the range of every tensor that was calibrated."""

    def keys(self) -> Iterable[str]:
        """Names of the tensors."""
        ...


@dataclass(frozen=True, slots=True)
class Quantisation:
    """How a graph is quantised. The defaults are what measuring chose for the shipped models.

    Attributes:
        calibration: how the range of each activation is chosen from what the calibration faces
            give: all of it (``"minmax"``), the least loss of information (``"entropy"``, 128
            levels), or all but the outermost part (``"percentile"``).
        percentile: per cent of the values that are inside the range, for ``"percentile"``.
        activations: ``"uint8"`` or ``"int8"``; both with a zero point.
        weight_bits: 8, or 7 for CPUs whose kernels saturate.
        float_layers: layers that stay in float32; a name stands for all layers that start with it.
        bias_correction: whether the mean error of each channel is taken out, see ``bias``.
        faces: how many faces calibrate it.
        seed: which faces.
    """

    calibration: Calibration = "minmax"
    percentile: float = 99.99
    activations: Literal["uint8", "int8"] = "uint8"
    weight_bits: Literal[7, 8] = 7
    float_layers: tuple[str, ...] = ("backbone.conv1", "head")
    bias_correction: bool = True
    faces: int = 512
    seed: int = 1

    @property
    def method(self) -> str:
        """The calibration in words."""
        return (
            f"percentile {self.percentile:g}"
            if self.calibration == "percentile"
            else self.calibration
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for reports and a model's metadata."""
        values = asdict(self) | {"float_layers": list(self.float_layers)}
        if self.calibration != "percentile":
            del values["percentile"]
        return values | {"format": "QDQ", "per_channel": True, "weights": "int8, symmetric"}


def balanced(faces: FaceSet, count: int, seed: int, *, skip: int = 0) -> FaceSet:
    """Faces of every label in equal numbers, as far as there are so many, chosen at random.

    Args:
        faces: to choose from.
        count: about how many to choose.
        seed: of the choice.
        skip: leave out the first faces that a choice of that many with the same seed would take.

    Raises:
        DataError: there is nothing to choose from.
    """
    if len(faces) == 0:
        raise DataError("no training faces to calibrate with: give data that has a training part")
    present = np.unique(faces.labels)
    each = -(-count // len(present))
    first = -(-skip // len(present))
    random = np.random.default_rng(seed)
    chosen = [
        random.permutation(np.flatnonzero(faces.labels == label))[first : first + each]
        for label in present
    ]
    return faces.take(np.sort(np.concatenate(chosen)))


def calibrate(
    model: onnx.ModelProto, faces: npt.NDArray[np.uint8], settings: Quantisation
) -> TensorRanges:
    """The ranges of a float32 graph's activations over faces uint8 ``[N, S, S]``.

    They serve every choice of layers, activation type and weight bits.
    """
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    method = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }[settings.calibration]
    options: dict[str, Any] = {"symmetric": False}
    if settings.calibration == "percentile":
        options["percentile"] = settings.percentile
    # onnxruntime's histograms tell of themselves on stdout, which is for results.
    with tempfile.TemporaryDirectory(prefix="fer-export-") as folder, redirect_stdout(StringIO()):
        plain = Path(folder) / "plain.onnx"
        onnx.save(model, plain)
        calibrator = create_calibrator(
            plain,
            _OPERATORS,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=method,
            extra_options=options,
        )
        # Batch by batch: onnxruntime holds every activation of what one call reads.
        for start in range(0, len(faces), _BATCH):
            calibrator.collect_data(_Reader(faces[start : start + _BATCH]))
        ranges: TensorRanges = calibrator.compute_data()
    return ranges


def quantise(
    model: onnx.ModelProto,
    ranges: TensorRanges,
    faces: npt.NDArray[np.uint8],
    settings: Quantisation,
) -> onnx.ModelProto:
    """The int8 form of a float32 graph.

    Args:
        model: from ``graph.build_graph``.
        ranges: from ``calibrate`` with the same graph and calibration.
        faces: those that calibrated, uint8 ``[N, S, S]``.
        settings: the rest.

    Raises:
        ModelError: ``settings.float_layers`` names a layer that the graph does not have.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    excluded = _excluded(model, settings.float_layers)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    activations = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}[settings.activations]
    quantizer = QDQQuantizer(
        copy,
        True,  # one scale per output channel
        settings.weight_bits == 7,
        QuantType.QInt8,
        activations,
        ranges,
        [],
        excluded,
        _OPERATORS,
        {"ActivationSymmetric": False, "WeightSymmetric": True},
    )
    quantizer.quantize_model()
    # It leaves the nodes in no order; onnxruntime itself sorts them when it saves.
    quantizer.model.topological_sort()
    result: onnx.ModelProto = quantizer.model.model
    result.ir_version = IR_VERSION
    del result.metadata_props[:]
    if settings.bias_correction:
        correct_biases(result, model, faces[:_CORRECTION_FACES])
    return checked(result)


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
    unknown = [name for name in names if not any(covers(name, layer) for layer in layers)]
    if unknown:
        raise ModelError(
            f"float_layers: the network has no {', '.join(unknown)}; its layers are "
            f"{', '.join(layers)}"
        )
    return [layer for layer in layers if any(covers(name, layer) for name in names)]


def covers(name: str, layer: str) -> bool:
    """Whether a name in ``float_layers`` stands for a layer."""
    return layer == name or layer.startswith(f"{name}.")


class _Reader:
    """One batch, as onnxruntime's calibrators read it."""

    def __init__(self, faces: npt.NDArray[np.uint8]) -> None:
        self._batch: npt.NDArray[np.uint8] | None = faces

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        batch, self._batch = self._batch, None
        return None if batch is None else {INPUT: batch}
