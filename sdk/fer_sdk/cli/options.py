"""The options that every command takes, and the pipeline that they open."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from fer_sdk.detectors import DetectorName
    from fer_sdk.pipeline import FerPipeline


class DetectorChoice(StrEnum):
    auto = "auto"
    mediapipe = "mediapipe"
    blazeface = "blazeface"
    none = "none"


class DeviceChoice(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class PrecisionChoice(StrEnum):
    auto = "auto"
    int8 = "int8"
    fp32 = "fp32"
    fp16 = "fp16"


Detector = Annotated[
    DetectorChoice,
    typer.Option(help='Finds the faces. "none" takes each photo as one face, already cropped.'),
]
Device = Annotated[
    DeviceChoice, typer.Option(help="Where the models run. A device that is named is a promise.")
]
Precision = Annotated[
    PrecisionChoice, typer.Option(help='Of the models; "auto" is int8 on the CPU.')
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Threads of one model run.", show_default="every core there is"),
]
EmotionModel = Annotated[
    Path | None, typer.Option(help="An emotion model of your own, made by fer-export.")
]
LandmarksModel = Annotated[
    Path | None, typer.Option(help="A landmarks model of your own, made by fer-export.")
]


def open_pipeline(
    *,
    detector: DetectorChoice,
    device: DeviceChoice,
    precision: PrecisionChoice,
    threads: int | None,
    emotion_model: Path | None,
    landmarks_model: Path | None,
    min_score: float = 0.5,
) -> FerPipeline:
    from fer_sdk.pipeline import FerPipeline

    name = None if detector is DetectorChoice.none else cast("DetectorName", detector.value)
    return FerPipeline(
        detector=name,
        device=device.value,
        precision=precision.value,
        threads=threads,
        min_detection_score=min_score,
        emotion_model=emotion_model,
        landmarks_model=landmarks_model,
    )
