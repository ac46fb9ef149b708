"""From a trained network to an ONNX graph that keeps the model contract.

Opset 18 is the one that torch's exporter writes natively (any other goes through a version
converter) and has all that these graphs need, per-channel quantisation included. With IR version 8,
its contemporary, the files are for onnxruntime 1.14 and everything after it, onnxruntime-web
included. ``fer-export parity`` in an environment with another onnxruntime shows that a file gives
the same there.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import torch
from onnx import checker, helper, shape_inference
from torch import nn

from fer_sdk.errors import ModelError
from fer_sdk.models.metadata import INPUT, OUTPUT
from fer_training.networks.architecture import Architecture
from fer_training.networks.checkpoint import Checkpoint

OPSET = 18
IR_VERSION = 8

WEIGHTED = frozenset({"Conv", "Gemm"})
"""The operators that hold the network's weights."""

_NETWORK = "network."


class Deployed(nn.Module):
    """A network under the model contract: takes uint8 faces, gives scores or landmarks."""

    def __init__(
        self, network: nn.Module, architecture: Architecture, temperature: float | None
    ) -> None:
        super().__init__()
        self.network = network
        self.task = architecture.task
        self.temperature = temperature
        # In units of pixel values, so that one subtraction and one product are all there is.
        self.mean = 255 * architecture.mean
        self.factor = 1 / (255 * architecture.std)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Faces uint8 ``[N, S, S]`` to scores ``[N, L]`` or landmarks ``[N, 4, 2]``."""
        normalised = (faces.to(torch.float32).unsqueeze(1) - self.mean) * self.factor
        result: torch.Tensor = self.network(normalised)
        if self.task == "landmarks":
            return result
        logits = result if self.temperature is None else result / self.temperature
        return logits.softmax(dim=1)


def build_graph(network: nn.Module, checkpoint: Checkpoint) -> onnx.ModelProto:
    """The float32 graph of a network: BatchNorm folded, only the batch dynamic.

    Layers carry the names that they have in the network: a node ``backbone.layer1.0.conv1`` has
    the weight ``backbone.layer1.0.conv1.weight``.

    Raises:
        ModelError: the installed exporter left something in the graph that does not belong there.
    """
    architecture = checkpoint.architecture
    deployed = Deployed(network, architecture, checkpoint.temperature).eval()
    size = architecture.input_size
    # A batch of one would be taken for a constant.
    faces = torch.zeros((2, size, size), dtype=torch.uint8)
    program = torch.onnx.export(
        deployed,
        (faces,),
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=[OUTPUT[architecture.task]],
        dynamic_shapes={"faces": {0: torch.export.Dim("N")}},
        optimize=True,
        verbose=False,
    )
    if program is None:
        raise ModelError("torch.onnx.export gave no program: install a current torch")
    model = program.model_proto
    _forget_source(model)
    _name_layers(model)
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "fer-export", ""
    model.graph.name = architecture.task
    left = {node.op_type for node in model.graph.node} & {"BatchNormalization", "Dropout"}
    if left:
        raise ModelError(
            f"the exported graph still holds {', '.join(sorted(left))}: install a current "
            "onnxscript"
        )
    return checked(model)


def checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shape of every tensor written down.

    Raises:
        ModelError: onnx's checker or its strict shape inference refuses it.
    """
    del model.graph.value_info[:]
    try:
        inferred = shape_inference.infer_shapes(
            model, check_type=True, strict_mode=True, data_prop=True
        )
        checker.check_model(inferred, full_check=True)
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        raise ModelError(f"the {model.graph.name} graph is not valid ONNX: {error}") from error
    return inferred


def weighted_layers(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The convolutions and matrix products, in the order in which they run."""
    return (node for node in model.graph.node if node.op_type in WEIGHTED)


def _forget_source(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes about Python: stack traces, with paths of this machine."""
    graph = model.graph
    del model.metadata_props[:]
    del graph.metadata_props[:]
    model.doc_string = graph.doc_string = ""
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def _name_layers(model: onnx.ModelProto) -> None:
    plain = {
        tensor.name: tensor.name.removeprefix(_NETWORK)
        for tensor in model.graph.initializer
        if tensor.name.startswith(_NETWORK)
    }
    for tensor in model.graph.initializer:
        tensor.name = plain.get(tensor.name, tensor.name)
    for node in model.graph.node:
        node.input[:] = [plain.get(name, name) for name in node.input]
    for node in weighted_layers(model):
        node.name = node.input[1].removesuffix(".weight")


def set_properties(model: onnx.ModelProto, properties: dict[str, str]) -> None:
    """Replace the model's ``metadata_props``."""
    del model.metadata_props[:]
    helper.set_model_props(model, properties)
