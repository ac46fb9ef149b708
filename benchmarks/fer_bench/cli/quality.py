"""``fer-bench detection`` and ``tracking``: how good the answers are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fer_bench.cli import options
from fer_bench.cli.app import app

_DETECTION_EXAMPLES = """
**Examples**

  fer-bench detection                           false alarms, and composed scenes

  fer-bench detection fer2013.csv.gz            also FER2013's faces, as they are and on a canvas

  fer-bench detection --no-faces holidays --json detection.json

  fer-bench detection --photos WIDER_val/images --truth wider_face_val_bbx_gt.txt

  fer-bench detection --photos F --truth F.txt --detector auto,yunet --plot recall.png
"""


@app.command()
def tracking(
    scenes: Annotated[
        int, typer.Option(help="of each kind and frame rate, as a detector's boxes", min=1)
    ] = 20,
    pictures: Annotated[int, typer.Option(help="of each kind, as pictures; 0: none", min=0)] = 2,
    detect_every: Annotated[
        str,
        typer.Option(help="of the pictures: the detector on every Nth frame; auto: as it decides"),
    ] = "auto,1,5",
    detector: options.Detector = "auto",
    json_file: options.JsonFile = None,
) -> None:
    """Count how often people lose their track id, on scenes whose truth is known.

    People cross, turn back before each other, walk behind a pillar, come and go, and wander about
    in a crowd; and a camera pans over a group with faces of every size. As boxes with a detector's
    noise for the tracker alone, and as portraits before the whole pipeline. A switch is somebody
    with another id than before; mixed is an id that went over to somebody else; away is a second or
    longer without being found, after which another id is right. No scene was used to tune the
    tracker.
    """
    from fer_bench.quality.tracking import measure
    from fer_bench.report.render import show_tracking
    from fer_sdk.pipeline import FerPipeline

    every = options.items(detect_every, _step, "--detect-every")
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
    _write(
        json_file,
        {"pipeline": used.to_dict(), "results": [result.to_dict() for result in results]},
    )


@app.command(epilog=_DETECTION_EXAMPLES)
def detection(
    data: Annotated[
        Path | None,
        typer.Argument(help="fer2013.csv or fer2013.csv.gz", exists=True, dir_okay=False),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            help="folder of photos, in the place of all else", exists=True, file_okay=False
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="their faces in WIDER FACE's format, such as wider_face_val_bbx_gt.txt",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    overlap: Annotated[
        float, typer.Option(help="of a box with the face that it shows", min=0.01, max=1)
    ] = 0.35,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="recall in photos against size, as a picture"),
    ] = None,
    split: Annotated[str, typer.Option(help="which faces of fer2013.csv")] = "PublicTest",
    limit: Annotated[int | None, typer.Option(help="only this many of them", min=1)] = None,
    detector: Annotated[
        str, typer.Option(help="names as of FerPipeline, with commas between")
    ] = "auto",
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

    Of annotated photos: recall by size, false boxes, and time. Without photos: small pictures,
    false alarms, and how small, tilted, dark and many faces may be; this needs scikit-image and
    scikit-learn for their pictures.
    """
    names = options.detectors(detector)
    options.check_writable(json_file, plot)
    if (photos is None) is not (truth is None):
        raise typer.BadParameter("--photos and --truth go together")
    if photos is not None and truth is not None:
        if data is not None:
            raise typer.BadParameter("--photos are measured alone: leave out fer2013.csv")
        _photos(photos, truth, names, overlap, plot, json_file)
        return
    if plot is not None:
        raise typer.BadParameter("--plot is of --photos")
    from fer_bench.quality.detection import measure
    from fer_bench.quality.detection_tables import show

    with options.progress() as progress, options.failures():
        results = measure(
            data,
            split=split,
            limit=limit,
            detectors=names,
            folder=no_faces,
            seed=seed,
            progress=progress,
        )
    show(results, options.console())
    _write(json_file, [result.to_dict() for result in results])


def _photos(
    folder: Path,
    truth: Path,
    names: tuple[Any, ...],
    overlap: float,
    plot: Path | None,
    json_file: Path | None,
) -> None:
    from fer_bench.quality.detection_photos import measure_photos
    from fer_bench.quality.detection_tables import show_photos

    with options.progress() as progress, options.failures():
        result = measure_photos(folder, truth, names, overlap=overlap, progress=progress)
    show_photos(result, options.console())
    _write(json_file, result.to_dict())
    if plot is not None:
        from fer_bench.report.recall import save_recall

        with options.failures():
            save_recall(result, plot)
    if result.unreadable:
        options.fail("\n".join(result.unreadable))


def _step(text: str) -> int | None:
    return None if text == "auto" else options.whole(1)(text)


def _write(path: Path | None, values: object) -> None:
    if path is not None:
        with options.failures():
            path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
