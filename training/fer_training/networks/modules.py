"""The two Lightning modules: what a training step is, for each task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.nn.functional import cross_entropy, smooth_l1_loss
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score
from torchvision.transforms import v2

from fer_sdk.models.metadata import Task
from fer_training.data.augmentation import Augmentation
from fer_training.networks.architecture import Architecture, build, last_layer, normalise
from fer_training.networks.teachers import Teachers, distillation_loss
from fer_training.recipe import EmotionRecipe, LandmarksRecipe, Recipe

Batch = tuple[torch.Tensor, torch.Tensor]


class TrainingModule(LightningModule):
    """What both tasks share: the network, the optimiser, the schedule."""

    def __init__(
        self, architecture: Architecture, recipe: Recipe, augmentation: Augmentation
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.recipe = recipe
        self.augmentation = augmentation
        self.network = build(architecture).to(memory_format=torch.channels_last)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """The network's raw output for gray faces 0..255 ``[N, S, S]``."""
        x = normalise(faces, self.architecture).contiguous(memory_format=torch.channels_last)
        output: torch.Tensor = self.network(x)
        return output.float()

    @property
    def training_size(self) -> int:
        """Side of the faces that the current epoch trains on."""
        recipe = self.recipe
        return recipe.small_size if self.current_epoch < recipe.small_epochs else recipe.input_size

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The recipe's optimiser, with its schedule after a linear warm-up."""
        recipe = self.recipe
        # Weight decay pulls weights toward zero, where biases and normalisation must not go.
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        # Lightning refuses to clip gradients for a fused optimiser in mixed precision.
        fused = not recipe.gradient_clip
        optimizer: torch.optim.Optimizer
        if recipe.optimizer == "sgd":
            optimizer = torch.optim.SGD(
                groups,
                recipe.learning_rate,
                momentum=recipe.momentum,
                nesterov=recipe.momentum > 0,
                fused=fused,
            )
        else:
            optimizer = torch.optim.AdamW(
                groups, recipe.learning_rate, betas=(recipe.momentum, recipe.beta2), fused=fused
            )
        total = int(self.trainer.estimated_stepping_batches)
        warmup = max(1, round(total * recipe.warmup_epochs / recipe.epochs))
        cosine = recipe.schedule == "cosine"

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            if not cosine:
                return 1.0
            return 0.5 * (
                1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup)))
            )

        if recipe.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=3)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": plateau, "monitor": "holdout_loss"},
            }
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class EmotionModule(TrainingModule):
    """Cross-entropy against soft targets ``[N, L]``, and what teachers say of the same faces.

    With a ``shift`` ``[L]`` the targets are ``[N, 2L]``: behind those by the labels, the shares of
    the FER+ votes, for which the shift is added to the logits.
    """

    def __init__(
        self,
        architecture: Architecture,
        recipe: EmotionRecipe,
        augmentation: Augmentation,
        class_weights: torch.Tensor | None,
        teachers: Teachers | None = None,
        shift: torch.Tensor | None = None,
    ) -> None:
        super().__init__(architecture, recipe, augmentation)
        self.emotion_recipe = recipe
        self.teachers = teachers
        labels = architecture.outputs
        columns = labels if shift is None else 2 * labels
        self.mixup = v2.MixUp(alpha=recipe.mixup, num_classes=columns) if recipe.mixup else None
        self.class_weights: torch.Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.shift: torch.Tensor | None
        self.register_buffer("shift", shift, persistent=False)
        # Their checks of every batch would make the CPU wait for the GPU at each step.
        self.train_accuracy = MulticlassAccuracy(labels, average="micro", validate_args=False)
        self.holdout_accuracy = MulticlassAccuracy(labels, average="micro", validate_args=False)
        self.holdout_f1 = MulticlassF1Score(labels, average="macro", validate_args=False)

    def on_fit_start(self) -> None:
        """Bring the teachers to where the faces are."""
        if self.teachers is not None:
            self.teachers.to(self.device)

    def training_step(self, batch: Batch, _index: int) -> torch.Tensor:
        """One step on faces uint8 ``[N, S, S]`` and soft targets."""
        faces, targets = batch
        varied, _ = self.augmentation(faces, size=self.training_size)
        if self.mixup is not None:
            mixed, targets = self.mixup(varied[:, None], targets)
            varied = mixed[:, 0]
        logits = self(varied)
        labels = logits.shape[1]
        # Behind the labels' columns; there are none without a shift.
        targets, votes = targets[:, :labels], targets[:, labels:]
        loss = cross_entropy(
            logits,
            targets,
            weight=self.class_weights,
            label_smoothing=self.emotion_recipe.label_smoothing,
        )
        if self.shift is not None:
            share = self.emotion_recipe.ferplus
            loss = (1 - share) * loss + share * cross_entropy(logits + self.shift, votes)
        if self.teachers is not None:
            share, temperature = (
                self.emotion_recipe.distill,
                self.emotion_recipe.distill_temperature,
            )
            taught = self.teachers.probabilities(varied, temperature)
            loss = (1 - share) * loss + share * distillation_loss(logits, taught, temperature)
        self.train_accuracy(logits, targets.argmax(dim=1))
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        self.log("train_accuracy", self.train_accuracy, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Held-out faces against their hard labels, without smoothing or weights."""
        faces, labels = batch
        logits = self(faces)
        self.holdout_accuracy(logits, labels)
        self.holdout_f1(logits, labels)
        self.log("holdout_loss", cross_entropy(logits, labels), prog_bar=True)
        self.log("holdout_accuracy", self.holdout_accuracy, prog_bar=True)
        self.log("holdout_f1", self.holdout_f1)


class LandmarksModule(TrainingModule):
    """Smooth L1 against landmarks ``[N, 4, 2]``."""

    def __init__(
        self,
        architecture: Architecture,
        recipe: LandmarksRecipe,
        augmentation: Augmentation,
        mean_landmarks: torch.Tensor,
    ) -> None:
        super().__init__(architecture, recipe, augmentation)
        self.beta = recipe.beta
        # Starting from the mean face leaves the network only the differences to learn.
        last = last_layer(self.network)
        with torch.no_grad():
            last.bias.copy_(mean_landmarks.flatten())
            last.weight.mul_(0.1)

    def training_step(self, batch: Batch, _index: int) -> torch.Tensor:
        """One step on faces uint8 ``[N, S, S]`` and landmarks as fractions of the crop."""
        faces, truth = batch
        varied, moved = self.augmentation(faces, truth, size=self.training_size)
        assert moved is not None  # landmarks went in
        predicted = self(varied)
        # As a share of beta, so that the loss is of a size that optimisers are set up for.
        loss = smooth_l1_loss(predicted / self.beta, moved / self.beta)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        self.log("train_error", mean_error(predicted, moved), on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Mean distance to the truth on held-out faces, as a fraction of the crop."""
        faces, truth = batch
        predicted = self(faces)
        self.log("holdout_loss", smooth_l1_loss(predicted / self.beta, truth / self.beta))
        self.log("holdout_error", mean_error(predicted, truth), prog_bar=True)


def mean_error(predicted: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean Euclidean distance of landmarks ``[N, 4, 2]``, as a fraction of the crop."""
    error: torch.Tensor = (predicted - truth).square().sum(dim=-1).sqrt().mean()
    return error


SHOWN: Mapping[Task, tuple[str, ...]] = {
    "emotion": ("train_loss", "train_accuracy", "holdout_loss", "holdout_accuracy", "holdout_f1"),
    "landmarks": ("train_loss", "train_error", "holdout_loss", "holdout_error"),
}
"""What each task logs at the end of an epoch."""


def outputs(
    module: nn.Module, architecture: Architecture, faces: Any, batch: int = 256
) -> torch.Tensor:
    """A bare network's raw outputs for many faces uint8 ``[N, S, S]``, batch by batch.

    Computed where the network is (on a GPU as precisely as TF32 is), and given on the CPU.
    """
    device = next(module.parameters()).device
    pixels = torch.from_numpy(faces)
    with torch.inference_mode():
        return torch.cat(
            [
                module(normalise(pixels[start : start + batch].to(device), architecture)).cpu()
                for start in range(0, len(faces), batch)
            ]
        )
