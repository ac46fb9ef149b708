"""The pipeline from image to faces, with tiny models whose answers are known."""

from __future__ import annotations

import io
import json
import logging
import pickle
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

import fer_sdk
import tiny_models
from fer_sdk.detectors.base import Detection
from fer_sdk.errors import (
    DetectorError,
    DeviceUnavailableError,
    FerError,
    ImageError,
    ModelError,
    PipelineClosedError,
    SettingError,
)
from fer_sdk.image.crop import CropGeometry
from fer_sdk.models import packaged as bundle
from fer_sdk.models import session as runtime
from fer_sdk.pipeline import FerPipeline
from fer_sdk.types import LANDMARKS, Box, Face


@dataclass
class Plain:
    """A detector that finds the squares of an image that are not black, by their red channel."""

    name: str = "plain"
    calls: int = 0
    closed: int = 0
    gate: threading.Event | None = None
    entered: threading.Event = field(default_factory=threading.Event)

    def detect(self, image: np.ndarray) -> list[Detection]:
        self.calls += 1
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(30)
        _, _, found, _ = cv2.connectedComponentsWithStats((image[..., 0] > 0).astype(np.uint8))
        return [
            Detection(Box(*(float(number) for number in row[:4])), 0.9)
            for row in found[1:].tolist()
        ]

    def close(self) -> None:
        self.closed += 1


@dataclass
class Fixed:
    """A detector that gives what it was told to."""

    found: object
    name: str = "fixed"

    def detect(self, image: np.ndarray) -> list[Detection]:
        return self.found  # type: ignore[return-value]

    def close(self) -> None:
        raise AssertionError("a detector of the caller's own is not closed")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tiny_models.write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def pipeline(models: tuple[Path, Path]) -> Iterator[FerPipeline]:
    with _open(models, Plain()) as opened:
        yield opened


def _open(models: tuple[Path, Path], detector: object, **settings: object) -> FerPipeline:
    # The tiny model's eyes are anywhere: none of its faces is to be turned by them.
    return FerPipeline(
        detector=detector,  # type: ignore[arg-type]
        emotion_model=models[0],
        landmarks_model=models[1],
        threads=1,
        align_beyond=None,
        **settings,  # type: ignore[arg-type]
    )


def _scene(*squares: tuple[int, int, int, int], width: int = 200, height: int = 120) -> np.ndarray:
    """Gray squares (x, y, side, level) on black, as RGB."""
    image = np.zeros((height, width, 3), np.uint8)
    for x, y, side, level in squares:
        image[y : y + side, x : x + side] = level
    return image


def _near(found: list[Face], expected: list[Face]) -> bool:
    """The same faces; onnxruntime may differ in the last digits between batch sizes."""
    return len(found) == len(expected) and all(
        one.box == other.box
        and one.emotion == other.emotion
        and one.detection_score == other.detection_score
        and np.allclose(one.landmarks, other.landmarks, atol=1e-4)
        and np.allclose(list(one.scores.values()), list(other.scores.values()), atol=1e-5)
        for one, other in zip(found, expected, strict=True)
    )


SCENE = _scene((10, 10, 20, 60), (60, 20, 60, 250), (140, 30, 40, 128))


def test_faces_come_largest_first(pipeline: FerPipeline) -> None:
    faces = pipeline.predict(SCENE)
    assert [face.box for face in faces] == [
        Box(60, 20, 60, 60),
        Box(140, 30, 40, 40),
        Box(10, 10, 20, 20),
    ]
    assert pipeline.predict(SCENE, max_faces=2) == faces[:2]
    assert pipeline.predict(SCENE, max_faces=9) == faces


def test_scores_are_those_of_the_framed_face(pipeline: FerPipeline) -> None:
    for face in pipeline.predict(SCENE):
        # The crop as plain numpy: the square by the geometry, then the mean over it.
        side = round(tiny_models.GEOMETRY.scale * face.box.width)
        left = int(np.floor(face.box.x + face.box.width / 2 - side / 2 + 0.5))
        centre_y = face.box.y + face.box.height * (0.5 + tiny_models.GEOMETRY.shift_y)
        top = int(np.floor(centre_y - side / 2 + 0.5))
        rows = np.clip(np.arange(top, top + side), 0, SCENE.shape[0] - 1)
        columns = np.clip(np.arange(left, left + side), 0, SCENE.shape[1] - 1)
        (expected,) = tiny_models.expected_scores(SCENE[rows][:, columns, 0][None])
        np.testing.assert_allclose(list(face.scores.values()), expected, atol=0.02)
        assert list(face.scores) == list(tiny_models.EMOTIONS)
        assert face.confidence == max(face.scores.values()) == face.scores[face.emotion]
        assert face.track_id is None


def test_landmarks_come_back_to_where_they_are_in_the_image(
    models: tuple[Path, Path],
) -> None:
    image = np.zeros((300, 400, 3), np.uint8)
    image[148:153, 238:243] = 255
    with _open(models, Fixed([Detection(Box(200.0, 100.0, 80.0, 80.0), 0.5)])) as pipeline:
        (face,) = pipeline.predict(image)
    assert face.landmarks[0] == pytest.approx((240.5, 150.5), abs=0.5)
    side = 1.2 * 80
    left, top = 240 - side / 2, 140 - 0.05 * 80 - side / 2
    for point, (x, y) in zip(face.landmarks[1:], tiny_models.STILL, strict=True):
        assert point == pytest.approx((left + x * side, top + y * side), abs=1)


def test_each_model_sees_the_face_framed_as_it_says(tmp_path: Path) -> None:
    wide = tiny_models.metadata("landmarks", crop=CropGeometry(2.0, 0.5, 0.0), input_size=24)
    emotion, landmarks = tmp_path / "e.onnx", tmp_path / "l.onnx"
    emotion.write_bytes(tiny_models.emotion_model())
    landmarks.write_bytes(tiny_models.landmarks_model(wide))
    image = np.zeros((300, 400, 3), np.uint8)
    image[150, 300] = 255
    with _open((emotion, landmarks), Fixed([Detection(Box(200, 100, 80, 80), 0.5)])) as pipeline:
        (face,) = pipeline.predict(image)
    # Only a square twice the box's side, shifted to the right, reaches the light.
    assert face.landmarks[0] == pytest.approx((300.5, 150.5), abs=4)
    assert face.landmarks[1] == pytest.approx((200 + 0.7 * 160, 60 + 0.3 * 160), abs=1)
    assert face.emotion == "angry"


def test_no_face_gives_an_empty_list(pipeline: FerPipeline) -> None:
    assert pipeline.predict(_scene()) == []
    assert pipeline.predict_batch([]) == []
    assert pipeline.predict_batch([_scene(), _scene()]) == [[], []]


@pytest.mark.parametrize(("width", "height", "left", "top"), [(90, 60, 15, 0), (60, 91, 0, 15)])
def test_without_a_detector_the_image_is_the_face(
    models: tuple[Path, Path], width: int, height: int, left: int, top: int
) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    image[top : top + 60, left : left + 60] = 170
    with _open(models, None) as pipeline:
        (face,) = pipeline.predict(image)
        assert pipeline.info.detector is None
        assert _near(pipeline.predict_batch([image] * 3, on_error="raise")[2], [face])
    assert face.box == Box(0, 0, width, height)
    assert face.detection_score is None
    (expected,) = tiny_models.expected_scores(np.full((1, 60, 60), 170, np.uint8))
    np.testing.assert_allclose(list(face.scores.values()), expected, atol=1e-5)
    assert face.landmarks[0] == pytest.approx((left + 30, top + 30), abs=0.01)
    assert face.landmarks[3] == pytest.approx((left + 0.7 * 60, top + 0.8 * 60), abs=0.01)


def test_every_form_of_an_image_gives_the_same_faces(pipeline: FerPipeline, tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    Image.fromarray(SCENE).save(path)
    expected = pipeline.predict(SCENE)
    for form in (str(path), path, path.read_bytes(), Image.open(path), SCENE[..., ::-1]):
        assert pipeline.predict(form) == expected
    colored = SCENE.copy()
    colored[..., 0] //= 2
    assert pipeline.predict(colored, color="rgb") == pipeline.predict(colored[..., ::-1])
    assert pipeline.predict(colored, color="rgb") != pipeline.predict(colored)


def test_a_batch_gives_what_single_images_give(pipeline: FerPipeline) -> None:
    rng = np.random.default_rng(0)
    scenes = [
        _scene(*((int(60 * n), 20, int(rng.integers(5, 50)), int(level)) for n in range(count)))
        for count in (0, 1, 3, 2, 0, 3, 1)
        for level in (40, 128, 255)
    ]
    together = pipeline.predict_batch(iter(scenes), on_error="raise")
    for found, scene in zip(together, scenes, strict=True):
        assert _near(found, pipeline.predict(scene))
    limited = pipeline.predict_batch(scenes, max_faces=1, on_error="raise")
    for found, one in zip(limited, together, strict=True):
        assert _near(found, one[:1])


def test_one_detector_call_and_one_run_a_model_however_many_faces(
    models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = Plain()
    runs: list[tuple[str, int]] = []
    run = runtime.Session.run

    def watched(session: runtime.Session, array: np.ndarray) -> list[np.ndarray]:
        outputs = run(session, array)
        runs.append((f"{outputs[0].ndim}", len(array)))
        return outputs

    with _open(models, detector) as pipeline:
        monkeypatch.setattr(runtime.Session, "run", watched)
        pipeline.predict(SCENE)
        assert detector.calls == 1
        assert sorted(runs) == [("2", 3), ("3", 3)]
        runs.clear()
        pipeline.predict_batch([SCENE, _scene(), SCENE])
        assert detector.calls == 4
        assert sorted(runs) == [("2", 6), ("3", 6)]
        runs.clear()
        pipeline.predict(_scene())
        assert runs == []


def test_the_faces_of_a_large_batch_go_through_the_models_in_capped_runs(
    models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[int, int]] = []
    run = runtime.Session.run

    def watched(session: runtime.Session, array: np.ndarray) -> list[np.ndarray]:
        outputs = run(session, array)
        runs.append((outputs[0].ndim, len(array)))
        return outputs

    with _open(models, Plain()) as pipeline:
        expected = pipeline.predict(SCENE)
        monkeypatch.setattr(runtime.Session, "run", watched)
        found = pipeline.predict_batch(SCENE for _ in range(50))
    for outputs in (2, 3):
        faces = [count for ndim, count in runs if ndim == outputs]
        assert (sum(faces), max(faces)) == (150, 64)
        assert len(faces) <= 5
    assert len(found) == 50
    assert all(_near(faces, expected) for faces in found if isinstance(faces, list))


def test_a_batch_does_not_keep_its_images(pipeline: FerPipeline) -> None:
    seen: list[weakref.ref[np.ndarray]] = []
    most = 0

    def scenes() -> Iterator[np.ndarray]:
        nonlocal most
        for _ in range(20):
            scene = _scene((10, 20, 30, 200))
            seen.append(weakref.ref(scene))
            yield scene
            del scene
            most = max(most, sum(one() is not None for one in seen))

    assert [len(faces) for faces in pipeline.predict_batch(scenes(), on_error="raise")] == [1] * 20
    # The one that is being looked at, until the next takes its place.
    assert most <= 1


def test_a_bad_image_of_a_batch_has_its_error_in_its_place(
    pipeline: FerPipeline, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.jpg"
    images = [SCENE, missing, np.zeros((4, 4)), SCENE[:, :100]]
    found = pipeline.predict_batch(images)
    assert [type(one) for one in found] == [list, ImageError, ImageError, list]
    assert str(found[1]).startswith(f"images[1]: {missing}: cannot be read")
    assert str(found[2]).startswith("images[2]: array of float64")
    for place in (0, 3):
        assert _near(found[place], pipeline.predict(images[place]))  # type: ignore[arg-type]
    with pytest.raises(ImageError, match=r"^images\[1\]: ") as caught:
        pipeline.predict_batch(images, on_error="raise")
    assert isinstance(caught.value.__cause__, ImageError)


def test_one_image_is_not_a_batch(pipeline: FerPipeline, tmp_path: Path) -> None:
    for one in ("photo.jpg", tmp_path, b"bytes", SCENE, SCENE[..., 0], Image.fromarray(SCENE), 7):
        with pytest.raises(SettingError, match="several images"):
            pipeline.predict_batch(one)  # type: ignore[arg-type]
    stack = np.stack([SCENE, SCENE])
    assert pipeline.predict_batch(stack) == pipeline.predict_batch([SCENE, SCENE])


def test_eight_threads_on_one_pipeline_give_the_single_thread_answers(
    pipeline: FerPipeline,
) -> None:
    scenes = [_scene((10 + n, 10, 20 + n, 8 * n + 7), (100, 30, 50, 200)) for n in range(30)]
    expected = [pipeline.predict(scene) for scene in scenes]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(pipeline.predict, scenes * 8))
    assert found == expected * 8


def test_settings_are_checked(models: tuple[Path, Path], pipeline: FerPipeline) -> None:
    for wrong in (
        {"precision": "fp8"},
        {"device": "gpu"},
        {"max_pixels": 0},
    ):
        with pytest.raises(SettingError, match=str(next(iter(wrong.values())))):
            _open(models, None, **wrong)
    with pytest.raises(SettingError, match="threads must be at least 1"):
        FerPipeline(detector=None, emotion_model=models[0], threads=0)
    for limit in (0, -1):
        with pytest.raises(SettingError, match="max_faces must be at least 1"):
            pipeline.predict(SCENE, max_faces=limit)
    with pytest.raises(SettingError, match='on_error must be "return" or "raise"'):
        pipeline.predict_batch([SCENE], on_error="ignore")  # type: ignore[call-overload]
    with pytest.raises(DetectorError, match="there is no detector 'haar'"):
        _open(models, "haar")
    with pytest.raises(DetectorError, match="is not a detector: it needs a name"):
        _open(models, object())


def test_the_limit_of_pixels_is_the_pipelines(models: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    Image.fromarray(SCENE).save(path)
    with (
        _open(models, None, max_pixels=1000) as pipeline,
        pytest.raises(ImageError, match="200x120 is more than the 1000"),
    ):
        pipeline.predict(path)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (None, "must return a list of fer_sdk.Detection, not None"),
        ([(1, 2, 3, 4)], "must return a list"),
        ([Detection(Box(0, 0, float("nan"), 5), 0.5)], "not finite"),
        ([Detection(Box(0, 0, 5, 5), 1.5)], "outside 0..1"),
        ([Detection(Box(0, 0, 5, 5), float("nan"))], "not finite"),
    ],
)
def test_a_detector_that_gives_something_else_is_named(
    models: tuple[Path, Path], found: object, told: str
) -> None:
    with (
        _open(models, Fixed(found)) as pipeline,
        pytest.raises(DetectorError, match=f"^detector fixed: .*{told}"),
    ):
        pipeline.predict(SCENE)


def test_boxes_are_brought_inside_the_image(models: tuple[Path, Path]) -> None:
    found = [
        Detection(Box(-10, -20, 60, 70), 0.5),
        Detection(Box(190, 110, np.float32(50), 50), np.float32(0.5)),  # type: ignore[arg-type]
        Detection(Box(300, 10, 20, 20), 0.9),
    ]
    with _open(models, Fixed(found)) as pipeline:
        faces = pipeline.predict(SCENE)
    assert [face.box for face in faces] == [Box(0, 0, 50, 50), Box(190, 110, 10, 10)]
    assert json.loads(json.dumps([face.to_dict() for face in faces]))[1]["detection_score"] == 0.5


def test_a_closed_pipeline_refuses_to_work(models: tuple[Path, Path]) -> None:
    pipeline = _open(models, Plain())
    pipeline.close()
    pipeline.close()
    for call in (lambda: pipeline.predict(SCENE), lambda: pipeline.predict_batch([])):
        with pytest.raises(PipelineClosedError, match="open another"):
            call()
    assert pipeline.info.detector == "plain"
    assert "closed" in repr(pipeline)


def test_closing_waits_for_calls_that_are_under_way(models: tuple[Path, Path]) -> None:
    detector = Plain(gate=threading.Event())
    pipeline = _open(models, detector)
    with ThreadPoolExecutor(2) as threads:
        answer = threads.submit(pipeline.predict, SCENE)
        assert detector.entered.wait(30)
        closing = threads.submit(pipeline.close)
        with pytest.raises(TimeoutError):
            closing.result(0.2)
        with pytest.raises(PipelineClosedError):
            pipeline.predict(SCENE)
        assert detector.gate is not None
        detector.gate.set()
        assert len(answer.result(30)) == 3
        closing.result(30)


def test_the_pipelines_own_detector_is_closed_once(
    models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    detectors = [Plain(), Plain()]
    left = iter(detectors)
    monkeypatch.setattr(
        "fer_sdk.pipeline.open_detector", lambda *_, **__: (next(left), "for this test")
    )
    pipeline = _open(models, "auto")
    assert (pipeline.info.detector, pipeline.info.detector_reason) == ("plain", "for this test")
    pipeline.close()
    pipeline.close()
    assert detectors[0].closed == 1
    forgotten = _open(models, "auto")
    gone = weakref.ref(forgotten)
    del forgotten
    assert gone() is None
    assert detectors[1].closed == 1


def test_a_detector_of_the_callers_own_stays_open(models: tuple[Path, Path]) -> None:
    detector = Plain()
    for _ in range(2):
        with _open(models, detector) as pipeline:
            assert len(pipeline.predict(SCENE)) == 3
            assert pipeline.info.detector_reason == "it was given"
    assert detector.closed == 0


def test_info_tells_what_runs(models: tuple[Path, Path], pipeline: FerPipeline) -> None:
    info = pipeline.info
    assert (info.fer_sdk, info.onnxruntime) == (fer_sdk.__version__, runtime.version())
    assert (info.device, info.threads, info.labels) == ("cpu", 1, tiny_models.EMOTIONS)
    assert [model.task for model in info.models] == ["emotion", "landmarks"]
    for model, path in zip(info.models, models, strict=True):
        assert (model.source, model.precision, model.version) == (str(path), "fp32", "tiny-1")
        assert model.provider == "CPUExecutionProvider"
    shown = json.loads(json.dumps(info.to_dict()))
    assert shown["models"][1]["sha256"] == info.models[1].sha256
    with pytest.raises(AttributeError):
        info.device = "cuda"  # type: ignore[misc]


def test_a_wrong_model_is_refused_before_anything_is_opened(
    models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the detector was opened")

    monkeypatch.setattr("fer_sdk.pipeline.open_detector", never)
    with pytest.raises(ModelError, match=r"emotion\.onnx: a model for emotion, where one for"):
        FerPipeline(emotion_model=models[0], landmarks_model=models[0])
    with pytest.raises(ModelError, match='precision="int8" was asked for, but this model is fp32'):
        FerPipeline(emotion_model=models[0], landmarks_model=models[1], precision="int8")


@pytest.mark.skipif(runtime.has_cuda(), reason="this onnxruntime is built for CUDA")
def test_cuda_is_refused_where_it_is_not(models: tuple[Path, Path]) -> None:
    with pytest.raises(DeviceUnavailableError, match='device="cuda" was asked for'):
        _open(models, None, device="cuda")


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle of tiny models in the place of the real one."""
    for precision in ("int8", "fp32"):
        for task, make in (
            ("emotion", tiny_models.emotion_model),
            ("landmarks", tiny_models.landmarks_model),
        ):
            about = tiny_models.metadata(task, precision=precision)
            (tmp_path / f"{task}.{precision}.onnx").write_bytes(make(about))
    bundle.write_manifest(tmp_path)
    monkeypatch.setattr(bundle, "bundled", lambda: tmp_path)
    return tmp_path


def _precisions(**settings: object) -> list[tuple[str, str]]:
    with FerPipeline(detector=None, **settings) as pipeline:  # type: ignore[arg-type]
        return [(model.source, model.precision) for model in pipeline.info.models]


def test_the_bundled_models_are_taken_by_precision(bundled: Path) -> None:
    int8 = [("emotion.int8.onnx", "int8"), ("landmarks.int8.onnx", "int8")]
    assert _precisions(device="cpu") == int8
    assert _precisions(device="cpu", precision="int8") == int8
    fp32 = [("emotion.fp32.onnx", "fp32"), ("landmarks.fp32.onnx", "fp32")]
    assert _precisions(device="cpu", precision="fp32") == fp32
    with pytest.raises(ModelError, match=r"emotion\.fp16\.onnx does not come .* int8, fp32"):
        _precisions(precision="fp16")
    (bundled / "landmarks.int8.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match=r"landmarks\.int8\.onnx: not the file that was shipped"):
        _precisions(device="cpu")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_auto_falls_back_to_the_cpus_models_where_cuda_does_not_open(
    bundled: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if runtime.has_cuda():
        pytest.skip("this onnxruntime is built for CUDA")
    # onnxruntime opens a session on the CPU when a provider does not open, and only warns.
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: names)
    with caplog.at_level(logging.WARNING, "fer_sdk"):
        assert [precision for _, precision in _precisions()] == ["int8", "int8"]
    assert len(caplog.records) == 1
    assert "CUDA did not open, the CPU is used: emotion.fp32.onnx would run on" in caplog.text
    with pytest.raises(DeviceUnavailableError, match="CPUExecutionProvider"):
        _precisions(device="cuda")


def test_faces_can_be_pickled_and_not_changed(pipeline: FerPipeline) -> None:
    faces = pipeline.predict(SCENE)
    assert pickle.loads(pickle.dumps(faces)) == faces
    with pytest.raises(AttributeError):
        faces[0].emotion = "happy"  # type: ignore[misc]
    plain = json.loads(json.dumps(faces[0].to_dict()))
    assert list(plain["landmarks"]) == list(LANDMARKS)
    assert plain["scores"] == dict(faces[0].scores)
    assert plain["box"] == {"x": 60.0, "y": 20.0, "width": 60.0, "height": 60.0}


@pytest.mark.parametrize("name", ["auto", "mediapipe", "blazeface", "yunet"])
def test_the_real_detectors_find_the_face_of_the_photo(
    models: tuple[Path, Path], example_photo: Path, name: str
) -> None:
    try:
        pipeline = _open(models, name)
    except DetectorError as error:
        if name == "auto":
            raise
        pytest.skip(str(error))
    with pipeline:
        (face,) = pipeline.predict(example_photo)
        photo = cv2.imread(str(example_photo))
        half = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        again, small = pipeline.predict_batch([photo, half], on_error="raise")
    assert _near(again, [face])
    centre = face.box.x + face.box.width / 2, face.box.y + face.box.height / 2
    assert centre == pytest.approx((225, 120), abs=20)
    assert 80 < face.box.width < 160
    assert small[0].box.width == pytest.approx(face.box.width / 2, abs=6)


def test_the_bundled_models_read_the_photo(example_photo: Path) -> None:
    if not bundle.is_bundled("emotion.int8.onnx"):
        pytest.skip("the models are not bundled yet")
    with FerPipeline() as pipeline:
        (face,) = pipeline.predict(example_photo)
        info = pipeline.info
    assert face.emotion == "happy"
    assert [model.precision for model in info.models] in (["int8"] * 2, ["fp16"] * 2, ["fp32"] * 2)
    # Where the eyes and lip corners of this photo are, read off it by eye.
    expected = ((203, 101), (246, 103), (204, 140), (244, 141))
    for point, where in zip(face.landmarks, expected, strict=True):
        assert point == pytest.approx(where, abs=0.1 * face.box.width)


def test_nothing_is_said_when_the_interpreter_ends_with_an_open_pipeline(
    models: tuple[Path, Path], example_photo: Path
) -> None:
    code = f"""
from fer_sdk import FerPipeline
pipeline = FerPipeline(emotion_model={str(models[0])!r}, landmarks_model={str(models[1])!r})
print(len(pipeline.predict({str(example_photo)!r})))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_every_error_is_ours_and_a_builtin() -> None:
    # Other packages of the project refine these errors for themselves.
    kinds = [kind for kind in FerError.__subclasses__() if kind.__module__ == "fer_sdk.errors"]
    assert len(kinds) >= 8
    for kind in kinds:
        assert issubclass(kind, ValueError | RuntimeError | ImportError)
        assert getattr(fer_sdk, kind.__name__) is kind


def test_a_pipeline_reads_from_memory_what_a_form_posts(pipeline: FerPipeline) -> None:
    into = io.BytesIO()
    Image.fromarray(SCENE).save(into, "PNG")
    assert pipeline.predict(into.getbuffer()) == pipeline.predict(SCENE)


def _tilted(photo: np.ndarray, degrees: float) -> np.ndarray:
    """The head of the photo, turned clockwise around its middle."""
    turn = cv2.getRotationMatrix2D((69.5, 69.5), -degrees, 1.0)
    head = photo[50:190, 155:295]
    return cv2.warpAffine(head, turn, (140, 140), borderMode=cv2.BORDER_REPLICATE)


def _turned_back(points: Iterable[tuple[float, float]], degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (np.array(list(points)) - 70) @ turn + 70


@pytest.mark.parametrize("degrees", [75, -50, 120, 180])
def test_a_tilted_face_is_read_upright(example_photo: Path, degrees: float) -> None:
    """By the roll that the detector tells: every landmark, and the emotion, as of the level one."""
    photo = cv2.imread(str(example_photo))
    box = Box(19.0, 19.0, 102.0, 102.0)
    level = Detection(box, 0.9, 0.0)
    tilted = Detection(box, 0.9, float(degrees))
    with FerPipeline(detector=Fixed([level])) as pipe:
        (expected,) = pipe.predict(_tilted(photo, 0))
    with FerPipeline(detector=Fixed([tilted])) as pipe:
        (read,) = pipe.predict(_tilted(photo, degrees))
    assert read.emotion == expected.emotion == "happy"
    assert read.scores["happy"] == pytest.approx(expected.scores["happy"], abs=0.05)
    there = np.array([tuple(point) for point in expected.landmarks])
    np.testing.assert_allclose(_turned_back(read.landmarks, degrees), there, atol=5)


@pytest.mark.parametrize("degrees", [40, -40])
def test_without_a_roll_the_landmarks_tell_how_to_turn(example_photo: Path, degrees: float) -> None:
    photo = cv2.imread(str(example_photo))
    detector = Fixed([Detection(Box(19.0, 19.0, 102.0, 102.0), 0.9)])
    with FerPipeline(detector=detector) as pipe:
        (expected,) = pipe.predict(_tilted(photo, 0))
        (read,) = pipe.predict(_tilted(photo, degrees))
    assert read.scores["happy"] == pytest.approx(expected.scores["happy"], abs=0.05)


def test_without_a_detector_nothing_is_turned(example_photo: Path) -> None:
    photo = _tilted(cv2.imread(str(example_photo)), 75)
    with FerPipeline(detector=None) as pipe, FerPipeline(detector=None, align_beyond=None) as plain:
        assert pipe.predict(photo) == plain.predict(photo)


def test_align_beyond_is_an_angle(example_photo: Path) -> None:
    over = _tilted(cv2.imread(str(example_photo)), 180)
    detector = Fixed([Detection(Box(19.0, 19.0, 102.0, 102.0), 0.9, 180.0)])
    for angle, happy in ((None, False), (180, False), (150, True)):
        with FerPipeline(detector=detector, align_beyond=angle) as pipe:
            (face,) = pipe.predict(over)
        assert (face.scores["happy"] > 0.9) is happy
    for wrong in (-1, 181):
        with pytest.raises(SettingError, match="align_beyond must be from 0 to 180"):
            FerPipeline(align_beyond=wrong)


@pytest.mark.parametrize("workers", [2, 4])
def test_several_workers_give_what_one_gives_in_the_same_order(
    pipeline: FerPipeline, tmp_path: Path, workers: int
) -> None:
    images = [
        tmp_path / "missing.jpg"
        if n % 7 == 3
        else _scene(*((50 * at, 10, 12 + n, 8 * n + 7) for at in range(n % 4)))
        for n in range(30)
    ]
    expected = pipeline.predict_batch(images)
    found = pipeline.predict_batch(images, workers=workers)
    assert [str(one) for one in found if isinstance(one, ImageError)] == [
        str(one) for one in expected if isinstance(one, ImageError)
    ]
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, list) == isinstance(other, list)
        if isinstance(one, list) and isinstance(other, list):
            assert _near(one, other)
    with pytest.raises(ImageError, match=r"^images\[3\]: "):
        pipeline.predict_batch(images, workers=workers, on_error="raise")
    with pytest.raises(SettingError, match="workers must be at least 1"):
        pipeline.predict_batch(images, workers=0)


def test_workers_really_search_at_the_same_time(models: tuple[Path, Path]) -> None:
    together = threading.Barrier(3)

    class Meeting(Plain):
        def detect(self, image: np.ndarray) -> list[Detection]:
            together.wait(30)
            return super().detect(image)

    with _open(models, Meeting()) as pipeline:
        assert len(pipeline.predict_batch([SCENE] * 9, workers=3)) == 9


def test_workers_take_no_more_images_than_they_need(models: tuple[Path, Path]) -> None:
    """Of a generator that never ends, only a few before the first one is found."""
    taken: list[int] = []
    detector = Plain(gate=threading.Event())

    def scenes() -> Iterator[np.ndarray]:
        for number in range(1000):
            taken.append(number)
            yield SCENE

    with _open(models, detector) as pipeline, ThreadPoolExecutor(1) as threads:
        answer = threads.submit(pipeline.predict_batch, scenes(), workers=4)
        assert detector.entered.wait(30)
        with pytest.raises(TimeoutError):
            answer.result(0.3)
        assert len(taken) <= 6
        assert detector.gate is not None
        detector.gate.set()
        assert len(answer.result(60)) == 1000


def test_an_error_of_a_generator_comes_through(pipeline: FerPipeline) -> None:
    def scenes() -> Iterator[np.ndarray]:
        yield SCENE
        raise OSError("the disk is gone")

    for workers in (1, 3):
        with pytest.raises(OSError, match="the disk is gone"):
            pipeline.predict_batch(scenes(), workers=workers)
    assert len(pipeline.predict(SCENE)) == 3


def test_the_stages_tell_where_the_time_goes(pipeline: FerPipeline) -> None:
    told: list[tuple[str, float]] = []
    pipeline.analyzer.on_stage = lambda name, seconds: told.append((name, seconds))
    start = time.perf_counter()
    pipeline.predict(SCENE)
    total = time.perf_counter() - start
    stages = ["read", "detect", "crop", "landmarks", "align", "emotion"]
    assert [name for name, _ in told] == stages
    assert all(seconds >= 0 for _, seconds in told)
    # One after the other, and nothing counted twice.
    assert 0 < sum(seconds for _, seconds in told) <= total
    told.clear()
    pipeline.predict(_scene())
    assert [name for name, _ in told] == stages[:2]
    pipeline.analyzer.on_stage = None
    pipeline.predict(SCENE)
    assert len(told) == 2


def test_the_least_detection_score_is_the_detectors(
    models: tuple[Path, Path], example_photo: Path
) -> None:
    for name in ("auto", "blazeface", "yunet"):
        with _open(models, name) as pipeline:
            (face,) = pipeline.predict(example_photo)
        score = face.detection_score
        assert score is not None
        with _open(models, name, min_detection_score=score - 0.01) as pipeline:
            assert len(pipeline.predict(example_photo)) == 1
        with _open(models, name, min_detection_score=score + 0.01) as pipeline:
            assert pipeline.predict(example_photo) == []
        with pytest.raises(SettingError, match="min_score must be from 0 to 1"):
            _open(models, name, min_detection_score=1.5)
