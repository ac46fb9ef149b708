"""The exported graphs: what they hold, and that they give what PyTorch gives."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
from export_networks import SIZE, draw, write_checkpoint
from onnx import TensorProto, numpy_helper
from torch import nn

from fer_export.graph import IR_VERSION, OPSET, build_graph, weighted_layers
from fer_export.half import compute_in_half, round_as_in_half, store_in_half
from fer_sdk.errors import ModelError
from fer_sdk.models.metadata import Task
from fer_sdk.models.session import Session
from fer_training.networks.architecture import normalise
from fer_training.networks.checkpoint import Checkpoint, load

Network = tuple[nn.Module, Checkpoint]


@pytest.fixture(scope="module", params=["emotion", "landmarks"])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Network:
    task: Task = request.param
    path = tmp_path_factory.mktemp("networks") / f"{task}.safetensors"
    return load(write_checkpoint(path, task, draw(150, 1)))


@pytest.fixture(scope="module")
def graph(network: Network) -> onnx.ModelProto:
    return build_graph(*network)


@pytest.fixture(scope="module")
def faces() -> npt.NDArray[np.uint8]:
    random = np.random.default_rng(5)
    extremes = np.stack([np.full((SIZE, SIZE), value, np.uint8) for value in (0, 255)])
    noise = random.integers(0, 256, (4, SIZE, SIZE), np.uint8)
    return np.concatenate([draw(12, 2).images, extremes, noise])


def expected(network: Network, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Written out from the model contract, in float64 up to the network."""
    module, checkpoint = network
    architecture = checkpoint.architecture
    pixels = (faces.astype(np.float64) / 255 - architecture.mean) / architecture.std
    with torch.inference_mode():
        raw = module(torch.from_numpy(pixels[:, None].astype(np.float32))).double().numpy()
    if architecture.task == "landmarks":
        return raw.astype(np.float32)
    powers = np.exp(raw / checkpoint.temperature)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def run(model: onnx.ModelProto, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return Session(model.SerializeToString(), source="exported graph", threads=1).run(faces)[0]


def weights(network: Network) -> Mapping[str, npt.NDArray[np.float32]]:
    return {name: value.numpy() for name, value in network[0].state_dict().items()}


def operators(model: onnx.ModelProto) -> collections.Counter[str]:
    return collections.Counter(node.op_type for node in model.graph.node)


def test_gives_what_pytorch_gives(
    network: Network, graph: onnx.ModelProto, faces: npt.NDArray[np.uint8]
) -> None:
    wanted = expected(network, faces)
    np.testing.assert_allclose(run(graph, faces), wanted, atol=5e-5)
    for batch in (faces[:1], faces[:7]):
        np.testing.assert_allclose(run(graph, batch), wanted[: len(batch)], atol=5e-5)
    # The comparison would also hold for a network that says the same of every face.
    assert np.ptp(wanted, axis=0).max() > 0.05


def test_keeps_the_contract(network: Network, graph: onnx.ModelProto) -> None:
    session = Session(graph.SerializeToString(), source="exported graph", threads=1)
    ((name, kind, shape),) = session.inputs
    assert (name, kind, shape[1:]) == ("faces", "tensor(uint8)", [SIZE, SIZE])
    assert isinstance(shape[0], str)
    ((name, kind, shape),) = session.outputs
    if network[1].architecture.task == "emotion":
        assert (name, kind, shape[1:]) == ("scores", "tensor(float)", [3])
    else:
        assert (name, kind, shape[1:]) == ("landmarks", "tensor(float)", [4, 2])
    onnx.checker.check_model(graph, full_check=True)
    assert graph.opset_import[0].version == OPSET
    assert graph.ir_version == IR_VERSION


def test_every_tensor_has_a_shape(graph: onnx.ModelProto) -> None:
    known = {value.name for value in (*graph.graph.value_info, *graph.graph.output)}
    made = {name for node in graph.graph.node for name in node.output}
    assert made <= known


def test_batch_norm_is_folded(network: Network, graph: onnx.ModelProto) -> None:
    assert not operators(graph).keys() & {"BatchNormalization", "Dropout", "Identity"}
    convolutions = sum(isinstance(part, nn.Conv2d) for part in network[0].modules())
    assert operators(graph)["Conv"] == convolutions
    # One bias per convolution is where the folded statistics went.
    assert all(len(node.input) == 3 for node in weighted_layers(graph))


def test_layers_are_named_as_in_the_network(network: Network, graph: onnx.ModelProto) -> None:
    layers = {
        name for name, part in network[0].named_modules() if isinstance(part, nn.Conv2d | nn.Linear)
    }
    assert {node.name for node in weighted_layers(graph)} == layers


def test_says_nothing_of_this_machine(graph: onnx.ModelProto) -> None:
    bare = onnx.ModelProto()
    bare.CopyFrom(graph)
    for tensor in bare.graph.initializer:
        # Millions of random bytes spell anything.
        tensor.ClearField("raw_data")
    content = bare.SerializeToString()
    for trace in (b'File "', b".py", str(Path.home()).encode(), str(Path.cwd()).encode()):
        assert trace not in content


def test_stored_in_half_is_the_same_at_half_the_size(
    network: Network, graph: onnx.ModelProto, faces: npt.NDArray[np.uint8]
) -> None:
    stored = store_in_half(graph, weights(network))
    assert stored.ByteSize() < 0.51 * graph.ByteSize()
    np.testing.assert_allclose(run(stored, faces), run(graph, faces), atol=5e-5)
    np.testing.assert_allclose(run(stored, faces), expected(network, faces), atol=5e-5)


def test_stored_in_half_runs_as_plain_float32(
    network: Network, graph: onnx.ModelProto, tmp_path: Path
) -> None:
    stored = store_in_half(graph, weights(network))
    loaded = {name: _as_loaded(model, tmp_path) for name, model in (("a", graph), ("b", stored))}
    assert operators(loaded["a"]) == operators(loaded["b"])
    kinds = {tensor.data_type for tensor in loaded["b"].graph.initializer if tensor.dims}
    assert TensorProto.FLOAT16 not in kinds


def _as_loaded(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "loaded.onnx")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "loaded.onnx")


def test_storing_in_half_refuses_other_weights(network: Network, graph: onnx.ModelProto) -> None:
    own = dict(weights(network))
    with pytest.raises(ModelError, match=r"head\.0\.weight: the graph has a weight"):
        store_in_half(graph, {name: own[name] for name in own if name != "head.0.weight"})
    with pytest.raises(ModelError, match="not in half precision"):
        store_in_half(graph, own | {"head.0.weight": own["head.0.weight"] + np.float32(1e-6)})
    shuffled = own["backbone.layer1.0.conv1.weight"][:, ::-1].copy()
    with pytest.raises(ModelError, match="one factor per channel"):
        store_in_half(graph, own | {"backbone.layer1.0.conv1.weight": shuffled})


def test_computing_in_half(
    network: Network, graph: onnx.ModelProto, faces: npt.NDArray[np.uint8]
) -> None:
    halved = compute_in_half(graph)
    types = {tensor.name: tensor.data_type for tensor in halved.graph.initializer}
    for layer in weighted_layers(halved):
        assert {types[name] for name in layer.input[1:]} == {TensorProto.FLOAT16}
    assert halved.graph.input == graph.graph.input
    assert halved.graph.output == graph.graph.output
    assert halved.ByteSize() < 0.51 * graph.ByteSize()
    np.testing.assert_allclose(run(halved, faces), expected(network, faces), atol=0.01)


def test_rounding_gives_what_pytorch_gives_in_half(
    network: Network, graph: onnx.ModelProto, faces: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    rounded = round_as_in_half(graph)
    # Where onnxruntime took the rounding out again, nothing would be measured.
    layers = sum(1 for _ in weighted_layers(graph))
    assert operators(_as_loaded(rounded, tmp_path))["Cast"] > 2 * layers
    module, described = network
    with torch.inference_mode():
        inputs = normalise(torch.from_numpy(faces), described.architecture).half()
        output = deepcopy(module).half()(inputs).float()
        if described.architecture.task == "emotion":
            output = (output / (described.temperature or 1.0)).softmax(dim=1)
    given = run(rounded, faces)
    # PyTorch rounds also between convolution and BatchNorm; scores of drawn faces are steep.
    atol = 0.05 if described.architecture.task == "emotion" else 3e-3
    np.testing.assert_allclose(given, output.numpy(), atol=atol)
    assert np.abs(given - run(compute_in_half(graph), faces)).max() > 1e-6


def test_computing_in_half_refuses_what_it_cannot_hold(graph: onnx.ModelProto) -> None:
    large = onnx.ModelProto()
    large.CopyFrom(graph)
    weight = next(part for part in large.graph.initializer if part.name == "head.0.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + 7e4, weight.name))
    with pytest.raises(ModelError, match=r"head\.0\.weight: too large for half precision"):
        compute_in_half(large)
