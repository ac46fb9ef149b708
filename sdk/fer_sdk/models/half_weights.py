"""Two models out of one set of weights.

A ``TASK.fp32.onnx`` holds its weights as half-precision numbers, each layer with a factor in
float32. The same numbers with the same factors, rounded, are the weights of the fp16 model: what
differs is the arithmetic around them. So the package has of that model only the graph, a hundredth
of its size, and what is opened is the graph with the weights of the fp32 file behind it.

Both are protobuf messages, and of one field that comes twice protobuf makes one, a list's entries
one after the other: the weights are appended as a second ``graph`` that holds nothing else.
Source: "Last One Wins" in "Encoding" of the Protocol Buffers documentation; onnx.proto.
"""

from __future__ import annotations

from fer_sdk.errors import ModelError
from fer_sdk.models.onnx_file import (
    GRAPH_TENSOR,
    LENGTH,
    MODEL_GRAPH,
    TENSOR_TYPE,
    NoProtobufError,
    fields,
    parts,
)

_FLOAT16 = 10


def joined(graph: bytes, fp32: bytes, source: str) -> bytes:
    """A whole model.

    Args:
        graph: an ONNX file without its half-precision tensors.
        fp32: an ONNX file that has them.
        source: what to call the result in an error.

    Raises:
        ModelError: one of the two is damaged, or ``fp32`` has no such tensor.
    """
    try:
        shared = b"".join(
            _field(GRAPH_TENSOR, tensor)
            for part in parts(memoryview(fp32), MODEL_GRAPH)
            for tensor in parts(part, GRAPH_TENSOR)
            if (TENSOR_TYPE, _FLOAT16) in _numbers(tensor)
        )
    except NoProtobufError as error:
        raise ModelError(f"{source}: the weights that it needs are damaged: {error}") from error
    if not shared:
        raise ModelError(f"{source}: the fp32 file has no half-precision weights for it")
    return graph + _field(MODEL_GRAPH, shared)


def _numbers(tensor: memoryview) -> list[tuple[int, int]]:
    return [(number, value) for number, value in fields(tensor) if isinstance(value, int)]


def _field(number: int, content: bytes | memoryview) -> bytes:
    return b"".join((_varint(number << 3 | LENGTH), _varint(len(content)), content))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
