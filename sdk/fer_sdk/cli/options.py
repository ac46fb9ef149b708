"""The options that all commands with a pipeline share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args, get_type_hints

import typer

from fer_sdk.models.providers import Device

if TYPE_CHECKING:
    from fer_sdk.detectors import DetectorName
    from fer_sdk.pipeline import FerPipeline

_PANEL = "Faces and models"


class DetectorChoice(StrEnum):
    auto = "auto"
    mediapipe = "mediapipe"
    blazeface = "blazeface"
    none = "none"


class PrecisionChoice(StrEnum):
    auto = "auto"
    int8 = "int8"
    fp32 = "fp32"
    fp16 = "fp16"


def _device(name: str) -> str:
    if name not in get_args(Device) and not name.endswith("ExecutionProvider"):
        raise typer.BadParameter(
            f"{name!r} is neither one of {', '.join(get_args(Device))} nor a provider of "
            "onnxruntime"
        )
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineOptions:
    """The settings of a pipeline. Can be pickled."""

    detector: Annotated[
        DetectorChoice,
        typer.Option(
            rich_help_panel=_PANEL,
            metavar="NAME",
            help=f"Finds the faces: {', '.join(DetectorChoice)}. With none each picture is one "
            "face, already cropped.",
        ),
    ] = DetectorChoice.auto
    min_score: Annotated[
        float,
        typer.Option(
            rich_help_panel=_PANEL,
            min=0,
            max=1,
            metavar="SCORE",
            help="Least detection score of a face.",
        ),
    ] = 0.5
    tiles: Annotated[
        int,
        typer.Option(
            rich_help_panel=_PANEL,
            min=1,
            metavar="N",
            help="For faces that are small in their picture: look at N overlapping squares along "
            "its longer side too. Slower.",
        ),
    ] = 1
    no_face_crops: Annotated[
        bool,
        typer.Option(
            "--no-face-crops",
            rich_help_panel=_PANEL,
            help="Do not look again at small pictures, which may be all face, where no face was "
            "found.",
        ),
    ] = False
    device: Annotated[
        str,
        typer.Option(
            rich_help_panel=_PANEL,
            metavar="NAME",
            callback=_device,
            autocompletion=lambda: list(get_args(Device)),
            help=f"Where the models run: {', '.join(get_args(Device))}, or another provider by "
            "its name in onnxruntime. If you name a device, it is used or an error is raised.",
        ),
    ] = "auto"
    provider_option: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_PANEL,
            metavar="NAME=VALUE",
            help="An option of onnxruntime for the named device, such as device_type=GPU for "
            "openvino. Repeat it for more options.",
        ),
    ] = None
    precision: Annotated[
        PrecisionChoice,
        typer.Option(
            rich_help_panel=_PANEL,
            metavar="NAME",
            help=f"Precision of the models: {', '.join(PrecisionChoice)}. auto takes int8 on the "
            "CPU, and what suits the device elsewhere.",
        ),
    ] = PrecisionChoice.auto
    threads: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_PANEL,
            min=1,
            metavar="N",
            help="Threads for one model run.",
            show_default="all cores; 1 if images are processed in parallel",
        ),
    ] = None
    emotion_model: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_PANEL,
            metavar="FILE",
            help="Your own emotion model, made by fer-export.",
        ),
    ] = None
    landmarks_model: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_PANEL,
            metavar="FILE",
            help="Your own landmarks model, made by fer-export.",
        ),
    ] = None

    def open(self) -> FerPipeline:
        """Open the pipeline.

        Raises:
            typer.BadParameter: a provider option is not a name and a value.
            FerError: as of ``FerPipeline``.
        """
        from fer_sdk.pipeline import FerPipeline

        options = [one.partition("=") for one in self.provider_option or ()]
        if not all(name and equals for name, equals, _ in options):
            raise typer.BadParameter("write it as NAME=VALUE", param_hint="--provider-option")
        named = cast("DetectorName", self.detector.value)
        return FerPipeline(
            detector=None if self.detector is DetectorChoice.none else named,
            device=self.device,
            precision=self.precision.value,
            threads=self.threads,
            min_detection_score=self.min_score,
            face_crops=not self.no_face_crops,
            tiles=self.tiles,
            emotion_model=self.emotion_model,
            landmarks_model=self.landmarks_model,
            provider_options={name: value for name, _, value in options},
        )


def with_pipeline_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter ``opening`` by the options of ``PipelineOptions``.

    typer has no groups of options that commands share; it reads a command's signature.
    """
    hints = get_type_hints(PipelineOptions, include_extras=True)
    shared = [
        inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=one.default,
            annotation=hints[one.name],
        )
        for one in fields(PipelineOptions)
    ]
    signature = inspect.signature(command, eval_str=True)
    own = [one for one in signature.parameters.values() if one.name != "opening"]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        options = {one.name: given.pop(one.name) for one in shared}
        command(**given, opening=PipelineOptions(**options))

    wanted = signature.replace(parameters=[*own, *shared])
    run.__signature__ = wanted  # type: ignore[attr-defined]
    run.__annotations__ = {name: one.annotation for name, one in wanted.parameters.items()}
    return run
