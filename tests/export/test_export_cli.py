"""``fer-export`` as a person or a program uses it, up to the pipeline that runs its files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from export_networks import MOODS, draw, write_checkpoint
from typer.testing import CliRunner

from fer_export import cli
from fer_export.parity import reference
from fer_sdk import FerPipeline
from fer_sdk.models.landmarks import LandmarksModel
from fer_sdk.models.packaged import MANIFEST, read_bundled
from fer_training.data.faces import FaceSet
from fer_training.networks.checkpoint import load

runner = CliRunner()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces of three moods, in a folder of pictures."""
    folder = tmp_path_factory.mktemp("faces")
    draw(210, 1).write(folder, training=150)
    return folder


@pytest.fixture(scope="module")
def emotion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("emotion")
    return write_checkpoint(folder / "model.safetensors", "emotion", draw(150, 1))


@pytest.fixture(scope="module")
def landmarks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("landmarks")
    return write_checkpoint(folder / "model.safetensors", "landmarks", draw(150, 1))


@pytest.fixture(scope="module")
def models(
    data: Path, emotion: Path, landmarks: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Both networks as fp32 files."""
    folder = tmp_path_factory.mktemp("models")
    for checkpoint in (emotion, landmarks):
        arguments = [str(checkpoint), "--data", str(data), "--precision", "fp32", "-o", str(folder)]
        done = runner.invoke(cli.app, ["model", *arguments])
        assert done.exit_code == 0, done.output
    return folder


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "fer_export.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_model_of_ones_own_labels_runs_in_the_pipeline(models: Path, emotion: Path) -> None:
    faces = draw(30, 8)
    with FerPipeline(
        detector=None,
        device="cpu",
        emotion_model=models / "emotion.fp32.onnx",
        landmarks_model=models / "landmarks.fp32.onnx",
    ) as pipeline:
        assert pipeline.info.labels == MOODS
        found = [pipeline.predict(image)[0] for image in faces.images]
    module, described = load(emotion)
    wanted = reference(module, described, faces.images)
    for face, scores in zip(found, wanted, strict=True):
        assert list(face.scores) == list(MOODS)
        np.testing.assert_allclose(list(face.scores.values()), scores, atol=1e-4)
        assert face.emotion == MOODS[scores.argmax()]
    right = [face.emotion == MOODS[mood] for face, mood in zip(found, faces.moods, strict=True)]
    assert np.mean(right) > 0.5


def test_writes_reports_beside_the_files(models: Path) -> None:
    report = json.loads((models / "emotion.json").read_text("utf-8"))
    assert report["may_ship"] is True
    assert report["files"][0]["parity"]["real"]["faces"] == 60
    assert report["checkpoint"]["file"] == "model.safetensors"
    assert report["warnings"] == [
        "only 60 validation faces to compare on: give at least 200, or the gates prove little"
    ]
    page = (models / "landmarks.md").read_text("utf-8")
    assert "**Warning: only 60 validation faces to compare on" in page
    assert "mean drift (px)" in page


def test_parity_command(models: Path, emotion: Path, data: Path) -> None:
    arguments = [str(models / "emotion.fp32.onnx"), str(emotion), "--data", str(data)]
    told = runner.invoke(cli.app, ["parity", *arguments])
    assert told.exit_code == 0
    assert "emotion fp32, 60 validation faces: same top label on 100.00%" in told.stdout
    printed = runner.invoke(cli.app, ["parity", *arguments, "--json"])
    measured = json.loads(printed.stdout)
    assert measured["real"]["agreement"] == 1.0
    assert measured["provider"] == "CPUExecutionProvider"


def test_bundle_writes_all_files_and_their_manifest(
    emotion: Path, landmarks: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fer_export import export
    from fer_export.parity import GATES, Gates

    # A network that was fitted to 150 drawings loses more to few bits than a trained one.
    free = Gates(difference=None, agreement=None, accuracy_loss=None, drift=None)
    monkeypatch.setattr(export, "GATES", {**GATES, "int8": free})
    folder, reports = tmp_path / "m", tmp_path / "r"

    arguments = [str(emotion), str(landmarks), "--data", str(data), "--models", str(folder)]
    arguments += ["--report", str(reports), "--json"]
    done = runner.invoke(cli.app, ["bundle", *arguments])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [entry["task"] for entry in told] == ["emotion", "landmarks"]
    kinds = ("int8.onnx", "fp32.onnx")
    names = {f"{task}.{kind}" for task in ("emotion", "landmarks") for kind in kinds}
    assert {file.name for file in folder.iterdir()} == {*names, MANIFEST}
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
    assert {file["file"]: file["sha256"] for entry in told for file in entry["files"]} == {
        name: about["sha256"] for name, about in manifest.items()
    }
    for name in names:
        assert read_bundled(name, folder=folder)
    pages = {f"{task}.{kind}" for task in ("emotion", "landmarks") for kind in ("md", "json")}
    assert {file.name for file in reports.iterdir()} == pages
    opened = LandmarksModel.from_file(folder / "landmarks.int8.onnx", device="cpu")
    moved = opened.landmarks(draw(20, 9).images) - draw(20, 9).landmarks
    assert np.linalg.norm(moved, axis=-1).mean() < 0.1


def test_help_needs_neither_torch_nor_onnx() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from fer_export.cli import app\n"
        "result = CliRunner().invoke(app, ['model', '--help'])\n"
        "assert result.exit_code == 0 and 'fer-export model' in result.stdout, result.stdout\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'cv2', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_exit_codes(data: Path, tmp_path: Path) -> None:
    missing = run("model", str(tmp_path / "none.safetensors"), "--data", str(data))
    assert missing.returncode == 1
    assert missing.stderr.strip().endswith("none.safetensors: no such checkpoint")
    assert "Traceback" not in missing.stderr
    assert run("model", str(tmp_path / "none.safetensors")).returncode == 2
    assert run("model", "x", "--precision", "int4", "--data", str(data)).returncode == 2


def test_bundle_refuses_checkpoints_the_wrong_way_round(
    emotion: Path, landmarks: Path, data: Path, tmp_path: Path
) -> None:
    done = runner.invoke(
        cli.app,
        ["bundle", str(landmarks), str(emotion), "--data", str(data), "--models", str(tmp_path)],
    )
    assert done.exit_code == 2
    assert list(tmp_path.glob("*.onnx")) == []


@pytest.mark.data
def test_real_faces(emotion: Path, fer2013: FaceSet, tmp_path: Path) -> None:
    """A thousand of FER2013's faces, which the SDK brings to the size of the network."""
    from fer_export.export import Export, Settings

    training, judged = fer2013.split("Training"), fer2013.split("PublicTest")
    some = np.concatenate([np.arange(200), len(training) + np.arange(1000)])
    both = FaceSet(
        np.concatenate([training.images, judged.images])[some],
        np.concatenate([training.labels, judged.labels])[some],
        np.concatenate([training.splits, judged.splits])[some],
        fer2013.label_names,
    )
    with Export(emotion, tmp_path, both, Settings(("fp32",))) as export:
        (candidate,) = export.candidates
        assert candidate.parity.real.faces == 1000
        assert candidate.parity.real.largest <= 1e-4
        assert candidate.parity.real.agreement == 1.0
        # The labels are not the network's, so nothing is said of accuracy.
        assert candidate.parity.file == {}
        assert len(export.publish()) == 1


def test_reference_is_in_batches_what_it_is_at_once(emotion: Path) -> None:
    module, described = load(emotion)
    faces: npt.NDArray[np.uint8] = draw(100, 3).images
    with torch.inference_mode():
        alone = np.concatenate([reference(module, described, face[None]) for face in faces[60:70]])
    np.testing.assert_allclose(reference(module, described, faces)[60:70], alone, atol=1e-5)
