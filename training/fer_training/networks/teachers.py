"""Trained networks that teach another one: distillation.

Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; with teachers that see the very
same varied faces as the student: Beyer et al., "Knowledge distillation: A good teacher is patient
and consistent", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import nn
from torch.nn.functional import interpolate, kl_div, log_softmax

from fer_sdk.errors import DataError
from fer_training.networks import checkpoint
from fer_training.networks.architecture import Architecture, normalise
from fer_training.networks.checkpoint import Checkpoint


class Teachers:
    """One teacher, or several whose probabilities are averaged.

    Not a module, and so no part of the student: not trained, averaged or saved with it.
    """

    def __init__(self, members: Sequence[tuple[nn.Module, Checkpoint]]) -> None:
        """Take what ``checkpoint.load`` gave."""
        self._members = [
            (
                module.eval().requires_grad_(False).to(memory_format=torch.channels_last),
                about.architecture,
                about.temperature or 1.0,
            )
            for module, about in members
        ]

    @classmethod
    def load(cls, paths: Sequence[Path], labels: Sequence[str]) -> Self:
        """Read checkpoints of emotion networks for these labels, in this order.

        Raises:
            DataError: one cannot be read, or is for another task or other labels.
        """
        members = [checkpoint.load(path) for path in paths]
        for path, (_, about) in zip(paths, members, strict=True):
            if about.architecture.task != "emotion" or about.labels != tuple(labels):
                raise DataError(
                    f"{path}: a teacher must tell the labels of the faces apart "
                    f"({', '.join(labels)}), not {', '.join(about.labels)}"
                )
        return cls(members)

    def to(self, device: torch.device) -> None:
        """Move all teachers to a device."""
        for module, _, _ in self._members:
            module.to(device)

    def probabilities(self, faces: torch.Tensor, temperature: float) -> torch.Tensor:
        """What the teachers say, softened.

        Args:
            faces: gray 0..255, ``[N, S, S]`` of any size; each teacher sees them at its own.
            temperature: by what the logits are divided, after each teacher's own calibration.

        Returns:
            float32 ``[N, L]``; each row sums to 1.
        """
        with torch.inference_mode():
            said = [
                torch.softmax(
                    self._logits(module, faces, architecture) / (own * temperature), dim=1
                )
                for module, architecture, own in self._members
            ]
            mean = torch.stack(said).mean(dim=0)
        # Out of inference mode, since the loss keeps it for its gradient.
        return mean.clone()

    @staticmethod
    def _logits(module: nn.Module, faces: torch.Tensor, architecture: Architecture) -> torch.Tensor:
        size = architecture.input_size
        seen = faces.to(torch.float32)
        if seen.shape[-1] != size:
            seen = interpolate(
                seen[:, None],
                size=(size, size),
                mode="bilinear",
                antialias=size < seen.shape[-1],
            )[:, 0]
        x = normalise(seen, architecture).contiguous(memory_format=torch.channels_last)
        logits: torch.Tensor = module(x)
        return logits.float()


def distillation_loss(
    logits: torch.Tensor, taught: torch.Tensor, temperature: float
) -> torch.Tensor:
    """How far a student is from its teachers: mean Kullback-Leibler divergence.

    Args:
        logits: of the student, ``[N, L]``.
        taught: probabilities that ``Teachers.probabilities`` gave at the same temperature.
        temperature: by what the student's logits are divided. Its square restores the size of the
            gradient, so that it can be changed without changing the learning rate.
    """
    said = log_softmax(logits / temperature, dim=1)
    return kl_div(said, taught, reduction="batchmean") * temperature**2
