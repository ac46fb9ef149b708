"""What a run is asked to measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fer_bench.measure.series import StopRule
from fer_sdk.detectors import DetectorName
from fer_sdk.models.metadata import Precision

SCENARIOS = (
    "single-stream",
    "inference",
    "stages",
    "multi-thread",
    "multi-process",
    "offline",
    "camera",
    "model",
    "dynamic-batch",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything is measured in every combination, each combination once.

    Attributes:
        devices: ``"auto"`` is the CPU, and CUDA where there is one.
        precisions: of the bundled models.
        detectors: by name.
        threads: of one model run.
        batches: images of ``predict_batch``, faces of a model alone.
        sizes: (width, height) of the pictures.
        faces: in each picture.
        workers: threads that share one pipeline, and processes that each have one.
        crowd_faces: out of ``faces``, the pictures that those, and other packages, are measured on;
            None takes all.
        fps: frame rates of the camera.
        scenarios: out of ``SCENARIOS``.
        emotion_model: a file in place of the bundled one.
        landmarks_model: a file in place of the bundled one.
        rule: when a series is long enough, over all its rounds.
        rounds: into how many parts each series is split; the parts of all series take turns, so
            that a machine that changes its speed changes it for all of them.
        cold_starts: how many fresh processes.
        roofline: whether to measure this machine's peaks.
        baselines: names out of the catalogue.
        baseline_pythons: interpreters of baselines that need an environment of their own.
        checkpoint: of ``fer-train emotion``, for PyTorch as a baseline.
        photo: what the pictures are made of; the bundled portrait by default. Beside other
            packages the picture with one face is a whole photograph, this one or the bundled.
        data: ``fer2013.csv`` for the accuracy.
        split: which of its faces.
    """

    devices: tuple[Literal["auto", "cpu", "cuda"], ...] = ("auto",)
    precisions: tuple[Precision | Literal["auto"], ...] = ("auto",)
    detectors: tuple[DetectorName, ...] = ("auto",)
    threads: tuple[int, ...] = (1,)
    batches: tuple[int, ...] = (1, 8)
    sizes: tuple[tuple[int, int], ...] = ((640, 480),)
    faces: tuple[int, ...] = (1,)
    workers: tuple[int, ...] = (2,)
    crowd_faces: tuple[int, ...] | None = None
    fps: tuple[float, ...] = (30.0,)
    scenarios: tuple[str, ...] = SCENARIOS
    emotion_model: Path | None = None
    landmarks_model: Path | None = None
    rule: StopRule = field(default_factory=lambda: StopRule(3.0, 320, 60.0))
    rounds: int = 3
    cold_starts: int = 5
    roofline: bool = True
    baselines: tuple[str, ...] = ()
    baseline_pythons: Mapping[str, Path] = field(default_factory=dict)
    checkpoint: Path | None = None
    photo: Path | None = None
    data: Path | None = None
    split: str = "PublicTest"
