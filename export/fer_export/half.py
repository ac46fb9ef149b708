"""Half precision: as a way to store float32 models, and to compute in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from fer_export.graph import WEIGHTED, checked, weighted_layers
from fer_sdk.errors import ModelError

# Float32 keeps 24 bits, and the product of a weight and a factor is rounded once.
_EXACT = 2.0**-22


def store_in_half(
    model: onnx.ModelProto, weights: Mapping[str, npt.NDArray[np.float32]]
) -> onnx.ModelProto:
    """The same float32 model at half the size.

    A checkpoint holds its weights in half precision; what folding BatchNorm did to them is one
    factor per output channel. So the file holds the checkpoint's own half-precision weights and
    those factors in float32, and the graph multiplies them. onnxruntime does that once, when it
    loads the file: what runs is float32 weights, to the last bit but one.

    Args:
        model: a float32 graph from ``build_graph``.
        weights: the network's own weights, by the names that they have in the graph.

    Raises:
        ModelError: the graph's weights are not the network's times one factor per channel, or the
            network's are not half-precision numbers.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    unfold: list[onnx.NodeProto] = []
    for layer in weighted_layers(result):
        name = layer.input[1]
        folded = numpy_helper.to_array(stored[name])
        if name not in weights:
            raise ModelError(f"{name}: the graph has a weight that the network does not have")
        half, factors = _half_and_factors(name, weights[name], folded)
        stored[name].CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        plain = f"{name}.float" if factors is not None else name
        unfold.append(
            helper.make_node(
                "Cast", [f"{name}.half"], [plain], f"{name}.cast", to=TensorProto.FLOAT
            )
        )
        if factors is not None:
            graph.initializer.append(numpy_helper.from_array(factors, f"{name}.factor"))
            unfold.append(
                helper.make_node("Mul", [plain, f"{name}.factor"], [name], f"{name}.scale")
            )
    nodes = [*unfold, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return checked(result)


def _half_and_factors(
    name: str, weight: npt.NDArray[np.float32], folded: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float32] | None]:
    half = weight.astype(np.float16)
    if not np.array_equal(half.astype(np.float32), weight):
        raise ModelError(f"{name}: not in half precision; load it from a fer-train checkpoint")
    if np.array_equal(weight, folded):
        return half, None
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    wanted = folded.reshape(len(folded), -1).astype(np.float64)
    # Each channel's largest weight tells its factor most precisely.
    largest = np.abs(rows).argmax(axis=1)[:, None]
    top = np.take_along_axis(rows, largest, 1)
    factor = np.take_along_axis(wanted, largest, 1) / np.where(top == 0, 1, top)
    factors = factor.astype(np.float32)
    off = np.abs(rows * factors - wanted)
    if (off > _EXACT * np.abs(wanted)).any():
        raise ModelError(
            f"{name}: the exported weight is not the network's times one factor per channel"
        )
    return half, factors.reshape(-1, *[1] * (weight.ndim - 1))


def compute_in_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with half-precision weights and arithmetic; what goes in and out stays as it is.

    Normalisation of the pixels, temperature and softmax stay in float32.

    Args:
        model: a float32 graph from ``build_graph``.

    Raises:
        ModelError: a weight is beyond the range of half precision.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    before, inside, after = _parts(graph)
    _halve_initializers(graph, inside)
    made = {name for node in before for name in node.output}
    enter = dict.fromkeys(name for node in inside for name in node.input if name in made)
    leaves = inside[-1].output[0]
    for node in inside:
        node.input[:] = [_rounded(name) if name in enter else name for name in node.input]
    inside[-1].output[0] = _rounded(leaves)
    arranged = [
        *before,
        *(_cast(name, _rounded(name), TensorProto.FLOAT16) for name in enter),
        *inside,
        _cast(_rounded(leaves), leaves, TensorProto.FLOAT),
        *after,
    ]
    del graph.node[:]
    graph.node.extend(arranged)
    return checked(result)


def round_as_in_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """What ``compute_in_half`` gives on a device that computes in half precision, for a CPU.

    There onnxruntime computes fp16 models in float32, which says little of what a GPU makes of
    them. So this is float32, with every weight and every result in between rounded to half.

    Args:
        model: a float32 graph from ``build_graph``.

    Raises:
        ModelError: a weight is beyond the range of half precision.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    before, inside, after = _parts(graph)
    _halve_initializers(graph, inside)
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            value = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    floats = {
        value.name
        for value in (*model.graph.value_info, *model.graph.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    enters = inside[0].input[0]
    arranged = [*before, *_rounding(enters, f"{enters}.back")]
    for node in inside:
        node.input[:] = [f"{name}.back" if name == enters else name for name in node.input]
        arranged.append(node)
        for at, name in enumerate(node.output):
            if name in floats:
                node.output[at] = f"{name}.exact"
                arranged += _rounding(node.output[at], name)
    del graph.node[:]
    graph.node.extend([*arranged, *after])
    return checked(result)


def _rounding(source: str, target: str) -> list[onnx.NodeProto]:
    return [
        _cast(source, _rounded(source), TensorProto.FLOAT16),
        _cast(_rounded(source), target, TensorProto.FLOAT),
    ]


def _parts(
    graph: onnx.GraphProto,
) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto], list[onnx.NodeProto]]:
    """The nodes before, from the first to the last, and after the layers that have weights."""
    nodes = list(graph.node)
    layers = [at for at, node in enumerate(nodes) if node.op_type in WEIGHTED]
    first, last = layers[0], layers[-1] + 1
    return nodes[:first], nodes[first:last], nodes[last:]


def _rounded(name: str) -> str:
    return f"{name}.rounded"


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], f"{target}.cast", to=kind)


def _halve_initializers(graph: onnx.GraphProto, inside: list[onnx.NodeProto]) -> None:
    used = {name for node in inside for name in node.input}
    for tensor in graph.initializer:
        if tensor.name not in used or tensor.data_type != TensorProto.FLOAT:
            continue
        with np.errstate(over="ignore"):
            half = numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(half).all():
            raise ModelError(f"{tensor.name}: too large for half precision; export fp32 instead")
        tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
