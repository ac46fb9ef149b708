"""Training runs on tiny faces: they learn, resume exactly, and refuse what cannot be trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fer_sdk.errors import DataError
from fer_training import fit
from fer_training.data.augmentation import Augmentation
from fer_training.data.crop_geometry import MeasuredGeometry
from fer_training.data.faces import EMOTIONS, FaceSet
from fer_training.data.ground_truth import GroundTruth, digest
from fer_training.data.splits import divide
from fer_training.evaluation.calibration import fit_shift, fit_vector_scaling
from fer_training.evaluation.conventions import add_conventions
from fer_training.fit import Interrupted, Run, train_emotion, train_landmarks
from fer_training.networks import checkpoint
from fer_training.networks.architecture import Architecture
from fer_training.networks.modules import EmotionModule, outputs
from fer_training.networks.teachers import Teachers
from fer_training.recipe import EmotionRecipe, LandmarksRecipe

TINY = {
    "input_size": "16",
    "stem": "torchvision",
    "small_epochs": "0",
    "batch_size": "16",
    "holdout": "0.2",
    "holdout_seed": "0",
    "ema": "0.9",
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _stripes(names: tuple[str, ...], count: int) -> FaceSet:
    """Faces whose label is plain to see: gray in steps, under noise."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % len(names)
    levels = 20 + 200 * labels / (len(names) - 1)
    noise = random.normal(0, 6, (count, 16, 16))
    images = (levels[:, None, None] + noise).clip(0, 255).astype(np.uint8)
    splits = np.where(np.arange(count) < 0.75 * count, "Training", "PublicTest")
    return FaceSet(images, labels, splits, names)


def _recipe(**changes: str) -> EmotionRecipe:
    plain = dict.fromkeys(
        ("brightness", "contrast", "rotation", "jitter", "erasing", "mixup", "warmup_epochs"), "0"
    )
    plain["calibration"] = "temperature"
    return EmotionRecipe.load(None, TINY | plain | {"epochs": "3"} | changes)


def test_a_run_learns_and_leaves_everything_that_a_user_needs(tmp_path: Path) -> None:
    faces = _stripes(("dark", "middle", "light"), 240)
    recipe = _recipe(epochs="8", votes="0", learning_rate="0.05")
    path = train_emotion(faces, None, recipe, Run(tmp_path / "run", "stripes", progress=False))

    module, described = checkpoint.load(path)
    assert described.labels == ("dark", "middle", "light")
    assert described.training_data == "stripes"
    assert described.temperature is not None
    assert EmotionRecipe(**described.recipe) == recipe
    public = faces.split("PublicTest")
    given = outputs(module, described.architecture, public.images).argmax(1).numpy()
    measured = float((given == public.labels).mean())
    assert measured > 0.9
    assert described.metrics["PublicTest"]["accuracy"] == pytest.approx(measured, abs=1e-4)
    report = json.loads((path.parent / "metrics.json").read_text())
    assert report["splits"]["PublicTest"]["counts"] == {"dark": 20, "middle": 20, "light": 20}
    lines = [json.loads(line) for line in (path.parent / "epochs.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 9))
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
    with pytest.raises(DataError, match="finished run"):
        train_emotion(faces, None, recipe, Run(tmp_path / "run", "stripes", progress=False))


def test_one_label_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    faces = replace(_stripes(("dark", "light"), 40), label_names=("dark",))
    faces = replace(faces, labels=np.zeros(40, np.int64))
    with pytest.raises(DataError, match="'dark': an emotion network needs"):
        train_emotion(faces, None, _recipe(), Run(tmp_path / "run", progress=False))
    assert not (tmp_path / "run").exists()


def test_a_model_of_own_faces_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    own = {"name": "my_faces", "split_names": {"PublicTest": "validation"}}
    faces = replace(_stripes(("dark", "light"), 80), **own)  # type: ignore[arg-type]
    recipe = _recipe(epochs="1")
    first = train_emotion(faces, None, recipe, Run(tmp_path / "first", progress=False))
    about = checkpoint.load(first)[1]
    assert set(about.metrics) == {"holdout", "validation"}
    assert about.training_data == "my_faces"
    assert "FER2013" not in about.licence
    other = replace(faces, name="others")
    run = Run(tmp_path / "second", start=first, licence="mine", progress=False)
    about = checkpoint.load(train_emotion(other, None, recipe, run))[1]
    assert (about.training_data, about.licence) == ("others, after my_faces", "mine")
    heard = "".join(capfd.readouterr())
    assert "deprecated" not in heard
    assert "not empty" not in heard


def test_votes_are_learnt_beside_the_labels_and_kept_as_a_convention(tmp_path: Path) -> None:
    faces = _stripes(EMOTIONS, 280)
    # Voters call every second angry and sad face neutral.
    votes = np.eye(7, dtype=np.float32)[faces.labels]
    votes[faces.labels == 0, 0] = votes[faces.labels == 0, 6] = 0.5
    votes[faces.labels == 4, 4] = votes[faces.labels == 4, 6] = 0.5
    votes[::10] = 0  # nobody looked at these
    recipe = _recipe(epochs="8", learning_rate="0.05", ferplus="0.5", calibration="vector")
    about = checkpoint.load(
        train_emotion(faces, votes, recipe, Run(tmp_path / "run", progress=False))
    )[1]
    assert about.training_data == "FER2013 with FER+ votes"
    assert about.convention == "ferplus"
    assert about.conventions["fer2013"] == (0.0,) * 7
    shift = about.conventions["ferplus"]
    assert shift[6] > 0
    assert sum(shift) == pytest.approx(0, abs=1e-3)
    assert "PublicTest, FER+ majority" in about.metrics

    # A checkpoint from before there were conventions is given the same ones.
    path = tmp_path / "run" / "model.safetensors"
    network, _ = checkpoint.load(path)
    old = replace(about, conventions={}, convention=None, metrics={})
    checkpoint.save(tmp_path / "old.safetensors", network, old)
    output = tmp_path / "new.safetensors"
    settings = {"default": "ferplus", "share": recipe.vote_shift, "version": about.version}
    add_conventions(tmp_path / "old.safetensors", faces, votes, output, **settings)  # type: ignore[arg-type]
    assert checkpoint.load(output)[1] == about


def test_a_shift_turns_one_prior_into_another() -> None:
    random = np.random.default_rng(0)
    scores = random.dirichlet((1.0, 1.0, 1.0), 4000)
    wanted = scores * np.exp([0.5, -0.7, 0.2])
    wanted /= wanted.sum(axis=1, keepdims=True)
    fitted = fit_shift(torch.tensor(scores).log(), torch.tensor(wanted))
    np.testing.assert_allclose(fitted, (0.5, -0.7, 0.2), atol=0.01)


def test_an_interrupted_run_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = _stripes(EMOTIONS, 140)
    recipe = EmotionRecipe.load(None, TINY | {"epochs": "3", "mixup": "0.3", "erasing": "0.5"})
    other = _recipe(epochs="1", stem="stride1")
    teacher = train_emotion(faces, None, other, Run(tmp_path / "teacher", "x", progress=False))
    plan = Run(tmp_path / "whole", "x", teachers=(teacher,), progress=False)
    whole = train_emotion(faces, None, recipe, plan)

    stopped = replace(plan, folder=tmp_path / "stopped")
    with monkeypatch.context() as patched:
        original = fit.EpochLog.on_train_epoch_start

        def stop_in_third(self: fit.EpochLog, trainer: fit.Trainer, module: object) -> None:
            if trainer.current_epoch == 2:
                raise KeyboardInterrupt
            original(self, trainer, module)  # type: ignore[arg-type]

        patched.setattr(fit.EpochLog, "on_train_epoch_start", stop_in_third)
        with pytest.raises(Interrupted, match="goes on"):
            train_emotion(faces, None, recipe, stopped)
    assert not (stopped.folder / "model.safetensors").exists()
    assert (stopped.folder / "last.ckpt").exists()
    with pytest.raises(DataError, match="epochs"):
        train_emotion(faces, None, _recipe(epochs="9"), stopped)
    with pytest.raises(DataError, match="teachers"):
        train_emotion(faces, None, recipe, replace(stopped, teachers=()))
    resumed = train_emotion(faces, None, recipe, stopped)

    before, after = checkpoint.load(whole)[0].state_dict(), checkpoint.load(resumed)[0].state_dict()
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
    assert (whole.parent / "epochs.jsonl").read_text() == (
        resumed.parent / "epochs.jsonl"
    ).read_text()


def test_teachers_asked_once_teach_what_they_know_and_not_the_labels(tmp_path: Path) -> None:
    faces = _stripes(("dark", "middle", "light"), 120)
    # Enough for the teacher with any seed: processors round differently, which is one more.
    settings = {"votes": "0", "learning_rate": "0.03", "epochs": "10"}
    teacher = train_emotion(
        faces, None, _recipe(**settings), Run(tmp_path / "teacher", "x", progress=False)
    )
    wrong = replace(faces, labels=(faces.labels + 1) % 3)
    settings |= {"teaching": "once", "distill": "1", "distill_temperature": "1"}
    recipe = _recipe(**settings)
    plan = Run(tmp_path / "taught", "x", teachers=(teacher,), progress=False)
    path = train_emotion(wrong, None, recipe, plan)

    module, described = checkpoint.load(path)
    public = faces.split("PublicTest")
    given = outputs(module, described.architecture, public.images).argmax(1).numpy()
    assert (given == public.labels).mean() > 0.9
    taught = np.load(tmp_path / "taught" / "taught.npy")
    train = divide(wrong, recipe.holdout, recipe.seed).train
    assert np.allclose(taught.sum(axis=1), 1, atol=1e-5)
    assert (taught.argmax(axis=1) == faces.labels[train]).mean() > 0.9


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "learning_rate": "0.001", "class_weights": "balanced"},
        {"sampling": "over", "schedule": "plateau", "gradient_clip": "1.0", "ema": "0"},
        {"sampling": "under", "keep": "best", "early_stopping": "1", "schedule": "constant"},
        {"attention": "false", "stem": "3x3", "small_epochs": "1", "small_size": "16"},
        {"network": "vit", "optimizer": "adamw", "learning_rate": "0.001"},
        {
            "mixup": "0.4",
            "class_weights": "balanced",
            "sampling": "over",
            "votes": "0.5",
            "optimizer": "adamw",
            "weight_decay": "0.05",
            "early_stopping": "1",
            "keep": "best",
            "learning_rate": "0.001",
        },
    ],
)
def test_every_setting_trains(tmp_path: Path, changes: dict[str, str]) -> None:
    faces = _stripes(EMOTIONS, 84)
    shares = np.eye(7, dtype=np.float32)[faces.labels]
    recipe = _recipe(epochs="2", **changes)
    path = train_emotion(faces, shares, recipe, Run(tmp_path, "x", progress=False))
    assert checkpoint.load(path)[1].architecture.attention == (changes.get("attention") != "false")


def test_averaged_weights_of_a_short_run_are_not_those_that_it_began_with() -> None:
    follow = fit._averaging(0.999)
    short = [torch.zeros(3)]
    for step in range(1, 41):
        follow(short, [torch.ones(3)], step)
    assert short[0].min() > 0.98
    long = [torch.zeros(3)]
    follow(long, [torch.ones(3)], 10**6)
    assert torch.allclose(long[0], torch.full((3,), 0.001))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_gradients_are_clipped_in_mixed_precision_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    monkeypatch.setattr(fit, "lightning_precision", lambda recipe: "bf16-mixed")
    recipe = _recipe(
        epochs="1", stem="stride1", gradient_clip="1", optimizer=optimizer, learning_rate="0.001"
    )
    train_emotion(_stripes(EMOTIONS, 42), None, recipe, Run(tmp_path, "x", progress=False))


def test_bfloat16_is_for_cpus_that_have_it_and_for_more_than_a_pixel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    tiny, usual = EmotionRecipe.load(None, TINY), EmotionRecipe.load(None)
    for has, expected in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: {"avx512_bf16": has})
        assert fit.lightning_precision(usual) == expected
        assert fit.lightning_precision(tiny) == "32-true"


def test_landmarks_are_learnt_and_faces_without_truth_left_out(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    centres = random.uniform(0.3, 0.7, (300, 2)).astype(np.float32)
    at = (np.arange(16) + 0.5) / 16
    squared = (at[None, None] - centres[:, 0, None, None]) ** 2 + (
        at[None, :, None] - centres[:, 1, None, None]
    ) ** 2
    images = (255 * np.exp(-squared / 0.02)).astype(np.uint8)
    offsets = np.array([[-0.1, -0.1], [0.1, -0.1], [-0.1, 0.1], [0.1, 0.1]], np.float32)
    points = centres[:, None] + offsets
    points[::10] = np.nan
    order = np.argsort(digest(images))
    truth = GroundTruth(digest(images)[order], points[order], np.zeros(300, np.float32))
    splits = np.where(np.arange(300) < 240, "Training", "PublicTest")
    faces = FaceSet(images, np.zeros(300, np.int64), splits, EMOTIONS)
    recipe = LandmarksRecipe.load(
        None, TINY | {"epochs": "12", "learning_rate": "0.002", "rotation": "0", "dropout": "0"}
    )
    path = train_landmarks(faces, truth, recipe, Run(tmp_path, "dots", progress=False))
    metrics = checkpoint.load(path)[1].metrics["PublicTest"]
    always_the_mean = np.linalg.norm(centres - centres.mean(0), axis=1).mean()
    assert metrics["faces"] == 54
    assert metrics["error"] < 0.5 * always_the_mean


def test_fine_tuning_starts_from_the_weights_and_takes_other_labels(tmp_path: Path) -> None:
    faces = _stripes(EMOTIONS, 84)
    first = train_emotion(
        faces, None, _recipe(epochs="1"), Run(tmp_path / "a", "x", progress=False)
    )
    own = _stripes(("frown", "laugh", "wink"), 60)
    frozen = _recipe(epochs="1", learning_rate="1e-8", ema="0", weight_decay="0")
    second = train_emotion(
        own, None, frozen, Run(tmp_path / "b", "own", start=first, progress=False)
    )
    before, after = checkpoint.load(first)[0].state_dict(), checkpoint.load(second)[0].state_dict()
    name = "backbone.layer4.1.conv2.weight"
    assert torch.allclose(before[name], after[name], atol=1e-4)
    assert after["head.3.weight"].shape == (3, 256)
    other = _recipe(epochs="1", stem="3x3")
    with pytest.raises(DataError, match="is not the one to train"):
        train_emotion(own, None, other, Run(tmp_path / "c", "own", start=first, progress=False))


def test_faces_without_any_truth_are_refused(tmp_path: Path) -> None:
    recipe = LandmarksRecipe.load(None, TINY)
    with pytest.raises(DataError, match="extract-landmarks"):
        train_landmarks(
            _stripes(EMOTIONS, 42), GroundTruth.load(), recipe, Run(tmp_path, "x", progress=False)
        )


def test_a_run_from_before_a_setting_existed_goes_on_with_its_default(tmp_path: Path) -> None:
    faces = _stripes(EMOTIONS, 84)
    # As by default, whatever the packaged recipe says.
    recipe = _recipe(epochs="1", distill="0.8", distill_temperature="2.0")
    old = {"recipe": recipe.to_dict(), "start": None}
    for later in ("network", "weights", "distill", "distill_temperature"):
        del old["recipe"][later]  # type: ignore[attr-defined]
    (tmp_path / "recipe.json").write_text(json.dumps(old))
    with pytest.raises(DataError, match=r"other settings \(network\)"):
        train_emotion(
            faces, None, replace(recipe, network="vit"), Run(tmp_path, "x", progress=False)
        )
    train_emotion(faces, None, recipe, Run(tmp_path, "x", progress=False))
    assert json.loads((tmp_path / "recipe.json").read_text())["recipe"] == recipe.to_dict()


def test_a_student_follows_its_teacher_where_the_labels_say_nothing(tmp_path: Path) -> None:
    """Labels are drawn by lot: what the student learns of the stripes, the teacher told it."""
    faces = _stripes(("dark", "middle", "light"), 240)
    plan = Run(tmp_path / "teacher", "x", progress=False)
    teacher = train_emotion(faces, None, _recipe(epochs="8"), plan)
    lot = np.random.default_rng(5).integers(0, 3, 240)
    blind = FaceSet(faces.images, lot, faces.splits, faces.label_names)
    recipe = _recipe(epochs="8", distill="1", distill_temperature="1")
    taught = Run(tmp_path / "taught", "x", teachers=(teacher, teacher), progress=False)
    module, about = checkpoint.load(train_emotion(blind, None, recipe, taught))
    public = faces.split("PublicTest")
    given = outputs(module, about.architecture, public.images).argmax(1).numpy()
    assert (given == public.labels).mean() > 0.9


def test_fine_tuning_keeps_the_normalisation_that_the_weights_are_made_for(tmp_path: Path) -> None:
    faces = _stripes(EMOTIONS, 84)
    first = train_emotion(
        faces, None, _recipe(epochs="1"), Run(tmp_path / "a", "x", progress=False)
    )
    darker = FaceSet(faces.images // 3, faces.labels, faces.splits, faces.label_names)
    second = train_emotion(
        darker,
        None,
        _recipe(epochs="1"),
        Run(tmp_path / "b", "own", start=first, progress=False),
    )
    before, after = (checkpoint.load(path)[1].architecture for path in (first, second))
    assert (before.mean, before.std) == (after.mean, after.std)


def test_runs_of_different_seeds_can_hold_out_the_same_faces(tmp_path: Path) -> None:
    faces = _stripes(EMOTIONS, 140)
    means = []
    for seed in ("1", "2"):
        recipe = _recipe(epochs="1", seed=seed, holdout_seed="7")
        plan = Run(tmp_path / seed, "x", progress=False)
        means.append(checkpoint.load(train_emotion(faces, None, recipe, plan))[1].architecture.mean)
    levels = faces.images[divide(faces, 0.2, 7).train] / 255
    assert means == pytest.approx([levels.mean()] * 2, abs=1e-6)


def test_vector_scaling_becomes_part_of_the_network(tmp_path: Path) -> None:
    faces = _stripes(EMOTIONS, 140)
    plans = {name: Run(tmp_path / name, "x", progress=False) for name in ("temperature", "vector")}
    logits, temperatures = {}, {}
    for name, plan in plans.items():
        recipe = _recipe(epochs="2", calibration=name)
        module, about = checkpoint.load(train_emotion(faces, None, recipe, plan))
        logits[name] = outputs(module, about.architecture, faces.images)
        temperatures[name] = about.temperature
    holdout = divide(faces, recipe.holdout, recipe.seed).holdout
    labels = torch.from_numpy(faces.labels[holdout])
    scale, bias = fit_vector_scaling(logits["temperature"][holdout], labels)
    expected = logits["temperature"] * scale + bias
    assert torch.allclose(logits["vector"], expected, rtol=0.01, atol=0.01)
    # What the scales have done is not left to the temperature.
    left = {name: abs(float(np.log(value or 0))) for name, value in temperatures.items()}
    assert left["vector"] < left["temperature"] / 2


@pytest.mark.parametrize("keep", ["best", "last"])
def test_early_stopping_ends_a_run_and_the_kept_epoch_is_the_one_asked_for(
    tmp_path: Path, keep: str
) -> None:
    faces = _stripes(EMOTIONS, 140)
    # Labels that nothing can be learnt from: the held-out loss soon rises.
    faces = replace(faces, labels=np.random.default_rng(0).permutation(faces.labels))
    recipe = _recipe(
        epochs="12",
        keep=keep,
        early_stopping="2",
        learning_rate="0.1",
        schedule="constant",
    )
    path = train_emotion(faces, None, recipe, Run(tmp_path, "x", progress=False))
    lines = (tmp_path / "epochs.jsonl").read_text().splitlines()
    losses = [json.loads(line)["holdout_loss"] for line in lines]
    assert len(losses) < 12
    assert min(losses) == losses[-3]
    module, about = checkpoint.load(path)
    holdout = divide(faces, recipe.holdout, recipe.seed).holdout
    logits = outputs(module, about.architecture, faces.images[holdout])
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(faces.labels[holdout]))
    wanted = min(losses) if keep == "best" else losses[-1]
    assert float(loss) == pytest.approx(wanted, rel=0.01)


def test_the_loss_is_weighted_smoothed_and_shared_with_the_teachers() -> None:
    torch.manual_seed(0)
    recipe = EmotionRecipe(
        flip=False,
        rotation=0,
        jitter=0,
        brightness=0,
        contrast=0,
        input_size=16,
        label_smoothing=0.2,
        distill=0.3,
        distill_temperature=2.0,
    )
    architecture = Architecture(
        task="emotion", outputs=3, input_size=16, stem="torchvision", dropout=0.0
    )
    weights = torch.tensor([0.5, 1.0, 3.0])
    taught = torch.softmax(torch.randn(6, 3), dim=1)
    teachers = Teachers([])
    teachers.probabilities = lambda faces, temperature: taught  # type: ignore[method-assign]
    module = EmotionModule(
        architecture, recipe, Augmentation(recipe, MeasuredGeometry.load()), weights, teachers
    )
    faces = torch.randint(0, 256, (6, 16, 16), dtype=torch.uint8)
    targets = torch.eye(3)[[0, 1, 2, 0, 1, 2]]
    loss = float(module.training_step((faces, targets), 0).detach())

    logits = module(faces).detach().double().numpy()
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    soft = 0.8 * targets.numpy() + 0.2 / 3
    hard_part = -(soft * log_p * weights.numpy()).sum(axis=1).mean()
    cooled = logits / 2 - np.log(np.exp(logits / 2).sum(axis=1, keepdims=True))
    p = taught.double().numpy()
    teacher_part = 4 * (p * (np.log(p) - cooled)).sum(axis=1).mean()
    assert loss == pytest.approx(0.7 * hard_part + 0.3 * teacher_part, rel=1e-4)
