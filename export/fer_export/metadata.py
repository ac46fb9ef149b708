"""What an exported file says about itself."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata as packages
from pathlib import Path

from fer_export.quantise import Quantisation
from fer_sdk.models import session as runtime
from fer_sdk.models.metadata import ModelMetadata, Precision
from fer_training.networks.checkpoint import Checkpoint

_PACKAGES = ("fer-sdk", "torch", "onnx", "onnxscript")


def describe(
    checkpoint: Checkpoint, precision: Precision, quantisation: Quantisation | None
) -> ModelMetadata:
    """The metadata of a file before anything was measured on it.

    Args:
        checkpoint: what the file is made from.
        precision: of the file.
        quantisation: how it was quantised, for int8.
    """
    architecture = checkpoint.architecture.to_dict()
    if quantisation is not None:
        architecture["quantisation"] = quantisation.to_dict()
    return ModelMetadata(
        task=checkpoint.architecture.task,
        labels=checkpoint.labels,
        input_size=checkpoint.architecture.input_size,
        crop=checkpoint.crop,
        precision=precision,
        architecture=architecture,
        training_data=checkpoint.training_data,
        version=checkpoint.version,
        licence=checkpoint.licence,
        temperature=checkpoint.temperature,
        metrics=_of_checkpoint(checkpoint),
        git_commit=git_commit(),
        tools=tools(),
        conventions=checkpoint.conventions,
        convention=checkpoint.convention,
    )


def with_measured(
    described: ModelMetadata, split: str, figures: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Metrics that say what was measured on the file itself, beside the checkpoint's own.

    A split's plain name stands for figures of this very file; what training measured on the
    network has ``network `` in front of it.
    """
    metrics = {name: dict(values) for name, values in described.metrics.items()}
    if figures:
        metrics[split] = {name: round(value, 6) for name, value in figures.items()}
    return metrics


def tools() -> dict[str, str]:
    """Versions of what makes a file."""
    versions = {"python": platform.python_version(), "onnxruntime": runtime.version()}
    for name in _PACKAGES:
        try:
            versions[name] = packages.version(name)
        except packages.PackageNotFoundError:
            # A source tree on the path is not an installed package.
            continue
    return versions


def git_commit() -> str | None:
    """The commit of this source, with ``-dirty`` behind it where files differ from it.

    None where this source is not tracked by git, as in an installed package.
    """
    folder = Path(__file__).resolve().parent
    if _git(folder, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        # A virtual environment may lie inside of somebody else's repository.
        return None
    return _git(folder, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _of_checkpoint(checkpoint: Checkpoint) -> dict[str, dict[str, float]]:
    return {f"network {split}": dict(values) for split, values in checkpoint.metrics.items()}
