"""``fer webcam``: the faces in front of a camera, live."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from fer_sdk.cli.app import app
from fer_sdk.cli.exit_codes import SOME_FAILED, USAGE, complain
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
from fer_sdk.errors import FerError

if TYPE_CHECKING:
    from rich.table import Table

    from fer_sdk.stream import Frame

_WINDOW = "fer webcam: q ends it"
_FILM_RATE = 30.0
_BAR = 24
_ESCAPE = 27


class View(StrEnum):
    auto = "auto"
    window = "window"
    table = "table"
    lines = "lines"
    none = "none"


@app.command(
    epilog="Examples:\n\n"
    "fer webcam\n\n"
    "fer webcam --camera 1 --seconds 60 --timeline minute.png\n\n"
    "fer webcam --camera rtsp://192.168.1.20/stream1\n\n"
    "fer webcam --save me.mp4 --table me.csv\n\n"
    "fer webcam --json | jq -r '.faces[0].emotion // empty'"
)
@with_pipeline_options
def webcam(
    camera: Annotated[
        str,
        typer.Option(
            metavar="CAMERA",
            help="Number of the camera (0 is the first), its /dev/video0, or the address of one in "
            "the network, such as rtsp://… or http://…, to which a connection is opened.",
        ),
    ] = "0",
    view: Annotated[
        View,
        typer.Option(
            metavar="NAME",
            help=f"How to show it: {', '.join(View)}. A window needs a screen and an OpenCV with "
            "windows. By itself it is one where that is there, else a table in the terminal, else "
            "lines of text.",
        ),
    ] = View.auto,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.001, metavar="SECONDS", help="Stop after this time.", show_default="go on"
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Stop after so many.", show_default="go on"),
    ] = None,
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
    *,
    opening: PipelineOptions,
) -> None:
    """Follow the faces in front of a camera. Ctrl+C ends it, and files are written then.

    Exit status: 0 done, 1 the camera vanished or a file cannot be written, 2 nothing could start.
    """
    from fer_sdk.output.timeline import Timeline

    outputs = Outputs(save, table, timeline)
    outputs.check([])
    source = _camera(camera)
    if as_json and outputs.prints_table:
        raise typer.BadParameter("--json prints already", param_hint="--table")
    shown = View.none if as_json or outputs.prints_table else _chosen(view)
    people, seen = Timeline(), Seen()
    try:
        pipeline = opening.open()
    except FerError as error:
        complain(error)
        raise typer.Exit(USAGE) from error
    try:
        with pipeline:
            # Before any file is begun: most often it is the camera that is not there.
            stream = pipeline.stream(
                source,
                max_faces=max_faces,
                detect_every=detect_every,
                smoothing=smoothing or None,
                keep=keep,
                images=shown is View.window or save is not None or timeline is not None,
            )
            with (
                closing(stream),
                outputs.open(pipeline.info.labels, _FILM_RATE, people) as take,
                _SHOWN[shown]() as show,
                # It is how a camera is stopped.
                suppress(KeyboardInterrupt),
            ):
                for frame in seen.all_of(stream):
                    take(frame)
                    if as_json:
                        print(json.dumps(frame.to_dict()), flush=True)
                    last = frame.index + 1 == frames or frame.time >= (seconds or math.inf)
                    if not show(frame) or last:
                        break
    except FerError as error:
        complain(error)
        if seen.frames:
            seen.report(outputs)
        raise typer.Exit(SOME_FAILED if seen.frames else USAGE) from error
    if not as_json and not outputs.prints_table:
        print_people(people.people(), seen.rate)
        if outputs.paths:
            print(f"wrote {names(outputs.paths)}")
    if seen.problem is not None:
        complain(seen.problem)
        raise typer.Exit(SOME_FAILED)


def _camera(given: str) -> int | str:
    """A camera as ``stream`` takes it.

    Raises:
        typer.BadParameter: it is none.
    """
    from fer_sdk.video.container import is_address

    if given.isdecimal():
        return int(given)
    if not is_address(given) and not given.startswith("/dev/"):
        raise typer.BadParameter(
            f"{given} is no camera: give its number, its /dev/video0, or an address such as "
            "rtsp://…; fer video is for files",
            param_hint="--camera",
        )
    return given


def _chosen(view: View) -> View:
    """Where faces can be shown here.

    Raises:
        typer.BadParameter: a window was asked for and there can be none.
    """
    problem = _no_window() if view in (View.auto, View.window) else None
    if view is View.window and problem is not None:
        raise typer.BadParameter(problem, param_hint="--view")
    if view is not View.auto:
        return view
    if problem is None:
        return View.window
    return View.table if sys.stdout.isatty() else View.lines


def _no_window() -> str | None:
    """Why no window can be opened; None where one can."""
    import cv2

    if not cv2.currentUIFramework():
        return (
            "this OpenCV was built without windows: use --view table, or put opencv-python in the "
            "place of opencv-python-headless"
        )
    # Without a screen, some of its toolkits end the whole process.
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return "there is no screen: neither DISPLAY nor WAYLAND_DISPLAY is set"
    return None


Show = Callable[["Frame"], bool]
"""Shows a frame; says whether to go on."""


@contextmanager
def _window() -> Iterator[Show]:
    import cv2

    from fer_sdk.output.draw import annotate

    def show(frame: Frame) -> bool:
        if frame.image is not None:
            cv2.imshow(_WINDOW, annotate(frame.image, frame.faces))
        key = cv2.waitKey(1) & 0xFF
        closed = cv2.getWindowProperty(_WINDOW, cv2.WND_PROP_VISIBLE) < 1
        return not closed and key not in (ord("q"), _ESCAPE)

    try:
        yield show
    finally:
        cv2.destroyAllWindows()


@contextmanager
def _table() -> Iterator[Show]:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(), auto_refresh=False, transient=True) as live:

        def show(frame: Frame) -> bool:
            live.update(_faces(frame), refresh=True)
            return True

        yield show


def _faces(frame: Frame) -> Table:
    from rich.table import Table
    from rich.text import Text

    from fer_sdk.output.timeline import clock

    table = Table(
        header_style="bold",
        title=f"{clock(frame.time)}  frame {frame.index}  Ctrl+C ends",
        title_justify="left",
    )
    table.add_column("person", justify="right")
    table.add_column("emotion", no_wrap=True, min_width=14)
    table.add_column("scores", no_wrap=True)
    for face in sorted(frame.faces, key=lambda face: face.track_id or 0):
        scores = sorted(face.scores.items(), key=lambda score: -score[1])[:3]
        bars = "\n".join(f"{'█' * round(_BAR * score):<{_BAR}} {label}" for label, score in scores)
        table.add_row(
            f"#{face.track_id}", Text(f"{face.emotion} {face.confidence:.0%}", style="bold"), bars
        )
    if not frame.faces:
        table.add_row("", Text("no face", style="dim"), "")
    return table


@contextmanager
def _lines() -> Iterator[Show]:
    def show(frame: Frame) -> bool:
        faces = ", ".join(
            f"#{face.track_id} {face.emotion} {face.confidence:.0%}" for face in frame.faces
        )
        print(f"{frame.time:8.2f} s  {faces or 'no face'}", flush=True)
        return True

    yield show


@contextmanager
def _nothing() -> Iterator[Show]:
    yield lambda frame: True


_SHOWN = {View.window: _window, View.table: _table, View.lines: _lines, View.none: _nothing}
