"""What an evaluation leaves for people to read and look at."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from fer_sdk.detectors import Detection
from fer_sdk.errors import DataError
from fer_sdk.types import Box
from fer_training.cli import app
from fer_training.data.faces import EMOTIONS, FaceSet, read_faces
from fer_training.data.ground_truth import GroundTruth, digest
from fer_training.evaluation import plots
from fer_training.evaluation.corruptions import DEGRADATIONS
from fer_training.evaluation.end_to_end import end_to_end
from fer_training.evaluation.evaluate import evaluate, open_model
from fer_training.evaluation.report import write_report
from tiny_models import GEOMETRY, expected_scores, write_models

EPOCHS = [
    {"epoch": 1, "train_loss": 1.5, "train_accuracy": 0.4, "holdout_loss": 1.4},
    {"epoch": 2, "train_loss": 1.0, "train_accuracy": 0.6, "holdout_loss": 1.1},
]


def _faces(count: int, side: int = 16) -> FaceSet:
    random = np.random.default_rng(2)
    labels = np.arange(count) % 7
    levels = (255 * labels / 6 + random.normal(0, 25, count)).clip(0, 255)
    images = np.broadcast_to(levels[:, None, None], (count, side, side)).astype(np.uint8)
    return FaceSet(images.copy(), labels, np.array(["PublicTest"] * count), EMOTIONS)


def _write_data(folder: Path, faces: FaceSet) -> Path:
    for index, (image, label) in enumerate(zip(faces.images, faces.labels, strict=True)):
        path = folder / "val" / EMOTIONS[label] / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    return folder


def _is_picture(path: Path) -> bool:
    """More than a blank page."""
    pixels = cv2.imread(str(path))
    return pixels is not None and min(pixels.shape[:2]) > 200 and float(pixels.std()) > 5


def test_the_folder_of_an_emotion_model_has_figures_tables_and_pictures(tmp_path: Path) -> None:
    emotion, _ = write_models(tmp_path)
    faces = _faces(42)
    data = _write_data(tmp_path / "data", faces)
    epochs = tmp_path / "epochs.jsonl"
    epochs.write_text("".join(json.dumps(line) + "\n" for line in EPOCHS))
    folder = tmp_path / "report"
    done = CliRunner().invoke(
        app,
        f"evaluate -m {emotion} -d {data} --report {folder} --epochs {epochs}".split(),
    )
    assert done.exit_code == 0, done.output
    figures = json.loads((folder / "figures.json").read_text())["figures"]
    right = float((expected_scores(faces.images).argmax(1) == faces.labels).mean())
    assert figures["accuracy"] == pytest.approx(right)
    text = (folder / "report.md").read_text()
    assert f"| accuracy | {100 * right:.2f} % |" in text
    pictures = {path.name for path in folder.glob("*.png")}
    assert pictures == {"confusion.png", "reliability.png", "classes.png", "curves.png"}
    for name in pictures:
        assert f"({name})" in text
        assert _is_picture(folder / name), name


def test_the_folder_of_a_landmark_model_shows_faces_only_when_asked(tmp_path: Path) -> None:
    _, landmarks = write_models(tmp_path)
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (30, 16, 16)).astype(np.uint8)
    faces = FaceSet(images, np.zeros(30, np.int64), np.array(["PublicTest"] * 30), EMOTIONS)
    model = open_model(landmarks)
    order = np.argsort(digest(images))
    true = model.landmarks(images) + random.normal(0, 0.02, (30, 4, 2)).astype(np.float32)
    truth = GroundTruth(digest(images)[order], true[order], np.zeros(30, np.float32))
    evaluation = evaluate(model, faces, "PublicTest", truth)
    text = write_report(evaluation, tmp_path / "plain").read_text()
    assert f"| all | {evaluation.figures.error:.4f} |" in text
    assert all(f"| {name} |" in text for name in DEGRADATIONS)
    assert not (tmp_path / "plain" / "faces.png").exists()
    write_report(evaluation, tmp_path / "faces", faces=True)
    for name in ("landmarks.png", "degradations.png", "faces.png"):
        assert _is_picture(tmp_path / "faces" / name), name


def test_curves_need_what_a_run_writes(tmp_path: Path) -> None:
    path = tmp_path / "epochs.jsonl"
    path.write_text("no json\n")
    with pytest.raises(DataError, match="not the epochs"):
        plots.curves(path, tmp_path / "curves.png")
    path.write_text("")
    with pytest.raises(DataError, match="not the epochs"):
        plots.curves(path, tmp_path / "curves.png")


def test_pictures_without_a_folder_for_them_are_wrong_usage() -> None:
    wrong = CliRunner().invoke(app, ["evaluate", "-m", "x", "-d", "y", "--epochs", "z"])
    assert wrong.exit_code == 2
    assert "--report" in wrong.output


class _FindsBrightFaces:
    """Knows where the margin ends, and is blind in the dark."""

    name = "bright"

    def detect(self, image: np.ndarray) -> list[Detection]:
        if image.mean() < 60:
            return []
        side = len(image) / 1.5
        box = side / GEOMETRY.scale
        # So that the crop geometry makes the crop itself of it.
        x = (len(image) - box) / 2 - GEOMETRY.shift_x * box
        y = (len(image) - box) / 2 - GEOMETRY.shift_y * box
        return [Detection(Box(x, y, box, box), 0.9), Detection(Box(0.0, 0.0, 2.0, 2.0), 0.8)]

    def close(self) -> None:
        """Nothing."""


def test_end_to_end_counts_faces_that_are_not_found_as_wrong(tmp_path: Path) -> None:
    emotion, _ = write_models(tmp_path)
    faces = _faces(70)
    figures = end_to_end(emotion, faces, detector=_FindsBrightFaces())
    found = faces.images[:, 0, 0] >= 60
    right = expected_scores(faces.images).argmax(1) == faces.labels
    assert 0.5 < found.mean() < 1
    assert figures.found == pytest.approx(found.mean())
    assert figures.accuracy == pytest.approx((found & right).mean())
    assert figures.accuracy_found == pytest.approx(right[found].mean())
    assert figures.detector == "bright"
    assert figures.found_by_label["neutral"] == 1
    assert figures.recall["neutral"] == pytest.approx(right[faces.labels == 6].mean())


def test_pictures_of_a_folder_are_shown_with_what_surrounds_their_faces(tmp_path: Path) -> None:
    emotion, _ = write_models(tmp_path)
    faces = read_faces(_write_data(tmp_path / "data", _faces(21, side=60)), side=16)

    class Watching(_FindsBrightFaces):
        def detect(self, image: np.ndarray) -> list[Detection]:
            seen.append(image.shape[0])
            return []

    seen: list[int] = []
    figures = end_to_end(emotion, faces, detector=Watching())
    assert set(seen) == {60}
    assert (figures.margin, figures.found, figures.ece) == (None, 0, None)


def test_degraded_crops_are_what_their_names_say() -> None:
    random = np.random.default_rng(0)
    images = cv2.GaussianBlur(random.integers(0, 256, (48, 48, 5)).astype(np.uint8), (0, 0), 1.0)
    images = np.ascontiguousarray(images.transpose(2, 0, 1))
    blurred, noisy, dark, small = (spoil(images).astype(float) for spoil in DEGRADATIONS.values())
    sharp = images.astype(float)
    assert dark.mean() == pytest.approx(0.3 * sharp.mean(), abs=0.5)
    middle = (images > 80) & (images < 175)
    assert (noisy - sharp)[middle].std() == pytest.approx(20, rel=0.05)
    for smoothed in (blurred, small):
        assert smoothed.mean() == pytest.approx(sharp.mean(), abs=1)
        assert np.abs(np.diff(smoothed)).mean() < 0.7 * np.abs(np.diff(sharp)).mean()
    for spoil in DEGRADATIONS.values():
        assert np.array_equal(spoil(images), spoil(images))
        assert spoil(images).dtype == np.uint8
