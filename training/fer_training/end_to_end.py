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
from fer_sdk.types import Face
from fer_training.faces import FaceSet
from fer_training.margins import MARGINS, with_margin

_MARGIN = MARGINS[0]


@dataclass(frozen=True, slots=True)
class EndToEndFigures:
    """What the default pipeline makes of face crops in the middle of a larger picture.

    Attributes:
        faces: how many were shown.
        found: share of them in which the detector found a face.
        accuracy: share of all whose label was given; a face that was not found is a wrong one.
        accuracy_found: share of the found ones whose label was given; None where none was found.
        recall: of each label, by name, over all; None where the data has no face of it.
        found_by_label: share found of each label, by name; None where the data has no face of it.
        detector: that looked for them.
        margin: around each crop, as a fraction of it, filled with the crop's mean gray.
    """

    faces: int
    found: float
    accuracy: float
    accuracy_found: float | None
    recall: dict[str, float | None]
    found_by_label: dict[str, float | None]
    detector: str
    margin: float


def end_to_end(
    model: Path, faces: FaceSet, *, detector: DetectorName | Detector = "auto"
) -> EndToEndFigures:
    """Show face crops with a margin to a pipeline with this emotion model.

    Where the detector finds several faces, the largest counts.

    Args:
        model: an exported emotion model for the faces' labels.
        faces: at least one.
        detector: see ``FerPipeline``.
    """
    with FerPipeline(detector=detector, device="cpu", emotion_model=model) as pipeline:
        given = np.array(
            [
                _index(pipeline.predict(with_margin(image, _MARGIN)[0], color="rgb"), faces)
                for image in faces.images
            ]
        )
        name = pipeline.info.detector
    found, right = given >= 0, given == faces.labels
    return EndToEndFigures(
        faces=len(faces),
        found=float(found.mean()),
        accuracy=float(right.mean()),
        accuracy_found=float(right[found].mean()) if found.any() else None,
        recall=_by_label(right, faces),
        found_by_label=_by_label(found, faces),
        detector=str(name),
        margin=_MARGIN,
    )


def _index(found: list[Face], faces: FaceSet) -> int:
    return faces.label_names.index(found[0].emotion) if found else -1


def _by_label(holds: npt.NDArray[np.bool_], faces: FaceSet) -> dict[str, float | None]:
    shares: dict[str, float | None] = {}
    for number, name in enumerate(faces.label_names):
        these = holds[faces.labels == number]
        shares[name] = float(these.mean()) if len(these) else None
    return shares
