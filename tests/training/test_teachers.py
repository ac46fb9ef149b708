"""What teachers say, and how far a student is from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fer_sdk.errors import DataError
from fer_sdk.image.crop import CropGeometry
from fer_training.networks import checkpoint
from fer_training.networks.architecture import Architecture, build
from fer_training.networks.checkpoint import Checkpoint
from fer_training.networks.teachers import Teachers, distillation_loss

LABELS = ("a", "b", "c")


class _Brightness(nn.Module):
    """Logits that are the mean of what it sees, times a slope for each label."""

    def __init__(self, slopes: list[float]) -> None:
        super().__init__()
        self.slopes = nn.Parameter(torch.tensor(slopes))
        self.sizes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(x.shape[-1])
        return x.mean(dim=(1, 2, 3))[:, None] * self.slopes


def _about(size: int, temperature: float) -> Checkpoint:
    return Checkpoint(
        architecture=Architecture(
            task="emotion", outputs=3, input_size=size, stem="torchvision", mean=0.0, std=1.0
        ),
        labels=LABELS,
        crop=CropGeometry(1.2, 0.0, -0.1),
        training_data="made up",
        version="1",
        licence="none",
        temperature=temperature,
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(likely / likely.sum(axis=1, keepdims=True))


def test_probabilities_of_all_teachers_are_averaged_each_calibrated_at_its_own_size() -> None:
    first, second = _Brightness([1.0, 2.0, -3.0]), _Brightness([0.5, -4.0, 1.0])
    teachers = Teachers([(first, _about(24, 2.0)), (second, _about(12, 0.5))])
    levels = np.array([40.0, 200.0])
    faces = torch.tensor(levels, dtype=torch.float32)[:, None, None].expand(2, 16, 16)
    said = teachers.probabilities(faces, temperature=3.0)

    mean = levels[:, None] / 255
    wanted = (
        _softmax(mean * np.array([1.0, 2.0, -3.0]) / 6.0)
        + _softmax(mean * np.array([0.5, -4.0, 1.0]) / 1.5)
    ) / 2
    assert said.numpy() == pytest.approx(wanted, abs=1e-5)
    assert (first.sizes, second.sizes) == ([24], [12])
    assert not any(p.requires_grad for p in first.parameters())


def test_the_loss_is_the_divergence_and_its_gradient_moves_toward_the_teachers() -> None:
    random = np.random.default_rng(0)
    given, taught = random.normal(0, 2, (5, 3)), _softmax(random.normal(0, 2, (5, 3)))
    temperature = 2.5
    said = _softmax(given / temperature)
    wanted = (taught * (np.log(taught) - np.log(said))).sum(axis=1).mean() * temperature**2
    logits = torch.tensor(given, requires_grad=True)
    loss = distillation_loss(logits, torch.tensor(taught), temperature)
    assert float(loss.detach()) == pytest.approx(wanted)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.numpy() == pytest.approx(temperature * (said - taught) / 5)
    agreed = distillation_loss(torch.tensor(np.log(taught)), torch.tensor(taught), 1.0)
    assert float(agreed) == pytest.approx(0, abs=1e-9)


def test_a_teacher_for_something_else_is_refused_by_name(tmp_path: Path) -> None:
    about = _about(16, 1.0)
    path = tmp_path / "teacher.safetensors"
    checkpoint.save(path, build(about.architecture), about)
    faces = torch.zeros(2, 16, 16)
    assert Teachers.load([path], LABELS).probabilities(faces, 1.0).shape == (2, 3)
    with pytest.raises(DataError, match=r"teacher\.safetensors.*\(a, c, b\), not a, b, c"):
        Teachers.load([path], ("a", "c", "b"))
    with pytest.raises(DataError, match="no such checkpoint"):
        Teachers.load([tmp_path / "none"], LABELS)
