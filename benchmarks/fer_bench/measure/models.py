"""The model files of a run, with what they cost and how good they are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from fer_bench.machine.operations import count_operations
from fer_bench.measure.subjects import Subject, detector_files, model_file
from fer_bench.results.result import Model, Operations
from fer_sdk.errors import ModelError
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.landmarks import LandmarksModel


def describe(subjects: Sequence[Subject]) -> list[Model]:
    """Every model file of these pipelines, once."""
    found: dict[str, Model] = {}
    for subject in subjects:
        for model in (subject.emotion, subject.landmarks):
            if model.sha256 not in found:
                found[model.sha256] = _model(subject, model)
        for file, content in detector_files(subject.detector).items():
            found[file] = Model(
                name="yunet" if "yunet" in file else "blazeface",
                file=file,
                sha256=hashlib.sha256(content).hexdigest(),
                precision=None,
                input_size=None,
                version=None,
                metrics={},
                # What YuNet computes depends on the picture and on what it finds at first.
                operations=None if "yunet" in file else _operations(content, file),
            )
    return list(found.values())


def _model(subject: Subject, model: EmotionModel | LandmarksModel) -> Model:
    meta = model.metadata
    return Model(
        name=model.task,
        file=model.source.replace("\\", "/").rpartition("/")[2],
        sha256=model.sha256,
        precision=meta.precision,
        input_size=meta.input_size,
        version=meta.version,
        metrics={split: dict(figures) for split, figures in meta.metrics.items()},
        operations=_operations(model_file(subject, model), model.source),
    )


def _operations(content: bytes, source: str) -> Operations | None:
    try:
        return count_operations(content, source)
    except ModelError:
        return None
