"""Measure an exported model on labelled faces, through the SDK's own code path."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fer_sdk.contract import ModelMetadata
from fer_sdk.crop import resize_square
from fer_sdk.errors import DataError
from fer_sdk.face import LANDMARKS
from fer_sdk.model import EmotionModel, LandmarksModel
from fer_sdk.runtime import Session, read_model
from fer_training.faces import FaceSet
from fer_training.ground_truth import GroundTruth
from fer_training.metrics import EmotionFigures, LandmarkFigures, emotion_figures, landmark_figures


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured of which model on which faces.

    Attributes:
        model: the file's name.
        sha256: hash of the file.
        precision: of its weights and arithmetic.
        provider: the onnxruntime provider that ran it.
        split: of the data.
        figures: what came out.
    """

    model: str
    sha256: str
    precision: str
    provider: str
    split: str
    figures: EmotionFigures | LandmarkFigures

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self)


def open_model(path: Path) -> EmotionModel | LandmarksModel:
    """Open a model file of either task.

    Raises:
        ModelError: it cannot be read or does not keep the model contract.
    """
    content = read_model(path)
    metadata = ModelMetadata.from_props(Session(content, source=str(path)).metadata, str(path))
    kind = EmotionModel if metadata.task == "emotion" else LandmarksModel
    return kind(content, source=str(path), device="cpu")


def evaluate(
    model: EmotionModel | LandmarksModel, faces: FaceSet, split: str, truth: GroundTruth
) -> Evaluation:
    """Measure a model on one split; every face is given as it is, one crop, no averaging.

    Args:
        model: an open model.
        faces: a whole set.
        split: which part of it to measure on.
        truth: landmarks of the faces, for a landmark model.

    Raises:
        DataError: the split is empty, has other labels than the model, or no ground truth.
    """
    part = faces.split(split)
    if not len(part):
        raise DataError(f"the data has no face in {split}")
    size = model.metadata.input_size
    images = np.stack([resize_square(image, size) for image in part.images])
    figures: EmotionFigures | LandmarkFigures
    if isinstance(model, EmotionModel):
        if tuple(model.metadata.labels) != part.label_names:
            raise DataError(
                f"{model.source}: its labels ({', '.join(model.metadata.labels)}) are not those of "
                f"the data ({', '.join(part.label_names)})"
            )
        figures = emotion_figures(model.scores(images), part.labels, part.label_names)
    else:
        points = truth.of(part.images)
        if np.isnan(points).all():
            raise DataError(f"the ground truth knows no face of {split}: give --truth")
        figures = landmark_figures(model.landmarks(images), points, LANDMARKS)
    return Evaluation(
        Path(model.source).name,
        model.sha256,
        model.metadata.precision,
        model.session.provider,
        split,
        figures,
    )
