"""The ``fer`` command, to which each module of this folder adds its own."""

from __future__ import annotations

from typing import Annotated

import typer

from fer_sdk import __version__
from fer_sdk.cli.exit_codes import show_warnings

app = typer.Typer(
    name="fer",
    help="Facial expression recognition that runs on this device: faces, landmarks and emotions, "
    "with no network.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples:\n\n"
    "fer predict photo.jpg\n\n"
    "fer predict *.jpg --json > faces.jsonl\n\n"
    "fer video talk.mp4 --save talk-faces.mp4 --timeline talk.png\n\n"
    "fer info",
)


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
    show_warnings()
