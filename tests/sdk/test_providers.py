"""A device that is named is a promise, whichever provider of onnxruntime keeps it.

Most of it runs with any onnxruntime. What OpenVINO really does is tested where onnxruntime-openvino
is installed in place of onnxruntime.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import tiny_models
from fer_sdk import FerPipeline
from fer_sdk.errors import DeviceUnavailableError, ModelError, SettingError
from fer_sdk.models import session as runtime
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.landmarks import LandmarksModel
from fer_sdk.models.packaged import is_bundled, read_bundled
from fer_sdk.models.providers import PROVIDERS, Device, Provider
from fer_sdk.models.session import Session
from fer_sdk.pipeline import _bundled_name

if TYPE_CHECKING:
    from fer_training.data.faces import FaceSet

NAMED = [device for device in get_args(Device) if device != "auto"]
NOT_HERE = [device for device in NAMED if device not in runtime.devices()]

openvino = pytest.mark.skipif(
    "openvino" not in runtime.devices(),
    reason="this onnxruntime has no OpenVINO: install onnxruntime-openvino in place of onnxruntime",
)
bundled = pytest.mark.skipif(
    not is_bundled("emotion.int8.onnx"), reason="the models are not bundled yet"
)


def _chain(*operations: str) -> bytes:
    """A model of a few operations in a row, from float to float ``[N, 4, 4]``."""
    names = [f"value{number}" for number in range(len(operations) + 1)]
    made = helper.make_graph(
        [
            helper.make_node(operation, [before], [after])
            for operation, before, after in zip(operations, names, names[1:], strict=False)
        ],
        "chain",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, ["N", 4, 4])],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, ["N", 4, 4])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def test_every_device_is_a_provider_that_onnxruntime_knows() -> None:
    names = {PROVIDERS[device].name for device in NAMED}
    assert len(names) == len(NAMED)
    assert names <= set(ort.get_all_providers())


def test_the_devices_here_are_those_of_the_installed_onnxruntime() -> None:
    there = {PROVIDERS[device].name for device in runtime.devices()}
    assert there == set(ort.get_available_providers()) & {
        provider.name for provider in PROVIDERS.values()
    }
    assert "cpu" in runtime.devices()


def test_a_provider_goes_by_onnxruntimes_name_too() -> None:
    session = Session(_chain("Relu"), source="chain.onnx", device="CPUExecutionProvider")
    assert (session.device, session.provider) == ("cpu", "CPUExecutionProvider")
    for name in ("gpu", "Provider", 0):
        with pytest.raises(SettingError, match="there is no device"):
            Session(_chain("Relu"), source="chain.onnx", device=name)  # type: ignore[arg-type]
    with pytest.raises(DeviceUnavailableError, match="the installed onnxruntime has only"):
        Session(_chain("Relu"), source="chain.onnx", device="MadeUpExecutionProvider")


@pytest.mark.skipif(
    "AzureExecutionProvider" not in ort.get_available_providers(),
    reason="this onnxruntime has no provider that we do not know",
)
def test_a_provider_that_we_do_not_know_is_refused_when_it_runs_nothing() -> None:
    with pytest.raises(DeviceUnavailableError, match="would run on"):
        Session(_chain("Relu"), source="chain.onnx", device="AzureExecutionProvider")


@pytest.mark.parametrize("device", NOT_HERE)
def test_a_device_that_onnxruntime_was_not_built_for_is_refused(device: Device) -> None:
    with pytest.raises(DeviceUnavailableError) as refused:
        Session(_chain("Relu"), source="chain.onnx", device=device)
    told = str(refused.value)
    assert told.startswith(f'device="{device}" was asked for, but the installed onnxruntime has')
    assert PROVIDERS[device].advice in told
    assert "CPUExecutionProvider" in told


@pytest.mark.parametrize("device", NOT_HERE)
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_device_that_does_not_open_is_refused(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    # onnxruntime opens a session on the CPU when a provider does not open, and only warns.
    names = [provider.name for provider in PROVIDERS.values()]
    monkeypatch.setattr(ort, "get_available_providers", lambda: names)
    with pytest.raises(DeviceUnavailableError, match=r"chain\.onnx would run on CPUExecution"):
        Session(_chain("Relu"), source="chain.onnx", device=device)


@pytest.mark.parametrize("whole", [True, False])
def test_a_device_that_leaves_everything_to_the_cpu_is_refused(
    whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Provider("CPUExecutionProvider", whole=whole)
    monkeypatch.setitem(PROVIDERS, "coreml", one)
    with pytest.raises(
        DeviceUnavailableError, match=r"2 of the 2 operations of chain\.onnx would run on the CPU"
    ):
        Session(_chain("Relu", "Hardmax"), source="chain.onnx", device="coreml")


@pytest.mark.parametrize("device", runtime.devices())
def test_a_file_that_is_no_model_is_the_files_fault_on_any_device(device: Device) -> None:
    with pytest.raises(ModelError, match=r"chain\.onnx: "):
        Session(_chain("Relu")[:-20], source="chain.onnx", device=device)


def test_a_session_counts_its_operations() -> None:
    session = Session(_chain("Relu", "Sigmoid", "Softmax"), source="chain.onnx")
    assert (session.nodes, session.cpu_nodes) == (3, 3)


@pytest.mark.parametrize("device", runtime.devices())
def test_a_run_that_fails_is_an_error_and_not_tried_elsewhere(
    device: Device, capfd: pytest.CaptureFixture[str]
) -> None:
    session = Session(_chain("Relu"), source="chain.onnx", device=device)
    assert session.native._enable_fallback is False
    with pytest.raises(ModelError, match=r"chain\.onnx: onnxruntime cannot run it"):
        session.run(np.zeros((2, 5, 5), np.float32))
    assert session.native.get_providers()[0] == session.provider
    assert capfd.readouterr().out == ""


def test_options_are_for_a_named_device() -> None:
    for device in ("auto", "cpu"):
        with pytest.raises(SettingError, match=rf'a device that is named .* not for "{device}"'):
            Session(_chain("Relu"), source="x", device=device, provider_options={"a": "b"})  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=r"must be texts, .* not 'device_id': 0"):
        Session(_chain("Relu"), source="x", device="cuda", provider_options={"device_id": 0})  # type: ignore[dict-item]
    assert Session(_chain("Relu"), source="x", device="cpu", provider_options={}).device == "cpu"


def test_the_precision_that_auto_takes() -> None:
    taken = {device: _bundled_name("emotion", "auto", device).split(".")[1] for device in NAMED}
    assert taken == dict.fromkeys(NAMED, "fp32") | {"cpu": "int8", "openvino": "int8"}
    with pytest.raises(ModelError, match=r"fp16\.onnx does not come with fer-sdk, .* fer-export"):
        _bundled_name("emotion", "fp16", "cuda")


class _OnCuda:
    """onnxruntime as it is with a GPU, as far as opening a session goes: it runs on the CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: str | None = None) -> None:
        self.opened: list[tuple[str, dict[str, str]]] = []
        self.preloaded = 0
        seen, plain = self, ort.InferenceSession

        class Opened(plain):  # type: ignore[valid-type, misc]
            def __init__(self, model: bytes, options: object, **settings: object) -> None:
                (self.asked,) = settings.pop("providers")  # type: ignore[misc, attr-defined]
                seen.opened.append(self.asked)
                super().__init__(model, options, providers=["CPUExecutionProvider"], **settings)

            def get_providers(self) -> list[str]:
                return [self.asked[0]]

            def get_provider_graph_assignment_info(self) -> list[object]:
                return []

            def run(self, outputs: object, feeds: dict[str, np.ndarray]) -> object:
                if fails and self.asked[0] == "CUDAExecutionProvider":
                    raise RuntimeError(fails)
                return super().run(outputs, feeds)

        def preload_dlls() -> None:
            self.preloaded += 1
            sys.stdout.write("Failed to load libcublas.so.13: no such file\nPlease follow …\n")

        names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr(ort, "InferenceSession", Opened)
        monkeypatch.setattr(ort, "get_available_providers", lambda: names)
        monkeypatch.setattr(ort, "preload_dlls", preload_dlls, raising=False)
        runtime._load_nvidia_libraries.cache_clear()


@pytest.fixture(autouse=True)
def _forget_what_was_loaded() -> Iterator[None]:
    yield
    runtime._load_nvidia_libraries.cache_clear()


def test_cuda_computes_fp32_in_full_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _OnCuda(monkeypatch)
    Session(_chain("Relu"), source="chain.onnx", device="cuda")
    Session(
        _chain("Relu"),
        source="chain.onnx",
        device="cuda",
        provider_options={"use_tf32": "1", "device_id": "1"},
    )
    plain = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    own = plain | {"use_tf32": "1", "device_id": "1"}
    assert seen.opened == [("CUDAExecutionProvider", plain), ("CUDAExecutionProvider", own)]


def test_on_cuda_a_model_whose_names_are_not_text_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _OnCuda(monkeypatch)
    damaged = onnx.load_from_string(_chain("Relu"))
    damaged.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    content = damaged.SerializeToString().replace(b"batch", b"\xce\xce\xce\xce\xce")
    for device in ("cuda", "auto", "cpu"):
        with pytest.raises(ModelError, match=r"chain\.onnx: damaged: a name in it is not text"):
            Session(content, source="chain.onnx", device=device)  # type: ignore[arg-type]


def test_cuda_and_cudnn_from_pip_are_loaded_once_and_in_silence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = _OnCuda(monkeypatch)
    Session(_chain("Relu"), source="chain.onnx", device="cpu")
    assert seen.preloaded == 0
    for device in ("cuda", "auto", "cuda"):
        assert Session(_chain("Relu"), source="chain.onnx", device=device).device == "cuda"  # type: ignore[arg-type]
    assert seen.preloaded == 1
    assert capfd.readouterr().out == ""


def test_a_device_that_opens_and_cannot_run_is_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # As may happen without cuDNN, or on a GPU that onnxruntime has no code for.
    _OnCuda(monkeypatch, fails="cuDNN is not available")
    with pytest.raises(DeviceUnavailableError, match=r"does not open: .*cuDNN is not available"):
        Session(_chain("Relu"), source="chain.onnx", device="cuda")
    session = Session(_chain("Relu"), source="chain.onnx", device="auto")
    assert session.device == "cpu"
    assert "CUDA did not open, the CPU is used" in caplog.text
    assert "cuDNN is not available" in caplog.text
    np.testing.assert_array_equal(session.run(-np.ones((1, 4, 4), np.float32))[0], 0)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_library_of_cuda_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ort.InferenceSession
    _OnCuda(monkeypatch)
    monkeypatch.setattr(ort, "InferenceSession", real)
    told = r"\(Failed to load libcublas\.so\.13: no such file\)\. Or use"
    with pytest.raises(DeviceUnavailableError, match=told):
        Session(_chain("Relu"), source="chain.onnx", device="cuda")


@pytest.mark.cuda
@pytest.mark.skipif(not runtime.has_cuda(), reason="this onnxruntime is not built for CUDA")
def test_cuda_keeps_every_operation(example_photo: Path) -> None:
    with FerPipeline(device="cuda") as pipeline:
        assert pipeline.info.provider == "CUDAExecutionProvider"
        assert {model.cpu_nodes for model in pipeline.info.models} == {0}
        assert pipeline.predict(example_photo)[0].emotion == "happy"


@openvino
class TestOpenVINO:
    def test_the_models_give_what_they_give_on_the_cpu(self) -> None:
        faces = np.random.default_rng(0).integers(0, 256, (70, 16, 16), np.uint8)
        emotion, landmarks = tiny_models.emotion_model(), tiny_models.landmarks_model()
        there = EmotionModel(emotion, source="tiny.onnx", device="openvino")
        assert (there.session.device, there.session.provider) == (
            "openvino",
            "OpenVINOExecutionProvider",
        )
        expected = tiny_models.expected_scores(faces)
        np.testing.assert_allclose(there.scores(faces), expected, atol=1e-4)
        for number in (1, 3, 2, 0):
            np.testing.assert_allclose(there.scores(faces[:number]), expected[:number], atol=1e-4)
        points = [
            LandmarksModel(landmarks, source="tiny.onnx", device=device).landmarks(faces)  # type: ignore[arg-type]
            for device in ("openvino", "cpu")
        ]
        np.testing.assert_allclose(*points, atol=1e-4)

    def test_an_operation_left_to_the_cpu_is_refused(self) -> None:
        # OpenVINO has no Hardmax; onnxruntime gives it to the CPU without a word.
        match = r"1 of the 2 operations of chain\.onnx would run on the CPU"
        with pytest.raises(DeviceUnavailableError, match=match):
            Session(_chain("Relu", "Hardmax"), source="chain.onnx", device="openvino")

    def test_a_device_of_openvino_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(DeviceUnavailableError, match=r"chain\.onnx would run on CPU|not open"):
            Session(
                _chain("Relu"),
                source="chain.onnx",
                device="openvino",
                provider_options={"device_type": "GPU.97"},
            )

    def test_an_option_that_there_is_not_is_told(self) -> None:
        with pytest.raises(DeviceUnavailableError, match=r"provider_options=\{'nonsense': '1'\}"):
            Session(
                _chain("Relu"),
                source="chain.onnx",
                device="openvino",
                provider_options={"nonsense": "1"},
            )

    def test_threads_may_share_a_session(self) -> None:
        faces = np.random.default_rng(1).integers(0, 256, (8, 16, 16), np.uint8)
        model = EmotionModel(tiny_models.emotion_model(), source="tiny.onnx", device="openvino")
        expected = tiny_models.expected_scores(faces)
        wrong: list[int] = []

        def look(number: int) -> None:
            for _ in range(20):
                if not np.allclose(model.scores(faces[:number]), expected[:number], atol=1e-4):
                    wrong.append(number)

        threads = [threading.Thread(target=look, args=(1 + number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    @bundled
    @pytest.mark.parametrize("precision", ["auto", "fp32"])
    def test_the_pipeline_says_that_it_runs_there(
        self, example_photo: Path, precision: str
    ) -> None:
        settings = {"detector": "blazeface", "precision": precision}
        with (
            FerPipeline(device="openvino", **settings) as there,  # type: ignore[arg-type]
            FerPipeline(device="cpu", **settings) as here,  # type: ignore[arg-type]
        ):
            assert (there.info.device, there.info.provider) == (
                "openvino",
                "OpenVINOExecutionProvider",
            )
            for model in there.info.models:
                assert model.provider == "OpenVINOExecutionProvider"
                assert model.precision == ("int8" if precision == "auto" else "fp32")
                assert model.cpu_nodes == 0
                assert model.nodes > 50
            (found,), (expected,) = there.predict(example_photo), here.predict(example_photo)
        assert found.emotion == expected.emotion
        near = 0.01 if precision == "auto" else 1e-4
        assert found.confidence == pytest.approx(expected.confidence, abs=near)
        size = expected.box.width
        np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=near * size)

    @bundled
    @pytest.mark.data
    def test_int8_gives_the_labels_that_it_gives_on_the_cpu(self, fer2013: FaceSet) -> None:
        name = "emotion.int8.onnx"
        faces = fer2013.split("PublicTest").images[:1000]
        labels = [
            EmotionModel(read_bundled(name), source=name, device=device).scores(faces).argmax(1)  # type: ignore[arg-type]
            for device in ("openvino", "cpu")
        ]
        assert (labels[0] == labels[1]).mean() >= 0.985

    @bundled
    def test_the_command_says_so_too(self) -> None:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "fer_sdk", "info", "--json"),
                *("--device", "openvino", "--provider-option", "num_of_threads=1"),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["devices"] == ["cpu", "openvino"]
        assert report["pipeline"]["device"] == "openvino"
