"""The faces that models are calibrated and compared on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_sdk.errors import DataError
from fer_sdk.image.crop import resize_square
from fer_training.data.faces import FaceSet, read_faces


def read_all(paths: Sequence[Path], size: int) -> FaceSet:
    """Read one or more data sets into one.

    Args:
        paths: what ``fer_training.data.faces.read_faces`` reads.
        size: side in pixels for the pictures of folders; CSV files have their own.

    Raises:
        DataError: one of them cannot be read, or their labels or sizes are not the same.
    """
    if not paths:
        raise DataError("no faces to compare on: give --data at least once")
    parts = [read_faces(path, side=size) for path in paths]
    first = parts[0]
    for path, part in zip(paths, parts, strict=True):
        if part.label_names != first.label_names:
            raise DataError(
                f"{path}: its labels {', '.join(part.label_names)} are not those of {paths[0]}: "
                f"{', '.join(first.label_names)}"
            )
        if part.images.shape[1:] != first.images.shape[1:]:
            raise DataError(f"{path}: its faces are not of the same size as those of {paths[0]}")
    return FaceSet(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.splits for part in parts]),
        first.label_names,
        name=first.name,
        split_names=first.split_names,
    )


def held_out(faces: FaceSet) -> tuple[str, FaceSet]:
    """The split to compare models on: validation where there is one, else training.

    Never the test split: no choice that an export makes may depend on it.
    """
    for name in ("PublicTest", "Training"):
        part = faces.split(name)
        if len(part):
            return faces.split_names.get(name, name), part
    raise DataError("the data has neither a training nor a validation (PublicTest) part")


def at_size(images: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Faces uint8 ``[N, S, S]`` at a model's input size."""
    if images.shape[1:] == (size, size):
        return images
    return np.stack([resize_square(image, size) for image in images])
