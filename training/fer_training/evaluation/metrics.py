"""Figures of both tasks, from predictions and truth: training, evaluation and export use these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import confusion_matrix, f1_score, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

_BINS = 15


@dataclass(frozen=True, slots=True)
class EmotionFigures:
    """How well scores fit labels.

    Attributes:
        faces: how many were scored.
        accuracy: share of faces whose highest score is their label's.
        macro_f1: mean over the labels of F1.
        ece: expected calibration error over 15 bins of confidence, as a fraction.
        log_loss: mean negative log of the label's score.
        balanced: mean over the labels of recall.
        recall: of each label, by name; None where the data has no face of it.
        precision: of each label, by name; None where it was never given.
        counts: faces of each label, by name.
        confusion: rows are labels, columns what was given.
    """

    faces: int
    accuracy: float
    macro_f1: float
    ece: float
    log_loss: float
    balanced: float
    recall: dict[str, float | None]
    precision: dict[str, float | None]
    counts: dict[str, int]
    confusion: list[list[int]]

    def summary(self) -> dict[str, float]:
        """The figures that a model carries in its metadata."""
        return {
            "faces": float(self.faces),
            "accuracy": round(self.accuracy, 5),
            "macro_f1": round(self.macro_f1, 5),
            "ece": round(self.ece, 5),
        }


def emotion_figures(
    scores: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], names: Sequence[str]
) -> EmotionFigures:
    """Figures for scores ``[N, L]`` that sum to 1 and labels ``[N]``."""
    given = scores.argmax(axis=1)
    # float32 rows sum to 1 only nearly, which scikit-learn's log loss would warn about.
    exact = scores.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    every = list(range(len(names)))
    confusion = confusion_matrix(labels, given, labels=every)
    right, truly, said = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    present = [index for index in every if truly[index]]
    return EmotionFigures(
        faces=len(labels),
        accuracy=float((given == labels).mean()),
        macro_f1=float(f1_score(labels, given, labels=present, average="macro", zero_division=0)),
        ece=float(
            multiclass_calibration_error(
                torch.from_numpy(np.ascontiguousarray(scores, np.float32)),
                torch.from_numpy(labels),
                num_classes=len(names),
                n_bins=_BINS,
            )
        ),
        log_loss=float(log_loss(labels, exact, labels=every)),
        balanced=float(np.mean([right[index] / truly[index] for index in present])),
        recall={n: _ratio(right[i], truly[i]) for i, n in enumerate(names)},
        precision={n: _ratio(right[i], said[i]) for i, n in enumerate(names)},
        counts={n: int(truly[i]) for i, n in enumerate(names)},
        confusion=[[int(cell) for cell in row] for row in confusion],
    )


def majority_figures(
    scores: npt.NDArray[np.float32], votes: npt.NDArray[np.float32], names: Sequence[str]
) -> EmotionFigures:
    """Figures for scores ``[N, L]`` by what most voters say of each face.

    Args:
        scores: each row sums to 1.
        votes: shares of the FER+ votes, ``[N, L]``. Faces for which two labels got as many, or
            none got any, are left out.
        names: of the labels.
    """
    most = votes.max(axis=1, keepdims=True)
    alone = (most[:, 0] > 0) & ((votes == most).sum(axis=1) == 1)
    return emotion_figures(scores[alone], votes[alone].argmax(axis=1), names)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The faces whose confidence lies between two bounds.

    Attributes:
        low, high: the bounds; the lower is not inside.
        faces: how many.
        confidence: their mean confidence; None where there are none.
        accuracy: share of them whose label was given; None where there are none.
    """

    low: float
    high: float
    faces: int
    confidence: float | None
    accuracy: float | None


def reliability(
    scores: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> tuple[ReliabilityBin, ...]:
    """Confidence against accuracy, in the bins of the expected calibration error.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Args:
        scores: ``[N, L]``; each row sums to 1.
        labels: ``[N]``.
    """
    confidence, right = scores.max(axis=1).astype(np.float64), scores.argmax(axis=1) == labels
    bounds = np.linspace(0, 1, _BINS + 1)
    at = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    bins = []
    for index, (low, high) in enumerate(pairwise(bounds)):
        inside = at == index
        some = bool(inside.any())
        bins.append(
            ReliabilityBin(
                float(low),
                float(high),
                int(inside.sum()),
                float(confidence[inside].mean()) if some else None,
                float(right[inside].mean()) if some else None,
            )
        )
    return tuple(bins)


@dataclass(frozen=True, slots=True)
class LandmarkFigures:
    """How far predicted landmarks lie from the truth.

    Attributes:
        faces: how many were measured.
        without_truth: faces of the split for which there is no ground truth, and so no figure.
        error: mean Euclidean distance, as a fraction of the crop.
        error_by_point: the same for each point, by name.
        normalised_error: mean distance divided by the true distance between the eyes.
        normalised_by_point: the same for each point, by name.
        failures: share of faces with a normalised error above 0.1.
    """

    faces: int
    without_truth: int
    error: float
    error_by_point: dict[str, float]
    normalised_error: float
    normalised_by_point: dict[str, float]
    failures: float

    def summary(self) -> dict[str, float]:
        """The figures that a model carries in its metadata."""
        return {
            "faces": float(self.faces),
            "error": round(self.error, 6),
            "normalised_error": round(self.normalised_error, 6),
        }


def landmark_figures(
    predicted: npt.NDArray[np.float32], truth: npt.NDArray[np.float32], names: Sequence[str]
) -> LandmarkFigures:
    """Figures for landmarks ``[N, 4, 2]`` as fractions of the crop; NaN truth is left out."""
    known = ~np.isnan(truth[:, 0, 0])
    distance = np.linalg.norm(predicted[known] - truth[known], axis=-1)
    eyes = np.linalg.norm(truth[known, 0] - truth[known, 1], axis=-1)
    by_point = distance / np.maximum(eyes, 1e-6)[:, None]
    normalised = by_point.mean(axis=1)
    return LandmarkFigures(
        faces=int(known.sum()),
        without_truth=int((~known).sum()),
        error=float(distance.mean()),
        error_by_point={n: float(distance[:, i].mean()) for i, n in enumerate(names)},
        normalised_error=float(normalised.mean()),
        normalised_by_point={n: float(by_point[:, i].mean()) for i, n in enumerate(names)},
        failures=float((normalised > 0.1).mean()),
    )


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
