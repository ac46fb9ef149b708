"""Accuracy where the face must be found first: detector, crop and model together.

Given crops flatter a model: users give it what a detector finds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_sdk.detectors import Detector, DetectorName
from fer_sdk.pipeline import FerPipeline
from fer_training.data.faces import FaceSet
from fer_training.data.margins import MARGINS, with_margin
from fer_training.evaluation.metrics import emotion_figures

_MARGIN = MARGINS[0]


@dataclass(frozen=True, slots=True)
class EndToEndFigures:
    """What the default pipeline makes of pictures with a face, or of crops in a larger picture.

    Attributes:
        faces: how many were shown.
        found: share of them in which the detector found a face.
        accuracy: share of all whose label was given; a face that was not found is a wrong one.
        accuracy_found: share of the found ones whose label was given; None where none was found.
        ece: expected calibration error over the found ones; None where none was found.
        recall: of each label, by name, over all; None where the data has no face of it.
        found_by_label: share found of each label, by name; None where the data has no face of it.
        detector: that looked for them.
        margin: around each crop, as a fraction of it, filled with the crop's mean gray; None where
            the pictures were shown as they are.
    """

    faces: int
    found: float
    accuracy: float
    accuracy_found: float | None
    ece: float | None
    recall: dict[str, float | None]
    found_by_label: dict[str, float | None]
    detector: str
    margin: float | None


def end_to_end(
    model: Path,
    faces: FaceSet,
    *,
    labels: str | None = None,
    detector: DetectorName | Detector = "auto",
) -> EndToEndFigures:
    """Show pictures to a pipeline with this emotion model.

    Faces of a folder are shown as their pictures are, with all that surrounds them; those of a CSV
    file, which are crops, with a margin. Where the detector finds several faces, the largest
    counts.

    Args:
        model: an exported emotion model for the faces' labels.
        faces: at least one.
        labels: the convention of the labels; see ``FerPipeline``.
        detector: see ``FerPipeline``.
    """
    scores = np.zeros((len(faces), len(faces.label_names)), np.float32)
    with FerPipeline(
        detector=detector, device="cpu", emotion_model=model, labels=labels
    ) as pipeline:
        for index, image in enumerate(faces.images):
            if faces.files is None:
                answer = pipeline.predict(with_margin(image, _MARGIN)[0], color="rgb")
            else:
                answer = pipeline.predict(str(faces.files[index]))
            if answer:
                scores[index] = [answer[0].scores[name] for name in faces.label_names]
        name = pipeline.info.detector
    found: npt.NDArray[np.bool_] = scores.sum(axis=1) > 0
    right: npt.NDArray[np.bool_] = found & (scores.argmax(axis=1) == faces.labels)
    figures = None
    if found.any():
        figures = emotion_figures(scores[found], faces.labels[found], faces.label_names)
    return EndToEndFigures(
        faces=len(faces),
        found=float(found.mean()),
        accuracy=float(right.mean()),
        accuracy_found=figures.accuracy if figures else None,
        ece=figures.ece if figures else None,
        recall=_by_label(right, faces),
        found_by_label=_by_label(found, faces),
        detector=str(name),
        margin=_MARGIN if faces.files is None else None,
    )


def _by_label(holds: npt.NDArray[np.bool_], faces: FaceSet) -> dict[str, float | None]:
    shares: dict[str, float | None] = {}
    for number, name in enumerate(faces.label_names):
        these = holds[faces.labels == number]
        shares[name] = float(these.mean()) if len(these) else None
    return shares
