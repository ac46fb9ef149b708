"""From MediaPipe's short-range face detector, a TensorFlow Lite file, to ONNX.

Translates the nine operators that this network is made of, and refuses any other. The graph
computes in NCHW, as onnxruntime does; only its input and its four small heads change the layout.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import tflite
from onnx import TensorProto, checker, helper, numpy_helper

from fer_sdk.errors import ModelError

OPSET = 17
IR_VERSION = 8
LICENCE = "Apache-2.0, Google (MediaPipe)"

_OPERATORS = {code: name for name, code in vars(tflite.BuiltinOperator).items() if name.isupper()}
_DTYPES: dict[int, type[np.generic]] = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
}


def convert(source: Path, target: Path) -> None:
    """Write MediaPipe's ``face_detection_short_range.tflite`` as ONNX.

    The ONNX file takes ``image``, uint8 RGB ``[1, 128, 128, 3]``, and scales it to -1..1 itself.
    It gives ``regressors`` float32 ``[1, 896, 16]``, in pixels relative to the anchors, and
    ``classificators`` float32 ``[1, 896, 1]``, logits. Weights are stored as the float16 numbers
    that they are in the original; arithmetic is float32.

    Raises:
        ModelError: not a TensorFlow Lite file, or one with operators other than this network's.
    """
    try:
        content = source.read_bytes()
    except OSError as error:
        raise ModelError(f"{source}: cannot be read: {error.strerror or error}") from error
    if content[4:8] != b"TFL3":
        raise ModelError(f"{source}: not a TensorFlow Lite file")
    graph = _Translation(tflite.Model.GetRootAsModel(content, 0), str(source)).graph()
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="fer-export",
    )
    helper.set_model_props(
        model,
        {
            "source": source.name,
            "source_sha256": hashlib.sha256(content).hexdigest(),
            "licence": LICENCE,
        },
    )
    checker.check_model(model, full_check=True)
    target.write_bytes(model.SerializeToString(deterministic=True))


class _Translation:
    """Walks once over the operators of a TensorFlow Lite graph and gathers ONNX's for them."""

    def __init__(self, model: tflite.Model, source: str) -> None:
        self._model = model
        self._tflite = model.Subgraphs(0)
        self._source = source
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._constants: dict[int, npt.NDArray[Any]] = {}

    def graph(self) -> onnx.GraphProto:
        image = self._tflite.Inputs(0)
        self._take_image(image)
        for index in range(self._tflite.OperatorsLength()):
            operator = self._tflite.Operators(index)
            name = self._name(operator)
            translate = getattr(self, f"_{name.lower()}", None)
            if translate is None:
                raise ModelError(
                    f"{self._source}: operator {name} is not one of MediaPipe's short-range face "
                    "detector"
                )
            translate(operator, list(operator.InputsAsNumpy()), operator.Outputs(0))
        return helper.make_graph(
            self._nodes,
            "blazeface_short_range",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, self._shape(image))],
            [
                helper.make_tensor_value_info(
                    self._at(output), TensorProto.FLOAT, self._shape(output)
                )
                for output in self._tflite.OutputsAsNumpy()
            ],
            self._initializers,
        )

    def _take_image(self, image: int) -> None:
        self._node("Cast", ["image"], "pixels", to=TensorProto.FLOAT)
        self._node("Transpose", ["pixels"], "planes", perm=[0, 3, 1, 2])
        scale = self._constant("scale", np.float32(2 / 255))
        self._node("Mul", ["planes", scale], "scaled")
        self._node("Sub", ["scaled", self._constant("one", np.float32(1))], self._at(image))

    def _dequantize(self, operator: tflite.Operator, inputs: list[int], output: int) -> None:
        self._constants[output] = self._stored(inputs[0])

    def _conv_2d(self, operator: tflite.Operator, inputs: list[int], output: int) -> None:
        options = tflite.Conv2DOptions()
        self._options(operator, options)
        # [out, height, width, in] to [out, in, height, width]
        self._convolve(options, inputs, output, self._constants[inputs[1]].transpose(0, 3, 1, 2), 1)

    def _depthwise_conv_2d(self, operator: tflite.Operator, inputs: list[int], output: int) -> None:
        options = tflite.DepthwiseConv2DOptions()
        self._options(operator, options)
        # [1, height, width, out] to [out, 1, height, width]
        kernel = self._constants[inputs[1]].transpose(3, 0, 1, 2)
        self._convolve(options, inputs, output, kernel, len(kernel))

    def _convolve(
        self,
        options: Any,
        inputs: list[int],
        output: int,
        kernel: npt.NDArray[np.float16],
        group: int,
    ) -> None:
        name = self._at(output)
        strides = [options.StrideH(), options.StrideW()]
        self._node(
            "Conv",
            [
                self._at(inputs[0]),
                self._weights(f"{name}.weight", kernel),
                self._weights(f"{name}.bias", self._constants[inputs[2]]),
            ],
            name,
            kernel_shape=kernel.shape[2:],
            strides=strides,
            pads=self._same_pads(inputs[0], output, kernel.shape[2:], strides),
            group=group,
        )

    def _relu(self, operator: tflite.Operator, inputs: list[int], output: int) -> None:
        self._node("Relu", [self._at(inputs[0])], self._at(output))

    def _add(self, operator: tflite.Operator, inputs: list[int], output: int) -> None:
        self._node("Add", [self._at(tensor) for tensor in inputs], self._at(output))

    def _pad(self, operator: tflite.Operator, inputs: list[int], output: int) -> None:
        before, after = self._stored(inputs[1])[[0, 3, 1, 2]].T.astype(np.int64)
        pads = self._constant(f"{self._at(output)}.pads", np.concatenate([before, after]))
        self._node("Pad", [self._at(inputs[0]), pads], self._at(output))

    def _max_pool_2d(self, operator: tflite.Operator, inputs: list[int], output: int) -> None:
        options = tflite.Pool2DOptions()
        self._options(operator, options)
        self._node(
            "MaxPool",
            [self._at(inputs[0])],
            self._at(output),
            kernel_shape=[options.FilterHeight(), options.FilterWidth()],
            strides=[options.StrideH(), options.StrideW()],
        )

    def _reshape(self, operator: tflite.Operator, inputs: list[int], output: int) -> None:
        rows = f"{self._at(inputs[0])}.nhwc"
        self._node("Transpose", [self._at(inputs[0])], rows, perm=[0, 2, 3, 1])
        shape = self._constant(f"{self._at(output)}.shape", np.array(self._shape(output), np.int64))
        self._node("Reshape", [rows, shape], self._at(output))

    def _concatenation(self, operator: tflite.Operator, inputs: list[int], output: int) -> None:
        self._node("Concat", [self._at(tensor) for tensor in inputs], self._at(output), axis=1)

    def _node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        self._nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))

    def _constant(self, name: str, value: Any) -> str:
        self._initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _weights(self, name: str, value: npt.NDArray[np.float16]) -> str:
        self._node("Cast", [self._constant(f"{name}.half", value)], name, to=TensorProto.FLOAT)
        return name

    def _name(self, operator: tflite.Operator) -> str:
        code = self._model.OperatorCodes(operator.OpcodeIndex())
        # Files from before the format had more than 127 operators use the other field.
        return str(_OPERATORS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())])

    def _at(self, tensor: int) -> str:
        return str(self._tflite.Tensors(tensor).Name().decode())

    def _shape(self, tensor: int) -> list[int]:
        return [int(size) for size in self._tflite.Tensors(tensor).ShapeAsNumpy()]

    def _stored(self, tensor: int) -> npt.NDArray[Any]:
        entry = self._tflite.Tensors(tensor)
        content = self._model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
        return np.frombuffer(content, _DTYPES[entry.Type()]).reshape(self._shape(tensor))

    def _options(self, operator: tflite.Operator, options: Any) -> None:
        table = operator.BuiltinOptions()
        options.Init(table.Bytes, table.Pos)

    def _same_pads(
        self, tensor: int, output: int, kernel: Sequence[int], strides: Sequence[int]
    ) -> list[int]:
        """TensorFlow's SAME: what is odd goes to the end."""
        begins, ends = [], []
        for axis in (0, 1):
            covered = (self._shape(output)[1 + axis] - 1) * strides[axis] + kernel[axis]
            total = max(covered - self._shape(tensor)[1 + axis], 0)
            begins.append(total // 2)
            ends.append(total - total // 2)
        return begins + ends
