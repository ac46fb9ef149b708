"""``fer video``: the faces of a video, over time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fer_sdk.cli.app import app
from fer_sdk.cli.exit_codes import INTERRUPTED, SOME_FAILED, USAGE, complain
from fer_sdk.cli.options import PipelineOptions, with_pipeline_options
from fer_sdk.cli.outputs import (
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
    print_people,
)
from fer_sdk.errors import FerError, VideoError


@app.command(
    epilog="Examples:\n\n"
    "fer video talk.mp4\n\n"
    "fer video talk.mp4 --save talk-faces.mp4 --timeline talk.png\n\n"
    "fer video talk.mp4 --table talk.parquet --detect-every 3\n\n"
    "fer video talk.mp4 --json --smoothing 0 | jq -c '[.time, .faces[].emotion]'\n\n"
    "fer video slow-motion.mp4 --fps 1000 --table slow-motion.csv"
)
@with_pipeline_options
def video(
    source: Annotated[Path, typer.Argument(metavar="VIDEO", help="A video file.")],
    save: SaveOption = None,
    table: TableOption = None,
    timeline: TimelineOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line, one line a frame.")
    ] = False,
    detect_every: DetectEvery = 1,
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
    """Follow the faces of a video, and the emotions that they show.

    Each file that is written appears when it is whole; after an interrupt none does. Of a video
    that is cut, what there is of it is used. Exit status: 0 done, 1 the video is damaged or a file
    cannot be written, 2 nothing could start, 130 interrupted.
    """
    from fer_sdk.output.timeline import Timeline
    from fer_sdk.video.read import read_facts

    outputs = Outputs(save, table, timeline)
    outputs.check(source)
    people, seen = Timeline(), Seen()
    try:
        facts = read_facts(source)
        pipeline = opening.open()
    except FerError as error:
        complain(error)
        raise typer.Exit(SOME_FAILED if isinstance(error, VideoError) else USAGE) from error
    rate = fps or facts.rate
    length = facts.duration and facts.duration * facts.rate / rate
    try:
        with (
            pipeline,
            outputs.open(pipeline.info.labels, rate, people) as take,
            _progress(length, as_json) as advance,
        ):
            frames = pipeline.stream(
                source,
                fps=fps,
                max_faces=max_faces,
                detect_every=detect_every,
                smoothing=smoothing or None,
                keep=keep,
                images=save is not None or timeline is not None,
            )
            for frame in seen.all_of(frames):
                take(frame)
                if as_json:
                    print(json.dumps(frame.to_dict()), flush=True)
                advance(frame.time)
    except FerError as error:
        complain(error)
        seen.report(outputs)
        raise typer.Exit(SOME_FAILED) from error
    except KeyboardInterrupt as stop:
        complain("interrupted")
        seen.report(outputs)
        raise typer.Exit(INTERRUPTED) from stop
    if not as_json:
        print_people(people.people(), rate)
        if outputs.paths:
            print(f"wrote {names(outputs.paths)}")
    if seen.problem is not None:
        complain(seen.problem)
        raise typer.Exit(SOME_FAILED)


@contextmanager
def _progress(length: float | None, as_json: bool) -> Iterator[Callable[[float], None]]:
    """A function that moves a bar on standard error on to a time of the video."""
    # Where both go to one screen, the lines of JSON are the progress.
    if not sys.stderr.isatty() or (as_json and sys.stdout.isatty()):
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
