"""The pipelines that are measured, each under its settings."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fer_bench.machine.provenance import why_no_cuda
from fer_bench.measure.plan import Plan
from fer_bench.results.result import Skipped
from fer_sdk import FerPipeline
from fer_sdk.detectors import Detector
from fer_sdk.errors import DetectorError, FerError
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.landmarks import LandmarksModel
from fer_sdk.models.packaged import read_bundled
from fer_sdk.models.session import read_model

NAME = "fer-sdk"

_DETECTORS = {
    "blazeface": "face_detection_short_range.onnx",
    "mediapipe": "face_detection_short_range.onnx",
    "yunet": "face_detection_yunet_n.onnx",
}


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """An open pipeline.

    Attributes:
        arguments: what it was opened with, as JSON values.
        pipeline: the pipeline.
        device: where its models run.
        precision: of its emotion model.
        detector: the detector that it really uses.
        threads: of one model run.
        emotion: its emotion model.
        landmarks: its landmarks model.
        found_by: its detector.
    """

    arguments: Mapping[str, object]
    pipeline: FerPipeline
    device: str
    precision: str
    detector: str
    threads: int
    emotion: EmotionModel
    landmarks: LandmarksModel
    found_by: Detector

    @property
    def provider(self) -> str:
        """What really runs its models."""
        return self.pipeline.info.models[0].provider


def open_subjects(plan: Plan) -> tuple[list[Subject], list[Skipped]]:
    """Open a pipeline for each combination of the plan; what does not open is skipped."""
    subjects: dict[tuple[object, ...], Subject] = {}
    skipped: list[Skipped] = []
    own = {
        "emotion_model": _text(plan.emotion_model),
        "landmarks_model": _text(plan.landmarks_model),
    }
    combinations = itertools.product(
        _devices(plan, skipped), plan.precisions, plan.detectors, plan.threads
    )
    for device, precision, detector, threads in combinations:
        settings = {
            "device": device,
            "precision": precision,
            "detector": detector,
            "threads": threads,
        }
        try:
            subject = _open(settings | own)
        except FerError as error:
            what = f"{device}, {precision}, detector {detector}, threads {threads}"
            skipped.append(Skipped(what, str(error)))
            continue
        # "auto" and the name of what it stands for are the same thing.
        key = (subject.device, subject.precision, subject.detector, subject.threads)
        if subjects.setdefault(key, subject) is not subject:
            subject.pipeline.close()
    return list(subjects.values()), skipped


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _devices(plan: Plan, skipped: list[Skipped]) -> list[str]:
    wanted = [
        device
        for name in plan.devices
        for device in (("cpu", "cuda") if name == "auto" else (name,))
    ]
    reason = why_no_cuda()
    if "cuda" in wanted and reason is not None:
        skipped.append(Skipped("CUDA", reason))
        wanted = [device for device in wanted if device != "cuda"]
    return list(dict.fromkeys(wanted))


def _open(arguments: dict[str, object]) -> Subject:
    pipeline = FerPipeline(**arguments)  # type: ignore[arg-type]
    info, analyzer = pipeline.info, pipeline.analyzer
    if analyzer.detector is None:
        raise DetectorError("the pipeline was opened without a detector")
    return Subject(
        arguments,
        pipeline,
        info.device,
        info.models[0].precision,
        analyzer.detector.name,
        info.threads,
        analyzer.emotion,
        analyzer.landmarks,
        analyzer.detector,
    )


def model_file(subject: Subject, model: EmotionModel | LandmarksModel) -> bytes:
    """The content of a pipeline's model file."""
    own = subject.arguments[f"{model.task}_model"]
    return read_bundled(model.source) if own is None else read_model(Path(str(own)))


def detector_files(detector: str) -> dict[str, bytes]:
    """The networks of a bundled detector by their file names; those of one's own are not known."""
    files = {file for name, file in _DETECTORS.items() if name in detector.split("+")}
    return {file: read_bundled(file) for file in sorted(files)}
