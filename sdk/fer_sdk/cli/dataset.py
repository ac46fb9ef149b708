"""``fer dataset``: the faces in many images, on many cores or machines."""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fer_sdk.cli.app import app
from fer_sdk.cli.exit_codes import SOME_FAILED, USAGE, complain
from fer_sdk.cli.options import PipelineOptions, with_pipeline_options
from fer_sdk.errors import FerError
from fer_sdk.image.folder import HEIC, describe_left_out


@app.command(
    epilog="Examples:\n\n"
    "fer dataset photos/ --output faces/\n\n"
    "fer dataset photos.parquet --column image --output faces/ --workers 8\n\n"
    "RAY_ADDRESS=auto fer dataset /shared/photos -o /shared/faces"
)
@with_pipeline_options
def dataset(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="Folder of images, a Parquet file, or a folder of Parquet files."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="New folder for the Parquet files."),
    ],
    column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Column of the Parquet files that holds images or their paths.",
            show_default="image, bytes or path",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Processes, each with a pipeline.", show_default="one per core"
        ),
    ] = None,
    gpus_per_worker: Annotated[
        float,
        typer.Option(min=0, metavar="N", help="GPUs for each worker; 0.5 lets two share one."),
    ] = 0,
    batch_size: Annotated[
        int, typer.Option(min=1, metavar="N", help="Images that go through the models together.")
    ] = 64,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    *,
    opening: PipelineOptions,
) -> None:
    """Find the faces in a whole dataset with Ray Data: pip install 'fer-sdk[ray]'.

    Each image gives one row of the output, with its faces or the error. Exit status: 0 done, 1 some
    image failed, 2 nothing was written.
    """
    try:
        from fer_sdk.dataset import predict_dataset

        if not sys.stderr.isatty():
            os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
        # Ray's own messages, for example of a worker that died, are no result.
        with redirect_stdout(sys.stderr):
            summary = predict_dataset(
                source,
                output,
                column=column,
                workers=workers,
                gpus_per_worker=gpus_per_worker,
                batch_size=batch_size,
                open_pipeline=replace(opening, threads=opening.threads or 1).open,
            )
    except FerError as error:
        complain(error)
        raise typer.Exit(USAGE) from error
    words = f"{summary.images} images, {summary.faces} faces, {summary.failed} failed: {output}"
    print(json.dumps(summary.to_dict()) if as_json else words)
    if summary.left_out:
        complain(describe_left_out(summary.left_out))
    if summary.failed or any(kind in summary.left_out for kind in HEIC):
        raise typer.Exit(SOME_FAILED)
