"""``fer-train`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from fer_sdk.errors import DataError
from fer_sdk.models.metadata import ModelMetadata
from fer_training.cli import app
from fer_training.data.faces import EMOTIONS, FaceSet, read_faces
from fer_training.data.ground_truth import GroundTruth, digest
from fer_training.evaluation.evaluate import (
    EmotionEvaluation,
    LandmarksEvaluation,
    evaluate,
    open_model,
)
from tiny_models import emotion_model, expected_scores, metadata, write_models

runner = CliRunner()


def _folder(root: Path) -> Path:
    """Faces of seven gray levels, of which the tiny model knows most."""
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 12)):
        for number, label in enumerate(EMOTIONS):
            folder = root / split / label
            folder.mkdir(parents=True)
            for index in range(count):
                level = 255 * number / 6 + random.normal(0, 25)
                face = np.full((16, 16), np.clip(level, 0, 255), np.uint8)
                cv2.imwrite(str(folder / f"{index}.png"), face)
    return root


def test_help_names_every_command_and_shows_examples() -> None:
    overview = runner.invoke(app, ["--help"]).output
    for command in (
        "emotion",
        "landmarks",
        "conventions",
        "evaluate",
        "extract-landmarks",
        "measure-crop",
        "fetch",
    ):
        assert command in overview
        text = runner.invoke(app, [command, "--help"]).output
        assert f"fer-train {command}" in text
        assert "Example" in text


def test_evaluate_prints_and_writes_what_counting_gives(tmp_path: Path) -> None:
    data, (emotion, _) = _folder(tmp_path / "faces"), write_models(tmp_path)
    written = tmp_path / "figures.json"

    given = ["evaluate", "--model", str(emotion), "--data", str(data)]
    result = runner.invoke(app, [*given, "--json", "-o", str(written)])

    assert result.exit_code == 0, result.output
    figures = json.loads(result.output)
    assert json.loads(written.read_text()) == figures
    public = read_faces(data, side=16).split("PublicTest")
    right = expected_scores(public.images).argmax(axis=1) == public.labels
    assert 0.5 < right.mean() < 1
    assert figures["figures"]["accuracy"] == pytest.approx(right.mean())
    assert figures["split"] == "PublicTest"
    bins = figures["reliability"]
    assert sum(each["faces"] for each in bins) == len(public)
    table = runner.invoke(app, given).output
    assert f"{100 * right.mean():.2f} %" in table
    assert all(label in table for label in EMOTIONS)


def test_data_sets_stand_side_by_side_by_the_convention_asked_for(tmp_path: Path) -> None:
    shift = (2.0, 0.0, 0.0, 0.0, 0.0, 0.0, -2.0)
    conventions = {"fer2013": (0.0,) * 7, "ferplus": shift}
    about = metadata("emotion", conventions=conventions, convention="ferplus")
    model = tmp_path / "emotion.onnx"
    model.write_bytes(emotion_model(about))
    first, second = _folder(tmp_path / "first"), _folder(tmp_path / "second")
    given = ["evaluate", "-m", str(model), "-d", str(first), "-d", str(second), "--json"]
    right = {}
    for labels in ("fer2013", "ferplus"):
        result = runner.invoke(app, [*given, "--labels", labels])
        assert result.exit_code == 0, result.output
        measured = json.loads(result.output)
        assert [each["data"] for each in measured] == ["first", "second"]
        assert {each["labels"] for each in measured} == {labels}
        right[labels] = measured[0]["figures"]
    faces = read_faces(first, side=16).split("validation")
    shifted = (expected_scores(faces.images) * np.exp(shift)).argmax(axis=1)
    assert right["ferplus"]["accuracy"] == pytest.approx((shifted == faces.labels).mean())
    assert right["fer2013"]["recall"]["angry"] < right["ferplus"]["recall"]["angry"]
    table = runner.invoke(app, given[:-1], env={"COLUMNS": "200"}).output
    assert "first" in table
    assert "second" in table


def test_a_majority_of_voters_is_another_truth(tmp_path: Path) -> None:
    faces = read_faces(_folder(tmp_path / "faces"), side=16)
    public = faces.split("PublicTest")
    model = open_model(write_models(tmp_path)[0])
    votes = np.zeros((len(faces), 7), np.float32)
    # The voters agree with the model, but for faces on which they do not agree with each other.
    scores = expected_scores(faces.images)
    votes[np.arange(len(faces)), scores.argmax(axis=1)] = 1
    votes[::5] = 0.5
    measured = evaluate(model, faces, "PublicTest", GroundTruth.load(), votes=votes)
    assert isinstance(measured, EmotionEvaluation)
    assert measured.by_votes is not None
    assert measured.by_votes.accuracy == 1
    agreed = votes[faces.splits == "PublicTest"].max(axis=1) == 1
    assert measured.by_votes.faces == agreed.sum() < len(public)


def test_landmark_models_are_measured_against_the_truth(tmp_path: Path) -> None:
    _, landmarks = write_models(tmp_path)
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (5, 16, 16)).astype(np.uint8)
    faces = FaceSet(images, np.zeros(5, np.int64), np.array(["PublicTest"] * 5), EMOTIONS)
    model = open_model(landmarks)
    order = np.argsort(digest(images))
    shifted = model.landmarks(images) + np.float32(0.03)
    truth = GroundTruth(digest(images)[order], shifted[order], np.zeros(5, np.float32))
    measured = evaluate(model, faces, "PublicTest", truth)
    assert measured.figures.error == pytest.approx(0.03 * 2**0.5, rel=1e-3)
    assert isinstance(measured, LandmarksEvaluation)
    # Of the tiny model's points only the first moves: the light of the darkened face has the same
    # centre, that of the noisy one another.
    dark, noisy = (
        next(each for name, each in measured.degraded.items() if name.startswith(word))
        for word in ("dark", "noisy")
    )
    assert dark.error == pytest.approx(measured.figures.error, abs=2e-3)
    assert abs(noisy.error - measured.figures.error) > abs(dark.error - measured.figures.error)
    with pytest.raises(DataError, match="no face in Training"):
        evaluate(model, faces, "Training", truth)
    with pytest.raises(DataError, match="--truth"):
        evaluate(model, faces, "PublicTest", GroundTruth.load())


def test_a_model_for_other_labels_is_refused(tmp_path: Path) -> None:
    about: ModelMetadata = metadata("emotion", labels=("up", "down", "none"))
    path = tmp_path / "mine.onnx"
    path.write_bytes(emotion_model(about))
    faces = read_faces(_folder(tmp_path / "faces"), side=16)
    with pytest.raises(DataError, match="up, down, none"):
        evaluate(open_model(path), faces, "PublicTest", GroundTruth.load())


def test_wrong_usage_says_what_is_right(tmp_path: Path) -> None:
    wrong = runner.invoke(app, ["emotion", "x.csv", "--set", "epochs"])
    assert wrong.exit_code == 2
    assert "name=value" in wrong.output
    unknown = runner.invoke(app, ["fetch", "everything", "-o", str(tmp_path / "x")])
    assert unknown.exit_code == 2
    assert "face-landmarker" in unknown.output
    missing = runner.invoke(app, ["evaluate", "-m", str(tmp_path / "no.onnx"), "-d", "x.csv"])
    assert "no.onnx" in str(missing.exception)
