"""Whether a CPU adds up the products of an int8 file without losing any of them.

x86 CPUs without VNNI multiply unsigned by signed bytes with ``vpmaddubsw`` (``pmaddubsw`` before
AVX2), which adds two neighbouring products into 16 bits and saturates at 32767. It is exact for
every input when ``255 * (|a| + |b|)`` of any two weights stays below that, which weights within -64
to 64 keep: ``255 * 64 * 2 = 32640``. ARM without dot products adds two products into 16 bits as
well (``smull``, ``smlal``), but of activations that were moved to -128 to 127: half as far. VNNI
(``vpdpbusd``) and ARM's dot and matrix products (``udot``, ``ummla``) add into 32 bits; there only
the length of the sum counts. ``weight_bounds`` gives both figures of a file, ``probe`` asks a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from fer_export.graph import IR_VERSION, OPSET, checked, weighted_layers

LARGEST_ACTIVATION = 255
MIDDLE = 128
"""What every output of a probe is where nothing was lost."""

_WINDOWS = 4
_SIGNED_CHANNELS = 3


@dataclass(frozen=True, slots=True)
class WeightBounds:
    """What the integer weights of a file can add up to, whatever the input.

    Attributes:
        layers: how many layers have integer weights.
        largest: largest magnitude of a weight.
        pair: largest magnitude of the sum of two products, each of an activation and a weight.
        total: largest magnitude of the sum of all products of one output, without the bias.
    """

    layers: int
    largest: int
    pair: int
    total: int

    @property
    def exact_everywhere(self) -> bool:
        """Whether neither 16 bits for a pair nor 32 bits for the whole sum can overflow."""
        return self.pair <= np.iinfo(np.int16).max and self.total <= np.iinfo(np.int32).max


def integer_layers(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, npt.NDArray[np.int8]]]:
    """The quantised layers of a QDQ graph with their weights int8 ``[O, I, ...]``."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    sources = {name: node for node in model.graph.node for name in node.output}
    for layer in weighted_layers(model):
        source = sources.get(layer.input[1])
        if source is not None and source.op_type == "DequantizeLinear":
            yield layer, numpy_helper.to_array(stored[source.input[0]])


def weight_bounds(model: onnx.ModelProto) -> WeightBounds:
    """The bounds of an int8 file from its weights alone."""
    weights = [np.abs(weight.astype(np.int64)) for _, weight in integer_layers(model)]
    largest = max((int(weight.max()) for weight in weights), default=0)
    sums = [int(weight.reshape(len(weight), -1).sum(axis=1).max()) for weight in weights]
    return WeightBounds(
        layers=len(weights),
        largest=largest,
        # Which weights a kernel pairs is its own affair: the two largest, then.
        pair=2 * LARGEST_ACTIVATION * largest,
        total=LARGEST_ACTIVATION * max(sums, default=0),
    )


def probe(model: onnx.ModelProto, layer_name: str) -> onnx.ModelProto:
    """A graph of one convolution of an int8 file that shows every lost unit of its sums.

    It takes ``patches`` uint8 ``[1, I, K, 4 K]`` and ``bias`` int32 ``[O]`` and gives ``steps``
    uint8 ``[1, O, 1, 4]``: the sum and the bias, with a scale of one and a zero point of
    ``MIDDLE``. With the sums, worked out elsewhere and negated, as the bias, it gives ``MIDDLE``
    everywhere on a CPU that adds exactly.
    """
    weight = next(found for node, found in integer_layers(model) if node.name == layer_name)
    outputs, inputs, high, wide = weight.shape
    constants = {
        "one": np.float32(1),
        "zero": np.uint8(0),
        "weight": weight,
        "ones": np.ones(outputs, np.float32),
        "zeros": np.zeros(outputs, np.int8),
        "middle": np.uint8(MIDDLE),
    }
    graph = helper.make_graph(
        [
            helper.make_node(
                "QLinearConv",
                ["patches", "one", "zero", "weight", "ones", "zeros", "one", "middle", "bias"],
                ["steps"],
                strides=[high, wide],
            )
        ],
        "probe",
        [
            helper.make_tensor_value_info(
                "patches", TensorProto.UINT8, [1, inputs, high, _WINDOWS * wide]
            ),
            helper.make_tensor_value_info("bias", TensorProto.INT32, [outputs]),
        ],
        [helper.make_tensor_value_info("steps", TensorProto.UINT8, [1, outputs, 1, _WINDOWS])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", OPSET)]
    return checked(helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION))


def worst_inputs(weight: npt.NDArray[np.int8]) -> Iterator[dict[str, npt.NDArray[np.generic]]]:
    """Inputs for a probe: where its weights add up the furthest, and noise.

    Args:
        weight: of the layer, int8 ``[O, I, K, K]``.

    Yields:
        ``patches`` and ``bias``; the patches are all white, white where the weights of one output
        channel are positive, white where they are negative, and random.
    """
    random = np.random.default_rng(0)
    shape = weight.shape[1:]
    furthest = np.argsort(-np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1))
    white = np.uint8(LARGEST_ACTIVATION)
    patches = [np.full(shape, white), random.integers(0, 256, shape, np.uint8)]
    for channel in furthest[:_SIGNED_CHANNELS]:
        patches += [
            np.where(weight[channel] > 0, white, np.uint8(0)),
            np.where(weight[channel] < 0, white, np.uint8(0)),
        ]
    for patch in patches:
        sums = weight.reshape(len(weight), -1).astype(np.int64) @ patch.ravel().astype(np.int64)
        yield {
            "patches": np.tile(patch, (1, 1, _WINDOWS))[None],
            "bias": (-sums).astype(np.int32),
        }
