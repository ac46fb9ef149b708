"""How many operations a model needs for one face, counted in its ONNX graph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx import numpy_helper, shape_inference

from fer_bench.results.result import Layer, Operations
from fer_sdk.errors import ModelError

_INT8 = frozenset({onnx.TensorProto.INT8, onnx.TensorProto.UINT8})
_INTEGER_NODES = frozenset(
    {"ConvInteger", "QLinearConv", "MatMulInteger", "QLinearMatMul", "QGemm", "QLinearGemm"}
)
# Where the weight stands among the inputs, if not second.
_WEIGHT = {"QLinearConv": 3}
_CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "QLinearConv"})
_PRODUCTS = frozenset({"MatMul", "MatMulInteger", "QLinearMatMul", "Gemm", "QGemm"})


def count_operations(model: bytes, source: str) -> Operations:
    """Multiply-adds of the convolutions and matrix products for a batch of one, and the weights.

    Additions, activations and pooling are left out: they are some per cent of a ResNet's work.

    Raises:
        ModelError: the file cannot be parsed, or the shape of a product stays unknown.
    """
    graph = _with_shapes(model, source)
    shapes, types = _tensors(graph)
    producers = {name: node for node in graph.node for name in node.output}
    stored = {tensor.name: numpy_helper.to_array(tensor).nbytes for tensor in graph.initializer}
    layers = []
    for node in graph.node:
        if node.op_type not in _CONVOLUTIONS | _PRODUCTS:
            continue
        macs = _macs(node, shapes, source)
        weights = _weight_bytes(node, producers, stored)
        if node.op_type in _INTEGER_NODES or _is_quantised(node, producers, types):
            layers.append(Layer(macs, 0, weights))
        else:
            layers.append(Layer(0, macs, weights))
    return Operations(
        sum(layer.int8_macs for layer in layers),
        sum(layer.float_macs for layer in layers),
        sum(stored.values()),
        layers,
    )


def _with_shapes(model: bytes, source: str) -> Any:
    try:
        proto = onnx.load_model_from_string(model)
        for value in proto.graph.input:
            for axis in value.type.tensor_type.shape.dim:
                if not axis.HasField("dim_value") or axis.dim_value < 1:
                    axis.ClearField("dim_param")
                    axis.dim_value = 1
        # Shapes that were stored for a dynamic batch would contradict the batch of one.
        del proto.graph.value_info[:]
        for value in proto.graph.output:
            value.type.tensor_type.ClearField("shape")
        return shape_inference.infer_shapes(proto, data_prop=True).graph
    except Exception as error:  # onnx raises protobuf's own errors
        raise ModelError(f"{source}: onnx cannot read its graph: {error}") from error


def _tensors(graph: Any) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    shapes: dict[str, tuple[int, ...]] = {}
    types: dict[str, int] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        types[value.name] = tensor.elem_type
        axes = [axis.dim_value for axis in tensor.shape.dim]
        if tensor.HasField("shape") and all(axes):
            shapes[value.name] = tuple(axes)
    for tensor in graph.initializer:
        shapes[tensor.name] = tuple(tensor.dims)
        types[tensor.name] = tensor.data_type
    return shapes, types


def _macs(node: Any, shapes: Mapping[str, Sequence[int]], source: str) -> int:
    def shape(name: str) -> Sequence[int]:
        if name not in shapes:
            raise ModelError(f"{source}: the shape of {name} at {node.name} cannot be inferred")
        return shapes[name]

    out = shape(node.output[0])
    if node.op_type in _CONVOLUTIONS:
        weight = shape(node.input[_WEIGHT.get(node.op_type, 1)])
        # [out, in / group, kernel...]: what one output value is summed over.
        return math.prod(out) * math.prod(weight[1:])
    first = shape(node.input[0])
    transposed = any(part.name == "transA" and part.i for part in node.attribute)
    return math.prod(out) * (first[0] if transposed else first[-1])


def _weight_bytes(node: Any, producers: Mapping[str, Any], stored: Mapping[str, int]) -> int:
    """Of a layer; 0 where both of its operands are computed."""
    name = node.input[_WEIGHT.get(node.op_type, 1)]
    # Weights may be dequantised, widened or turned before they are used.
    while name not in stored and name in producers and producers[name].input:
        name = producers[name].input[0]
    return stored.get(name, 0)


def _is_quantised(node: Any, producers: Mapping[str, Any], types: Mapping[str, int]) -> bool:
    """Whether both operands come out of a DequantizeLinear of int8: onnxruntime fuses those."""

    def from_int8(name: str) -> bool:
        producer = producers.get(name)
        return (
            producer is not None
            and producer.op_type == "DequantizeLinear"
            and types.get(producer.input[0]) in _INT8
        )

    return from_int8(node.input[0]) and from_int8(node.input[1])
