"""Labelled faces for the accuracy that stands beside a speed."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_sdk.errors import DataError

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER2013's numbers in words."""

_SIDE = 48


@dataclass(frozen=True, slots=True, eq=False)
class LabelledFaces:
    """Faces of one split.

    Attributes:
        images: uint8 gray ``[N, 48, 48]``.
        labels: a word of ``LABELS`` for each.
        split: which split.
    """

    images: npt.NDArray[np.uint8]
    labels: tuple[str, ...]
    split: str


def read_labelled(path: Path, split: str) -> LabelledFaces:
    """Read one split of ``fer2013.csv`` or ``fer2013.csv.gz``.

    Raises:
        DataError: no such file, not FER2013's columns, a row that is no face, or no row of that
            split.
    """
    images: list[npt.NDArray[np.uint8]] = []
    labels: list[str] = []
    others: set[str] = set()
    try:
        with (
            gzip.open(path, "rt", encoding="ascii", newline="")
            if path.suffix == ".gz"
            else path.open(encoding="ascii", newline="")
        ) as stream:
            reader = csv.DictReader(stream)
            if not {"emotion", "pixels", "Usage"} <= set(reader.fieldnames or ()):
                raise DataError(f"{path}: is not fer2013.csv (columns emotion, pixels, Usage)")
            for row in reader:
                if row["Usage"] != split:
                    others.add(str(row["Usage"]))
                    continue
                labels.append(LABELS[int(row["emotion"])])
                images.append(np.array(row["pixels"].split(), np.uint8).reshape(_SIDE, _SIDE))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, IndexError, EOFError, csv.Error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}, face {len(labels)} of {split}: {error}") from error
    if not images:
        raise DataError(
            f"{path}: has no faces of the split {split!r}; it has {', '.join(sorted(others))}"
        )
    return LabelledFaces(np.stack(images), tuple(labels), split)
