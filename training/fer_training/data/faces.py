"""Labelled face crops, read from ``fer2013.csv`` or from a folder per class."""

from __future__ import annotations

import csv
import gzip
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_sdk.errors import DataError, ImageError
from fer_sdk.image.crop import centred_square, crop_gray
from fer_sdk.image.folder import PICTURES
from fer_sdk.image.load import load_image

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER2013's labels, in the order of its numbers."""

SPLITS = ("Training", "PublicTest", "PrivateTest")

_FOLDER_SPLITS = {
    "train": "Training",
    "training": "Training",
    "val": "PublicTest",
    "valid": "PublicTest",
    "validation": "PublicTest",
    "publictest": "PublicTest",
    "test": "PrivateTest",
    "privatetest": "PrivateTest",
}
_LABEL_SYNONYMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}
_OWN_SPLITS = {"Training": "training", "PublicTest": "validation", "PrivateTest": "test"}
_PIXELS_A_SIDE = 48
_TOLD = 100


@dataclass(frozen=True, slots=True, eq=False)
class FaceSet:
    """Gray face crops with their labels.

    Attributes:
        images: uint8 ``[N, S, S]``.
        labels: int64 ``[N]``, indices into ``label_names``.
        splits: ``[N]`` strings out of ``SPLITS``.
        label_names: the labels in the order of their indices.
        name: of the data, as a model that is trained on it calls it.
        files: ``[N]`` paths of the pictures that the crops were made from; None for a CSV file.
        split_names: what the data itself calls its splits, where that is not as in ``SPLITS``.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    splits: npt.NDArray[np.str_]
    label_names: tuple[str, ...]
    name: str = "FER2013"
    files: npt.NDArray[np.str_] | None = None
    split_names: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> FaceSet:
        """The faces at ``index`` (a boolean mask or positions), in that order."""
        return replace(
            self,
            images=self.images[index],
            labels=self.labels[index],
            splits=self.splits[index],
            files=None if self.files is None else self.files[index],
        )

    @property
    def validation(self) -> str:
        """The data's own name for its validation split."""
        return self.split_names.get("PublicTest", "PublicTest")

    def within(self, split: str) -> npt.NDArray[np.bool_]:
        """Which faces belong to a split, by any of its names, ``[N]``."""
        known = split if split in SPLITS else _FOLDER_SPLITS.get(split.lower())
        if known is None:
            raise DataError(f"unknown split {split!r}: use one of {', '.join(SPLITS)}")
        return np.asarray(self.splits == known)

    def split(self, name: str) -> FaceSet:
        """The faces of one split; empty when the data has none of it."""
        return self.take(self.within(name))


def read_faces(path: str | Path, *, side: int = _PIXELS_A_SIDE) -> FaceSet:
    """Read a labelled set of face crops.

    Args:
        path: ``fer2013.csv`` or ``fer2013.csv.gz`` (columns ``emotion``, ``pixels``, ``Usage``;
            48x48 gray), or a folder ``train/<label>/*.png`` with optional ``val`` and ``test``
            beside ``train``. A folder whose labels are FER2013's seven is read in FER2013's order;
            any other labels are sorted by name.
        side: side in pixels that the pictures of a folder are resized to.

    Raises:
        DataError: nothing to read, or a row or picture that is not a face crop; names file and
            line.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, side)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    return _read_csv(path)


def _read_csv(path: Path) -> FaceSet:
    images: list[npt.NDArray[np.uint8]] = []
    labels: list[int] = []
    splits: list[str] = []
    try:
        for line, row in _rows(path):
            where = f"{path}, line {line}"
            images.append(_pixels(row["pixels"], where))
            labels.append(_label(row["emotion"], where))
            splits.append(_split(row["Usage"], where))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}") from error
    if not images:
        raise DataError(f"{path}: holds no rows")
    return FaceSet(np.stack(images), np.array(labels, np.int64), np.array(splits), EMOTIONS)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="ascii", newline="") as stream:
        reader = csv.DictReader(stream)
        missing = {"emotion", "pixels", "Usage"} - set(reader.fieldnames or ())
        if missing:
            raise DataError(
                f"{path}: columns {', '.join(sorted(missing))} are missing; "
                "fer2013.csv has emotion, pixels, Usage"
            )
        for row in reader:
            yield reader.line_num, row


def _pixels(text: str | None, where: str) -> npt.NDArray[np.uint8]:
    try:
        # Ten times faster than splitting; what it cannot read it only warns about.
        with warnings.catch_warnings(action="error"):
            values = np.fromstring(text or "", dtype=np.int64, sep=" ")
    except (ValueError, DeprecationWarning) as error:
        raise DataError(f"{where}: pixels are not whole numbers") from error
    if values.size != _PIXELS_A_SIDE**2:
        raise DataError(f"{where}: {values.size} pixels instead of {_PIXELS_A_SIDE**2} (48x48)")
    if values.min() < 0 or values.max() > 255:
        raise DataError(f"{where}: pixel values outside 0..255")
    return values.astype(np.uint8).reshape(_PIXELS_A_SIDE, _PIXELS_A_SIDE)


def _label(text: str | None, where: str) -> int:
    if text not in {str(number) for number in range(len(EMOTIONS))}:
        raise DataError(f"{where}: emotion {text!r} is not one of 0..{len(EMOTIONS) - 1}")
    return int(text)


def _split(text: str | None, where: str) -> str:
    if text not in SPLITS:
        raise DataError(f"{where}: Usage {text!r} is not one of {', '.join(SPLITS)}")
    return text


def _read_folder(path: Path, side: int) -> FaceSet:
    parts = [
        (folder, _FOLDER_SPLITS[folder.name.lower()])
        for folder in sorted(path.iterdir())
        if folder.is_dir() and folder.name.lower() in _FOLDER_SPLITS
    ]
    if not parts:
        raise DataError(f"{path}: has no folder 'train' with one folder per label inside")
    files = [
        (file, _LABEL_SYNONYMS.get(label.name.lower(), label.name.lower()), split)
        for part, split in parts
        for label in _visible(part)
        if label.is_dir()
        for file in _visible(label)
        if file.suffix.lower() in PICTURES
    ]
    if not files:
        raise DataError(f"{path}: holds no pictures in folders named after their labels")
    found = {label for _, label, _ in files}
    names = EMOTIONS if found <= set(EMOTIONS) else tuple(sorted(found))
    return FaceSet(
        _faces_of([file for file, _, _ in files], side),
        np.array([names.index(label) for _, label, _ in files], np.int64),
        np.array([split for _, _, split in files]),
        names,
        name=path.resolve().name,
        files=np.array([str(file) for file, _, _ in files]),
        split_names=_OWN_SPLITS,
    )


def _visible(folder: Path) -> list[Path]:
    """What is in a folder, without what editors and systems leave there."""
    return sorted(file for file in folder.iterdir() if not file.name.startswith((".", "__MACOSX")))


def _faces_of(files: list[Path], side: int) -> npt.NDArray[np.uint8]:
    images, unread = [], []
    for file in files:
        try:
            images.append(_face_of(file, side))
        except ImageError as error:
            unread.append(str(error))
    if unread:
        told = "\n".join(unread[:_TOLD])
        more = f"\nand {len(unread) - _TOLD} more" if len(unread) > _TOLD else ""
        raise DataError(
            f"{len(unread)} of {len(files)} pictures cannot be read; mend or remove them:\n"
            f"{told}{more}"
        )
    return np.stack(images)


def _face_of(file: Path, side: int) -> npt.NDArray[np.uint8]:
    # As the pipeline takes a picture that is one face: its largest centred square.
    picture = load_image(file)
    return crop_gray(picture, centred_square(picture.shape[1], picture.shape[0]), side)
