"""``fer-bench detection`` and ``tracking``: how good the answers are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fer_bench.cli import options
from fer_bench.cli.app import app

_DETECTION_EXAMPLES = """
**Examples**

  fer-bench detection                           false alarms, and faces of all sizes and tilts

  fer-bench detection fer2013.csv.gz            also FER2013's faces, as they are and on a canvas

  fer-bench detection --no-faces holidays --json detection.json
"""


@app.command()
def tracking(
    scenes: Annotated[
        int, typer.Option(help="of each kind and frame rate, as a detector's boxes", min=1)
    ] = 20,
    pictures: Annotated[int, typer.Option(help="of each kind, as pictures; 0: none", min=0)] = 2,
    detect_every: Annotated[
        str, typer.Option(help="of the pictures: the detector on every Nth frame")
    ] = "1,3,5",
    detector: options.Detector = "auto",
    json_file: options.JsonFile = None,
) -> None:
    """Count how often people lose their track id, on scenes whose truth is known.

    People cross, turn back before each other, walk behind a pillar, come and go, and wander about
    in a crowd: as boxes with a detector's noise for the tracker alone, and as portraits before the
    whole pipeline. A switch is somebody with another id than before; mixed is an id that went over
    to somebody else; away is a second or longer without being found, after which another id is
    right. No scene was used to tune the tracker.
    """
    from fer_bench.quality.tracking import measure
    from fer_bench.report.render import show_tracking
    from fer_sdk.pipeline import FerPipeline

    every = options.items(detect_every, options.whole(1), "--detect-every")
    (name,) = options.detectors(detector)[:1]
    options.check_writable(json_file)
    with (
        options.progress() as progress,
        options.failures(),
        FerPipeline(detector=name) as pipeline,
    ):
        used = pipeline.info
        results = measure(
            scenes=scenes,
            pictures=pictures,
            every=every,
            pipeline=pipeline,
            progress=progress,
        )
    show_tracking(results, options.console())
    if json_file is not None:
        report = {"pipeline": used.to_dict(), "results": [result.to_dict() for result in results]}
        with options.failures():
            json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


@app.command(epilog=_DETECTION_EXAMPLES)
def detection(
    data: Annotated[
        Path | None,
        typer.Argument(help="fer2013.csv or fer2013.csv.gz", exists=True, dir_okay=False),
    ] = None,
    split: Annotated[str, typer.Option(help="which faces of it")] = "PublicTest",
    limit: Annotated[int | None, typer.Option(help="only this many of them", min=1)] = None,
    detector: options.Detector = "auto",
    tiles: Annotated[str, typer.Option(help="of the scenes; 1 is the whole picture")] = "1,2,4",
    no_faces: Annotated[
        Path | None,
        typer.Option(
            help="folder of pictures without faces, for those of scikit-image and scikit-learn",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="of what is drawn at random", min=0)] = 0,
    json_file: options.JsonFile = None,
) -> None:
    """Measure which faces are found, and what is found where there is none.

    Small pictures, false alarms, and how small, how tilted and how many faces may be. Needs
    scikit-image and scikit-learn for their pictures.
    """
    from fer_bench.quality.detection import measure
    from fer_bench.quality.detection_tables import show

    (name,) = options.detectors(detector)[:1]
    counts = options.items(tiles, options.whole(1), "--tiles")
    options.check_writable(json_file)
    with options.progress() as progress, options.failures():
        result = measure(
            data,
            split=split,
            limit=limit,
            detector=name,
            tiles=counts,
            folder=no_faces,
            seed=seed,
            progress=progress,
        )
    show(result, options.console())
    if json_file is not None:
        with options.failures():
            json_file.write_text(json.dumps(result.to_dict(), indent=2) + "\n", encoding="utf-8")
