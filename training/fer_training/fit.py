"""A training run, from faces to a checkpoint: resumable, and the same whether resumed or not."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import (
    EarlyStopping,
    ModelCheckpoint,
    RichProgressBar,
    WeightAveraging,
)
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from fer_sdk.errors import DataError
from fer_sdk.image.crop import resize_square
from fer_sdk.models.metadata import Task
from fer_sdk.types import LANDMARKS
from fer_training.data.augmentation import Augmentation
from fer_training.data.crop_geometry import MeasuredGeometry
from fer_training.data.faces import FaceSet
from fer_training.data.ferplus import label_probabilities, usage_shift
from fer_training.data.fetch import file_sha256
from fer_training.data.ground_truth import GroundTruth
from fer_training.data.sampling import EpochSampler
from fer_training.data.splits import Parts, divide
from fer_training.evaluation.calibration import fit_temperature, fit_vector_scaling
from fer_training.evaluation.conventions import figures_by_split, with_conventions
from fer_training.evaluation.metrics import landmark_figures
from fer_training.json_file import write_json
from fer_training.networks import checkpoint
from fer_training.networks.architecture import Architecture, scale_labels
from fer_training.networks.checkpoint import Checkpoint
from fer_training.networks.modules import (
    SHOWN,
    Batch,
    EmotionModule,
    LandmarksModule,
    TrainingModule,
    outputs,
)
from fer_training.networks.pretrained import NORMALISATION, start_from_imagenet
from fer_training.networks.teachers import Teachers
from fer_training.recipe import EmotionRecipe, LandmarksRecipe, Recipe

MODEL_FILE = "model.safetensors"
METRICS_FILE = "metrics.json"
EPOCHS_FILE = "epochs.jsonl"
_RECIPE_FILE = "recipe.json"
_LAST = "last.ckpt"
_TAUGHT_FILE = "taught.npy"

_LICENCES = {
    "FER2013": "see the model card: trained on FER2013, for research",
    "other": "that of its training data",
}

_log = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """The run was stopped by the user after at least one whole step; it can be resumed."""


@dataclass(frozen=True, slots=True)
class Run:
    """Where a run writes and what it starts from.

    Attributes:
        folder: gets the recipe, a line per epoch, the resumable checkpoint and the final model.
        data_name: what the training data is called in the model; None for its own name.
        version: of the model that comes out.
        licence: under which terms its weights may be used; None: the terms of the data, and of the
            weights that it starts from.
        start: a checkpoint whose weights it starts from; None for those that the recipe says.
        teachers: checkpoints of emotion networks that teach this one.
        save_every: after how many epochs the resumable checkpoint is written anew. On a GPU, where
            an epoch takes seconds, writing it takes as long.
        progress: whether to show a progress bar.
    """

    folder: Path
    data_name: str | None = None
    version: str = "0.1.0"
    licence: str | None = None
    start: Path | None = None
    teachers: tuple[Path, ...] = ()
    save_every: int = 1
    progress: bool = True


def train_emotion(
    faces: FaceSet, votes: npt.NDArray[np.float32] | None, recipe: EmotionRecipe, run: Run
) -> Path:
    """Train an emotion network.

    Args:
        faces: a whole set, all splits.
        votes: share of the votes of each label, float32 ``[N, 7]``, or None.
        recipe: the settings.
        run: where to write. A folder with an unfinished run of the same recipe is resumed.

    Returns:
        The checkpoint's path.

    Raises:
        DataError: the faces cannot be trained on, or the folder holds a run of another recipe.
        Interrupted: by the user; the same call goes on from the last whole epoch.
    """
    if len(faces.label_names) < 2:
        raise DataError(
            f"all faces have the label {faces.label_names[0]!r}: an emotion network needs faces of "
            "two labels or more"
        )
    parts = _begin(faces, recipe, run)
    images = _resized(faces.images, recipe.input_size)
    targets = _soft_labels(faces, votes, parts, recipe)
    counts = np.bincount(faces.labels[parts.train], minlength=len(faces.label_names))
    weights = None
    if recipe.class_weights == "balanced":
        weights = torch.tensor(counts.sum() / (len(counts) * counts), dtype=torch.float32)
    mean, std = _normalisation(images[parts.train], recipe, run)
    architecture = Architecture(
        task="emotion",
        outputs=len(faces.label_names),
        network=recipe.network,
        input_size=recipe.input_size,
        stem=recipe.stem,
        stem_pool=recipe.stem_pool,
        attention=recipe.attention,
        dropout=recipe.dropout,
        mean=mean,
        std=std,
    )
    measured = MeasuredGeometry.load()
    teachers = Teachers.load(run.teachers, faces.label_names) if run.teachers else None
    if teachers is not None and recipe.teaching == "once":
        taught = _taught_once(teachers, images[parts.train], recipe, run)
        targets[parts.train] *= 1 - recipe.distill
        targets[parts.train] += recipe.distill * taught
        teachers = None
    shift = None
    if votes is not None and recipe.ferplus:
        shift = torch.from_numpy(usage_shift(votes, faces.labels, parts.train))
        targets = np.concatenate([targets, votes], axis=1)
    module = EmotionModule(
        architecture, recipe, Augmentation(recipe, measured), weights, teachers, shift
    )
    sampler = EpochSampler(faces.labels[parts.train], recipe.sampling, recipe.seed)
    _fit(
        module,
        _loader(images[parts.train], targets[parts.train], recipe, sampler),
        _loader(images[parts.holdout], faces.labels[parts.holdout], recipe, None),
        recipe,
        run,
    )
    name = run.data_name or faces.name
    unscaled = Checkpoint(
        architecture=architecture,
        labels=faces.label_names,
        crop=measured.geometry,
        recipe=recipe.to_dict(),
        **_origin(run, name if votes is None else f"{name} with FER+ votes"),
    )
    holdout_labels = torch.from_numpy(faces.labels[parts.holdout])
    if recipe.calibration == "vector":
        network = _rounded(module.network, unscaled, run)
        logits = outputs(network, architecture, images[parts.holdout])
        scale_labels(module.network, *fit_vector_scaling(logits, holdout_labels))
    network = _rounded(module.network, unscaled, run)
    holdout_logits = outputs(network, architecture, images[parts.holdout])
    temperature = fit_temperature(holdout_logits, holdout_labels)
    described = replace(unscaled, temperature=temperature)
    if votes is not None:
        described = with_conventions(
            described, holdout_logits, votes[parts.holdout], recipe.vote_shift, recipe.labels
        )
    figures = figures_by_split(network, described, faces, votes, parts.holdout)
    return _finish(
        network,
        replace(described, metrics={name: each.summary() for name, each in figures.items()}),
        {name: asdict(each) for name, each in figures.items()},
        parts,
        run,
    )


def train_landmarks(faces: FaceSet, truth: GroundTruth, recipe: LandmarksRecipe, run: Run) -> Path:
    """Train a landmark network on the faces that the ground truth knows, as ``train_emotion``.

    Raises:
        DataError: as ``train_emotion``, or the ground truth knows none of the faces.
        Interrupted: as ``train_emotion``.
    """
    points = truth.of(faces.images)
    known = ~np.isnan(points[:, 0, 0])
    if not known.any():
        raise DataError(
            "the ground truth knows none of these faces: make it with 'fer-train extract-landmarks'"
        )
    # Held-out faces are drawn regardless of emotion: it plays no part here.
    one_label = FaceSet(faces.images, np.zeros(len(faces), np.int64), faces.splits, ("face",))
    parts = _begin(one_label, recipe, run)
    train, holdout = parts.train[known[parts.train]], parts.holdout[known[parts.holdout]]
    images = _resized(faces.images, recipe.input_size)
    mean, std = _normalisation(images[train], recipe, run)
    architecture = Architecture(
        task="landmarks",
        outputs=2 * len(LANDMARKS),
        network=recipe.network,
        input_size=recipe.input_size,
        stem=recipe.stem,
        stem_pool=recipe.stem_pool,
        attention=False,
        dropout=recipe.dropout,
        mean=mean,
        std=std,
    )
    measured = MeasuredGeometry.load()
    mean_face = torch.from_numpy(points[train].mean(axis=0))
    module = LandmarksModule(architecture, recipe, Augmentation(recipe, measured), mean_face)
    sampler = EpochSampler(np.zeros(len(train), np.int64), "none", recipe.seed)
    _fit(
        module,
        _loader(images[train], points[train], recipe, sampler),
        _loader(images[holdout], points[holdout], recipe, None),
        recipe,
        run,
    )
    bare = Checkpoint(
        architecture=architecture,
        labels=LANDMARKS,
        crop=measured.geometry,
        recipe=recipe.to_dict(),
        **_origin(run, run.data_name or f"{faces.name} with landmarks by MediaPipe"),
    )
    network = _rounded(module.network, bare, run)
    figures = {}
    for name, index in (
        ("holdout", holdout),
        (
            faces.validation,
            np.flatnonzero(faces.splits == "PublicTest"),
        ),
    ):
        if known[index].any():
            predicted = outputs(network, architecture, images[index]).numpy()
            figures[name] = landmark_figures(predicted, points[index], LANDMARKS)
    return _finish(
        network,
        replace(bare, metrics={name: each.summary() for name, each in figures.items()}),
        {name: asdict(each) for name, each in figures.items()},
        parts,
        run,
    )


def _averaging(decay: float) -> Callable[[Any, Any, torch.Tensor | int], None]:
    """How averaged weights follow the trained ones, all of them in one call.

    After few steps they follow faster, as TensorFlow's ``ExponentialMovingAverage`` does with
    ``num_updates``: a short run would otherwise keep the random weights that it began with.
    """

    def update(averaged: Any, trained: Any, count: torch.Tensor | int) -> None:
        steps = float(count)
        decayed = min(decay, (1 + steps) / (10 + steps))
        follow = get_ema_multi_avg_fn(decayed)  # type: ignore[no-untyped-call]
        follow(averaged, trained, count)

    return update


def _device() -> torch.device:
    """Where Lightning trains: its averaged weights start where it is told, not where they go."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def lightning_precision(recipe: Recipe) -> str:
    """The fastest precision that trains a recipe as well as float32 on what is here.

    A CPU without bfloat16 arithmetic emulates it, at a tenth of the speed of float32. One that has
    it, by oneDNN in torch 2.15, leaves the gradient of a convolution with stride 2 on a single
    pixel unset: that is what the last stage of ResNet18 makes of 16 pixels behind torchvision's
    stem.
    """
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    smallest = min(recipe.input_size, recipe.small_size if recipe.small_epochs else 512)
    if recipe.network == "resnet18" and recipe.stem == "torchvision" and smallest <= 16:
        return "32-true"
    capabilities = torch.cpu.get_capabilities()
    return "bf16-mixed" if capabilities.get("avx512_bf16") else "32-true"


class EpochLog(Callback):
    """One JSON line per epoch. Resuming takes back lines of epochs that are run again."""

    def __init__(self, path: Path, task: Task, seed: int) -> None:
        super().__init__()
        self._path = path
        self._seed = seed
        self._names = SHOWN[task]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop what the last whole epoch does not cover."""
        kept = self._path.read_text("utf-8").splitlines() if self._path.exists() else []
        kept = [line for line in kept if json.loads(line)["epoch"] <= trainer.current_epoch]
        self._path.write_text("".join(f"{line}\n" for line in kept), "utf-8")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw augmentation from the epoch's number, not from what was drawn before."""
        torch.manual_seed(self._seed * 1_000_003 + trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch's line."""
        metrics = trainer.callback_metrics
        values = {name: float(metrics[name]) for name in self._names if name in metrics}
        line = {"epoch": trainer.current_epoch + 1, **values}
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        shown = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        _log.info("epoch %d of %d: %s", line["epoch"], trainer.max_epochs, shown)


def _begin(faces: FaceSet, recipe: Recipe, run: Run) -> Parts:
    """Claim the folder for this recipe and divide the faces."""
    _claim(
        run,
        recipe,
        {
            "recipe": recipe.to_dict(),
            "start": str(run.start) if run.start else None,
            "teachers": [_hash_of(path) for path in run.teachers],
        },
    )
    seed_everything(recipe.seed, verbose=False)
    return divide(faces, recipe.holdout, recipe.holdout_seed or recipe.seed)


def _claim(run: Run, recipe: Recipe, settings: Mapping[str, Any]) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    path = run.folder / _RECIPE_FILE
    if (run.folder / MODEL_FILE).exists():
        raise DataError(f"{run.folder}: holds a finished run; choose another folder")
    if path.exists():
        before = json.loads(path.read_text("utf-8"))
        # A setting that came after the run began has, for that run, its default.
        defaults = {part.name: part.default for part in fields(recipe)}
        before["recipe"] = defaults | before["recipe"]
        before.setdefault("teachers", [])
        if before != json.loads(json.dumps(settings)):
            old, new = before["recipe"], settings["recipe"]
            differs = sorted(k for k in {*old, *new} if old.get(k) != new.get(k)) or [
                k for k in ("start", "teachers") if before[k] != settings[k]
            ]
            raise DataError(
                f"{run.folder}: holds a run with other settings ({', '.join(differs)}); resume it "
                "with the same ones or choose another folder"
            )
    write_json(path, settings)


def _soft_labels(
    faces: FaceSet, votes: npt.NDArray[np.float32] | None, parts: Parts, recipe: EmotionRecipe
) -> npt.NDArray[np.float32]:
    hard = np.eye(len(faces.label_names), dtype=np.float32)[faces.labels]
    if votes is None:
        return hard
    voted = votes.sum(axis=1, keepdims=True) > 0
    said = label_probabilities(votes, faces.labels, parts.train)
    return np.where(voted, (1 - recipe.votes) * hard + recipe.votes * said, hard)


def _hash_of(teacher: Path) -> str:
    if not teacher.is_file():
        raise DataError(f"{teacher}: no such checkpoint")
    return file_sha256(teacher)


def _origin(run: Run, data: str) -> dict[str, Any]:
    """What the model says of where it comes from."""
    licence = _LICENCES["FER2013"] if data.startswith("FER2013") else _LICENCES["other"]
    if run.start is not None:
        before = checkpoint.load(run.start)[1]
        if before.training_data != data:
            data = f"{data}, after {before.training_data}"
            licence = before.licence
    return {
        "training_data": data,
        "version": run.version,
        "licence": run.licence or licence,
    }


def _resized(images: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    if images.shape[1] == size:
        return images
    return np.stack([resize_square(image, size) for image in images])


def _taught_once(
    teachers: Teachers, images: npt.NDArray[np.uint8], recipe: EmotionRecipe, run: Run
) -> npt.NDArray[np.float32]:
    """What teachers say of each face and its mirror image; kept for when the run is resumed."""
    path = run.folder / _TAUGHT_FILE
    if path.exists():
        return np.asarray(np.load(path), np.float32)
    device = _device()
    teachers.to(device)
    precision = torch.bfloat16 if lightning_precision(recipe) == "bf16-mixed" else torch.float32
    pixels = torch.from_numpy(images)
    said = []
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        for start in range(0, len(images), 256):
            faces = pixels[start : start + 256].to(device)
            both = torch.cat([faces, faces.flip(-1)])
            said.append(teachers.probabilities(both, recipe.distill_temperature).float().cpu())
    taught = torch.cat([(each[: len(each) // 2] + each[len(each) // 2 :]) / 2 for each in said])
    part = path.with_suffix(".part.npy")
    np.save(part, taught.numpy())
    part.replace(path)
    return taught.numpy()


def _normalisation(images: npt.NDArray[np.uint8], recipe: Recipe, run: Run) -> tuple[float, float]:
    """Mean and standard deviation of the pixels, as fractions of white.

    Of the training faces, unless the weights to start from are made for others.
    """
    if run.start is not None:
        before = checkpoint.load(run.start)[1].architecture
        return before.mean, before.std
    if recipe.weights == "imagenet":
        return NORMALISATION[recipe.network]
    # By the histogram: exact, and no float copy of every picture.
    counts = np.bincount(images.ravel(), minlength=256).astype(np.float64)
    levels = np.arange(256) / 255
    mean = float((counts * levels).sum() / counts.sum())
    variance = float((counts * (levels - mean) ** 2).sum() / counts.sum())
    return round(mean, 6), round(max(variance, 1e-6) ** 0.5, 6)


class _Batches(Dataset[Batch]):
    """Faces and targets in memory, taken a batch at a time: one copy instead of one per face."""

    def __init__(self, images: npt.NDArray[np.uint8], targets: npt.NDArray[Any]) -> None:
        self._images = torch.from_numpy(images)
        self._targets = torch.from_numpy(targets)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Batch:
        return self._images[index], self._targets[index]

    def __getitems__(self, indices: list[int]) -> Batch:
        return self._images[indices], self._targets[indices]


def _as_it_is(batch: Any) -> Any:
    return batch


def _loader(
    images: npt.NDArray[np.uint8],
    targets: npt.NDArray[Any],
    recipe: Recipe,
    sampler: EpochSampler | None,
) -> DataLoader[Batch]:
    dataset = _Batches(images, targets)
    if sampler is None:
        return DataLoader(dataset, batch_size=256, collate_fn=_as_it_is)
    # A last batch of one face has no batch statistics to normalise by.
    drops = len(sampler) > recipe.batch_size
    # With a generator of its own it draws nothing from the one that augmentation draws from.
    return DataLoader(
        dataset,
        batch_size=recipe.batch_size,
        sampler=sampler,
        drop_last=drops,
        generator=torch.Generator(),
        collate_fn=_as_it_is,
    )


def _fit(
    module: TrainingModule,
    training: DataLoader[Batch],
    holdout: DataLoader[Batch],
    recipe: Recipe,
    run: Run,
) -> None:
    last = run.folder / _LAST
    if recipe.weights == "imagenet" and run.start is None and not last.exists():
        start_from_imagenet(module.network, recipe.network)
    if run.start is not None:
        _start_from(module.network, run.start, module.architecture)
    keeper = ModelCheckpoint(
        run.folder,
        filename="best",
        monitor="holdout_loss",
        save_top_k=1,
        save_last=True,
        every_n_epochs=run.save_every,
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [
        keeper,
        EpochLog(run.folder / EPOCHS_FILE, module.architecture.task, recipe.seed),
    ]
    if recipe.ema:
        callbacks.append(WeightAveraging(device=_device(), multi_avg_fn=_averaging(recipe.ema)))
    if recipe.early_stopping:
        callbacks.append(EarlyStopping("holdout_loss", patience=recipe.early_stopping))
    if run.progress and sys.stderr.isatty():
        callbacks.append(RichProgressBar())
    trainer = Trainer(
        max_epochs=recipe.epochs,
        precision=lightning_precision(recipe),  # type: ignore[arg-type]
        gradient_clip_val=recipe.gradient_clip or None,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=run.progress and sys.stderr.isatty(),
        enable_model_summary=False,
        benchmark=torch.cuda.is_available(),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    try:
        with _without_noise():
            trainer.fit(
                module,
                training,
                holdout,
                ckpt_path=last if last.exists() else None,
                # Our own file, which holds the optimiser's and the callbacks' state.
                weights_only=False,
            )
    except SystemExit as stop:
        # Lightning turns Ctrl-C into an exit of its own.
        raise Interrupted(
            f"{run.folder}: stopped; the same command goes on from its last whole epoch"
        ) from stop
    if recipe.keep == "best":
        stored = torch.load(keeper.best_model_path, map_location="cpu", weights_only=False)
        module.load_state_dict(stored["state_dict"])


@contextlib.contextmanager
def _without_noise() -> Iterator[None]:
    """Keep back what Lightning says of itself and of folders, which nobody can act on."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        yield


def _start_from(network: nn.Module, path: Path, architecture: Architecture) -> None:
    """Take over the weights of a checkpoint; a head for other labels starts anew."""
    source, before = checkpoint.load(path)
    if (
        replace(
            before.architecture,
            outputs=architecture.outputs,
            mean=architecture.mean,
            std=architecture.std,
            dropout=architecture.dropout,
        )
        != architecture
    ):
        raise DataError(
            f"{path}: its network ({before.architecture}) is not the one to train ({architecture})"
        )
    weights = source.state_dict()
    own = network.state_dict()
    fitting = {name: value for name, value in weights.items() if own[name].shape == value.shape}
    network.load_state_dict(own | fitting)


def _rounded(network: nn.Module, described: Checkpoint, run: Run) -> nn.Module:
    """The network as its checkpoint will hold it: every figure is measured on what is kept."""
    part = run.folder / "rounded.safetensors"
    try:
        checkpoint.save(part, network.cpu(), described)
        return checkpoint.load(part)[0].to(_device())
    finally:
        part.unlink(missing_ok=True)


def _finish(
    network: nn.Module,
    described: Checkpoint,
    figures: Mapping[str, Any],
    parts: Parts,
    run: Run,
) -> Path:
    faces = {
        "train": len(parts.train),
        "holdout": len(parts.holdout),
        "dropped": len(parts.dropped),
    }
    write_json(
        run.folder / METRICS_FILE,
        {"temperature": described.temperature, "faces": faces, "splits": figures},
    )
    path = run.folder / MODEL_FILE
    checkpoint.save(path, network.cpu(), described)
    return path
