"""``fer dataset``: the faces of many pictures, on many cores or machines."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

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
    open_pipeline,
)
from fer_sdk.cli.outcome import SOME_FAILED, USAGE, complain
from fer_sdk.errors import FerError


@app.command(
    epilog="Examples:\n\n"
    "fer dataset photos/ --output faces/\n\n"
    "fer dataset photos.parquet --column image --output faces/ --workers 8\n\n"
    "RAY_ADDRESS=auto fer dataset /shared/photos --output /shared/faces --gpus-per-worker 0.5"
)
def dataset(
    source: Annotated[
        Path, typer.Argument(help="Folder of pictures, or a Parquet file or a folder of them.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of Parquet files to write.")
    ],
    column: Annotated[
        str | None,
        typer.Option(
            help="Column of the Parquet that holds pictures or their paths.",
            show_default="image, bytes or path",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes, each with a pipeline.", show_default="one a core"),
    ] = None,
    gpus_per_worker: Annotated[
        float, typer.Option(min=0, help="GPUs of each worker; 0.5 lets two share one.")
    ] = 0,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images that go through the models together.")
    ] = 64,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    detector: Detector = DetectorChoice.auto,
    device: Device = DeviceChoice.auto,
    precision: Precision = PrecisionChoice.auto,
    emotion_model: EmotionModel = None,
    landmarks_model: LandmarksModel = None,
) -> None:
    """Find the faces of a whole dataset, by Ray Data: pip install 'fer-sdk[ray]'.

    The output has one row for each row of the source, with the faces or the error. Exit status: 0
    done, 1 some picture failed, 2 nothing was written.
    """
    try:
        from fer_sdk.dataset import predict_dataset

        summary = predict_dataset(
            source,
            output,
            column=column,
            workers=workers,
            gpus_per_worker=gpus_per_worker,
            batch_size=batch_size,
            progress=sys.stderr.isatty(),
            open_pipeline=partial(
                open_pipeline,
                detector=detector,
                device=device,
                precision=precision,
                threads=1,
                emotion_model=emotion_model,
                landmarks_model=landmarks_model,
            ),
        )
    except FerError as error:
        complain(error)
        raise typer.Exit(USAGE) from error
    if as_json:
        print(json.dumps(summary.to_dict()))
    else:
        print(f"{summary.images} images, {summary.faces} faces, {summary.failed} failed: {output}")
    if summary.failed:
        raise typer.Exit(SOME_FAILED)
