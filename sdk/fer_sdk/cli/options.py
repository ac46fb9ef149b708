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
    openvino = "openvino"
    coreml = "coreml"
    directml = "directml"
    tensorrt = "tensorrt"
    xnnpack = "xnnpack"


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
    DeviceChoice,
    typer.Option(
        help="Where the models run, by an onnxruntime that is built for it. A device that is named "
        "is a promise."
    ),
]
ProviderOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="An option of onnxruntime for the named device, such as device_type=GPU with "
        "openvino. May be given several times.",
    ),
]
Precision = Annotated[
    PrecisionChoice,
    typer.Option(help='Of the models; "auto" is int8 on the CPU, and what suits the device else.'),
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
    provider_option: list[str] | None = None,
) -> FerPipeline:
    from fer_sdk.pipeline import FerPipeline

    options = [one.partition("=") for one in provider_option or ()]
    if not all(name and equals for name, equals, _ in options):
        raise typer.BadParameter("write it as NAME=VALUE", param_hint="--provider-option")
    name = None if detector is DetectorChoice.none else cast("DetectorName", detector.value)
    return FerPipeline(
        detector=name,
        device=device.value,
        precision=precision.value,
        threads=threads,
        min_detection_score=min_score,
        emotion_model=emotion_model,
        landmarks_model=landmarks_model,
        provider_options={name: value for name, _, value in options},
    )
