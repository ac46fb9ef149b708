"""From a folder of one's own pictures to ``FerPipeline``, by the commands that a user types."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fer_export.cli import app as export_app
from fer_sdk import FerPipeline
from fer_training.cli import app as train_app

LABELS = ("dark", "light", "middle")
LEVELS = {"dark": 30, "middle": 120, "light": 210}
SETTINGS = [
    "epochs=6",
    "input_size=16",
    "stem=torchvision",
    "batch_size=16",
    "holdout=0.2",
    "ema=0.9",
    "votes=0",
    "brightness=0",
    "contrast=0",
    "rotation=0",
    "jitter=0",
    "small_epochs=0",
    "learning_rate=0.05",
]

runner = CliRunner()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``train/<label>/*.png`` and ``val``: the label is how bright a face is."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for split, count in (("train", 60), ("val", 20)):
        for label, level in LEVELS.items():
            (folder / split / label).mkdir(parents=True)
            for index in range(count):
                face = np.clip(level + random.normal(0, 8, (16, 16)), 0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / split / label / f"{index}.png"), face)
    return folder


@pytest.fixture(scope="module")
def models(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``fer-train emotion``, then ``fer-export model``."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run")
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    named = ["-o", str(folder / "run"), "--data-name", "gray squares", "--model-version", "3.1.4"]
    trained = runner.invoke(train_app, ["emotion", str(data), *named, *settings])
    assert trained.exit_code == 0, trained.output
    checkpoint = trained.stdout.split()[-1]
    exported = runner.invoke(
        export_app, ["model", checkpoint, "--data", str(data), "-o", str(folder / "models")]
    )
    assert exported.exit_code == 0, exported.output
    return folder / "models"


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_three_labels_of_ones_own(models: Path, data: Path, precision: str) -> None:
    path = models / f"emotion.{precision}.onnx"
    right = []
    with FerPipeline(detector=None, device="cpu", emotion_model=path) as pipeline:
        assert pipeline.info.labels == LABELS
        for picture in sorted(data.glob("val/*/*.png")):
            (face,) = pipeline.predict(picture)
            assert tuple(face.scores) == LABELS
            assert sum(face.scores.values()) == pytest.approx(1, abs=1e-4)
            assert face.confidence == max(face.scores.values()) == face.scores[face.emotion]
            right.append(face.emotion == picture.parent.name)
    assert len(right) == 60
    assert np.mean(right) > 0.9

    # The same, counted by fer-train from what the file says about itself.
    measured = runner.invoke(
        train_app, ["evaluate", "--model", str(path), "--data", str(data), "--json"]
    )
    assert measured.exit_code == 0, measured.output
    figures = json.loads(measured.stdout)
    assert figures["precision"] == precision
    assert figures["version"] == "3.1.4"
    assert figures["figures"]["accuracy"] == pytest.approx(np.mean(right))
    page = (models / "emotion.md").read_text("utf-8")
    assert "gray squares" in page
