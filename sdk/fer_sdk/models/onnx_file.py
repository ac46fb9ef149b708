"""What is looked at in an ONNX file before onnxruntime sees it: that it holds all that it needs.

onnxruntime fetches a tensor from wherever the file says: from other files, relative to the current
folder, and in some releases from an address in memory. A model of ours has everything inside.
The walk needs no more than protobuf's wire format and the few fields below.
Source: onnx.proto of ONNX 1.18 and "Encoding" of the Protocol Buffers documentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fer_sdk.errors import ModelError

_VARINT, _EIGHT_BYTES, LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_DEEPEST = 100
"""How many messages may lie in each other; protobuf itself reads no more."""
_MOST_FIELDS = 1_000_000
"""Ours have 3,000. Two bytes are a field, and a file of nothing else would take minutes."""

# The fields that lead to tensors, by message: field number to the message that it holds.
_FIELDS: Mapping[str, Mapping[int, str]] = {
    "Model": {7: "Graph", 20: "TrainingInfo", 25: "Function"},
    "TrainingInfo": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        22: "SparseTensor",
        23: "SparseTensor",
    },
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
MODEL_GRAPH = 7
GRAPH_TENSOR = 5
TENSOR_TYPE, TENSOR_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 2, 8, 13, 14


def check_self_contained(content: bytes, source: str) -> None:
    """See that an ONNX file is whole and refers to nothing outside itself.

    Args:
        content: of the file.
        source: what to call it in an error.

    Raises:
        ModelError: it is cut off, not an ONNX file, or has a tensor that lies elsewhere.
    """
    try:
        graphs = _walk(memoryview(content), source)
    except NoProtobufError as error:
        raise ModelError(f"{source}: not an ONNX file, or a damaged one: {error}") from error
    # Of several, protobuf makes one: see ``half_weights``.
    if graphs == 0:
        raise ModelError(f"{source}: not an ONNX file: it holds no graph")


class NoProtobufError(Exception):
    """Bytes that are no protobuf message."""


def _walk(content: memoryview, source: str) -> int:
    """Look at every tensor; the number of graphs at the top."""
    graphs = seen = 0
    left = [("Model", content, 0)]
    while left:
        message, part, depth = left.pop()
        if depth > _DEEPEST:
            raise NoProtobufError(f"messages lie in each other more than {_DEEPEST} deep")
        inside = _FIELDS[message]
        for number, value in fields(part):
            seen += 1
            if seen > _MOST_FIELDS:
                raise NoProtobufError(f"it has more than {_MOST_FIELDS:,} fields")
            if message == "Tensor":
                if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
                    raise ModelError(
                        f"{source}: its tensor {_tensor_name(part)!r} lies outside the file; a "
                        "model must hold all of its data: save it without external data"
                    )
            elif number in inside and isinstance(value, memoryview):
                graphs += depth == 0 and inside[number] == "Graph"
                left.append((inside[number], value, depth + 1))
    return graphs


def _tensor_name(tensor: memoryview) -> str:
    for number, value in fields(tensor):
        if number == TENSOR_NAME and isinstance(value, memoryview):
            return bytes(value[:80]).decode("utf-8", "replace")
    return ""


def fields(part: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message; what is not a number is given as its bytes."""
    position, end = 0, len(part)
    while position < end:
        key, position = _varint(part, position)
        number, form = key >> 3, key & 7
        if number == 0:
            raise NoProtobufError("a field has the number 0")
        if form == _VARINT:
            value, position = _varint(part, position)
            yield number, value
            continue
        if form == LENGTH:
            length, position = _varint(part, position)
        elif form == _EIGHT_BYTES:
            length = 8
        elif form == _FOUR_BYTES:
            length = 4
        else:
            raise NoProtobufError(f"a field has the form {form}")
        if length > end - position:
            raise NoProtobufError(f"a field claims {length} bytes where {end - position} are left")
        yield number, part[position : position + length]
        position += length


def parts(message: memoryview, wanted: int) -> list[memoryview]:
    """The values of a field that holds messages, texts or bytes."""
    return [
        value
        for number, value in fields(message)
        if number == wanted and isinstance(value, memoryview)
    ]


def _varint(part: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(part):
            raise NoProtobufError("it is cut off")
        byte = part[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise NoProtobufError("a number is longer than ten bytes")
