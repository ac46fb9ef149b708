"""One file of weights answers by several conventions of the labels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fer_sdk.errors import ModelError, SettingError
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.landmarks import LandmarksModel
from fer_sdk.models.metadata import ModelMetadata
from tiny_models import SIZE, emotion_model, expected_scores, landmarks_model, metadata

SHIFT = (-0.5, 0.1, -1.4, 0.0, -0.1, 0.1, 0.6)
ABOUT = metadata(
    "emotion", conventions={"fer2013": (0.0,) * 7, "ferplus": SHIFT}, convention="ferplus"
)
FACES = np.random.default_rng(0).integers(0, 256, (9, SIZE, SIZE)).astype(np.uint8)


def _scores(labels: str | None) -> np.ndarray:
    model = EmotionModel(emotion_model(ABOUT), source="tiny", device="cpu", labels=labels)
    return model.scores(FACES)


def test_a_convention_shifts_the_logarithms_of_the_scores() -> None:
    shifted = expected_scores(FACES) * np.exp(SHIFT)
    shifted /= shifted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(_scores("ferplus"), shifted, atol=1e-5)
    np.testing.assert_allclose(_scores("fer2013"), expected_scores(FACES), atol=1e-5)
    assert (_scores(None) == _scores("ferplus")).all()


def test_the_graphs_own_scores_stay_within_reach() -> None:
    model = EmotionModel(emotion_model(ABOUT), source="tiny", device="cpu")
    assert model.labels == "ferplus"
    np.testing.assert_allclose(model.graph_scores(FACES), expected_scores(FACES), atol=1e-5)


def test_an_unknown_convention_is_refused_by_the_names_of_the_known_ones() -> None:
    with pytest.raises(SettingError, match='"fer2013" or "ferplus"'):
        _scores("affectnet")
    with pytest.raises(SettingError, match="none"):
        LandmarksModel(landmarks_model(), source="tiny", device="cpu", labels="ferplus")


def test_a_file_from_before_there_were_conventions_has_none() -> None:
    props = ABOUT.to_props()
    assert ModelMetadata.from_props(props, "new") == ABOUT
    del props["fer_sdk.conventions"], props["fer_sdk.convention"]
    read = ModelMetadata.from_props(props, "old")
    assert (read.conventions, read.convention) == ({}, None)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("conventions", {"ferplus": [0.0] * 6}, "one for each label"),
        ("conventions", {"ferplus": [0.0] * 6 + ["much"]}, "one for each label"),
        ("convention", "affectnet", "one of the conventions"),
    ],
)
def test_conventions_that_cannot_be_are_refused(field: str, value: object, told: str) -> None:
    props = ABOUT.to_props() | {f"fer_sdk.{field}": json.dumps(value)}
    with pytest.raises(ModelError, match=told):
        ModelMetadata.from_props(props, "bad")
