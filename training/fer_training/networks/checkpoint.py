"""A trained network on disk: half-precision weights that describe themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from fer_sdk.errors import DataError
from fer_sdk.image.crop import CropGeometry
from fer_training.networks.architecture import Architecture, build

FORMAT = "1"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says about its weights.

    Attributes:
        architecture: of the network.
        labels: of the emotion scores, or the names of the landmarks, in order.
        crop: how detected faces are framed for it.
        training_data: what it was trained on.
        version: of the trained model.
        licence: under which terms the weights may be used.
        temperature: what the logits are divided by before the softmax; None for landmarks.
        metrics: figures by split.
        recipe: the settings that it was trained with.
        conventions, convention: see ``ModelMetadata``.
    """

    architecture: Architecture
    labels: tuple[str, ...]
    crop: CropGeometry
    training_data: str
    version: str
    licence: str
    temperature: float | None = None
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    conventions: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    convention: str | None = None


def save(path: Path, module: nn.Module, checkpoint: Checkpoint) -> None:
    """Write a ``.safetensors`` file, whole or not at all.

    Floating-point weights are rounded to half precision: half the size, and what is exported from
    the file is exactly what was measured from it.
    """
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in module.state_dict().items()
    }
    header = {"format": FORMAT, "checkpoint": json.dumps(asdict(checkpoint), sort_keys=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        save_file(tensors, part, metadata=header)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load(path: Path) -> tuple[nn.Module, Checkpoint]:
    """The network, in evaluation mode with float32 weights, and what the file says about it.

    Raises:
        DataError: the file is missing, damaged, or was not written by ``save``.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, framework="pt") as stored:
            header = stored.metadata() or {}
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: cannot be read as safetensors: {error}") from error
    if header.get("format") != FORMAT:
        raise DataError(
            f"{path}: not a checkpoint of fer-train (format {header.get('format')!r}, "
            f"this version reads {FORMAT!r})"
        )
    checkpoint = _parse(header, path)
    module = build(checkpoint.architecture)
    try:
        module.load_state_dict(
            {
                name: value.to(torch.float32) if value.is_floating_point() else value
                for name, value in weights.items()
            }
        )
    except RuntimeError as error:
        raise DataError(f"{path}: its weights do not fit its architecture: {error}") from error
    return module.eval(), checkpoint


def _parse(header: Mapping[str, str], path: Path) -> Checkpoint:
    try:
        values = json.loads(header["checkpoint"])
        values["architecture"] = Architecture.from_dict(values["architecture"], str(path))
        values["crop"] = CropGeometry(**values["crop"])
        values["labels"] = tuple(values["labels"])
        values["conventions"] = {
            name: tuple(shift) for name, shift in values.get("conventions", {}).items()
        }
        return Checkpoint(**values)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: its header cannot be read: {error}") from error
