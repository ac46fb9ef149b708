"""Model files that are not what they should be: refused by name, and nothing else is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import tiny_models
from checks import tried
from fer_sdk import FerPipeline
from fer_sdk.errors import FerError, ModelError
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.landmarks import LandmarksModel
from fer_sdk.models.session import MAX_MODEL_BYTES, read_model

_WHOLE = tiny_models.emotion_model()
_few = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _rejected(content: bytes, told: str | None = None) -> str:
    with pytest.raises(ModelError, match=told) as caught:
        EmotionModel(content, source="odd.onnx", device="cpu", threads=1)
    message = str(caught.value)
    assert message.startswith("odd.onnx: ")
    return message


def _accepted_as_before(content: bytes) -> bool:
    """Whether it opens; then it must keep the contract."""
    try:
        model = EmotionModel(content, source="odd.onnx", device="cpu", threads=1)
    except FerError as error:
        assert str(error).startswith("odd.onnx: ")  # noqa: PT017
        return False
    faces = np.zeros((3, model.metadata.input_size, model.metadata.input_size), np.uint8)
    assert model.scores(faces).shape == (3, len(model.metadata.labels))
    return True


def test_a_model_cut_off_anywhere_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    for length in range(len(_WHOLE)):
        _rejected(_WHOLE[:length])
    assert capfd.readouterr() == ("", "")
    tried("models that were cut off", len(_WHOLE))


@_few
@given(st.integers(0, 8 * len(_WHOLE) - 1))
def test_a_flipped_bit_is_refused_or_still_keeps_the_contract(bit: int) -> None:
    content = bytearray(_WHOLE)
    content[bit // 8] ^= 1 << bit % 8
    _accepted_as_before(bytes(content))
    tried("models with a flipped bit")


@_few
@given(st.data())
def test_other_damage_is_refused_or_still_keeps_the_contract(data: st.DataObject) -> None:
    content = bytearray(_WHOLE)
    places = st.integers(0, len(content) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=20)):
        content[place] = value
    start, end = sorted(data.draw(st.tuples(places, places)))
    if data.draw(st.booleans()):
        del content[start:end]
    _accepted_as_before(bytes(content))
    tried("models with damage in several places")


@_few
@given(st.binary(max_size=300))
def test_bytes_that_are_no_model_are_refused(content: bytes) -> None:
    _rejected(content)
    tried("bytes that are no model")


def test_swapped_models_are_refused_by_name(tmp_path: Path) -> None:
    emotion, landmarks = tiny_models.write_models(tmp_path)
    for files, told in (
        ((landmarks, landmarks), r"landmarks\.onnx: a model for landmarks, where one for emotion"),
        ((emotion, emotion), r"emotion\.onnx: a model for emotion, where one for landmarks"),
        ((landmarks, emotion), r"landmarks\.onnx: a model for landmarks"),
    ):
        with pytest.raises(ModelError, match=told):
            FerPipeline(emotion_model=files[0], landmarks_model=files[1], detector=None)
        tried("models given as each other")
    detector = Path(tiny_models.__file__).parent.parent / "sdk/fer_sdk/models/files"
    with pytest.raises(ModelError, match=r"short_range\.onnx: not a fer-sdk model"):
        EmotionModel.from_file(detector / "face_detection_short_range.onnx", device="cpu")
    with pytest.raises(ModelError, match=r"short_range\.tflite: onnxruntime cannot open it"):
        EmotionModel.from_file(detector / "face_detection_short_range.tflite", device="cpu")
    tried("models given as each other", 2)


@pytest.mark.parametrize("labels", [("one",), tiny_models.EMOTIONS[:6], (*"abcdefgh",)], ids=len)
def test_labels_that_do_not_fit_the_scores_are_refused(labels: tuple[str, ...]) -> None:
    model = onnx.load_from_string(_WHOLE)
    helper.set_model_props(model, tiny_models.metadata("emotion", labels=labels).to_props())
    _rejected(model.SerializeToString(), rf"must give float32 \[2, {len(labels)}\]")
    tried("models with labels that do not fit")


def _with_opset(version: int, domain: str = "") -> bytes:
    model = onnx.load_from_string(_WHOLE)
    model.opset_import[0].version = version
    model.opset_import[0].domain = domain
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    "content",
    [_with_opset(99), _with_opset(2**62), _with_opset(0), _with_opset(17, "of.somebody.else")],
    ids=["newer", "huge", "none", "another domain"],
)
def test_operator_sets_that_are_not_known_are_refused(content: bytes) -> None:
    _rejected(content, "onnxruntime cannot open it")
    tried("models of other operator sets")


def test_custom_operators_are_refused() -> None:
    model = onnx.load_from_string(_WHOLE)
    model.graph.node[0].op_type = "ReadFile"
    _rejected(model.SerializeToString(), "onnxruntime cannot open it")
    tried("models of other operator sets")


def _outside(tensor: TensorProto, location: str) -> None:
    raw = numpy_helper.to_array(tensor).tobytes()
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(raw)))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def _external(location: str) -> bytes:
    model = onnx.load_from_string(_WHOLE)
    (centres,) = (one for one in model.graph.initializer if one.name == "centres")
    _outside(centres, location)
    return bytes(model.SerializeToString())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("where", ["beside", "absolute", "above", "missing", "memory"])
def test_data_outside_of_the_file_is_refused_and_not_read(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    # Whoever opened one of these pipes would wait for a writer for ever.
    for path in (inside / "pipe", tmp_path / "pipe"):
        os.mkfifo(path)
    location = {
        "beside": "pipe",
        "absolute": str(tmp_path / "pipe"),
        "above": "../pipe",
        "missing": "nowhere",
        "memory": "*/_ORT_MEM_ADDR_/*",
    }[where]
    (inside / "model.onnx").write_bytes(_external(location))
    with pytest.raises(ModelError, match=r"^model\.onnx: onnxruntime cannot open it"):
        EmotionModel.from_file("model.onnx", device="cpu")
    tried("models with data elsewhere")


def _tensor() -> TensorProto:
    tensor = numpy_helper.from_array(np.float32([1, 2]), "far")
    _outside(tensor, "elsewhere")
    return tensor


def _graph() -> onnx.GraphProto:
    return helper.make_graph([], "inner", [], [], [_tensor()])


def _in_attribute(name: str, value: object) -> Callable[[onnx.ModelProto], None]:
    def place(model: onnx.ModelProto) -> None:
        node = model.graph.node.add()
        attribute = node.attribute.add()
        target = getattr(attribute, name)
        if hasattr(target, "append"):
            target.append(value)
        else:
            target.CopyFrom(value)

    return place


def _in_function(model: onnx.ModelProto) -> None:
    node = model.functions.add().node.add()
    node.attribute.add().t.CopyFrom(_tensor())


def _sparse() -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=_tensor())


_PLACES: dict[str, Callable[[onnx.ModelProto], None]] = {
    "initializer": lambda model: model.graph.initializer.append(_tensor()),
    "sparse initializer": lambda model: model.graph.sparse_initializer.append(_sparse()),
    "indices": lambda model: model.graph.sparse_initializer.append(
        onnx.SparseTensorProto(indices=_tensor())
    ),
    "attribute": _in_attribute("t", _tensor()),
    "attributes": _in_attribute("tensors", _tensor()),
    "sparse attribute": _in_attribute("sparse_tensor", _sparse()),
    "sparse attributes": _in_attribute("sparse_tensors", _sparse()),
    "inner graph": _in_attribute("g", _graph()),
    "inner graphs": _in_attribute("graphs", _graph()),
    "function": _in_function,
    "function's default": lambda model: (
        model.functions.add().attribute_proto.add().t.CopyFrom(_tensor())
    ),
    "training": lambda model: model.training_info.add().initialization.CopyFrom(_graph()),
    "training's algorithm": lambda model: model.training_info.add().algorithm.CopyFrom(_graph()),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("place", _PLACES)
def test_data_outside_is_not_read_wherever_a_tensor_can_be(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "elsewhere")
    model = onnx.load_from_string(_WHOLE)
    _PLACES[place](model)
    _accepted_as_before(model.SerializeToString())
    tried("models with data elsewhere")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@pytest.mark.parametrize("claim", [2**31 - 1, 2**31, 2**32, 2**63])
def test_a_file_that_claims_more_than_it_holds_is_refused(claim: int) -> None:
    graph = 7 << 3 | 2
    _rejected(bytes([graph]) + _varint(claim) + b"\x0a\x00", "onnxruntime cannot open it")
    tried("models that claim gigabytes")


@pytest.mark.parametrize("dims", [[2**31], [2**40], [2**62, 4], [-1]], ids=str)
def test_a_tensor_that_claims_more_than_it_holds_is_refused(dims: list[int]) -> None:
    model = onnx.load_from_string(_WHOLE)
    (centres,) = (one for one in model.graph.initializer if one.name == "centres")
    del centres.dims[:]
    centres.dims.extend(dims)
    _rejected(model.SerializeToString(), "onnxruntime cannot open it")
    tried("models that claim gigabytes")


def test_too_large_a_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(2**31 + 1)  # takes no room on the disk
    with pytest.raises(ModelError, match=rf"huge\.onnx: {2**31 + 1} bytes are more than the"):
        LandmarksModel.from_file(path, device="cpu")
    assert MAX_MODEL_BYTES < 2**31
    with pytest.raises(ModelError, match="1000 that are read"):
        read_model(path, max_bytes=1000)
    tried("models that claim gigabytes")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.timeout(60)
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    loop = tmp_path / "loop.onnx"
    loop.symlink_to(loop)
    for path, told in (
        (tmp_path / "pipe.onnx", "not a file"),
        (tmp_path, "not a file"),
        (Path("/dev/zero"), "not a file"),
        (loop, "cannot be read"),
        (tmp_path / ("x" * 4000), "cannot be read: File name too long"),
        (tmp_path / "\0", "cannot be read: .*null"),
    ):
        with pytest.raises(ModelError, match=told) as caught:
            FerPipeline(emotion_model=path, detector=None)
        assert str(caught.value).startswith(f"{path}: ")
        tried("paths of models that lead to no file")


def test_messages_in_each_other_without_end_are_refused() -> None:
    content = b""
    for _ in range(200):
        content = b"\x32" + _varint(len(content)) + content  # a graph in an attribute
        content = b"\x2a" + _varint(len(content)) + content  # an attribute in a node
        content = b"\x0a" + _varint(len(content)) + content  # a node in a graph
    _rejected(b"\x3a" + _varint(len(content)) + content, "onnxruntime cannot")
    tried("models without end")


@pytest.mark.timeout(60)
def test_a_file_of_nothing_but_fields_is_read_in_time() -> None:
    assert _accepted_as_before(_WHOLE + b"\x08\x0a" * 2_000_000) in (True, False)
    tried("models without end")
