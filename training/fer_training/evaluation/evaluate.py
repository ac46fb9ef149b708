"""Measure an exported model on labelled faces, through the SDK's own code path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_sdk.errors import DataError
from fer_sdk.image.crop import resize_square
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.landmarks import LandmarksModel
from fer_sdk.models.metadata import ModelMetadata
from fer_sdk.models.session import Session, read_model
from fer_sdk.types import LANDMARKS
from fer_training.data.faces import FaceSet
from fer_training.data.ground_truth import GroundTruth
from fer_training.evaluation.corruptions import DEGRADATIONS
from fer_training.evaluation.end_to_end import EndToEndFigures, end_to_end
from fer_training.evaluation.metrics import (
    EmotionFigures,
    LandmarkFigures,
    ReliabilityBin,
    emotion_figures,
    landmark_figures,
    majority_figures,
    reliability,
)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What was measured.

    Attributes:
        model: the file's name.
        sha256: hash of the file.
        version: of the trained model.
        precision: of its weights and arithmetic.
        provider: the onnxruntime provider that ran it.
        data: name of the data.
        split: of the data.
        labels: the convention of the model's labels; None where it knows only one.
    """

    model: str
    sha256: str
    version: str
    precision: str
    provider: str
    data: str
    split: str
    labels: str | None


@dataclass(frozen=True, slots=True, eq=False)
class EmotionEvaluation:
    """How an emotion model does.

    Attributes:
        conditions: what was measured.
        figures: over given crops.
        by_votes: the same by what most FER+ voters say; None without votes.
        reliability: confidence against accuracy.
        end_to_end: where the faces had to be found first; None where that was not asked for.
    """

    conditions: Conditions
    figures: EmotionFigures
    reliability: tuple[ReliabilityBin, ...]
    by_votes: EmotionFigures | None = None
    end_to_end: EndToEndFigures | None = None

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self.conditions) | {
            "figures": asdict(self.figures),
            "by_votes": asdict(self.by_votes) if self.by_votes else None,
            "reliability": [asdict(each) for each in self.reliability],
            "end_to_end": asdict(self.end_to_end) if self.end_to_end else None,
        }


@dataclass(frozen=True, slots=True, eq=False)
class LandmarksEvaluation:
    """How a landmark model does.

    Attributes:
        conditions: what was measured.
        figures: over the crops as they are.
        degraded: over crops that were spoilt, by how.
        images: the crops for which there is ground truth, uint8 ``[N, S, S]``.
        predicted: what the model says of them, float32 ``[N, 4, 2]``.
        truth: what it should say.
    """

    conditions: Conditions
    figures: LandmarkFigures
    degraded: Mapping[str, LandmarkFigures]
    images: npt.NDArray[np.uint8] = field(repr=False)
    predicted: npt.NDArray[np.float32] = field(repr=False)
    truth: npt.NDArray[np.float32] = field(repr=False)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self.conditions) | {
            "figures": asdict(self.figures),
            "degraded": {name: asdict(each) for name, each in self.degraded.items()},
        }


Evaluation = EmotionEvaluation | LandmarksEvaluation


def open_model(path: Path, labels: str | None = None) -> EmotionModel | LandmarksModel:
    """Open a model file of either task.

    Args:
        path: of the file.
        labels: the convention of an emotion model's labels; None for its default.

    Raises:
        ModelError: it cannot be read or does not keep the model contract.
        SettingError: it has no such labels.
    """
    content = read_model(path)
    metadata = ModelMetadata.from_props(Session(content, source=str(path)).metadata, str(path))
    kind = EmotionModel if metadata.task == "emotion" else LandmarksModel
    return kind(content, source=str(path), device="cpu", labels=labels)


def evaluate(
    model: EmotionModel | LandmarksModel,
    faces: FaceSet,
    split: str,
    truth: GroundTruth,
    *,
    votes: npt.NDArray[np.float32] | None = None,
    detect: bool = False,
) -> Evaluation:
    """Measure a model on one split; every face is given as it is, one crop, no averaging.

    Args:
        model: an open model.
        faces: a whole set.
        split: which part of it to measure on.
        truth: landmarks of the faces, for a landmark model.
        votes: share of the FER+ votes of each label, ``[N, 7]``, for an emotion model.
        detect: of an emotion model, measure also what is left where the default detector must find
            the faces first.

    Raises:
        DataError: the split is empty, has other labels than the model, or no ground truth.
    """
    part = faces.split(split)
    if not len(part):
        raise DataError(f"the data has no face in {split}")
    conditions = Conditions(
        Path(model.source).name,
        model.sha256,
        model.metadata.version,
        model.metadata.precision,
        model.session.provider,
        faces.name,
        split,
        model.labels,
    )
    if isinstance(model, EmotionModel):
        part_votes = None if votes is None else votes[faces.within(split)]
        return _evaluate_emotion(model, part, conditions, part_votes, detect)
    return _evaluate_landmarks(model, part, conditions, truth)


def at_model_size(
    images: npt.NDArray[np.uint8], model: EmotionModel | LandmarksModel
) -> npt.NDArray[np.uint8]:
    """Face crops uint8 ``[N, S, S]`` as the pipeline would give them to a model."""
    return np.stack([resize_square(image, model.metadata.input_size) for image in images])


def check_labels(model: EmotionModel, faces: FaceSet) -> None:
    """Refuse faces of other labels than the model's.

    Raises:
        DataError: they are other ones, or in another order.
    """
    if tuple(model.metadata.labels) != faces.label_names:
        raise DataError(
            f"{model.source}: its labels ({', '.join(model.metadata.labels)}) are not those of "
            f"the data ({', '.join(faces.label_names)})"
        )


def _evaluate_emotion(
    model: EmotionModel,
    part: FaceSet,
    conditions: Conditions,
    votes: npt.NDArray[np.float32] | None,
    detect: bool,
) -> EmotionEvaluation:
    check_labels(model, part)
    scores = model.scores(at_model_size(part.images, model))
    return EmotionEvaluation(
        conditions,
        emotion_figures(scores, part.labels, part.label_names),
        reliability(scores, part.labels),
        None if votes is None else majority_figures(scores, votes, part.label_names),
        end_to_end(Path(model.source), part, labels=model.labels) if detect else None,
    )


def _evaluate_landmarks(
    model: LandmarksModel, part: FaceSet, conditions: Conditions, truth: GroundTruth
) -> LandmarksEvaluation:
    points = truth.of(part.images)
    known = ~np.isnan(points[:, 0, 0])
    if not known.any():
        raise DataError(f"the ground truth knows no face of {conditions.split}: give --truth")

    def predict(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return model.landmarks(at_model_size(images, model))

    predicted = predict(part.images)
    return LandmarksEvaluation(
        conditions,
        landmark_figures(predicted, points, LANDMARKS),
        {
            name: landmark_figures(predict(spoil(part.images)), points, LANDMARKS)
            for name, spoil in DEGRADATIONS.items()
        },
        part.images[known],
        predicted[known],
        points[known],
    )
