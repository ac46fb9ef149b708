"""``fer info``: what runs here."""

from __future__ import annotations

import json
import platform
from typing import TYPE_CHECKING, Annotated

import typer

from fer_sdk import __version__
from fer_sdk.cli.app import app
from fer_sdk.cli.exit_codes import SOME_FAILED, complain
from fer_sdk.cli.options import PipelineOptions, with_pipeline_options
from fer_sdk.errors import FerError

if TYPE_CHECKING:
    from fer_sdk.pipeline import ModelInfo, PipelineInfo


@app.command(
    epilog="Examples:\n\nfer info\n\nfer info --json\n\nfer info --device cuda\n\n"
    "fer info --device openvino --provider-option device_type=GPU"
)
@with_pipeline_options
def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    *,
    opening: PipelineOptions,
) -> None:
    """Say what runs here: versions, models and their hashes, device, detector, and what is wrong.

    Exit status: 0 it works, 1 it does not, 2 wrong usage.
    """
    from fer_sdk.diagnostics import conflicts, incomplete

    if (problem := incomplete()) is not None:
        if as_json:
            print(json.dumps({"problem": problem}))
        complain(problem)
        raise typer.Exit(SOME_FAILED)

    import cv2
    import numpy as np

    from fer_sdk.cpu_count import usable_cores
    from fer_sdk.detectors.mediapipe import installed_version
    from fer_sdk.models import session as runtime

    running = None
    try:
        with opening.open() as pipeline:
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
    devices, closed = _devices()
    files = _bundled_files()
    warnings = conflicts()
    if as_json:
        report = {
            "versions": versions,
            "cores": usable_cores(),
            "providers": providers,
            "devices": devices,
            "devices_that_do_not_open": closed,
            "bundled": files,
            "pipeline": None if running is None else running.to_dict(),
            "problem": problem,
            "conflicts": warnings,
        }
        print(json.dumps(report))
    else:
        _print_info(versions, providers, devices, closed, running, files, warnings)
    problems = [file["problem"] for file in files] + [problem]
    for one in dict.fromkeys(filter(None, problems)):
        complain(one)
    if any(problems):
        raise typer.Exit(SOME_FAILED)


def _devices() -> tuple[list[str], dict[str, str]]:
    """The devices of this onnxruntime that open, and why each other does not."""
    from fer_sdk.models.packaged import read_bundled
    from fer_sdk.models.session import Session, devices

    opened, closed = [], {}
    for device in devices():
        try:
            if device != "cpu":
                # Every device has the operations of float32.
                name = "landmarks.fp32.onnx"
                Session(read_bundled(name), source=name, device=device)
        except FerError as error:
            closed[device] = str(error)
        else:
            opened.append(device)
    return opened, closed


def _bundled_files() -> list[dict[str, str | None]]:
    """Name, hash and what is wrong of each model that comes with the package."""
    from hashlib import sha256

    from fer_sdk.models.packaged import SUFFIXES, bundled, read_bundled

    files: list[dict[str, str | None]] = []
    for file in sorted(bundled().iterdir(), key=lambda one: one.name):
        if not file.name.endswith(SUFFIXES):
            continue
        found, problem = None, None
        try:
            found = sha256(read_bundled(file.name)).hexdigest()
        except FerError as error:
            problem = str(error)
        files.append({"name": file.name, "sha256": found, "problem": problem})
    return files


def _print_info(
    versions: dict[str, str | None],
    providers: list[str],
    devices: list[str],
    closed: dict[str, str],
    running: PipelineInfo | None,
    files: list[dict[str, str | None]],
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
    table.add_row("devices here", ", ".join(devices))
    for reason in closed.values():
        table.add_row("does not open", Text(reason))
    if running is not None:
        table.add_row("device", f"{running.device}, {running.threads} threads")
        table.add_row("detector", Text(f"{running.detector or 'none'} ({running.detector_reason})"))
        for model in running.models:
            table.add_row(
                model.task,
                Text(
                    f"{model.source}, version {model.version}, {model.precision}, "
                    f"{model.input_size} px, {model.provider}{_left(model)}"
                ),
            )
            # On a line of its own it fits into 80 columns.
            table.add_row("  sha256", model.sha256)
        table.add_row("emotions", ", ".join(running.labels))
    for file in files:
        table.add_row("bundled", Text(f"{file['name']}, {'damaged' if file['problem'] else 'ok'}"))
    for warning in warnings or ["none"]:
        table.add_row("conflicts", Text(warning))
    Console().print(table)


def _left(model: ModelInfo) -> str:
    """What a device leaves to the CPU, where it does."""
    if model.provider == "CPUExecutionProvider" or not model.cpu_nodes:
        return ""
    return f" ({model.cpu_nodes} of {model.nodes} operations on the CPU)"
