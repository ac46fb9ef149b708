"""Ablation: every part once, what is done stays done, and spreads that a library agrees with."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ablation
import numpy as np
import pytest
import torch
from ablation import BASE, PARTS, ablate, parts_of, summarise, variants, write_ablation
from scipy import stats

from fer_sdk.errors import DataError
from fer_training.data.faces import EMOTIONS, FaceSet
from fer_training.recipe import EmotionRecipe


def _base() -> EmotionRecipe:
    return EmotionRecipe.load(Path("ablation"))


def test_the_packaged_base_has_every_part_and_each_variant_lacks_one() -> None:
    base = _base()
    assert parts_of(base) == list(PARTS)
    made = variants(base, list(PARTS))
    assert made[BASE] == base
    settings = base.to_dict()
    for part, recipe in made.items():
        changed = {name for name, value in recipe.to_dict().items() if value != settings[name]}
        assert changed == (
            set() if part == BASE else {n for n in PARTS[part] if settings[n] != PARTS[part][n]}
        )
    assert made["attention"].attention is False
    assert made["EMA"].ema == 0


def test_what_a_recipe_does_not_have_cannot_be_taken_away() -> None:
    with pytest.raises(DataError, match="no mixup"):
        variants(EmotionRecipe(mixup=0.0), ["mixup"])
    with pytest.raises(DataError, match="label smoothing"):
        variants(_base(), ["lable smoothing"])


def test_differences_have_the_interval_of_students_t() -> None:
    random = np.random.default_rng(0)
    with_it, without = random.normal(0.7, 0.01, 4), random.normal(0.68, 0.01, 4)
    measured = {
        name: [{"accuracy": value, "macro_f1": value, "ece": value} for value in values]
        for name, values in ((BASE, with_it), ("mixup", without))
    }
    result = summarise(_base(), [1, 2, 3, 4], measured)
    figure = result.variants["mixup"]["accuracy"]
    interval = stats.ttest_ind(without, with_it).confidence_interval(0.95)
    assert figure.difference is not None
    assert figure.interval is not None
    assert figure.difference - figure.interval == pytest.approx(interval.low)
    assert figure.difference + figure.interval == pytest.approx(interval.high)
    assert figure.spread == pytest.approx(np.std(without, ddof=1))


def test_runs_that_are_done_are_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (105, 16, 16)).astype(np.uint8)
    splits = np.where(np.arange(105) < 84, "Training", "PublicTest")
    faces = FaceSet(images, np.arange(105) % 7, splits, EMOTIONS)
    base = EmotionRecipe.load(
        Path("ablation"),
        {"input_size": "16", "epochs": "1", "batch_size": "28", "holdout": "0.2", "ema": "0"},
    )
    plan = {"parts": ["attention"], "folder": tmp_path / "runs", "data_name": "x"}
    first = ablate(faces, None, base, seeds=[1], **plan)  # type: ignore[arg-type]
    assert first.spread["accuracy"] is None
    assert first.variants["attention"]["accuracy"].interval is None
    trained = []
    original = ablation.train_emotion
    monkeypatch.setattr(
        ablation,
        "train_emotion",
        lambda faces, votes, recipe, run: (
            trained.append((recipe.attention, recipe.seed)),  # type: ignore[func-returns-value]
            original(faces, votes, recipe, run),
        ),
    )
    both = ablate(faces, None, base, seeds=[1, 2], **plan)  # type: ignore[arg-type]
    assert trained == [(True, 2), (False, 2)]
    metrics = json.loads((tmp_path / "runs" / "attention-2" / "metrics.json").read_text())
    accuracy = both.variants["attention"]["accuracy"]
    assert accuracy.values[1] == metrics["splits"]["PublicTest"]["accuracy"]
    assert accuracy.values[:1] == first.variants["attention"]["accuracy"].values
    assert not list((tmp_path / "runs").rglob("*.ckpt"))
    # Threads in place of processes, each of which would load PyTorch anew.
    monkeypatch.setattr(
        ablation, "ProcessPoolExecutor", lambda jobs, mp_context: ThreadPoolExecutor(jobs)
    )
    assert ablate(faces, None, base, seeds=[1, 2], jobs=2, **plan) == both  # type: ignore[arg-type]

    text = write_ablation(both, tmp_path / "report").read_text()
    assert f"| no attention | {100 * accuracy.mean:.2f} ±" in text
    stored = json.loads((tmp_path / "report" / "ablation.json").read_text())
    assert stored["variants"]["attention"]["accuracy"]["values"] == list(accuracy.values)
    assert (tmp_path / "report" / "ablation.png").stat().st_size > 5000

    with pytest.raises(DataError, match="another recipe"):
        ablate(
            faces,
            None,
            EmotionRecipe.load(Path("ablation")),
            seeds=[1],
            **plan,  # type: ignore[arg-type]
        )
    with pytest.raises(DataError, match="--votes"):
        ablate(faces, None, base, seeds=[1], **(plan | {"parts": ["FER+ votes"]}))  # type: ignore[arg-type]
