"""What the integer weights of int8 files can add up to, and whether this CPU adds it exactly."""

from __future__ import annotations

import platform

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from fer_export.cpu import this_cpu
from fer_export.integers import MIDDLE, integer_layers, probe, weight_bounds, worst_patches
from fer_sdk.models import packaged as bundle

LAYER = "block.conv"


def int8_file(weight: npt.NDArray[np.int8]) -> onnx.ModelProto:
    """One quantised convolution ``LAYER`` in QDQ form, with these weights ``[O, I, K, K]``."""
    constants = {
        "scale": np.float32(1),
        "zero": np.uint8(0),
        "w": weight,
        "w_scale": np.ones(len(weight), np.float32),
        "w_zero": np.zeros(len(weight), np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["faces", "scale", "zero"], ["steps"]),
        helper.make_node("DequantizeLinear", ["steps", "scale", "zero"], ["in"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["weight"], axis=0),
        helper.make_node("Conv", ["in", "weight"], ["out"], LAYER),
    ]
    shape = ["N", weight.shape[1], 8, 8]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def weights(largest: int, seed: int = 0) -> npt.NDArray[np.int8]:
    random = np.random.default_rng(seed)
    chosen = random.integers(-largest, largest + 1, (32, 64, 3, 3)).astype(np.int8)
    chosen[0] = largest
    chosen[1] = -largest
    return chosen


def steps(
    weight: npt.NDArray[np.int8], change: npt.NDArray[np.int32] | None = None
) -> npt.NDArray[np.uint8]:
    """What the probe of these weights gives, with its biases changed."""
    model, patches = probe(weight, worst_patches(weight))
    for tensor in model.graph.initializer:
        if change is not None and tensor.name.startswith("bias"):
            changed = numpy_helper.to_array(tensor) + change
            tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: npt.NDArray[np.uint8] = session.run(None, {"patches": patches})[0]
    return found


def saturates() -> bool:
    return platform.machine() in ("x86_64", "AMD64") and not this_cpu().dot_products


def test_bounds_are_those_worked_out_by_hand() -> None:
    weight = np.zeros((2, 3, 1, 1), np.int8)
    weight[0, :, 0, 0] = (-64, 2, 3)
    weight[1, :, 0, 0] = (60, 60, 0)
    bounds = weight_bounds(int8_file(weight))
    assert (bounds.layers, bounds.largest) == (1, 64)
    assert bounds.pair == 255 * 64 + 255 * 64 == 32640
    assert bounds.total == 255 * (60 + 60)
    assert bounds.exact_everywhere
    weight[0, 0, 0, 0] = -65
    assert weight_bounds(int8_file(weight)).pair == 33150
    assert not weight_bounds(int8_file(weight)).exact_everywhere


@pytest.mark.parametrize("task", ["emotion", "landmarks"])
def test_bundled_int8_files_cannot_saturate_on_any_cpu(task: str) -> None:
    """Every weight of the very files that ship is within -64..64: 2 * 255 * 64 < 32768."""
    name = f"{task}.int8.onnx"
    if not bundle.is_bundled(name):
        pytest.skip(f"{name} is not bundled yet")
    model = onnx.load_from_string(bundle.read_bundled(name))
    layers = list(integer_layers(model))
    # All convolutions but the first, by their number of stored integers.
    assert len(layers) >= 19
    for layer, weight in layers:
        assert weight.dtype == np.int8, layer.name
        pairs = np.sort(np.abs(weight.astype(int)).ravel())[-2:]
        assert 255 * pairs.sum() <= 32767, layer.name
    bounds = weight_bounds(model)
    assert bounds.exact_everywhere
    assert (bounds.largest, bounds.pair) == (64, 32640)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) > 1:
            assert np.abs(numpy_helper.to_array(tensor).astype(int)).max() <= 64


def test_this_cpu_adds_seven_bit_weights_exactly() -> None:
    given = steps(weights(64))
    # White, noise, and both signs of three channels.
    assert given.shape == (8, 32, 1, 4)
    assert (given == MIDDLE).all()


def test_a_probe_sees_a_single_unit() -> None:
    given = steps(weights(64), np.arange(-16, 16, dtype=np.int32))
    np.testing.assert_array_equal(given, np.tile(np.arange(112, 144)[:, None, None], (8, 1, 1, 4)))


def test_a_probe_sees_what_eight_bits_lose_without_vnni() -> None:
    if this_cpu().dot_products is None:
        pytest.skip("this system does not say which instructions its CPU has")
    # On white, channel 0, with every weight at 127, comes out far too small.
    assert (steps(weights(127))[0, 0] == (0 if saturates() else MIDDLE)).all()
