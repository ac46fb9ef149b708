"""FER+ votes as soft labels.

Barsoum et al., "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
Distribution", ICMI 2016: ten people looked at each face of FER2013 again.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from fer_sdk.errors import DataError
from fer_training.data.faces import EMOTIONS, FaceSet

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


def label_probabilities(
    votes: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    training: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """What the votes for a face make of its label.

    Voters use the words otherwise than FER2013's labels do: a third of their votes are for neutral,
    which a sixth of the labels are, and fear gets a quarter of its share. A network that learns the
    votes as they are learns that bias. A logistic regression on the training faces translates them.

    Args:
        votes: what ``read_votes`` gave, ``[N, 7]``.
        labels: of the same faces, ``[N]``.
        training: positions of the faces that the translation is learnt from.

    Returns:
        float32 ``[N, 7]``; each row sums to 1. Where nobody voted it means nothing.

    Raises:
        DataError: the training faces with votes have fewer than two labels.
    """
    voted = training[votes[training].sum(axis=1) > 0]
    if len(np.unique(labels[voted])) < 2:
        raise DataError("the votes cover training faces of fewer than two labels")
    # Half a vote of ten, so that a label without any has a logarithm.
    evidence = np.log(votes + 0.05)
    translation = LogisticRegression(max_iter=1000).fit(evidence[voted], labels[voted])
    said = np.zeros_like(votes)
    said[:, translation.classes_] = translation.predict_proba(evidence)
    return said


def usage_shift(
    votes: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    training: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """How much more often voters use each word than the labels do: what a logit must be raised by.

    Args:
        votes: what ``read_votes`` gave, ``[N, 7]``.
        labels: of the same faces, ``[N]``.
        training: positions of the faces that are counted.

    Returns:
        float32 ``[7]``: the logarithm of the label's share of the votes, divided by its share of
        the labels.
    """
    voted = training[votes[training].sum(axis=1) > 0]
    by_votes = votes[voted].sum(axis=0) + 1
    by_labels = np.bincount(labels[voted], minlength=votes.shape[1]) + 1
    return np.asarray(np.log(by_votes / by_labels), np.float32)
