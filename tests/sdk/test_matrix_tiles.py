"""Models written for matrix tiles: the same to the bit, and left alone where they cannot be."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fer_export.cpu import this_cpu
from fer_sdk.models import session as runtime
from fer_sdk.models.matrix_tiles import has_matrix_tiles, prefer_matrix_tiles
from fer_sdk.models.packaged import read_bundled

# Where products of int8 saturate, larger weights are not the same; no such CPU has tiles.
exact = pytest.mark.skipif(
    this_cpu().machine in ("x86_64", "AMD64") and not this_cpu().dot_products,
    reason="this CPU's int8 products can saturate, or may",
)


def _run(
    monkeypatch: pytest.MonkeyPatch, model: bytes, faces: npt.NDArray[Any]
) -> npt.NDArray[np.float32]:
    """What a session gives that runs just this file."""
    with monkeypatch.context() as patched:
        patched.setattr(runtime, "has_matrix_tiles", lambda: False)
        return runtime.Session(model, source="model", threads=1).run(faces)[0]


def _tensors(model: bytes) -> dict[str, npt.NDArray[Any]]:
    graph = onnx.load_from_string(model).graph
    return {one.name: numpy_helper.to_array(one) for one in graph.initializer}


@exact
@pytest.mark.parametrize("task", ["emotion", "landmarks"])
@pytest.mark.parametrize("count", [1, 5])
def test_the_bundled_models_give_the_same_to_the_bit(
    monkeypatch: pytest.MonkeyPatch, task: str, count: int
) -> None:
    model = read_bundled(f"{task}.int8.onnx")
    written = prefer_matrix_tiles(model)
    faces = np.random.default_rng(count).integers(0, 256, (count, 48, 48)).astype(np.uint8)
    given = _run(monkeypatch, written, faces)
    assert np.array_equal(given, _run(monkeypatch, model, faces))
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
    *,
    largest: int = 60,
    shape: Sequence[int] = (2, 3, 3, 3),
    zero_points: tuple[int, ...] = (0, 0),
    raw: bool = True,
    groups: int = 1,
    more: Sequence[onnx.NodeProto] = (),
    given: Sequence[str] = (),
    got: Sequence[str] = ("y",),
    domain: str = "",
) -> bytes:
    """A model with one int8 convolution, as a quantiser writes it, and more nodes where asked."""
    weights = np.random.default_rng(0).integers(-60, 60, shape).astype(np.int8)
    weights.flat[0] = largest
    zeros = np.array(zero_points, np.int8)
    stored = (
        numpy_helper.from_array(zeros, "zero")
        if raw
        else helper.make_tensor("zero", TensorProto.INT8, zeros.shape, zeros.tolist())
    )
    tensors = [
        numpy_helper.from_array(weights, "weights"),
        stored,
        numpy_helper.from_array(np.full(len(zeros), 0.02, np.float32), "scale"),
        numpy_helper.from_array(np.array(0.1, np.float32), "step"),
        numpy_helper.from_array(np.array(3, np.uint8), "offset"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "offset"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "offset"], ["d"]),
        helper.make_node(
            "DequantizeLinear", ["weights", "scale", "zero"], ["w"], axis=0, domain=domain
        ),
        helper.make_node("Conv", ["d", "w"], ["c"], group=groups),
        helper.make_node("QuantizeLinear", ["c", "step", "offset"], ["p"]),
        helper.make_node("DequantizeLinear", ["p", "step", "offset"], ["y"]),
        *more,
    ]
    graph = helper.make_graph(
        nodes,
        "one convolution",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8]),
            *(helper.make_tensor_value_info(name, TensorProto.INT8, None) for name in given),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in got],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


@exact
@pytest.mark.parametrize("raw", [True, False])
def test_one_more_on_weights_and_zero_points_is_the_same_convolution(
    monkeypatch: pytest.MonkeyPatch, raw: bool
) -> None:
    model = _convolution(raw=raw)
    written = prefer_matrix_tiles(model)
    before, after = _tensors(model), _tensors(written)
    assert np.array_equal(after["weights"], before["weights"] + 1)
    assert after["zero"].tolist() == [1, 1]
    assert _tensors(prefer_matrix_tiles(_convolution(largest=126)))["weights"].max() == 127
    x = np.random.default_rng(1).normal(0, 5, (4, 3, 8, 8)).astype(np.float32)
    assert np.array_equal(_run(monkeypatch, written, x), _run(monkeypatch, model, x))


def _within(name: str) -> onnx.NodeProto:
    """An ``If`` whose branches use a tensor of the graph around them."""
    branch = helper.make_graph(
        [helper.make_node("Identity", [name], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.INT8, None)],
    )
    return helper.make_node("If", ["always"], ["z"], then_branch=branch, else_branch=branch)


@pytest.mark.parametrize(
    "model",
    [
        _convolution(largest=127),
        _convolution(shape=(2, 3, 1, 1)),
        _convolution(shape=(3, 1, 3, 3), zero_points=(0, 0, 0), groups=3),
        _convolution(shape=(2, 27), zero_points=(0, 0)),
        _convolution(zero_points=(0, 2)),
        _convolution(more=[helper.make_node("Identity", ["weights"], ["z"])]),
        _convolution(more=[helper.make_node("Identity", ["zero"], ["z"])]),
        _convolution(more=[helper.make_node("Identity", ["w"], ["z"])]),
        _convolution(more=[_within("weights")]),
        _convolution(given=["weights"]),
        _convolution(got=["y", "zero"]),
        _convolution(got=["y", "w"]),
        _convolution(domain="com.microsoft"),
    ],
    ids=[
        "no room for one more",
        "one pixel",
        "depthwise",
        "no kernel",
        "zero points of its own",
        "shared weights",
        "shared zero points",
        "shared scaled weights",
        "weights in a branch",
        "weights that may be given",
        "zero points that are got",
        "scaled weights that are got",
        "operation of others",
    ],
)
def test_convolutions_that_cannot_or_need_not_change_are_left(model: bytes) -> None:
    assert prefer_matrix_tiles(model) is model


def test_a_damaged_file_is_left_for_onnxruntime_to_refuse() -> None:
    model = _convolution()
    refused = 0
    for place in range(len(model)):
        for value in (0, 0x7F, 0xFF):
            damaged = model[:place] + bytes([value]) + model[place + 1 :]
            written = prefer_matrix_tiles(damaged)
            assert len(written) == len(damaged)
            refused += written is damaged
        assert len(prefer_matrix_tiles(model[:place])) == place
    assert refused > len(model)


@pytest.mark.parametrize(("tiles", "threads", "used"), [(1, 1, True), (1, 2, False), (0, 1, False)])
def test_one_thread_on_a_cpu_with_tiles_runs_what_was_written_for_them(
    monkeypatch: pytest.MonkeyPatch, tiles: int, threads: int, used: bool
) -> None:
    monkeypatch.setattr(runtime, "has_matrix_tiles", lambda: bool(tiles))
    # Another model in its place, so that what runs tells which was opened.
    monkeypatch.setattr(
        runtime, "prefer_matrix_tiles", lambda model: read_bundled("landmarks.int8.onnx")
    )
    model = read_bundled("emotion.int8.onnx")
    session = runtime.Session(model, source="emotion", threads=threads)
    faces = np.zeros((2, 48, 48), np.uint8)
    assert session.run(faces)[0].shape == ((2, 4, 2) if used else (2, 7))


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's list of what the CPU has")
def test_tiles_are_found_where_the_cpu_has_them() -> None:
    flags = Path("/proc/cpuinfo").read_text("utf-8").split()
    assert has_matrix_tiles() == (platform.machine() == "x86_64" and "amx_int8" in flags)
