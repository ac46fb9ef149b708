"""Bias correction: take out of a quantised layer what quantisation adds to it on average.

Rounding weights and activations moves the mean of each output channel, always the same way, and
what moves the means of many channels moves the result. The difference is measured over the
calibration faces, layer by layer, and put into the layer's bias, which costs nothing when the model
runs. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV
2019, in its measured form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper
from torch.nn.functional import conv2d, linear

from fer_export.graph import weighted_layers
from fer_sdk.models.session import Session

_BATCH = 32


@dataclass(frozen=True, slots=True)
class _Linear:
    """One scale and zero point, or one per output channel."""

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int32]


@dataclass(slots=True)
class _Layer:
    """A quantised layer beside the float32 layer that it was.

    Attributes:
        name: of the layer.
        enters: name of its input in the float32 graph.
        input: how its input is quantised.
        weight: of the float32 layer.
        rounded: the weight that the quantised layer really has.
        bias: name of its integer bias.
        bias_scale: what one step of the bias is worth, per output channel.
        strides, pads: of a convolution; None for a matrix product.
        moved: sum over faces of how far each output channel's mean has moved.
    """

    name: str
    enters: str
    input: _Linear
    weight: torch.Tensor
    rounded: torch.Tensor
    bias: str
    bias_scale: npt.NDArray[np.float32]
    strides: list[int] | None
    pads: list[int] | None
    moved: npt.NDArray[np.float64]


def correct_biases(
    quantised: onnx.ModelProto, model: onnx.ModelProto, faces: npt.NDArray[np.uint8]
) -> None:
    """Correct the biases of an int8 graph in place.

    Args:
        quantised: from ``quantise.quantise``.
        model: the float32 graph that it was made from.
        faces: the calibration faces, uint8 ``[N, S, S]``.
    """
    layers = _layers(quantised, model)
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    names = list(dict.fromkeys(layer.enters for layer in layers))
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = Session(probe.SerializeToString(), source="float32 graph")
    for start in range(0, len(faces), _BATCH):
        batch = faces[start : start + _BATCH]
        entering = dict(zip(names, session.run(batch), strict=True))
        for layer in layers:
            layer.moved += len(batch) * _moved(layer, entering[layer.enters])
    stored = {tensor.name: tensor for tensor in quantised.graph.initializer}
    for layer in layers:
        bias = numpy_helper.to_array(stored[layer.bias]).astype(np.int64)
        steps = np.round(layer.moved / len(faces) / layer.bias_scale).astype(np.int64)
        limits = np.iinfo(np.int32)
        corrected = np.clip(bias - steps, limits.min, limits.max).astype(np.int32)
        stored[layer.bias].CopyFrom(numpy_helper.from_array(corrected, layer.bias))


def _layers(quantised: onnx.ModelProto, model: onnx.ModelProto) -> list[_Layer]:
    plain = {node.name: node for node in weighted_layers(model)}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    integers = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in quantised.graph.initializer
    }
    from_integers = {
        node.output[0]: node for node in quantised.graph.node if node.op_type == "DequantizeLinear"
    }
    layers = []
    for node in weighted_layers(quantised):
        sources = [from_integers.get(name) for name in node.input]
        if len(sources) < 3 or any(source is None for source in sources):
            # A layer that stays in float32, or has no bias to put anything into.
            continue
        entering, weight, bias = (source for source in sources if source is not None)
        before = plain[node.name]
        attributes = {a.name: helper.get_attribute_value(a) for a in before.attribute}
        is_convolution = node.op_type == "Conv"
        weight_float = torch.from_numpy(values[before.input[1]].copy())
        rounded = torch.from_numpy(_dequantise(integers[weight.input[0]], weight, integers))
        layers.append(
            _Layer(
                name=node.name,
                enters=before.input[0],
                input=_linear(entering, integers),
                weight=weight_float,
                rounded=rounded,
                bias=bias.input[0],
                bias_scale=integers[bias.input[1]],
                strides=list(attributes["strides"]) if is_convolution else None,
                pads=list(attributes["pads"]) if is_convolution else None,
                moved=np.zeros(len(weight_float)),
            )
        )
    return layers


def _moved(layer: _Layer, entering: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """How far the mean of each output channel moves, for one batch."""
    scale, zero = float(layer.input.scale), int(layer.input.zero_point)
    limits = np.iinfo(layer.input.zero_point.dtype)
    steps = np.clip(np.round(entering / scale) + zero, limits.min, limits.max)
    rounded = ((steps - zero) * scale).astype(np.float32)
    moved = _run(layer, rounded, layer.rounded) - _run(layer, entering, layer.weight)
    axes = [axis for axis in range(moved.ndim) if axis != 1]
    mean: npt.NDArray[np.float64] = moved.double().mean(dim=axes).numpy()
    return mean


def _run(layer: _Layer, entering: npt.NDArray[np.float32], weight: torch.Tensor) -> torch.Tensor:
    inputs = torch.from_numpy(entering)
    if layer.strides is None or layer.pads is None:
        return linear(inputs, weight)
    top, left, _, _ = layer.pads
    return conv2d(inputs, weight, stride=layer.strides, padding=[top, left])


def _linear(node: onnx.NodeProto, integers: dict[str, npt.NDArray[np.generic]]) -> _Linear:
    return _Linear(integers[node.input[1]], integers[node.input[2]])  # type: ignore[arg-type]


def _dequantise(
    steps: npt.NDArray[np.generic],
    node: onnx.NodeProto,
    integers: dict[str, npt.NDArray[np.generic]],
) -> npt.NDArray[np.float32]:
    scale = integers[node.input[1]]
    per_channel = scale.reshape(-1, *[1] * (steps.ndim - 1)) if scale.ndim else scale
    value: npt.NDArray[np.float32] = steps.astype(np.float32) * per_channel.astype(np.float32)
    return value
