"""Splits, votes, sampling, recipes, calibration and figures: the parts that a run is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from fer_sdk.errors import DataError
from fer_training.data.faces import EMOTIONS, FaceSet
from fer_training.data.ferplus import label_probabilities, read_votes
from fer_training.data.ground_truth import GroundTruth, digest, mirror_landmarks
from fer_training.data.sampling import EpochSampler
from fer_training.data.splits import divide
from fer_training.evaluation.calibration import fit_temperature, fit_vector_scaling
from fer_training.evaluation.metrics import emotion_figures, landmark_figures, reliability
from fer_training.recipe import EmotionRecipe, LandmarksRecipe


def _faces(labels: list[int], splits: list[str], seed: int = 0) -> FaceSet:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (len(labels), 8, 8)).astype(np.uint8)
    return FaceSet(images, np.array(labels, np.int64), np.array(splits), EMOTIONS)


def test_division_keeps_copies_together_and_test_faces_out() -> None:
    labels = [k % 7 for k in range(210)]
    faces = _faces(labels, ["Training"] * 180 + ["PublicTest"] * 20 + ["PrivateTest"] * 10)
    faces.images[7:14] = faces.images[0:7]  # copies within Training
    faces.images[20] = faces.images[185]  # a PublicTest face among the training faces
    faces.images[21] = faces.images[205]  # a PrivateTest face among the training faces

    parts = divide(faces, 0.2, seed=3)

    digests = digest(faces.images)
    assert sorted([*parts.train, *parts.holdout, *parts.dropped]) == list(range(180))
    assert parts.dropped.tolist() == [20, 21]
    assert not set(digests[parts.train]) & set(digests[parts.holdout])
    assert not set(digests[parts.train]) & set(digests[180:])
    assert set(faces.labels[parts.holdout]) == set(range(7))
    assert 0.1 < len(parts.holdout) / 178 < 0.3
    again = divide(faces, 0.2, seed=3)
    assert again.holdout.tolist() == parts.holdout.tolist()
    assert divide(faces, 0.2, seed=4).holdout.tolist() != parts.holdout.tolist()


def test_a_label_with_one_face_cannot_be_divided() -> None:
    faces = _faces([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6], ["Training"] * 13)
    with pytest.raises(DataError, match="1 of 'neutral'"):
        divide(faces, 0.1, seed=1)


@pytest.mark.data
def test_fer2013_leaks_hundreds_of_public_test_faces_into_training(fer2013: FaceSet) -> None:
    parts = divide(fer2013, 0.05, seed=1)
    assert len(parts.dropped) == 340


VOTES = (
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
)


def test_votes_are_shares_of_the_seven(tmp_path: Path) -> None:
    path = tmp_path / "fer2013new.csv"
    path.write_text(VOTES + "Training,a,4,0,0,1,3,0,0,2,0,0\nPublicTest,b,0,0,0,0,0,0,0,3,7,0\n")
    faces = _faces([0, 1], ["Training", "PublicTest"])
    shares = read_votes(path, faces)
    assert dict(zip(EMOTIONS, shares[0].tolist(), strict=True)) == pytest.approx(
        {
            "angry": 3 / 8,
            "disgust": 0,
            "fear": 0,
            "happy": 0,
            "sad": 1 / 8,
            "surprise": 0,
            "neutral": 4 / 8,
        }
    )
    assert shares[1].tolist() == [0] * 7


def test_votes_are_translated_into_the_words_of_the_labels() -> None:
    """Voters who call half the afraid neutral do not make the network call the afraid neutral."""
    random = np.random.default_rng(0)
    labels = random.choice(7, 2000, p=[0.1, 0.1, 0.2, 0.2, 0.1, 0.1, 0.2])
    seen = np.where((labels == 2) & (random.random(2000) < 0.5), 6, labels)
    votes = np.stack([random.multinomial(10, 0.7 * np.eye(7)[at] + 0.3 / 7) for at in seen]) / 10
    votes[:5] = 0
    training, others = np.arange(1000), np.arange(1000, 2000)
    said = label_probabilities(votes.astype(np.float32), labels, training)
    np.testing.assert_allclose(said.sum(axis=1), 1, atol=1e-5)
    shares = np.bincount(labels, minlength=7) / len(labels)
    np.testing.assert_allclose(said[others].mean(axis=0), shares, atol=0.04)
    assert abs(votes[others].mean(axis=0) - shares).max() > 0.06
    as_they_are = (votes[others] + 0.01) / (votes[others] + 0.01).sum(axis=1, keepdims=True)
    assert log_loss(labels[others], said[others]) < log_loss(labels[others], as_they_are)
    with pytest.raises(DataError, match="fewer than two"):
        label_probabilities(votes.astype(np.float32), labels, training[:5])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (VOTES + "Training,a,4,0,0,1,3,0,0,2,0,0\n", "row for row"),
        (VOTES + 2 * "PrivateTest,a,4,0,0,1,3,0,0,2,0,0\n", "row for row"),
        ("a,b\n1,2\n", "not FER"),
        (VOTES + 2 * "Training,a,x,0,0,1,3,0,0,2,0,0\n", "not FER"),
    ],
)
def test_votes_that_do_not_stand_beside_the_faces_are_refused(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=says):
        read_votes(path, _faces([0, 1], ["Training", "PublicTest"]))


@pytest.mark.parametrize(("sampling", "each"), [("over", 50), ("under", 5)])
def test_sampling_makes_labels_equally_frequent(sampling: str, each: int) -> None:
    labels = np.array([0] * 50 + [1] * 5 + [2] * 20)
    sampler = EpochSampler(labels, sampling, seed=1)  # type: ignore[arg-type]
    chosen = list(sampler)
    assert len(chosen) == len(sampler) == 3 * each
    assert np.bincount(labels[chosen]).tolist() == [each] * 3
    if sampling == "over":
        assert set(chosen) == set(range(75))
    else:
        assert len(set(chosen)) == len(chosen)


def test_an_epochs_order_depends_on_seed_and_epoch_alone() -> None:
    labels = np.zeros(40, np.int64)
    first, second = EpochSampler(labels, "none", 1), EpochSampler(labels, "none", 1)
    list(first)
    first.set_epoch(5)
    second.set_epoch(5)
    assert list(first) == list(second)
    assert sorted(first) == list(range(40))
    second.set_epoch(6)
    assert list(first) != list(second)


def test_shipped_recipes_load_and_settings_replace() -> None:
    assert EmotionRecipe.load(Path("teacher")).network == "efficientnet_lite0"
    assert EmotionRecipe.load(Path("emotion")) == EmotionRecipe.load(None)
    assert LandmarksRecipe.load(None).optimizer == "adamw"
    changed = EmotionRecipe.load(None, {"epochs": "3", "sampling": "over", "flip": "false"})
    assert (changed.epochs, changed.sampling, changed.flip) == (3, "over", False)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("epoch", "3", "unknown settings epoch"),
        ("epochs", "0", "from 1"),
        ("epochs", "2.5", "whole number"),
        ("flip", "1", "true or false"),
        ("learning_rate", "nan", "from"),
        ("learning_rate", "fast", "number"),
        ("optimizer", "lion", "sgd, adamw"),
        ("ema", "true", "number"),
        ("distill", "1.5", "from 0 to 1"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(name: str, value: str, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        EmotionRecipe.load(None, {name: value})
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"network": "vit", "small_epochs": "2"}, "small_epochs = 0"),
        ({"network": "vit", "small_epochs": "0", "weights": "imagenet"}, "none for network vit"),
        ({"stem": "3x3", "weights": "imagenet"}, "7x7"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes: dict[str, str], says: str) -> None:
    with pytest.raises(DataError, match=says):
        EmotionRecipe.load(None, changes)


def test_a_recipe_file_replaces_the_shipped_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("epochs = 7\nmixup = 0.2\n")
    assert EmotionRecipe.load(path) == EmotionRecipe(epochs=7, mixup=0.2)
    path.write_text("epochs = \n")
    with pytest.raises(DataError, match=r"mine\.toml"):
        EmotionRecipe.load(path)


def test_temperature_scaling_finds_the_temperature_that_made_the_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 7, generator=generator) * 2
    labels = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator)[:, 0]
    assert fit_temperature(logits * 2.5, labels) == pytest.approx(2.5, rel=0.05)
    assert fit_temperature(logits / 3, labels) == pytest.approx(1 / 3, rel=0.05)


def test_vector_scaling_recovers_what_each_label_was_distorted_by() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40_000, 4, generator=generator) * 2
    labels = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator)[:, 0]
    wanted_scale = torch.tensor([0.7, 1.0, 1.4, 2.0])
    wanted_bias = torch.tensor([0.3, -0.3, 0.5, -0.5])
    scale, bias = fit_vector_scaling((logits - wanted_bias) / wanted_scale, labels)
    assert scale.numpy() == pytest.approx(wanted_scale.numpy(), rel=0.06)
    assert bias.numpy() == pytest.approx(wanted_bias.numpy(), abs=0.08)


def test_vector_scaling_claims_little_from_few_faces() -> None:
    # Each label is told apart without a fault: without a prior the scales would grow for ever.
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    scale, bias = fit_vector_scaling(torch.eye(3)[labels], labels)
    assert torch.isfinite(scale).all()
    assert float(scale.max() / scale.min()) < 1.5
    assert float(bias.abs().max()) < 0.5


def test_vector_scaling_keeps_labels_that_cannot_be_told_apart_in_bounds() -> None:
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (30,), generator=random)
    for logits in (torch.randn(30, 3, generator=random) * 1e4, torch.zeros(30, 3)):
        scale, bias = fit_vector_scaling(logits, labels)
        assert ((scale >= 0.05) & (scale <= 20)).all()
        assert torch.isfinite(bias).all()


def _naive_ece(scores: np.ndarray, labels: np.ndarray) -> float:
    confidence, right = scores.max(1), scores.argmax(1) == labels
    total = 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if inside.any():
            total += abs(right[inside].mean() - confidence[inside].mean()) * inside.sum()
    return total / len(labels)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(20, 200))
def test_emotion_figures_agree_with_counting_by_hand(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.dirichlet(np.ones(4) * 0.4, count).astype(np.float32)
    labels = random.integers(0, 4, count)
    names = ("a", "b", "c", "d")
    figures = emotion_figures(scores, labels, names)
    given_ = scores.argmax(1)
    assert figures.accuracy == pytest.approx(
        float(np.mean([g == k for g, k in zip(given_, labels, strict=True)]))
    )
    f1s = []
    for k, name in enumerate(names):
        right = int(((given_ == k) & (labels == k)).sum())
        truly, said = int((labels == k).sum()), int((given_ == k).sum())
        assert figures.counts[name] == truly
        assert figures.recall[name] == (right / truly if truly else None)
        assert figures.precision[name] == (right / said if said else None)
        if truly:
            f1s.append(2 * right / (truly + said))
    assert figures.macro_f1 == pytest.approx(np.mean(f1s))
    assert figures.ece == pytest.approx(_naive_ece(scores, labels), abs=1e-4)
    assert np.sum(figures.confusion) == count
    bins = reliability(scores, labels)
    assert sum(each.faces for each in bins) == count
    gaps = [
        each.faces * abs(each.accuracy - each.confidence)
        for each in bins
        if each.accuracy is not None and each.confidence is not None
    ]
    assert sum(gaps) / count == pytest.approx(figures.ece, abs=1e-4)


def test_landmark_figures_measure_distances() -> None:
    truth = np.array([[[0.3, 0.4], [0.7, 0.4], [0.4, 0.8], [0.6, 0.8]]] * 3, np.float32)
    truth[2] = np.nan
    predicted = truth.copy()
    predicted[2] = 0.5
    predicted[0, 1] += (0.03, 0.04)
    figures = landmark_figures(predicted, truth, ("le", "re", "ll", "rl"))
    assert (figures.faces, figures.without_truth) == (2, 1)
    assert figures.error_by_point == pytest.approx(
        {"le": 0, "re": 0.025, "ll": 0, "rl": 0}, abs=1e-6
    )
    assert figures.error == pytest.approx(0.05 / 8, abs=1e-6)
    assert figures.normalised_error == pytest.approx(0.05 / 8 / 0.4, abs=1e-6)
    assert figures.normalised_by_point == pytest.approx(
        {"le": 0, "re": 0.0625, "ll": 0, "rl": 0}, abs=1e-6
    )
    assert figures.failures == 0


def test_ground_truth_is_kept_by_pixels(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    images = random.integers(0, 256, (6, 48, 48)).astype(np.uint8)
    points = random.random((6, 4, 2)).astype(np.float32) * 1.2 - 0.1
    points[2] = np.nan
    order = np.argsort(digest(images))
    truth = GroundTruth(digest(images)[order], points[order], np.full(6, 0.01, np.float32))
    path = tmp_path / "truth.npz"
    truth.save(path)
    again = GroundTruth.load(path)
    shuffled = random.permutation(6)
    assert np.allclose(again.of(images[shuffled]), points[shuffled], atol=1e-4, equal_nan=True)
    assert np.isnan(again.of(images[:1] ^ 1)).all()
    path.write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"truth\.npz"):
        GroundTruth.load(path)


def test_mirroring_landmarks_twice_gives_them_back() -> None:
    points = np.random.default_rng(0).random((5, 4, 2)).astype(np.float32)
    mirrored = mirror_landmarks(points)
    assert np.allclose(mirrored[:, 0], np.stack([1 - points[:, 1, 0], points[:, 1, 1]], axis=1))
    assert np.allclose(mirror_landmarks(mirrored), points)


@pytest.mark.data
def test_the_packaged_truth_covers_fer2013(fer2013: FaceSet) -> None:
    points = GroundTruth.load().of(fer2013.images)
    found = ~np.isnan(points[:, 0, 0])
    assert found.mean() > 0.98
    # The left eye is left of the right one, and the eyes are above the mouth.
    assert (points[found, 0, 0] < points[found, 1, 0]).mean() > 0.999
    assert (points[found, :2, 1].mean(1) < points[found, 2:, 1].mean(1)).mean() > 0.999


@pytest.mark.data
@pytest.mark.landmarker
def test_extraction_makes_the_packaged_truth_again(
    fer2013: FaceSet, landmarker_bundle: Path
) -> None:
    from fer_training.data.ground_truth import extract, merge

    images = fer2013.images[:40]
    made = merge(extract(images, landmarker_bundle, workers=1)).of(images)
    packaged = GroundTruth.load().of(images)
    assert np.allclose(made, packaged, atol=0.01, equal_nan=True)


def test_extraction_refuses_another_bundle(tmp_path: Path) -> None:
    from fer_training.data.ground_truth import extract

    images = np.zeros((1, 48, 48), np.uint8)
    with pytest.raises(DataError, match="fer-train fetch"):
        list(extract(images, tmp_path / "none.task"))
    wrong = tmp_path / "face_landmarker.task"
    wrong.write_bytes(b"something else")
    with pytest.raises(DataError, match="sha256"):
        list(extract(images, wrong))
