"""``fer video``: the faces of a video, over time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_sdk.cli.app import app
from fer_sdk.cli.exit_codes import INTERRUPTED, SOME_FAILED, USAGE, complain, plain
from fer_sdk.cli.options import PipelineOptions, with_pipeline_options
from fer_sdk.cli.outputs import (
    STDOUT,
    DetectEvery,
    Keep,
    MaxFaces,
    Outputs,
    SaveOption,
    Seen,
    Smoothing,
    TableOption,
    TimelineOption,
    names,
    open_rows,
    print_people,
)
from fer_sdk.errors import FerError

if TYPE_CHECKING:
    from fer_sdk.pipeline import FerPipeline
    from fer_sdk.stream import Frame

_VIDEOS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".3gp", ".ogv", ".mxf", ".dv", ".vob"),
)


@app.command(
    epilog="Examples:\n\n"
    "fer video talk.mp4\n\n"
    "fer video talk.mp4 --save talk-faces.mp4 --timeline talk.png\n\n"
    "fer video talk.mp4 --table talk.parquet --detect-every 3\n\n"
    "fer video talks/ --table talks.csv --save annotated/\n\n"
    "fer video talk.mp4 --json --smoothing 0 | jq -c '[.time, .faces[].emotion]'\n\n"
    "fer video rtsp://192.168.1.20/stream1 --table - | grep happy\n\n"
    "fer video slow-motion.mp4 --fps 1000 --table slow-motion.csv"
)
@with_pipeline_options
def video(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO",
            help="Video files, folders of them, or addresses such as rtsp://… and https://…, to "
            "which a connection is opened.",
            show_default=False,
        ),
    ],
    save: SaveOption = None,
    table: TableOption = None,
    timeline: TimelineOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line, one line a frame.")
    ] = False,
    detect_every: DetectEvery = None,
    smoothing: Smoothing = 0.3,
    keep: Keep = 1.0,
    max_faces: MaxFaces = None,
    fps: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=100_000,
            metavar="RATE",
            help="Frames a second that were filmed, whatever the file says.",
            show_default="the file's own times",
        ),
    ] = None,
    *,
    opening: PipelineOptions,
) -> None:
    """Follow the faces of videos, and the emotions that they show.

    Of several videos, --save and --timeline name folders, and all go into one table. Each file that
    is written appears when it is whole; after an interrupt none does. Of a video that is cut, what
    there is of it is used. Exit status: 0 done, 1 a video is damaged or a file cannot be written, 2
    nothing could start, 130 interrupted.
    """
    if as_json and str(table) == STDOUT:
        raise typer.BadParameter("--json prints already", param_hint="--table")
    films = _films(sources)
    outputs = _outputs(films, save, table, timeline)
    several = len(films) > 1
    settings = {
        "fps": fps,
        "max_faces": max_faces,
        "detect_every": detect_every,
        "smoothing": smoothing or None,
        "keep": keep,
        "images": save is not None or timeline is not None,
    }
    try:
        pipeline = opening.open()
    except FerError as error:
        complain(error)
        raise typer.Exit(USAGE) from error
    failed = False
    try:
        with pipeline, ExitStack() as stack:
            add = None
            if several and table is not None:
                labels = pipeline.info.labels
                add = stack.enter_context(open_rows(table, labels, named=True))
            for film, of_film in zip(films, outputs, strict=True):
                name = film if several else None
                failed |= not _follow(pipeline, film, of_film, settings, as_json, name, add)
    except FerError as error:
        complain(error)
        raise typer.Exit(SOME_FAILED) from error
    if several and table is not None and str(table) != STDOUT:
        print(f"wrote {names([table])}", file=sys.stderr if as_json else None)
    if failed:
        raise typer.Exit(SOME_FAILED)


def _follow(
    pipeline: FerPipeline,
    film: str,
    outputs: Outputs,
    settings: dict[str, Any],
    as_json: bool,
    name: str | None,
    add: Callable[[Frame, str | None], None] | None,
) -> bool:
    """Follow one video; says whether all went well. With a name, it is one of several."""
    from fer_sdk.output.timeline import Timeline
    from fer_sdk.video.container import USUAL_RATE, is_address
    from fer_sdk.video.read import VideoFacts, read_facts

    people, seen = Timeline(), Seen()
    rows = None if add is None else lambda frame: add(frame, name)
    labelled: dict[str, object] = {} if name is None else {"video": plain(name)}
    try:
        # Asking an address would open it twice.
        facts = VideoFacts(USUAL_RATE, None) if is_address(film) else read_facts(film)
        rate = settings["fps"] or facts.rate
        length = facts.duration and facts.duration * facts.rate / rate
        with (
            outputs.open(pipeline.info.labels, rate, people, rows) as take,
            _progress(length, as_json or outputs.prints_table) as advance,
        ):
            for frame in seen.all_of(pipeline.stream(film, **settings)):
                take(frame)
                if as_json:
                    print(json.dumps({**labelled, **frame.to_dict()}), flush=True)
                advance(frame.time)
    except FerError as error:
        complain(error)
        if seen.frames:
            seen.report(outputs)
        return False
    except KeyboardInterrupt as stop:
        complain("interrupted")
        seen.report(outputs)
        raise typer.Exit(INTERRUPTED) from stop
    if not as_json and not outputs.prints_table:
        if name is not None:
            print(plain(name))
        print_people(people.people(), seen.rate)
        # A table of several is written at the end.
        written = [path for path in outputs.paths if add is None or path != outputs.table]
        if written:
            print(f"wrote {names(written)}")
    if seen.problem is not None:
        complain(seen.problem)
    return seen.problem is None


def _films(given: list[str]) -> list[str]:
    """The videos that were named; of a folder those in it, sorted, without hidden ones.

    Raises:
        typer.BadParameter: there is none in a folder.
    """
    films: list[str] = []
    for name in given:
        if not Path(name).is_dir():
            films.append(name)
            continue
        inside = sorted(
            str(path)
            for path in Path(name).iterdir()
            if path.suffix.lower() in _VIDEOS and not path.name.startswith(".")
        )
        if not inside:
            raise typer.BadParameter(f"there are no videos in {name}", param_hint="VIDEO")
        films += inside
    return films


def _outputs(
    films: list[str], save: Path | None, table: Path | None, timeline: Path | None
) -> list[Outputs]:
    """What is written of each video; of several into folders, by the names of the videos.

    Raises:
        typer.BadParameter: something cannot be written.
    """
    originals = [Path(film) for film in films]
    if len(films) == 1:
        outputs = [Outputs(save, table, timeline)]
    else:
        for folder, hint in ((save, "--save"), (timeline, "--timeline")):
            try:
                if folder is not None:
                    folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise typer.BadParameter(
                    f"{folder} cannot be made a folder: {error.strerror or error}", param_hint=hint
                ) from error
        stems = _different([original.stem or "video" for original in originals])
        outputs = [
            Outputs(
                save and save / f"{stem}-faces.mp4",
                table,
                timeline and timeline / f"{stem}-timeline.png",
            )
            for stem in stems
        ]
    for one in outputs:
        one.check(originals)
    return outputs


def _different(stems: list[str]) -> list[str]:
    """The same names, of which those that occur again have a number."""
    taken: dict[str, int] = {}
    for stem in stems:
        taken[stem.casefold()] = taken.get(stem.casefold(), 0) + 1
    again = {stem for stem, times in taken.items() if times > 1}
    return [
        f"{stem}-{number}" if stem.casefold() in again else stem
        for number, stem in enumerate(stems, 1)
    ]


@contextmanager
def _progress(length: float | None, printing: bool) -> Iterator[Callable[[float], None]]:
    """A function that moves a bar on standard error on to a time of the video."""
    # Where both go to one screen, the lines of JSON are the progress.
    if not sys.stderr.isatty() or (printing and sys.stdout.isatty()):
        yield lambda time: None
        return

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from fer_sdk.output.timeline import clock

    whole = "" if length is None else f" of {clock(float(round(length)))}"
    with Progress(
        BarColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        # What is printed there is the result, and may go to a file.
        redirect_stdout=False,
    ) as bar:
        task = bar.add_task("", total=length)
        yield lambda time: bar.update(
            task, completed=time, description=f"{clock(float(round(time)))}{whole}"
        )
