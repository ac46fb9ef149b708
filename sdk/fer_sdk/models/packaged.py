"""The model files that come with the package, and the manifest that they are checked against."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from fer_sdk.errors import ModelError

MANIFEST = "manifest.json"

SUFFIXES = (".onnx", ".tflite")
"""What the files in the manifest end in."""


def bundled() -> Traversable:
    """The folder of the bundled files."""
    return resources.files("fer_sdk.models") / "files"


def is_bundled(name: str, *, folder: Traversable | None = None) -> bool:
    """Whether a model of that name comes with the package."""
    return ((folder or bundled()) / name).is_file()


def read_bundled(name: str, *, folder: Traversable | None = None) -> bytes:
    """The content of a bundled model, checked against the manifest.

    Args:
        name: its name, e.g. ``emotion.int8.onnx``.
        folder: another folder with a manifest of its own.

    Raises:
        ModelError: the file or the manifest is not there, or it is not the file that was shipped.
    """
    where = folder or bundled()
    try:
        manifest = json.loads((where / MANIFEST).read_text(encoding="utf-8"))
        expected = manifest["files"][name]["sha256"]
    except OSError as error:
        raise ModelError(f"{where / MANIFEST}: cannot be read; install fer-sdk again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{where / MANIFEST}: says nothing of {name}; install fer-sdk again"
        ) from error
    try:
        content = (where / name).read_bytes()
    except OSError as error:
        raise ModelError(
            f"{where / name}: cannot be read ({error.strerror or error}); install fer-sdk again"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ModelError(
            f"{where / name}: not the file that was shipped (its sha256 is {found}, not "
            f"{expected}); install fer-sdk again"
        )
    return content


def write_manifest(folder: Path) -> Path:
    """Write down length and hash of every model file in a folder.

    Returns:
        The manifest, ``folder/manifest.json``.

    Raises:
        ModelError: the folder holds no model file.
    """
    models = sorted(file for file in folder.glob("*") if file.suffix in SUFFIXES)
    if not models:
        raise ModelError(f"{folder}: holds no {' or '.join(SUFFIXES)} file")
    contents = {file.name: file.read_bytes() for file in models}
    files = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in contents.items()
    }
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"files": files}, indent=2) + "\n", encoding="utf-8")
    return manifest
