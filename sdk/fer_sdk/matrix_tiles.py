"""Convolutions of int8 by the matrix tiles (AMX) of x86 CPUs that have them.

onnxruntime computes a convolution of int8 in one of two ways. Where all zero points of the weights
are 0, it takes one that was written before there were tiles, and never uses them. With any other it
lays out the input as a matrix and multiplies, by tiles where the CPU has them. One more on every
weight and on its zero point is the same convolution, to the bit, the second way.

Measured for one thread only: more threads share out the first way better.
"""

from __future__ import annotations

import ctypes
import functools
import math
import platform
import sys
from collections import Counter
from typing import NamedTuple

import numpy as np

from fer_sdk.onnx_file import fields

# Numbers of the fields, as in ``onnx_file``.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_TENSOR = 1, 5
_NODE_INPUT, _NODE_OPERATION = 1, 4
_TENSOR_DIMENSIONS, _TENSOR_TYPE, _TENSOR_NUMBERS, _TENSOR_NAME, _TENSOR_BYTES = 1, 2, 5, 8, 9
_INT8 = 3

# From Linux's asm/prctl.h and the layout of the CPU's extended state.
_ARCH_PRCTL, _GET_PERMISSIONS, _TILE_DATA = 158, 0x1022, 18


class _Tensor(NamedTuple):
    """A tensor of int8 in a model: its shape, and its bytes where they lie."""

    shape: tuple[int, ...]
    content: memoryview


@functools.cache
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
        The changed file; the given one where there is nothing to change. Convolutions with a kernel
        of one pixel, whose weights cannot grow by one, or which share them, stay as they are.
    """
    written = bytearray(model)
    uses: Counter[bytes] = Counter()
    tensors: dict[bytes, _Tensor] = {}
    scaled: list[tuple[bytes, bytes]] = []
    for graph in _parts(memoryview(written), _MODEL_GRAPH):
        for node in _parts(graph, _GRAPH_NODE):
            inputs = [bytes(name) for name in _parts(node, _NODE_INPUT)]
            uses.update(inputs)
            operation = b"".join(bytes(name) for name in _parts(node, _NODE_OPERATION))
            if operation == b"DequantizeLinear" and len(inputs) == 3:
                scaled.append((inputs[0], inputs[2]))
        for part in _parts(graph, _GRAPH_TENSOR):
            tensors.update(_int8_tensor(part))
    changed = False
    for weight, zero_point in scaled:
        if uses[weight] == uses[zero_point] == 1 and weight in tensors and zero_point in tensors:
            changed |= _grow(tensors[weight], tensors[zero_point])
    return bytes(written) if changed else model


def _grow(weight: _Tensor, zero_point: _Tensor) -> bool:
    """Add one to the weights of a convolution and to their zero points; whether that was done."""
    if len(weight.shape) != 4 or weight.shape[2] * weight.shape[3] == 1:
        return False
    values = np.frombuffer(weight.content, np.int8)
    zeros = np.frombuffer(zero_point.content, np.int8)
    if not values.size or values.max() == np.iinfo(np.int8).max or zeros.any():
        return False
    values += 1
    zeros += 1
    return True


def _parts(message: memoryview, wanted: int) -> list[memoryview]:
    """The values of a field that holds messages, texts or bytes."""
    return [
        value
        for number, value in fields(message)
        if number == wanted and isinstance(value, memoryview)
    ]


def _int8_tensor(message: memoryview) -> dict[bytes, _Tensor]:
    """A tensor by its name; none if it is not one of int8 with a byte for each number."""
    shape: list[int] = []
    kind, name = 0, b""
    content = memoryview(b"")
    for number, value in fields(message):
        if isinstance(value, int):
            if number == _TENSOR_DIMENSIONS:
                shape.append(value)
            elif number == _TENSOR_TYPE:
                kind = value
        elif number == _TENSOR_NAME:
            name = bytes(value)
        elif number in (_TENSOR_BYTES, _TENSOR_NUMBERS):
            # As many bytes as numbers: each is one, written out too if it is not negative.
            content = value
    if kind != _INT8 or len(content) != math.prod(shape):
        return {}
    return {name: _Tensor(tuple(shape), content)}
