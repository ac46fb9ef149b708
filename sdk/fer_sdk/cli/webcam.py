"""``fer webcam``: the faces in front of a camera, live."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
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
    from fer_sdk.stream import Frame

_WINDOW = "fer webcam: q ends it"
_FILM_RATE = 30.0
_ESCAPE = 27


class View(StrEnum):
    window = "window"
    lines = "lines"


@app.command(
    epilog="Examples:\n\n"
    "fer webcam\n\n"
    "fer webcam --camera rtsp://192.168.1.9/stream --view lines\n\n"
    "fer webcam --camera 1 --seconds 60 --timeline minute.png\n\n"
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
        View | None,
        typer.Option(
            metavar="NAME",
            help="How to show the faces: in a window, or as lines of text. A window needs a screen "
            "and opencv-python in place of opencv-python-headless.",
            show_default="window if there can be one, else lines",
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.001, metavar="SECONDS", help="Stop after this time.", show_default="go on"
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Stop after this many frames.", show_default="go on"),
    ] = None,
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
    shown = None if as_json or outputs.prints_table else _chosen(view)
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
                _window() if shown is View.window else nullcontext() as show,
                # Ctrl+C is how a camera is stopped.
                suppress(KeyboardInterrupt),
            ):
                for frame in seen.all_of(stream):
                    take(frame)
                    if as_json:
                        print(json.dumps(frame.to_dict()), flush=True)
                    elif shown is View.lines:
                        _print_line(frame)
                    closed = show is not None and not show(frame)
                    if closed or frame.index + 1 == frames or frame.time >= (seconds or math.inf):
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


def _chosen(view: View | None) -> View:
    """How to show the faces here.

    Raises:
        typer.BadParameter: a window was asked for and there can be none.
    """
    problem = None if view is View.lines else _no_window()
    if view is View.window and problem is not None:
        raise typer.BadParameter(problem, param_hint="--view")
    return view or (View.window if problem is None else View.lines)


def _no_window() -> str | None:
    """Why no window can be opened; None where one can."""
    import cv2

    if not cv2.currentUIFramework():
        return (
            "this OpenCV was built without windows: use --view lines, or install opencv-python in "
            "place of opencv-python-headless"
        )
    # Without a screen, some of its toolkits end the whole process.
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return "there is no screen: neither DISPLAY nor WAYLAND_DISPLAY is set"
    return None


@contextmanager
def _window() -> Iterator[Callable[[Frame], bool]]:
    """A function that shows a frame; it returns whether the window is still open."""
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


def _print_line(frame: Frame) -> None:
    faces = ", ".join(
        f"#{face.track_id} {face.emotion} {face.confidence:.0%}" for face in frame.faces
    )
    print(f"{frame.time:8.2f} s  {faces or 'no face'}", flush=True)
