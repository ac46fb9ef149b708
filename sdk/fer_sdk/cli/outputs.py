"""What the commands for video write: a video, a table and a timeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_sdk.cli.exit_codes import complain, plain
from fer_sdk.errors import FerError, VideoError

if TYPE_CHECKING:
    from fer_sdk.output.timeline import Person, Timeline
    from fer_sdk.stream import Frame

STDOUT = "-"
"""Instead of the file of a table: standard output."""

_MOST_ROWS = 20

SaveOption = Annotated[
    Path | None,
    typer.Option(
        metavar="VIDEO",
        help="Write the video with its faces drawn: .mp4, .webm (which browsers play), .mov, .mkv "
        "or .avi. Without sound.",
    ),
]
TableOption = Annotated[
    Path | None,
    typer.Option(
        "--table",
        "--output",
        "-o",
        metavar="FILE",
        help="Write a .csv or .parquet with one row a face of each frame, or a .jsonl with one "
        "line a frame; - prints the CSV.",
    ),
]
TimelineOption = Annotated[
    Path | None,
    typer.Option(
        metavar="PICTURE",
        help="Draw a chart of each person's scores over time. Needs matplotlib: pip install "
        "'fer-sdk[plot]'.",
    ),
]
DetectEvery = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Run the detector on every Nth frame, and follow faces between.",
        show_default="by the size of the faces",
    ),
]
Smoothing = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="Time constant for smoothing the scores: 63 % of a change shows after this time. "
        "0 turns smoothing off.",
    ),
]
Keep = Annotated[
    float,
    typer.Option(
        min=0.001,
        metavar="SECONDS",
        help="How long a hidden face keeps its number.",
    ),
]
MaxFaces = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Keep the largest faces of a frame.", show_default="all"),
]


@dataclass(frozen=True, slots=True)
class Outputs:
    """Files to write, each of them whole or not at all."""

    save: Path | None
    table: Path | None
    timeline: Path | None

    @property
    def paths(self) -> list[Path]:
        every = (self.save, self.table, self.timeline)
        return [path for path in every if path is not None and str(path) != STDOUT]

    @property
    def prints_table(self) -> bool:
        return self.table is not None and str(self.table) == STDOUT

    def check(self, sources: list[Path]) -> None:
        """Check in advance that they can be written, and that none is an input.

        Raises:
            typer.BadParameter: one cannot.
        """
        from fer_sdk.output.atomic import SUFFIXES
        from fer_sdk.output.chart import check_timeline
        from fer_sdk.output.tables import check_table
        from fer_sdk.video.write import check_video

        taken = {source.resolve() for source in sources}
        for path, hint in (
            (self.save, "--save"),
            (self.table, "--table"),
            (self.timeline, "--timeline"),
        ):
            if path is None:
                continue
            try:
                if path is self.save:
                    check_video(path)
                elif path is self.table:
                    check_table(path)
                elif path.suffix.lower() not in SUFFIXES:
                    raise VideoError(f"{path}: pictures are written as {', '.join(SUFFIXES)}")
                else:
                    check_timeline()
            except FerError as error:
                raise typer.BadParameter(str(error), param_hint=hint) from error
            if path is self.table and self.prints_table:
                continue
            if not path.parent.is_dir():
                raise typer.BadParameter(f"there is no folder {path.parent}", param_hint=hint)
            if path.resolve() in taken:
                raise typer.BadParameter("that is the input or another output", param_hint=hint)
            taken.add(path.resolve())

    @contextmanager
    def open(
        self,
        labels: tuple[str, ...],
        rate: float,
        timeline: Timeline,
        rows: Callable[[Frame], None] | None = None,
    ) -> Iterator[Callable[[Frame], None]]:
        """A function that takes a frame. On an error nothing appears under any of the names.

        Args:
            labels: of the scores.
            rate: frames a second.
            timeline: gets every frame.
            rows: takes frames for a table that several videos share.

        Raises:
            FerError: a file cannot be written.
        """
        from fer_sdk.output.atomic import save_image
        from fer_sdk.output.chart import draw_timeline

        with ExitStack() as stack:
            takers: list[Callable[[Frame], None]] = [timeline.add]
            if self.save is not None:
                takers.append(stack.enter_context(_film(self.save, rate)))
            if rows is not None:
                takers.append(rows)
            elif self.table is not None:
                of_one = stack.enter_context(open_rows(self.table, labels, named=False))
                takers.append(lambda frame: of_one(frame, None))

            def take(frame: Frame) -> None:
                for taker in takers:
                    taker(frame)

            yield take
            if self.timeline is not None:
                save_image(draw_timeline(timeline), self.timeline)


@contextmanager
def _film(path: Path, rate: float) -> Iterator[Callable[[Frame], None]]:
    from fer_sdk.output.draw import annotate
    from fer_sdk.video.write import open_video

    with open_video(path, rate) as show:

        def take(frame: Frame) -> None:
            if frame.image is not None:
                show(frame.time, annotate(frame.image, frame.faces))

        yield take


@contextmanager
def open_rows(
    path: Path, labels: tuple[str, ...], *, named: bool
) -> Iterator[Callable[[Frame, str | None], None]]:
    """A function that adds a frame to a table, with the name of its video where it is named.

    Raises:
        FerError: the file cannot be written.
    """
    from fer_sdk.output.rows import columns, face_row
    from fer_sdk.output.tables import open_table

    by_frame = path.suffix.lower() == ".jsonl"
    first: dict[str, type] = {"video": str} if named else {}
    with open_table(path, {**first, "frame": int, "time": float, **columns(labels)}) as add:

        def take(frame: Frame, video: str | None) -> None:
            name = {} if video is None else {"video": plain(video)}
            if by_frame:
                add({**name, **frame.to_dict()})
                return
            when = {**name, "frame": frame.index, "time": frame.time}
            for number, face in enumerate(frame.faces):
                add({**when, **face_row(number, face)})
            if not frame.faces:
                add(when)

        yield take


class Seen:
    """How many frames were read, and what is wrong with the video if only a part can be read."""

    def __init__(self) -> None:
        self.frames = 0
        self.time = 0.0
        self.problem: VideoError | None = None

    def all_of(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Pass on the frames that can be read.

        Raises:
            VideoError: no frame can be read.
        """
        try:
            for frame in frames:
                yield frame
                self.frames, self.time = frame.index + 1, frame.time
        except VideoError as error:
            if not self.frames:
                raise
            self.problem = error

    @property
    def rate(self) -> float:
        """Frames a second."""
        from fer_sdk.video.container import USUAL_RATE

        return (self.frames - 1) / self.time if self.frames > 1 and self.time > 0 else USUAL_RATE

    def report(self, outputs: Outputs) -> None:
        """Say on standard error what was done before the end came early."""
        unwritten = f"; not written: {names(outputs.paths)}" if outputs.paths else ""
        complain(f"{self.frames} frames were done, to {self.time:.2f} s{unwritten}")


def print_people(people: list[Person], rate: float) -> None:
    """A table of who was seen, when, and with which emotions on average."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from fer_sdk.output.timeline import clock

    console = Console()
    if not people:
        console.print("no face was seen")
        return
    table = Table(header_style="bold")
    for title in ("person", "from", "to", "seen"):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("on average", "then"):
        table.add_column(title, no_wrap=True)
    for person in sorted(people[:_MOST_ROWS], key=lambda person: person.track_id):
        first, second = sorted(person.scores.items(), key=lambda score: -score[1])[:2]
        table.add_row(
            f"#{person.track_id}",
            clock(person.first),
            clock(person.last),
            f"{person.frames / rate:.1f} s",
            Text(f"{first[0]} {first[1]:.0%}", style="bold"),
            Text(f"{second[0]} {second[1]:.0%}", style="dim"),
        )
    console.print(table)
    if len(people) > _MOST_ROWS:
        console.print(f"and {len(people) - _MOST_ROWS} more, seen for less time")


def names(paths: list[Path]) -> str:
    """The names of files, separated by commas."""
    return plain(", ".join(map(str, paths)))
