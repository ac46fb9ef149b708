"""Whether a CPU adds up the products of an int8 file without losing any of them.

x86 CPUs without VNNI multiply unsigned by signed bytes with ``vpmaddubsw`` (``pmaddubsw`` before
AVX2), which adds two neighbouring products into 16 bits and saturates at 32767. It is exact for
every input when ``255 * (|a| + |b|)`` of any two weights stays below that, which weights within -64
to 64 keep: ``255 * 64 * 2 = 32640``. ARM without dot products adds two products into 16 bits as
well (``smull``, ``smlal``), but of activations that were moved to -128 to 127: half as far. VNNI
(``vpdpbusd``) and ARM's dot and matrix products (``sdot``, ``ummla``) add into 32 bits; there only
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


def worst_patches(weight: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """What makes a convolution add up the furthest, and noise.

    Args:
        weight: of the layer, int8 ``[O, I, K, K]``.

    Returns:
        uint8 ``[P, I, K, K]``: all white, random, and for each of the output channels with the
        heaviest weights white where they are positive, and where they are negative.
    """
    shape = weight.shape[1:]
    heaviest = np.argsort(-np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1))
    white, black = np.uint8(LARGEST_ACTIVATION), np.uint8(0)
    patches = [
        np.full(shape, white),
        np.random.default_rng(0).integers(0, 256, shape, np.uint8),
    ]
    for channel in heaviest[:_SIGNED_CHANNELS]:
        patches += [
            np.where(weight[channel] > 0, white, black),
            np.where(weight[channel] < 0, white, black),
        ]
    return np.stack(patches)


def probe(
    weight: npt.NDArray[np.int8], patches: npt.NDArray[np.uint8]
) -> tuple[onnx.ModelProto, npt.NDArray[np.uint8]]:
    """A graph that shows every lost unit of a convolution's sums, and its input.

    One integer convolution per patch has these weights, a scale of one, ``MIDDLE`` as zero point,
    and as its bias the sums over the patch, worked out here in 64 bits and negated: on a CPU that
    adds exactly, all outputs are ``MIDDLE``. Biases are constants because onnxruntime 1.20's
    kernels leave out others.

    Args:
        weight: int8 ``[O, I, K, K]``.
        patches: uint8 ``[P, I, K, K]``.

    Returns:
        The graph, from ``patches`` uint8 ``[P, I, K, 4 K]`` to ``steps`` uint8 ``[P, O, 1, 4]``,
        and the patches in that form, each four times side by side.
    """
    count, (outputs, inputs, high, wide) = len(patches), weight.shape
    sums = np.einsum("oikl,pikl->po", weight.astype(np.int64), patches.astype(np.int64))
    constants = {
        "one": np.float32(1),
        "zero": np.uint8(0),
        "weight": weight,
        "ones": np.ones(outputs, np.float32),
        "zeros": np.zeros(outputs, np.int8),
        "middle": np.uint8(MIDDLE),
    } | {f"bias{at}": (-row).astype(np.int32) for at, row in enumerate(sums)}
    parts = [(f"patch{at}", f"steps{at}", f"bias{at}") for at in range(count)]
    graph = helper.make_graph(
        [
            helper.make_node("Split", ["patches"], [part[0] for part in parts], num_outputs=count),
            *(
                helper.make_node(
                    "QLinearConv",
                    [patch, "one", "zero", "weight", "ones", "zeros", "one", "middle", bias],
                    [steps],
                    strides=[high, wide],
                )
                for patch, steps, bias in parts
            ),
            helper.make_node("Concat", [part[1] for part in parts], ["steps"], axis=0),
        ],
        "probe",
        [
            helper.make_tensor_value_info(
                "patches", TensorProto.UINT8, [count, inputs, high, _WINDOWS * wide]
            )
        ],
        [helper.make_tensor_value_info("steps", TensorProto.UINT8, [count, outputs, 1, _WINDOWS])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
    return checked(model), np.tile(patches, (1, 1, 1, _WINDOWS))
