"""Convolutions of int8 by the matrix tiles (AMX) of x86 CPUs that have them.

onnxruntime computes a convolution of int8 in one of two ways. Where all zero points of the weights
are 0, it takes one that was written before there were tiles, and never uses them. With any other it
lays out the input as a matrix and multiplies, by tiles where the CPU has them. One more on every
weight and on its zero point is the same convolution, to the bit, the second way.

Measured for one thread only: more threads share out the first way better. Nor is it for CPUs whose
int8 products can saturate, where a larger weight counts: one with tiles has none of those.
"""

from __future__ import annotations

import ctypes
import math
import platform
import sys
from collections import Counter
from typing import NamedTuple

import numpy as np

from fer_sdk.models.onnx_file import (
    GRAPH_TENSOR,
    MODEL_GRAPH,
    TENSOR_NAME,
    TENSOR_TYPE,
    NoProtobufError,
    fields,
    parts,
)

# Numbers of the fields, beside those of ``onnx_file``.
_GRAPH_NODE, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 11, 12
_VALUE_NAME = 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATION, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_GRAPHS = (6, 11)
_TENSOR_DIMENSIONS, _TENSOR_NUMBERS, _TENSOR_BYTES = 1, 5, 9
_INT8 = 3

# From Linux's asm/prctl.h and the layout of the CPU's extended state.
_ARCH_PRCTL, _GET_PERMISSIONS, _TILE_DATA = 158, 0x1022, 18


class _Tensor(NamedTuple):
    """A tensor of int8: its shape, and its bytes within the model."""

    shape: tuple[int, ...]
    content: memoryview


class _Node(NamedTuple):
    operation: bytes
    inputs: list[bytes]
    outputs: list[bytes]


def has_matrix_tiles() -> bool:
    """Whether Linux lets this process use the CPU's tiles, which onnxruntime asks for.

    It does so as it is imported: before that the answer is no.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    granted = ctypes.c_uint64()
    failed: int = ctypes.CDLL(None).syscall(
        ctypes.c_long(_ARCH_PRCTL), ctypes.c_long(_GET_PERMISSIONS), ctypes.byref(granted)
    )
    return failed == 0 and bool(granted.value >> _TILE_DATA & 1)


def prefer_matrix_tiles(model: bytes) -> bytes:
    """The same model, written so that onnxruntime computes its convolutions as matrix products.

    Args:
        model: an ONNX file that ``check_self_contained`` took.

    Returns:
        The changed file; the given one where there is nothing to change. Convolutions of one pixel
        or of one channel at a time, and those whose weights cannot grow by one or are used
        elsewhere too, stay as they are. So does a damaged file, for onnxruntime to refuse.
    """
    try:
        pairs = _weights_and_zero_points(memoryview(model))
    except NoProtobufError:
        return model
    if not pairs:
        return model
    written = bytearray(model)
    start = np.frombuffer(model, np.uint8).ctypes.data
    for pair in pairs:
        for tensor in pair:
            begin = np.frombuffer(tensor.content, np.uint8).ctypes.data - start
            part = memoryview(written)[begin : begin + len(tensor.content)]
            np.frombuffer(part, np.int8)[...] += 1
    return bytes(written)


def _weights_and_zero_points(model: memoryview) -> list[tuple[_Tensor, _Tensor]]:
    """What can grow by one, of convolutions that are matrix products then."""
    graphs = parts(model, MODEL_GRAPH)
    if len(graphs) != 1:
        return []
    (graph,) = graphs
    nodes = []
    for part in parts(graph, _GRAPH_NODE):
        attributes = parts(part, _NODE_ATTRIBUTE)
        if any(parts(one, number) for one in attributes for number in _ATTRIBUTE_GRAPHS):
            # A graph in it may use the same tensors by their names.
            return []
        nodes.append(_node(part))
    # What a caller gives or gets is not only this graph's.
    ends = [
        bytes(name)
        for number in (_GRAPH_INPUT, _GRAPH_OUTPUT)
        for value in parts(graph, number)
        for name in parts(value, _VALUE_NAME)
    ]
    uses = Counter([*ends, *(name for node in nodes for name in node.inputs)])
    kernels = {node.inputs[1] for node in nodes if node.operation == b"Conv" and node.inputs[1:]}
    tensors: dict[bytes, _Tensor] = {}
    names: Counter[bytes] = Counter()
    for part in parts(graph, GRAPH_TENSOR):
        name, tensor = _tensor(part)
        names[name] += 1
        if tensor is not None:
            tensors[name] = tensor
    pairs = []
    for node in nodes:
        if node.operation != b"DequantizeLinear" or len(node.inputs) != 3 or len(node.outputs) != 1:
            continue
        weight, _, zero_point = node.inputs
        (scaled,) = node.outputs
        if (
            all(uses[name] == names[name] == 1 for name in (weight, zero_point))
            and scaled in kernels
            and uses[scaled] == 1
            and weight in tensors
            and zero_point in tensors
            and _can_grow(tensors[weight], tensors[zero_point])
        ):
            pairs.append((tensors[weight], tensors[zero_point]))
    return pairs


def _can_grow(weight: _Tensor, zero_point: _Tensor) -> bool:
    if len(weight.shape) != 4 or weight.shape[1] == 1 or weight.shape[2] * weight.shape[3] == 1:
        return False
    if not len(weight.content) or not len(zero_point.content):
        return False
    values = np.frombuffer(weight.content, np.int8)
    zeros = np.frombuffer(zero_point.content, np.int8)
    return bool(values.max() < np.iinfo(np.int8).max and not zeros.any())


def _node(message: memoryview) -> _Node:
    """An operation of ONNX's own; of another domain, one without a name."""
    inputs, outputs = [], []
    operation = domain = b""
    for number, value in fields(message):
        if not isinstance(value, memoryview):
            continue
        if number == _NODE_INPUT:
            inputs.append(bytes(value))
        elif number == _NODE_OUTPUT:
            outputs.append(bytes(value))
        elif number == _NODE_OPERATION:
            operation = bytes(value)
        elif number == _NODE_DOMAIN:
            domain = bytes(value)
    return _Node(operation if domain in (b"", b"ai.onnx") else b"", inputs, outputs)


def _tensor(message: memoryview) -> tuple[bytes, _Tensor | None]:
    """A tensor and its name; None if it is not one of int8 with a byte for each number."""
    shape: list[int] = []
    kind, name = 0, b""
    contents = []
    for number, value in fields(message):
        if isinstance(value, int):
            if number == _TENSOR_DIMENSIONS:
                shape.append(value)
            elif number == TENSOR_TYPE:
                kind = value
        elif number == TENSOR_NAME:
            name = bytes(value)
        elif number in (_TENSOR_BYTES, _TENSOR_NUMBERS):
            contents.append(value)
    # As many bytes as numbers: each is one, written out too if it is not negative.
    if kind != _INT8 or len(contents) != 1 or len(contents[0]) != math.prod(shape):
        return name, None
    return name, _Tensor(tuple(shape), contents[0])
