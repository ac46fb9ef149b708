"""FER+ votes as soft labels.

Barsoum et al., "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
Distribution", ICMI 2016: ten people looked at each face of FER2013 again.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_sdk.errors import DataError
from fer_training.faces import EMOTIONS, FaceSet

_COLUMNS = {
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "sad": "sadness",
    "surprise": "surprise",
    "neutral": "neutral",
}


def read_votes(path: Path, faces: FaceSet) -> npt.NDArray[np.float32]:
    """Share of the votes that each label got.

    Args:
        path: ``fer2013new.csv``, row for row beside the faces' own CSV.
        faces: all the faces of that CSV, in its order.

    Returns:
        float32 ``[N, 7]``. A row sums to 1, or is all zero where nobody voted for one of the seven
        (contempt, unknown and not a face are left out).

    Raises:
        DataError: the file cannot be read or is not row for row beside the faces.
    """
    if faces.label_names != EMOTIONS:
        raise DataError(f"{path}: FER+ votes fit FER2013's labels only, not {faces.label_names}")
    try:
        with path.open(encoding="ascii", newline="") as stream:
            rows = list(csv.DictReader(stream))
            splits = [row["Usage"] for row in rows]
            counts = np.array(
                [[int(row[_COLUMNS[label]]) for label in EMOTIONS] for row in rows], np.float32
            )
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not FER+ votes (fer2013new.csv): {error}") from error
    if len(rows) != len(faces) or splits != list(faces.splits):
        raise DataError(
            f"{path}: its {len(rows)} rows do not stand beside the {len(faces)} faces row for row"
        )
    totals = counts.sum(axis=1, keepdims=True)
    shares: npt.NDArray[np.float32] = np.divide(
        counts, totals, out=np.zeros_like(counts), where=totals > 0
    )
    return shares
