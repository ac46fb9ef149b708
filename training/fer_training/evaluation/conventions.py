"""Two ways of using the labels, FER2013's and that of the FER+ voters, for the same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fer_sdk.errors import DataError
from fer_sdk.image.crop import resize_square
from fer_sdk.models.emotion import shift_scores
from fer_training.data.faces import FaceSet
from fer_training.data.splits import divide
from fer_training.evaluation.calibration import fit_shift
from fer_training.evaluation.metrics import EmotionFigures, emotion_figures, majority_figures
from fer_training.networks import checkpoint
from fer_training.networks.checkpoint import Checkpoint
from fer_training.networks.modules import outputs
from fer_training.recipe import EmotionRecipe

Labels = Literal["fer2013", "ferplus"]


def with_conventions(
    described: Checkpoint,
    logits: torch.Tensor,
    votes: npt.NDArray[np.float32],
    share: float,
    default: Labels,
) -> Checkpoint:
    """Add the conventions ``"fer2013"``, the labels as they were learnt, and ``"ferplus"``.

    Args:
        described: a calibrated emotion network.
        logits: that it gives for faces that it was not trained on, float32 ``[N, 7]``.
        votes: shares of the FER+ votes for the same faces, ``[N, 7]``.
        share: of the shift that suits the votes best; see ``EmotionRecipe.vote_shift``.
        default: the one that is used where none is asked for.
    """
    log_scores = torch.log_softmax(logits / (described.temperature or 1), dim=1)
    shift = share * fit_shift(log_scores, torch.from_numpy(votes))
    conventions = {
        "fer2013": (0.0,) * len(shift),
        "ferplus": tuple(round(each, 4) for each in shift.tolist()),
    }
    return replace(described, conventions=conventions, convention=default)


def figures_by_split(
    network: nn.Module,
    described: Checkpoint,
    faces: FaceSet,
    votes: npt.NDArray[np.float32] | None,
    holdout: npt.NDArray[np.int64],
) -> dict[str, EmotionFigures]:
    """Figures on held-out and validation faces, by the labels and by the majority of the voters,
    each with the scores of its own convention.

    Args:
        network: of the checkpoint.
        described: what the checkpoint says.
        faces: a whole set.
        votes: shares of the FER+ votes for all of them, ``[N, 7]``, or None.
        holdout: positions of the held-out faces.
    """
    names, size = faces.label_names, described.architecture.input_size
    parts = {
        "holdout": holdout,
        faces.validation: np.flatnonzero(faces.splits == "PublicTest"),
    }
    figures = {}
    for name, index in parts.items():
        if len(index):
            images = np.stack([resize_square(image, size) for image in faces.images[index]])
            logits = outputs(network, described.architecture, images)
            scores = torch.softmax(logits / (described.temperature or 1), dim=1).numpy()
            figures[name] = emotion_figures(scores, faces.labels[index], names)
            if votes is not None:
                figures[f"{name}, FER+ majority"] = majority_figures(
                    shift_scores(scores, described.conventions["ferplus"]), votes[index], names
                )
    return figures


def add_conventions(
    path: Path,
    faces: FaceSet,
    votes: npt.NDArray[np.float32],
    output: Path,
    *,
    default: Labels,
    share: float,
    version: str,
) -> Checkpoint:
    """Add the conventions to a checkpoint that was trained without them.

    The weights stay as they are; the shift is fitted on the faces that the checkpoint's own recipe
    held out.

    Args:
        path: the checkpoint.
        faces: what it was trained on.
        votes: shares of the FER+ votes for the faces, ``[N, 7]``.
        output: the checkpoint to write.
        default, share: as of ``with_conventions``.
        version: of the new checkpoint.

    Raises:
        DataError: the checkpoint cannot be read, or is not of an emotion network for these labels.
    """
    network, described = checkpoint.load(path)
    if described.architecture.task != "emotion" or described.labels != faces.label_names:
        raise DataError(f"{path}: not of an emotion network for {', '.join(faces.label_names)}")
    recipe = EmotionRecipe(**described.recipe)
    holdout = divide(faces, recipe.holdout, recipe.holdout_seed or recipe.seed).holdout
    logits = outputs(network, described.architecture, faces.images[holdout])
    described = with_conventions(described, logits, votes[holdout], share, default)
    figures = figures_by_split(network, described, faces, votes, holdout)
    described = replace(
        described,
        version=version,
        metrics={name: each.summary() for name, each in figures.items()},
    )
    checkpoint.save(output, network, described)
    return described
