"""Photos whose faces are annotated in WIDER FACE's format.

A file of it has for each photo a line with its path, a line with the number of its faces, and a row
for each face: ``x y w h blur expression illumination invalid occlusion pose``. Behind a count of 0
WIDER FACE's own files have one row of zeros, others have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_sdk.errors import DataError

Boxes = npt.NDArray[np.float64]

_COORDINATES, _INVALID = 4, 7


@dataclass(frozen=True, slots=True, eq=False)
class Annotated:
    """The faces of a photo.

    Attributes:
        path: of the photo, as the file has it.
        faces: ``[N, 4]``, x, y, width and height in pixels of those that count.
        others: ``[M, 4]``, the same of those that are marked invalid: they may be found or not.
    """

    path: str
    faces: Boxes
    others: Boxes


def read_annotated(path: Path) -> list[Annotated]:
    """Read a file of WIDER FACE's format.

    Raises:
        DataError: it cannot be read, names no photo, or has a line that is not what it must be.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    lines = [line.strip() for line in text.splitlines()]
    photos = []
    at = 0
    while at < len(lines):
        name, at = lines[at], at + 1
        if not name:
            continue
        if at == len(lines) or not lines[at].isdecimal():
            raise DataError(f"{path}, line {at + 1}: must be the number of faces of {name}")
        count, at = int(lines[at]), at + 1
        rows = [_numbers(line) for line in lines[at : at + count]]
        if len(rows) < count or None in rows:
            wrong = at + (rows.index(None) if None in rows else len(rows)) + 1
            raise DataError(f"{path}, line {wrong}: must be a face of {name}: x y w h ...")
        at += count
        if not count and at < len(lines) and _numbers(lines[at]) is not None:
            at += 1
        photos.append(_annotated(name, [row for row in rows if row is not None]))
    if not photos:
        raise DataError(f"{path}: names no photo")
    return photos


def _numbers(line: str) -> list[float] | None:
    try:
        row = [float(number) for number in line.split()]
    except ValueError:
        return None
    return row if len(row) >= _COORDINATES else None


def _annotated(name: str, rows: list[list[float]]) -> Annotated:
    # WIDER FACE has a few boxes without an extent.
    valid = [min(row[2:4]) > 0 and not any(row[_INVALID : _INVALID + 1]) for row in rows]
    boxes = np.array([row[:_COORDINATES] for row in rows]).reshape(-1, _COORDINATES)
    chosen = np.array(valid, bool)
    return Annotated(name, boxes[chosen], boxes[~chosen])
