"""``fer``: what the SDK does, from the command line."""

from __future__ import annotations

import itertools
import json
import os
import platform
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fer_sdk import __version__
from fer_sdk.errors import FerError

if TYPE_CHECKING:
    from fer_sdk.detectors import DetectorName
    from fer_sdk.face import Face
    from fer_sdk.pipeline import FerPipeline, PipelineInfo

_SOME_FAILED, _USAGE = 1, 2

app = typer.Typer(
    name="fer",
    help="Facial expression recognition that runs on this device: faces, landmarks and emotions, "
    "with no network.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples:\n\n"
    "fer predict photo.jpg\n\n"
    "fer predict *.jpg --json > faces.jsonl\n\n"
    "fer info",
)


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


_Detector = Annotated[
    DetectorChoice,
    typer.Option(help='Finds the faces. "none" takes each photo as one face, already cropped.'),
]
_Device = Annotated[
    DeviceChoice, typer.Option(help="Where the models run. A device that is named is a promise.")
]
_Precision = Annotated[
    PrecisionChoice, typer.Option(help='Of the models; "auto" is int8 on the CPU.')
]
_Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Threads of one model run.", show_default="every core there is"),
]
_EmotionModel = Annotated[
    Path | None, typer.Option(help="An emotion model of your own, made by fer-export.")
]
_LandmarksModel = Annotated[
    Path | None, typer.Option(help="A landmarks model of your own, made by fer-export.")
]


def main() -> None:
    """The console command."""
    app(prog_name="fer")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fer-sdk {__version__}")
        raise typer.Exit


@app.callback()
def _fer(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command(
    epilog="Examples:\n\n"
    "fer predict photo.jpg\n\n"
    "fer predict photo.jpg --save annotated.jpg\n\n"
    "fer predict holiday/*.jpg --save annotated/ --max-faces 3\n\n"
    "fer predict *.png --json | jq -r '.faces[].emotion'\n\n"
    "fer predict face.png --detector none"
)
def predict(
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO...", help="Picture files.")],
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object a line, one line a photo."),
    ] = False,
    save: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Write the photo with its faces drawn to this file; of several photos, into this "
            "folder.",
        ),
    ] = None,
    max_faces: Annotated[
        int | None,
        typer.Option(min=1, help="Keep the largest faces of a photo.", show_default="all"),
    ] = None,
    detector: _Detector = DetectorChoice.auto,
    device: _Device = DeviceChoice.auto,
    precision: _Precision = PrecisionChoice.auto,
    threads: _Threads = None,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Least detection score of a face.")
    ] = 0.5,
    emotion_model: _EmotionModel = None,
    landmarks_model: _LandmarksModel = None,
) -> None:
    """Say which emotions the faces of photos show.

    A photo that cannot be read is reported on standard error and the others go on. Exit status: 0
    done, 1 some photo failed, 2 nothing could start.
    """
    targets: list[Path | None] = [None] * len(photos)
    if save is not None:
        targets = _targets(photos, save)
    results: list[_Result] = []
    try:
        pipeline = _pipeline(
            detector=detector,
            device=device,
            precision=precision,
            threads=threads,
            min_score=min_score,
            emotion_model=emotion_model,
            landmarks_model=landmarks_model,
        )
    except FerError as error:
        _complain(error)
        raise typer.Exit(_USAGE) from error
    with pipeline:
        for photo, target in zip(photos, targets, strict=True):
            result = _Result(photo)
            try:
                result.run(pipeline, target, max_faces)
            except FerError as error:
                result.error = str(error)
                _complain(error)
            results.append(result)
            if as_json:
                print(json.dumps(result.to_dict()), flush=True)
    if not as_json:
        _print_faces(results)
    if any(result.error is not None for result in results):
        raise typer.Exit(_SOME_FAILED)


@app.command(epilog="Examples:\n\nfer info\n\nfer info --json\n\nfer info --device cuda")
def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    detector: _Detector = DetectorChoice.auto,
    device: _Device = DeviceChoice.auto,
    precision: _Precision = PrecisionChoice.auto,
    threads: _Threads = None,
    emotion_model: _EmotionModel = None,
    landmarks_model: _LandmarksModel = None,
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
        with _pipeline(
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
        _complain(problem)
        raise typer.Exit(_SOME_FAILED)


class _Result:
    """What became of one photo."""

    def __init__(self, photo: str) -> None:
        self.photo = photo
        self.size: tuple[int, int] | None = None
        self.faces: list[Face] | None = None
        self.saved: str | None = None
        self.error: str | None = None

    def run(self, pipeline: FerPipeline, target: Path | None, max_faces: int | None) -> None:
        from fer_sdk.draw import annotate
        from fer_sdk.image import load_image
        from fer_sdk.save import save_image

        pixels = load_image(self.photo)
        self.size = pixels.shape[1], pixels.shape[0]
        self.faces = pipeline.predict(pixels, color="rgb", max_faces=max_faces)
        if target is not None:
            save_image(annotate(pixels, self.faces, color="rgb"), target)
            self.saved = str(target)

    def to_dict(self) -> dict[str, object]:
        width, height = (None, None) if self.size is None else self.size
        return {
            "image": self.photo,
            "width": width,
            "height": height,
            "faces": None if self.faces is None else [face.to_dict() for face in self.faces],
            "saved": self.saved,
            "error": self.error,
        }


def _pipeline(
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


def _targets(photos: list[str], save: str) -> list[Path | None]:
    """Where each annotated photo goes; never onto one of the photos."""
    from fer_sdk.save import SUFFIXES

    goal = Path(save)
    originals = {Path(photo).resolve() for photo in photos}
    ends_in_slash = save.endswith(("/", os.sep))
    if len(photos) == 1 and goal.suffix and not ends_in_slash and not goal.is_dir():
        if goal.suffix.lower() not in SUFFIXES:
            raise typer.BadParameter(
                f"pictures are written as {', '.join(SUFFIXES)}, not {goal.suffix}",
                param_hint="--save",
            )
        if goal.resolve() in originals:
            raise typer.BadParameter("that is the photo itself", param_hint="--save")
        return [goal]
    try:
        goal.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(
            f"{goal} cannot be made a folder: {error.strerror or error}", param_hint="--save"
        ) from error
    taken = {str(original).casefold() for original in originals}
    targets: list[Path | None] = []
    for photo in photos:
        name = Path(photo)
        suffix = name.suffix if name.suffix.lower() in SUFFIXES else ".png"
        numbers = itertools.count(2)
        target = goal / f"{name.stem}-faces{suffix}"
        while str(target.resolve()).casefold() in taken:
            target = goal / f"{name.stem}-faces-{next(numbers)}{suffix}"
        taken.add(str(target.resolve()).casefold())
        targets.append(target)
    return targets


def _print_faces(results: list[_Result]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold")
    table.add_column("photo", overflow="fold")
    for title in ("emotion", "then"):
        table.add_column(title, no_wrap=True)
    for title in ("x, y", "size", "detection"):
        table.add_column(title, justify="right", no_wrap=True)
    for result in results:
        if result.faces is None:
            continue
        photo = Text(_plain(result.photo))
        if not result.faces:
            table.add_row(photo, Text("no face", style="dim"))
        for face in result.faces:
            first, second = sorted(face.scores.items(), key=lambda score: -score[1])[:2]
            sure = face.detection_score
            table.add_row(
                photo,
                Text(f"{first[0]} {first[1]:.0%}", style="bold"),
                Text(f"{second[0]} {second[1]:.0%}", style="dim"),
                f"{face.box.x:.0f}, {face.box.y:.0f}",
                f"{face.box.width:.0f}x{face.box.height:.0f}",
                "" if sure is None else f"{sure:.0%}",
            )
            photo = Text("")
    console = Console()
    if table.row_count:
        console.print(table)
    for result in results:
        if result.saved is not None:
            console.print(Text(f"saved {_plain(result.saved)}"), soft_wrap=True)


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


def _complain(error: object) -> None:
    print(f"fer: {_plain(str(error))}", file=sys.stderr)


def _plain(text: str) -> str:
    """A file name may hold bytes that are no text."""
    return text.encode(errors="backslashreplace").decode()
