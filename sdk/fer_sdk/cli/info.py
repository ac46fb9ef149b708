"""``fer info``: what runs here."""

from __future__ import annotations

import json
import platform
from typing import TYPE_CHECKING, Annotated

import typer

from fer_sdk import __version__
from fer_sdk.cli.app import app
from fer_sdk.cli.options import (
    Detector,
    DetectorChoice,
    Device,
    DeviceChoice,
    EmotionModel,
    LandmarksModel,
    Precision,
    PrecisionChoice,
    Threads,
    open_pipeline,
)
from fer_sdk.cli.outcome import SOME_FAILED, complain
from fer_sdk.errors import FerError

if TYPE_CHECKING:
    from fer_sdk.pipeline import PipelineInfo


@app.command(epilog="Examples:\n\nfer info\n\nfer info --json\n\nfer info --device cuda")
def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    detector: Detector = DetectorChoice.auto,
    device: Device = DeviceChoice.auto,
    precision: Precision = PrecisionChoice.auto,
    threads: Threads = None,
    emotion_model: EmotionModel = None,
    landmarks_model: LandmarksModel = None,
) -> None:
    """Say what runs here: versions, models and their hashes, device, detector, and what is wrong.

    Exit status: 0 it works, 1 it does not, 2 wrong usage.
    """
    import cv2
    import numpy as np

    from fer_sdk import runtime
    from fer_sdk.conflicts import conflicts
    from fer_sdk.detectors.mediapipe import installed_version

    running, problem = None, None
    try:
        with open_pipeline(
            detector=detector,
            device=device,
            precision=precision,
            threads=threads,
            emotion_model=emotion_model,
            landmarks_model=landmarks_model,
        ) as pipeline:
            running = pipeline.info
    except FerError as error:
        problem = str(error)
    versions = {
        "fer_sdk": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "onnxruntime": runtime.version(),
        "mediapipe": installed_version(),
    }
    providers = runtime.providers()
    warnings = conflicts()
    if as_json:
        report = {
            "versions": versions,
            "cores": runtime.usable_cores(),
            "providers": providers,
            "pipeline": None if running is None else running.to_dict(),
            "problem": problem,
            "conflicts": warnings,
        }
        print(json.dumps(report))
    else:
        _print_info(versions, providers, running, warnings)
    if problem is not None:
        complain(problem)
        raise typer.Exit(SOME_FAILED)


def _print_info(
    versions: dict[str, str | None],
    providers: list[str],
    running: PipelineInfo | None,
    warnings: list[str],
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, version in versions.items():
        table.add_row(name.replace("_", "-"), version or "not installed")
    table.add_row("providers", ", ".join(providers))
    if running is not None:
        table.add_row("device", f"{running.device}, {running.threads} threads")
        table.add_row("detector", Text(f"{running.detector or 'none'} ({running.detector_reason})"))
        for model in running.models:
            table.add_row(
                model.task,
                Text(
                    f"{model.source}, version {model.version}, {model.precision}, "
                    f"{model.input_size} px, {model.provider}\nsha256 {model.sha256}"
                ),
            )
        table.add_row("emotions", ", ".join(running.labels))
    for warning in warnings or ["none"]:
        table.add_row("conflicts", Text(warning))
    Console().print(table)
