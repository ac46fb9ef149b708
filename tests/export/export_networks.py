"""Small networks for the tests of the export: real ones, fitted to drawn faces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fer_sdk.image.crop import CropGeometry
from fer_sdk.models.metadata import Task
from fer_sdk.types import LANDMARKS
from fer_training.data.faces import FaceSet
from fer_training.networks.architecture import Architecture, build, normalise
from fer_training.networks.checkpoint import Checkpoint, save

SIZE = 32
MOODS = ("glad", "grim", "stunned")
_SURE = 6.0


@dataclass(frozen=True, slots=True, eq=False)
class DrawnFaces:
    """Drawn faces with their mood and landmarks."""

    images: npt.NDArray[np.uint8]
    moods: npt.NDArray[np.int64]
    landmarks: npt.NDArray[np.float32]

    def face_set(self, training: int) -> FaceSet:
        """The first so many as training faces, the others for validation."""
        splits = np.where(np.arange(len(self.images)) < training, "Training", "PublicTest")
        return FaceSet(self.images, self.moods, splits, MOODS)

    def write(self, folder: Path, training: int) -> None:
        """As a folder ``train/<mood>/*.png`` with ``val`` beside ``train``."""
        for index, (image, mood) in enumerate(zip(self.images, self.moods, strict=True)):
            part = folder / ("train" if index < training else "val") / MOODS[mood]
            part.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(part / f"{index:04d}.png"), image)


def draw(count: int, seed: int) -> DrawnFaces:
    """Faces of three moods: the mouth turned up, turned down, and round."""
    random = np.random.default_rng(seed)
    images = np.empty((count, SIZE, SIZE), np.uint8)
    points = np.empty((count, 4, 2), np.float32)
    moods = np.arange(count) % len(MOODS)
    for index, mood in enumerate(moods):
        skin = int(random.integers(110, 200))
        image = np.full((SIZE, SIZE), skin, np.uint8)
        dx, dy = random.integers(-2, 3, 2)
        eyes = [(10 + dx, 11 + dy), (22 + dx, 11 + dy)]
        mouth = (16 + dx, 22 + dy)
        for eye in eyes:
            cv2.circle(image, eye, 2, 20, -1)
        if mood == 2:
            cv2.circle(image, mouth, 4, 20, -1)
            corners = [(mouth[0] - 4, mouth[1]), (mouth[0] + 4, mouth[1])]
        else:
            start, end = (20, 160) if mood == 0 else (200, 340)
            cv2.ellipse(image, mouth, (6, 4), 0, start, end, 20, 2)
            corners = [(mouth[0] - 6, mouth[1]), (mouth[0] + 6, mouth[1])]
        noise = random.normal(0, 6, image.shape)
        images[index] = np.clip(image + noise, 0, 255)
        points[index] = np.array([*eyes, *corners], np.float32) / SIZE
    return DrawnFaces(images, moods.astype(np.int64), points)


def train(task: Task, faces: DrawnFaces) -> tuple[nn.Module, Checkpoint]:
    """A network that knows drawn faces, and its checkpoint.

    Only its last layer is fitted, to what the random rest of it makes of the faces.
    """
    torch.manual_seed(0)
    architecture = Architecture(
        task=task,
        outputs=len(MOODS) if task == "emotion" else 8,
        input_size=SIZE,
        stem="torchvision",
        mean=0.55,
        std=0.2,
        dropout=0.1,
    )
    network = build(architecture)
    inputs = normalise(torch.from_numpy(faces.images), architecture)
    features = _settle_normalisation(network, inputs)
    wanted = (
        _SURE * np.eye(len(MOODS), dtype=np.float32)[faces.moods]
        if task == "emotion"
        else faces.landmarks.reshape(-1, 8)
    )
    head = network.head
    assert isinstance(head, nn.Sequential)
    with torch.no_grad():
        hidden = head[:-1].eval()(features).numpy()
        _fit(head[-1], hidden, wanted)
    return network.eval(), Checkpoint(
        architecture=architecture,
        labels=MOODS if task == "emotion" else LANDMARKS,
        crop=CropGeometry(1.2, 0.0, -0.05),
        training_data="drawn faces",
        version="0.0.1",
        licence="Apache-2.0",
        temperature=1.3 if task == "emotion" else None,
        metrics={"Training": {"accuracy": 0.9}} if task == "emotion" else {},
    )


def _fit(
    layer: nn.Module, hidden: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]
) -> None:
    """The layer's weights by ridge regression."""
    assert isinstance(layer, nn.Linear)
    ones = np.hstack([hidden, np.ones((len(hidden), 1), np.float32)]).astype(np.float64)
    normal = ones.T @ ones + 0.1 * np.eye(ones.shape[1])
    solved = np.linalg.solve(normal, ones.T @ wanted).T.astype(np.float32)
    layer.weight.copy_(torch.from_numpy(solved[:, :-1].copy()))
    layer.bias.copy_(torch.from_numpy(solved[:, -1].copy()))


def _settle_normalisation(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Give every BatchNorm uneven factors and the statistics of the faces; their features."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    seen: list[torch.Tensor] = []
    watched = network.head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        network.train()(inputs[:128])
        seen.clear()
        network.eval()(inputs)
    watched.remove()
    return seen[0]


def write_checkpoint(path: Path, task: Task, faces: DrawnFaces) -> Path:
    """Train a network and save its checkpoint."""
    network, checkpoint = train(task, faces)
    save(path, network, checkpoint)
    return path
