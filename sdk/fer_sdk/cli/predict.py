"""``fer predict``: the faces of photos."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
from fer_sdk.cli.outcome import SOME_FAILED, USAGE, complain, plain
from fer_sdk.errors import FerError

if TYPE_CHECKING:
    from fer_sdk.face import Face
    from fer_sdk.pipeline import FerPipeline


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
    detector: Detector = DetectorChoice.auto,
    device: Device = DeviceChoice.auto,
    precision: Precision = PrecisionChoice.auto,
    threads: Threads = None,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Least detection score of a face.")
    ] = 0.5,
    emotion_model: EmotionModel = None,
    landmarks_model: LandmarksModel = None,
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
        pipeline = open_pipeline(
            detector=detector,
            device=device,
            precision=precision,
            threads=threads,
            min_score=min_score,
            emotion_model=emotion_model,
            landmarks_model=landmarks_model,
        )
    except FerError as error:
        complain(error)
        raise typer.Exit(USAGE) from error
    with pipeline:
        for photo, target in zip(photos, targets, strict=True):
            result = _Result(photo)
            try:
                result.run(pipeline, target, max_faces)
            except FerError as error:
                result.error = str(error)
                complain(error)
            results.append(result)
            if as_json:
                print(json.dumps(result.to_dict()), flush=True)
    if not as_json:
        _print_faces(results)
    if any(result.error is not None for result in results):
        raise typer.Exit(SOME_FAILED)


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
        photo = Text(plain(result.photo))
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
            console.print(Text(f"saved {plain(result.saved)}"), soft_wrap=True)
