"""``fer predict``: the faces of photos."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_sdk.cli.app import app
from fer_sdk.cli.exit_codes import INTERRUPTED, SOME_FAILED, USAGE, complain, plain
from fer_sdk.cli.options import PipelineOptions, with_pipeline_options
from fer_sdk.cli.photos import STDIN, Photo, find_photos, read_list
from fer_sdk.errors import DataError, FerError
from fer_sdk.image.folder import HEIC, describe_left_out

if TYPE_CHECKING:
    from fer_sdk.pipeline import FerPipeline
    from fer_sdk.types import Face

# Each holds a decoded picture, which may be large.
_MOST_AT_ONCE = 16


@app.command(
    epilog="Examples:\n\n"
    "fer predict photo.jpg\n\n"
    "fer predict holiday/ --recursive --output faces.csv\n\n"
    "fer predict 'holiday/**/*.jpg' --output faces.parquet\n\n"
    "fer predict holiday/*.jpg --save annotated/ --max-faces 3\n\n"
    "fer predict *.png --json | jq -r '.faces[].emotion'\n\n"
    "curl -s https://example.org/face.jpg | fer predict -\n\n"
    "find . -name '*.jpg' -size +1M | fer predict --from-file - -o faces.jsonl\n\n"
    "fer predict crowd.jpg --min-score 0.8 --save faces.png\n\n"
    "fer predict face.png --detector none"
)
@with_pipeline_options
def predict(
    photos: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PHOTO",
            help="Images, folders of them, patterns in quotes, or - for an image on standard "
            "input.",
            show_default=False,
        ),
    ] = None,
    from_file: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="A file with the path of a photo on each line; - for standard input.",
        ),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Search subfolders too.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object a line, one line a photo."),
    ] = False,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write a .csv or .parquet with one row a face, or a .jsonl with one line a photo; "
            "- prints the CSV.",
        ),
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Write the photo with its faces drawn to this file; for several photos, to this "
            "folder.",
        ),
    ] = None,
    max_faces: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Keep the largest faces of a photo.", show_default="all"
        ),
    ] = None,
    *,
    opening: PipelineOptions,
) -> None:
    """Find the faces in photos and say which emotions they show.

    Several photos are processed in parallel, with one thread each unless you set --threads. Photos
    that cannot be read, and files in folders that are no photos, are reported on standard error,
    and the others go on. A table is written whole or not at all. Exit status: 0 done, 1 some photo
    failed, 2 nothing could start, 130 interrupted.
    """
    found, unread = _found(photos or [], from_file, recursive)
    names = [photo.name for photo in found]
    targets = [None for _ in names] if save is None else _targets(names, save)
    if output is not None:
        _check_output(output, names, from_file)
    at_once, model_threads = _shared_cores(len(found), opening.threads)
    try:
        pipeline = replace(opening, threads=model_threads).open()
    except FerError as error:
        complain(error)
        raise typer.Exit(USAGE) from error
    results: list[_Result] = []
    failed = faces = done = 0
    try:
        with pipeline, _table(output, pipeline) as add, _progress(len(found), as_json) as advance:
            for result in _each(pipeline, found, targets, max_faces, at_once):
                if result.error is not None:
                    complain(result.error)
                    failed += 1
                faces += len(result.faces or ())
                if as_json:
                    print(json.dumps(result.to_dict()), flush=True)
                if add is not None:
                    add(result)
                elif not as_json:
                    results.append(result)
                advance()
                done += 1
    except KeyboardInterrupt as stop:
        unwritten = "" if output is None else f"; not written: {output}"
        complain(f"interrupted after {done} of {len(found)} photos{unwritten}")
        raise typer.Exit(INTERRUPTED) from stop
    except DataError as error:
        complain(error)
        raise typer.Exit(SOME_FAILED) from error
    if not as_json:
        _print_faces(results)
        if output is not None:
            others = f", {failed} failed" if failed else ""
            summary = plain(f"{output}: {faces} faces of {len(found) - failed} photos{others}")
            print(summary, file=sys.stderr if output == "-" else None)
    if failed or unread:
        raise typer.Exit(SOME_FAILED)


class _Result:
    """The result for one photo."""

    def __init__(self, photo: Photo) -> None:
        self.photo = photo.name
        self.error = photo.problem
        self.size: tuple[int, int] | None = None
        self.faces: list[Face] | None = None
        self.saved: str | None = None

    def look(
        self,
        pipeline: FerPipeline,
        content: bytes | None,
        target: Path | None,
        max_faces: int | None,
    ) -> None:
        from fer_sdk.image.load import load_image
        from fer_sdk.output.atomic import save_image
        from fer_sdk.output.draw import annotate

        pixels = load_image(self.photo if content is None else content)
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


def _found(photos: list[str], from_file: str | None, recursive: bool) -> tuple[list[Photo], int]:
    """Every picture that was named, and how many more there are that cannot be read here."""
    if [*photos, from_file].count(STDIN) > 1:
        raise typer.BadParameter("standard input can be read only once", param_hint="-")
    if STDIN in (*photos, from_file) and sys.stdin.isatty():
        raise typer.BadParameter(
            "nothing comes on standard input: fer predict - < photo.jpg", param_hint="-"
        )
    if from_file is not None:
        try:
            photos = [*photos, *read_list(from_file)]
        except OSError as error:
            raise typer.BadParameter(
                f"{from_file} cannot be read: {error.strerror or error}", param_hint="--from-file"
            ) from error
    if not photos:
        raise typer.BadParameter(
            "name a photo, a folder or a pattern: fer predict photo.jpg", param_hint="PHOTO..."
        )
    found, left_out = find_photos(photos, recursive=recursive)
    if left_out:
        complain(describe_left_out(left_out))
    return found, sum(left_out[kind] for kind in HEIC)


def _shared_cores(photos: int, threads: int | None) -> tuple[int, int | None]:
    """How many photos to process at once, and the threads of each model run."""
    from fer_sdk.cpu_count import usable_cores

    if photos == 1:
        return 1, threads
    # Reading and detecting take most of the time and use one core a photo.
    each = threads or 1
    return max(1, min(photos, usable_cores() // each, _MOST_AT_ONCE)), each


def _each(
    pipeline: FerPipeline,
    photos: list[Photo],
    targets: Sequence[Path | None],
    max_faces: int | None,
    at_once: int,
) -> Iterator[_Result]:
    """The results in the order of the photos, with only a few in memory at any time."""

    def look(photo: Photo, target: Path | None) -> _Result:
        result = _Result(photo)
        if photo.problem is None:
            try:
                result.look(pipeline, photo.content, target, max_faces)
            except FerError as error:
                result.error = str(error)
        return result

    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            for photo, target in zip(photos, targets, strict=True):
                waiting.append(pool.submit(look, photo, target))
                if len(waiting) > 2 * at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def _table(output: str | None, pipeline: FerPipeline) -> Iterator[Callable[[_Result], None] | None]:
    """A function that adds a photo to the table; None where none was asked for."""
    if output is None:
        yield None
        return

    from fer_sdk.output.rows import columns, face_row
    from fer_sdk.output.tables import open_table

    by_photo = output.lower().endswith(".jsonl")
    with open_table(output, {"image": str, **columns(pipeline.info.labels)}) as add:

        def add_result(result: _Result) -> None:
            if by_photo:
                add(result.to_dict())
                return
            for number, face in enumerate(result.faces or ()):
                add({"image": plain(result.photo), **face_row(number, face)})

        yield add_result


@contextmanager
def _progress(photos: int, as_json: bool) -> Iterator[Callable[[], None]]:
    """A function that moves a bar on standard error on by one photo."""
    # Where both go to one screen, the lines of JSON are the progress.
    shown = photos > 1 and sys.stderr.isatty() and not (as_json and sys.stdout.isatty())
    if not shown:
        yield lambda: None
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        # What is printed there is the result, and may go to a file.
        redirect_stdout=False,
    ) as bar:
        task = bar.add_task("", total=photos)
        yield lambda: bar.advance(task)


def _check_output(output: str, photos: list[str], from_file: str | None) -> None:
    """Check in advance that the table can be written, and that it is none of the inputs."""
    from fer_sdk.output.tables import check_table

    goal = Path(output)
    try:
        check_table(goal)
    except DataError as error:
        raise typer.BadParameter(str(error), param_hint="--output") from error
    if output == "-":
        return
    if not goal.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {goal.parent}", param_hint="--output")
    if goal.resolve() in {Path(one).resolve() for one in (*photos, from_file) if one}:
        raise typer.BadParameter("that is one of the inputs", param_hint="--output")


def _targets(photos: list[str], save: str) -> Sequence[Path | None]:
    """The file for each annotated photo; never one of the photos."""
    from fer_sdk.output.atomic import SUFFIXES

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
        stem = "stdin" if photo == STDIN else name.stem
        target = goal / f"{stem}-faces{suffix}"
        while str(target.resolve()).casefold() in taken:
            target = goal / f"{stem}-faces-{next(numbers)}{suffix}"
        taken.add(str(target.resolve()).casefold())
        targets.append(target)
    return targets


def _print_faces(results: list[_Result]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        # A file has no edge at which lines must break.
        console.width = 10_000
    table = Table(header_style="bold")
    table.add_column("photo", overflow="fold", min_width=12)
    table.add_column("emotion", style="bold", no_wrap=True)
    table.add_column("then", style="dim", no_wrap=True)
    for title in ("x, y", "size", "detection"):
        table.add_column(title, justify="right", no_wrap=True)
    for result in results:
        if result.faces is not None:
            for row in _rows_of(result):
                table.add_row(*map(Text, row))
    if table.row_count:
        console.print(table)
    for result in results:
        if result.saved is not None:
            console.print(Text(f"saved {plain(result.saved)}"), soft_wrap=True)


def _rows_of(result: _Result) -> Iterator[list[str]]:
    photo = plain(result.photo)
    if not result.faces:
        yield [photo, "no face"]
    for face in result.faces or ():
        first, second = sorted(face.scores.items(), key=lambda item: -item[1])[:2]
        yield [
            photo,
            f"{first[0]} {first[1]:.0%}",
            f"{second[0]} {second[1]:.0%}",
            f"{face.box.x:.0f}, {face.box.y:.0f}",
            f"{face.box.width:.0f}x{face.box.height:.0f}",
            "" if face.detection_score is None else f"{face.detection_score:.0%}",
        ]
        photo = ""
