"""Models written for matrix tiles: the same to the bit, and left alone where they cannot be."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from fer_sdk import runtime
from fer_sdk.bundle import read_bundled
from fer_sdk.matrix_tiles import has_matrix_tiles, prefer_matrix_tiles


def _run(model: bytes, faces: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (name,) = (one.name for one in session.get_inputs())
    return np.asarray(session.run(None, {name: faces})[0], np.float32)


def _tensors(model: bytes) -> dict[str, npt.NDArray[np.generic]]:
    graph = onnx.load_from_string(model).graph
    return {one.name: numpy_helper.to_array(one) for one in graph.initializer}


@pytest.mark.parametrize("task", ["emotion", "landmarks"])
@pytest.mark.parametrize("count", [1, 5])
def test_the_bundled_models_give_the_same_to_the_bit(task: str, count: int) -> None:
    model = read_bundled(f"{task}.int8.onnx")
    written = prefer_matrix_tiles(model)
    faces = np.random.default_rng(count).integers(0, 256, (count, 48, 48)).astype(np.uint8)
    assert np.array_equal(_run(written, faces), _run(model, faces))
    before, after = _tensors(model), _tensors(written)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    # Sixteen convolutions with a kernel of 3x3, each with its weights and its zero points.
    assert len(changed) == 32
    for name in changed:
        assert (after[name].astype(int) - before[name] == 1).all(), name


@pytest.mark.parametrize("task", ["emotion", "landmarks"])
def test_a_model_of_floats_is_left_as_it_is(task: str) -> None:
    model = read_bundled(f"{task}.fp32.onnx")
    assert prefer_matrix_tiles(model) is model


def _convolution(
    largest: int = 5,
    kernel: int = 3,
    zero_points: tuple[int, ...] = (0, 0),
    uses: int = 1,
    raw: bool = True,
) -> bytes:
    """A model of one int8 convolution, as a quantiser writes it."""
    random = np.random.default_rng(0)
    weights = random.integers(-5, 5, (2, 3, kernel, kernel)).astype(np.int8)
    weights[0, 0, 0, 0] = largest
    zeros = np.array(zero_points, np.int8)
    stored = (
        numpy_helper.from_array(zeros, "zero")
        if raw
        else helper.make_tensor("zero", TensorProto.INT8, zeros.shape, zeros.tolist())
    )
    tensors = [
        numpy_helper.from_array(weights, "weights"),
        stored,
        numpy_helper.from_array(np.array([0.02, 0.03], np.float32), "scale"),
        numpy_helper.from_array(np.array(0.1, np.float32), "step"),
        numpy_helper.from_array(np.array(3, np.uint8), "offset"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "offset"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "offset"], ["d"]),
    ]
    for number in range(uses):
        nodes += [
            helper.make_node(
                "DequantizeLinear", ["weights", "scale", "zero"], [f"w{number}"], axis=0
            ),
            helper.make_node("Conv", ["d", f"w{number}"], [f"c{number}"]),
            helper.make_node("QuantizeLinear", [f"c{number}", "step", "offset"], [f"p{number}"]),
            helper.make_node("DequantizeLinear", [f"p{number}", "step", "offset"], [f"y{number}"]),
        ]
    graph = helper.make_graph(
        nodes,
        "one convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info(f"y{n}", TensorProto.FLOAT, None) for n in range(uses)],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize("raw", [True, False])
def test_one_more_on_weights_and_zero_points_is_the_same_convolution(raw: bool) -> None:
    model = _convolution(largest=126, raw=raw)
    written = prefer_matrix_tiles(model)
    assert written != model
    assert _tensors(written)["weights"].max() == 127
    assert _tensors(written)["zero"].tolist() == [1, 1]
    x = np.random.default_rng(1).normal(0, 5, (4, 3, 8, 8)).astype(np.float32)
    assert np.array_equal(_run(written, x), _run(model, x))


@pytest.mark.parametrize(
    "model",
    [
        _convolution(largest=127),
        _convolution(kernel=1),
        _convolution(zero_points=(0, 2)),
        _convolution(uses=2),
    ],
    ids=["no room for one more", "one pixel", "zero points of its own", "shared weights"],
)
def test_convolutions_that_cannot_or_need_not_change_are_left(model: bytes) -> None:
    assert prefer_matrix_tiles(model) is model


@pytest.mark.parametrize(("tiles", "threads", "used"), [(1, 1, 1), (1, 2, 0), (0, 1, 0)])
def test_one_thread_on_a_cpu_with_tiles_uses_them(
    monkeypatch: pytest.MonkeyPatch, tiles: int, threads: int, used: int
) -> None:
    asked: list[bytes] = []

    def prefer(model: bytes) -> bytes:
        asked.append(model)
        return prefer_matrix_tiles(model)

    monkeypatch.setattr(runtime, "has_matrix_tiles", lambda: bool(tiles))
    monkeypatch.setattr(runtime, "prefer_matrix_tiles", prefer)
    runtime.Session(read_bundled("emotion.int8.onnx"), source="emotion", threads=threads)
    assert len(asked) == used


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's list of what the CPU has")
def test_tiles_are_found_where_the_cpu_has_them() -> None:
    flags = Path("/proc/cpuinfo").read_text("utf-8").split()
    assert has_matrix_tiles() == ("amx_int8" in flags)
