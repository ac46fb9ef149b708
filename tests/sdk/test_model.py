"""Opening models and running them, against what the tiny ones must give."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import fer_sdk.models.base as model_module
import tiny_models
from fer_sdk.errors import DeviceUnavailableError, ModelError, SettingError
from fer_sdk.image.crop import CropGeometry
from fer_sdk.models import packaged as bundle
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.landmarks import LandmarksModel
from fer_sdk.models.metadata import ModelMetadata, Precision
from fer_sdk.models.session import has_cuda


def _faces(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level = rng.integers(0, 226, (count, 1, 1))
    noise = rng.integers(0, 30, (count, tiny_models.SIZE, tiny_models.SIZE))
    return (level + noise).astype(np.uint8)


def _emotion(content: bytes | None = None) -> EmotionModel:
    return EmotionModel(content or tiny_models.emotion_model(), source="tiny.onnx", device="cpu")


def test_scores_are_what_the_graph_says() -> None:
    faces = _faces(50)
    scores = _emotion().scores(faces)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, tiny_models.expected_scores(faces), atol=1e-5)


def test_landmarks_find_the_light() -> None:
    model = LandmarksModel(tiny_models.landmarks_model(), source="tiny.onnx", device="cpu")
    faces = np.zeros((3, tiny_models.SIZE, tiny_models.SIZE), np.uint8)
    for face, (row, column) in zip(faces, ((0, 0), (3, 11), (15, 8)), strict=True):
        face[row, column] = 255
    points = model.landmarks(faces)
    assert points.shape == (3, 4, 2)
    np.testing.assert_allclose(
        points[:, 0] * tiny_models.SIZE, [(0.5, 0.5), (11.5, 3.5), (8.5, 15.5)], atol=1e-4
    )
    np.testing.assert_allclose(points[:, 1:], np.broadcast_to(tiny_models.STILL, (3, 3, 2)))


def test_no_faces_give_no_rows() -> None:
    none = np.empty((0, tiny_models.SIZE, tiny_models.SIZE), np.uint8)
    assert _emotion().scores(none).shape == (0, 7)
    landmarks = LandmarksModel(tiny_models.landmarks_model(), source="tiny.onnx", device="cpu")
    assert landmarks.landmarks(none).shape == (0, 4, 2)


def test_many_faces_go_in_runs_of_limited_size(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _emotion()
    sizes = []
    run = model.session.run

    def watched(array: np.ndarray) -> list[np.ndarray]:
        sizes.append(len(array))
        return run(array)

    monkeypatch.setattr(model.session, "run", watched)
    faces = _faces(2 * model_module.MAX_FACES_A_RUN + 3)
    scores = model.scores(faces)
    assert sizes == [model_module.MAX_FACES_A_RUN, model_module.MAX_FACES_A_RUN, 3]
    np.testing.assert_allclose(scores, tiny_models.expected_scores(faces), atol=1e-5)


def test_a_model_tells_what_it_is(tmp_path: Path) -> None:
    about = tiny_models.metadata(
        "emotion",
        crop=CropGeometry(1.1, 0.02, -0.07),
        temperature=1.5,
        metrics={"PublicTest": {"accuracy": 0.5}},
        git_commit="abc",
        tools={"onnx": onnx.__version__},
    )
    path = tmp_path / "mine.onnx"
    path.write_bytes(tiny_models.emotion_model(about))
    model = EmotionModel.from_file(path, device="cpu", threads=1)
    assert model.metadata == about
    assert model.source == str(path)
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (model.session.provider, model.session.device, model.session.threads) == (
        "CPUExecutionProvider",
        "cpu",
        1,
    )


@pytest.mark.parametrize(
    "faces",
    [
        np.zeros((1, 8, 8), np.uint8),
        np.zeros((16, 16), np.uint8),
        np.zeros((1, 16, 16), np.float32),
        np.zeros((1, 16, 16, 3), np.uint8),
    ],
    ids=lambda faces: f"{faces.dtype}{faces.shape}",
)
def test_faces_of_another_form_are_refused(faces: np.ndarray) -> None:
    with pytest.raises(ModelError, match=r"tiny\.onnx: takes faces as uint8 \[N, 16, 16\], not "):
        _emotion().scores(faces)


def _rejected(content: bytes, kind: type[EmotionModel | LandmarksModel] = EmotionModel) -> str:
    with pytest.raises(ModelError) as caught:
        kind(content, source="odd.onnx", device="cpu")
    message = str(caught.value)
    assert message.startswith("odd.onnx: ")
    return message


def _passing_on(output: str, shape: list[int | str], **others: object) -> bytes:
    """A model that casts its input and cuts it to the shape of one that keeps the contract."""
    about = tiny_models.metadata("emotion")
    nodes = [
        helper.make_node("Cast", [str(others.get("input_name", "faces"))], ["a"], to=1),
        helper.make_node("ReduceMean", ["a"], ["b"], axes=[2], keepdims=0),
        helper.make_node("Slice", ["b", "from", "to", "axis"], [output]),
    ]
    constants = {
        "from": np.array([0], np.int64),
        "to": np.array([7], np.int64),
        "axis": np.array([1], np.int64),
    }
    return tiny_models.graph(nodes, constants, about, output, shape, **others)  # type: ignore[arg-type]


def test_an_emotion_model_is_no_landmarks_model() -> None:
    message = _rejected(tiny_models.emotion_model(), LandmarksModel)
    assert "a model for emotion, where one for landmarks is needed" in message
    message = _rejected(tiny_models.landmarks_model())
    assert "a model for landmarks, where one for emotion is needed" in message


def test_what_is_no_model_is_refused_quietly(capfd: pytest.CaptureFixture[str]) -> None:
    whole = tiny_models.emotion_model()
    for content in (b"", b"not a model", whole[: len(whole) // 2]):
        assert "onnxruntime cannot open it" in _rejected(content)
    assert capfd.readouterr().err == ""


def test_a_model_of_somebody_else_is_refused() -> None:
    about = tiny_models.metadata("emotion")
    node = helper.make_node("Cast", ["faces"], ["scores"], to=TensorProto.FLOAT)
    plain = tiny_models.graph([node], {}, None, "scores", ["N", 16, 16])
    assert "not a fer-sdk model" in _rejected(plain)
    model = onnx.load_from_string(tiny_models.emotion_model(about))
    helper.set_model_props(model, about.to_props() | {"fer_sdk.format": "99"})
    assert "model format 99" in _rejected(model.SerializeToString())


def test_inputs_and_outputs_that_break_the_contract_are_refused() -> None:
    message = _rejected(_passing_on("scores", ["N", 7], input_name="images"))
    assert "its only input must be faces: tensor(uint8), not images: tensor(uint8)" in message
    message = _rejected(_passing_on("scores", ["N", 7], input_type=TensorProto.FLOAT))
    assert "not faces: tensor(float)" in message
    message = _rejected(_passing_on("scores", ["N", 7], input_shape=["N", 20, 20]))
    assert "must have the shape [N, 16, 16]" in message
    message = _rejected(_passing_on("scores", [1, 7], input_shape=[1, 16, 16]))
    assert "with any N, not [1, 16, 16]" in message
    assert "its only output must be scores, not logits" in _rejected(
        _passing_on("logits", ["N", 7])
    )
    assert "probabilities that sum to 1" in _rejected(_passing_on("scores", ["N", 7]))


def test_an_output_of_another_shape_is_refused_whatever_the_file_says() -> None:
    about = tiny_models.metadata("emotion", labels=("one", "two"))
    content = tiny_models.emotion_model(tiny_models.metadata("emotion"))
    model = onnx.load_from_string(content)
    helper.set_model_props(model, about.to_props())
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    message = _rejected(model.SerializeToString())
    assert "for two faces it must give float32 [2, 2], not float32 [2, 7]" in message


def test_landmarks_in_another_order_are_refused() -> None:
    swapped = ("right eye", "left eye", "left lip corner", "right lip corner")
    content = tiny_models.landmarks_model(tiny_models.metadata("landmarks", labels=swapped))
    assert "in that order" in _rejected(content, LandmarksModel)


def test_numbers_that_are_not_finite_are_refused() -> None:
    model = onnx.load_from_string(tiny_models.landmarks_model())
    (little,) = [one for one in model.graph.initializer if one.name == "little"]
    little.CopyFrom(onnx.numpy_helper.from_array(np.asarray(np.float32(0)), "little"))
    assert "not finite" in _rejected(model.SerializeToString(), LandmarksModel)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx: cannot be read: No such file"):
        EmotionModel.from_file(tmp_path / "gone.onnx", device="cpu")


def test_settings_are_checked() -> None:
    content = tiny_models.emotion_model()
    with pytest.raises(SettingError, match="there is no device 'gpu'"):
        EmotionModel(content, source="tiny.onnx", device="gpu")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="threads must be at least 1"):
        EmotionModel(content, source="tiny.onnx", device="cpu", threads=0)


@pytest.mark.skipif(has_cuda(), reason="this onnxruntime is built for CUDA")
def test_a_device_named_is_a_promise() -> None:
    with pytest.raises(DeviceUnavailableError, match="onnxruntime-gpu"):
        EmotionModel(tiny_models.emotion_model(), source="tiny.onnx", device="cuda")


@pytest.mark.cuda
@pytest.mark.skipif(not has_cuda(), reason="this onnxruntime is not built for CUDA")
def test_cuda_gives_what_the_cpu_gives() -> None:
    content, faces = tiny_models.emotion_model(), _faces(100)
    on_cuda = EmotionModel(content, source="tiny.onnx", device="cuda")
    assert on_cuda.session.provider == "CUDAExecutionProvider"
    expected = _emotion(content).scores(faces)
    for count in (1, 5, 64, 100, 1):
        np.testing.assert_allclose(on_cuda.scores(faces[:count]), expected[:count], atol=1e-4)


def _bundle(folder: Path) -> Path:
    (folder / "emotion.int8.onnx").write_bytes(tiny_models.emotion_model())
    (folder / "landmarks.int8.onnx").write_bytes(tiny_models.landmarks_model())
    (folder / "notes.txt").write_text("not a model")
    return bundle.write_manifest(folder)


def test_the_manifest_holds_length_and_hash(tmp_path: Path) -> None:
    manifest = _bundle(tmp_path)
    assert manifest == tmp_path / "manifest.json"
    content = (tmp_path / "emotion.int8.onnx").read_bytes()
    files = json.loads(manifest.read_text())["files"]
    assert set(files) == {"emotion.int8.onnx", "landmarks.int8.onnx"}
    assert files["emotion.int8.onnx"] == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    assert bundle.read_bundled("emotion.int8.onnx", folder=tmp_path) == content


def test_a_bundled_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    _bundle(tmp_path)
    model = tmp_path / "emotion.int8.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(ModelError, match=r"emotion\.int8\.onnx: not the file that was shipped"):
        bundle.read_bundled(model.name, folder=tmp_path)
    model.unlink()
    with pytest.raises(ModelError, match="install fer-sdk again"):
        bundle.read_bundled(model.name, folder=tmp_path)
    with pytest.raises(ModelError, match=r"says nothing of other\.onnx"):
        bundle.read_bundled("other.onnx", folder=tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ModelError, match=r"manifest\.json"):
        bundle.read_bundled("landmarks.int8.onnx", folder=tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ModelError, match=r"manifest\.json: cannot be read"):
        bundle.read_bundled("landmarks.int8.onnx", folder=tmp_path)


def test_a_folder_without_models_has_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no"):
        bundle.write_manifest(tmp_path)


def test_every_file_of_the_bundle_is_what_the_manifest_says() -> None:
    manifest = bundle.bundled() / bundle.MANIFEST
    if not manifest.is_file():
        pytest.skip("the bundle has no manifest yet")
    files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    models = {
        file.name for file in bundle.bundled().iterdir() if file.name.endswith(bundle.SUFFIXES)
    }
    assert set(files) == models
    for name, about in files.items():
        assert len(bundle.read_bundled(name)) == about["bytes"]


@pytest.mark.parametrize("kind", [EmotionModel, LandmarksModel])
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_bundled_models_keep_the_contract(
    kind: type[EmotionModel | LandmarksModel], precision: Precision
) -> None:
    name = f"{kind.task}.{precision}.onnx"
    if not bundle.is_bundled(name):
        pytest.skip(f"{name} is not bundled yet")
    model = kind(bundle.read_bundled(name), source=name, device="cpu", threads=1)
    assert model.metadata.precision == precision
    faces = np.random.default_rng(0).integers(
        0, 256, (5, model.metadata.input_size, model.metadata.input_size), np.uint8
    )
    if isinstance(model, EmotionModel):
        assert model.metadata.labels == tiny_models.EMOTIONS
        scores = model.scores(faces)
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-4)
        singles = np.concatenate([model.scores(face[None]) for face in faces])
        np.testing.assert_allclose(scores, singles, atol=1e-5)
    else:
        assert model.landmarks(faces).shape == (5, 4, 2)


def test_metadata_survive_the_way_through_a_file() -> None:
    about = tiny_models.metadata("landmarks", architecture={"stride": 1, "blocks": [2, 2]})
    assert ModelMetadata.from_props(about.to_props(), "x") == about


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("task", '"age"', "one of emotion, landmarks"),
        ("labels", "[]", "a list of different names"),
        ("labels", '["a", "a"]', "a list of different names"),
        ("input_size", "true", "a whole number"),
        ("input_size", "4", "a whole number"),
        ("crop", '{"scale": 1}', "scale"),
        ("crop", '{"scale": NaN, "shift_x": 0, "shift_y": 0}', "scale"),
        ("precision", '"fp8"', "one of"),
        ("temperature", "0", "a positive number"),
        ("temperature", "Infinity", "a positive number"),
        ("version", "1", "a text"),
        ("metrics", "[]", "an object"),
        ("git_commit", "7", "null or a text"),
        ("licence", "{", "is not JSON"),
    ],
)
def test_metadata_that_cannot_be_are_refused(field: str, value: str, told: str) -> None:
    props = tiny_models.metadata("emotion").to_props() | {f"fer_sdk.{field}": value}
    with pytest.raises(ModelError, match=rf"^m\.onnx: fer_sdk\.{field} .*{told}"):
        ModelMetadata.from_props(props, "m.onnx")
    del props[f"fer_sdk.{field}"]
    with pytest.raises(ModelError, match=f"lacks fer_sdk.{field}"):
        ModelMetadata.from_props(props, "m.onnx")
