"""Real ONNX models that keep the model contract and are so small that what they give is known.

The emotion model goes by brightness: label k is likeliest where the mean of the face is near
``k / (labels - 1)`` of white. The first landmark is where the light of the face is centred, the
others stand still.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from fer_sdk.image.crop import CropGeometry
from fer_sdk.models.metadata import INPUT, OUTPUT, ModelMetadata, Task
from fer_sdk.types import LANDMARKS

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SIZE = 16
GEOMETRY = CropGeometry(scale=1.2, shift_x=0.0, shift_y=-0.05)
SHARPNESS = 60.0
STILL = ((0.7, 0.3), (0.3, 0.8), (0.7, 0.8))
OPSET, IR = 17, 9


def metadata(task: Task, **changes: Any) -> ModelMetadata:
    """What a tiny model says about itself."""
    plain = ModelMetadata(
        task=task,
        labels=EMOTIONS if task == "emotion" else LANDMARKS,
        input_size=SIZE,
        crop=GEOMETRY,
        precision="fp32",
        architecture={"name": "tiny"},
        training_data="none",
        version="tiny-1",
        licence="Apache-2.0",
    )
    return replace(plain, **changes)


def expected_scores(
    faces: npt.NDArray[np.uint8], labels: int = len(EMOTIONS)
) -> npt.NDArray[np.float64]:
    """What the emotion model must give, without onnxruntime."""
    mean = faces.reshape(len(faces), -1).mean(axis=1, keepdims=True) / 255
    logits = -SHARPNESS * (mean - np.linspace(0, 1, labels)) ** 2
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(likely / likely.sum(axis=1, keepdims=True))


def emotion_model(about: ModelMetadata | None = None) -> bytes:
    """The content of an ONNX file."""
    about = about or metadata("emotion")
    centres = np.linspace(0, 1, len(about.labels), dtype=np.float32)[None]
    nodes = [
        helper.make_node("Cast", [INPUT], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["level"], axes=[1, 2], keepdims=0),
        helper.make_node("Div", ["level", "white"], ["mean"]),
        helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
        helper.make_node("Sub", ["column", "centres"], ["distance"]),
        helper.make_node("Mul", ["distance", "distance"], ["square"]),
        helper.make_node("Mul", ["square", "sharpness"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [OUTPUT["emotion"]], axis=1),
    ]
    constants = {
        "white": np.float32(255),
        "last": np.array([1], np.int64),
        "centres": centres,
        "sharpness": np.float32(-SHARPNESS),
    }
    return graph(nodes, constants, about, OUTPUT["emotion"], ["N", len(about.labels)])


def landmarks_model(about: ModelMetadata | None = None) -> bytes:
    """The content of an ONNX file."""
    about = about or metadata("landmarks")
    side = about.input_size
    along = (np.arange(side, dtype=np.float32) + 0.5) / side
    grid = np.stack(np.meshgrid(along, along), axis=-1).reshape(side * side, 2)
    nodes = [
        helper.make_node("Cast", [INPUT], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["pixels", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "grid"], ["moments"]),
        helper.make_node("ReduceSum", ["rows", "last"], ["light"], keepdims=1),
        helper.make_node("Add", ["light", "little"], ["some"]),
        helper.make_node("Div", ["moments", "some"], ["centre"]),
        helper.make_node("Unsqueeze", ["centre", "last"], ["first"]),
        helper.make_node("Mul", ["first", "nought"], ["nothing"]),
        helper.make_node("Add", ["nothing", "still"], ["others"]),
        helper.make_node("Concat", ["first", "others"], [OUTPUT["landmarks"]], axis=1),
    ]
    constants = {
        "flat": np.array([-1, side * side], np.int64),
        "grid": grid,
        "last": np.array([1], np.int64),
        "little": np.float32(1e-6),
        "nought": np.float32(0),
        "still": np.array([STILL], np.float32),
    }
    return graph(nodes, constants, about, OUTPUT["landmarks"], ["N", 4, 2])


def graph(
    nodes: list[onnx.NodeProto],
    constants: dict[str, Any],
    about: ModelMetadata | None,
    output: str,
    shape: list[int | str],
    *,
    input_name: str = INPUT,
    input_type: int = TensorProto.UINT8,
    input_shape: list[int | str] | None = None,
) -> bytes:
    """An ONNX file from its nodes; what is given by name differs from the contract on purpose."""
    side = SIZE if about is None else about.input_size
    made = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(
                input_name, input_type, ["N", side, side] if input_shape is None else input_shape
            )
        ],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    if about is not None:
        helper.set_model_props(model, about.to_props())
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_models(folder: Path) -> tuple[Path, Path]:
    """Both tiny models as files: emotion, landmarks."""
    emotion, landmarks = folder / "emotion.onnx", folder / "landmarks.onnx"
    emotion.write_bytes(emotion_model())
    landmarks.write_bytes(landmarks_model())
    return emotion, landmarks
