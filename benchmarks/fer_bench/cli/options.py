"""Options that several commands share, and how what is given for them is read.

Nothing heavy is imported before a command runs: --help and a wrong option answer at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, get_args

import typer
from rich.console import Console

from fer_sdk.errors import FerError

Item = TypeVar("Item")
_FILE_COLUMNS = 120

Detector = Annotated[str, typer.Option(help="auto, or a detector's name as of FerPipeline")]
EmotionModel = Annotated[
    Path | None, typer.Option(help="your own export", exists=True, dir_okay=False)
]
LandmarksModel = EmotionModel
Data = Annotated[
    Path | None, typer.Option(help="fer2013.csv, to measure accuracy", exists=True, dir_okay=False)
]
BaselinePython = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=PATH", help="interpreter that has this baseline; repeatable"),
]
Quick = Annotated[
    bool, typer.Option("--quick", help="a fraction of a second each: to try it, not to publish")
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="everything, for programs")
]
SavedResult = Annotated[Path, typer.Argument(help="of --json", exists=True, dir_okay=False)]


def items(text: str, convert: Callable[[str], Item], option: str) -> tuple[Item, ...]:
    """What an option lists with commas, each once.

    Raises:
        BadParameter: an item is not what it must be, or there is none.
    """
    try:
        found = [convert(part.strip()) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
    if not found:
        raise typer.BadParameter("is empty", param_hint=option)
    return tuple(dict.fromkeys(found))


def whole(least: int) -> Callable[[str], int]:
    """Reads whole numbers of at least ``least``."""

    def convert(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise ValueError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return convert


def size(text: str) -> tuple[int, int]:
    """Reads ``640x480``."""
    width, _, height = text.lower().partition("x")
    return whole(16)(width), whole(16)(height)


def one_of(names: tuple[str, ...]) -> Callable[[str], Any]:
    """Reads one of some names."""

    def convert(text: str) -> str:
        if text not in names:
            raise ValueError(f"{text!r} is not one of {', '.join(names)}")
        return text

    return convert


def detectors(text: str) -> tuple[Any, ...]:
    """Reads the detectors of ``--detector``."""
    from fer_sdk.detectors import DetectorName

    return items(text, one_of(get_args(DetectorName)), "--detector")


def interpreters(given: list[str] | None) -> dict[str, Path]:
    """Reads every ``--baseline-python``."""
    from fer_bench.baselines.catalogue import BASELINES

    found = {}
    for pair in given or []:
        name, _, path = pair.partition("=")
        if name not in BASELINES or not path:
            names = ", ".join(BASELINES)
            raise typer.BadParameter(f"{pair!r} is not NAME=PATH with a name out of {names}")
        found[name] = Path(path)
    return found


def check_writable(*paths: Path | None) -> None:
    """See before the measurement that files can be written after it."""
    for path in paths:
        if path is not None and not path.resolve().parent.is_dir():
            raise typer.BadParameter(f"{path}: its folder does not exist")


def console() -> Console:
    """Standard output; where that is a file there is no reason to wrap at 80 columns."""
    found = Console()
    if found.is_terminal or "COLUMNS" in os.environ:
        return found
    return Console(width=_FILE_COLUMNS)


@contextmanager
def progress() -> Iterator[Callable[[str, float], None]]:
    """Shows on standard error what is being done, and which share is behind."""
    with Console(stderr=True).status("starting") as status:
        yield lambda what, share: status.update(f"{100 * share:3.0f} %  {what}")


@contextmanager
def failures(code: int = 1) -> Iterator[None]:
    """Ends the command with a message where something cannot be read, measured or written."""
    try:
        yield
    except FerError as error:
        fail(str(error), code)
    except OSError as error:
        if error.filename is None:
            raise
        fail(f"{error.filename}: {error.strerror}")


def fail(message: str, code: int = 1) -> NoReturn:
    """End the command with a message."""
    Console(stderr=True).print(f"fer-bench: {message}", style="red", markup=False, soft_wrap=True)
    raise SystemExit(code)
