"""``fer-train``: train, evaluate, and make the truth that training needs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_sdk.errors import FerError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from fer_training.evaluation.evaluate import Evaluation
    from fer_training.evaluation.metrics import EmotionFigures

app = typer.Typer(
    name="fer-train",
    help="Train the emotion and landmark networks of fer-sdk, and measure them.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Data = Annotated[
    Path, typer.Argument(help="fer2013.csv, fer2013.csv.gz, or a folder train/LABEL/*.png")
]
_Config = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        "--config",
        help="A recipe in TOML, or the name of one in the package (emotion, landmarks, teacher, "
        "teacher-scratch, ablation); without it, the shipped model's.",
    ),
]
_Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one setting, e.g. --set epochs=30. May be repeated."),
]
_From = Annotated[
    Path | None, typer.Option("--from", help="Start from the weights of this checkpoint.")
]
_Name = Annotated[
    str | None,
    typer.Option(
        help="What the model's metadata is to call its training data; without it, FER2013 for "
        "a CSV file and the folder's name for a folder."
    ),
]
_Version = Annotated[
    str, typer.Option("--model-version", help="Version that the model's metadata is to give.")
]
_SaveEvery = Annotated[
    int,
    typer.Option(
        help="Write the resumable checkpoint after so many epochs; more than 1 where an epoch "
        "takes seconds.",
        min=1,
    ),
]
_Truth = Annotated[Path | None, typer.Option(help="Ground truth of other faces than FER2013's.")]


def changes(settings: list[str] | None) -> dict[str, str]:
    """What ``--set name=value`` was given."""
    changed = {}
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not equals:
            raise typer.BadParameter(f"{setting!r} is not name=value", param_hint="--set")
        changed[name.strip()] = value.strip()
    return changed


@app.command(
    epilog="Examples:\n\n"
    "fer-train emotion fer2013.csv --votes fer2013new.csv -o runs/emotion\n\n"
    "fer-train emotion my_faces/ --from emotion.safetensors --set learning_rate=0.005 -o runs/mine"
    "\n\n"
    "fer-train emotion fer2013.csv --votes fer2013new.csv --recipe teacher -o runs/teacher\n\n"
    "fer-train emotion fer2013.csv --votes fer2013new.csv --teacher runs/teacher/model.safetensors "
    "-o runs/taught"
)
def emotion(
    data: _Data,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run; an unfinished one goes on.")
    ] = Path("runs/emotion"),
    votes: Annotated[
        Path | None, typer.Option(help="FER+ votes (fer2013new.csv) as soft labels.")
    ] = None,
    config: _Config = None,
    settings: _Set = None,
    start: _From = None,
    teachers: Annotated[
        list[Path] | None,
        typer.Option(
            "--teacher",
            help="A checkpoint to learn from as well (distillation). May be repeated: the "
            "probabilities of all are averaged.",
        ),
    ] = None,
    data_name: _Name = None,
    version: _Version = "0.1.0",
    save_every: _SaveEvery = 1,
) -> None:
    """Train the emotion network: ResNet18 with channel self-attention.

    Stop it with Ctrl-C and run the same command again: it goes on from its last whole epoch. The
    folder gets recipe.json, epochs.jsonl (a line per epoch), metrics.json and model.safetensors.
    """
    from fer_training.data.faces import read_faces
    from fer_training.data.ferplus import read_votes
    from fer_training.fit import Run, train_emotion
    from fer_training.recipe import EmotionRecipe

    recipe = EmotionRecipe.load(config, changes(settings))
    faces = read_faces(data, side=recipe.input_size)
    shares = read_votes(votes, faces) if votes else None
    run = Run(
        output,
        data_name,
        version=version,
        start=start,
        teachers=tuple(teachers or ()),
        save_every=save_every,
    )
    typer.echo(train_emotion(faces, shares, recipe, run))


@app.command(epilog="Example:\n\nfer-train landmarks fer2013.csv -o runs/landmarks")
def landmarks(
    data: _Data,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run; an unfinished one goes on.")
    ] = Path("runs/landmarks"),
    truth: _Truth = None,
    config: _Config = None,
    settings: _Set = None,
    start: _From = None,
    data_name: _Name = None,
    version: _Version = "0.1.0",
    save_every: _SaveEvery = 1,
) -> None:
    """Train the landmark network: ResNet18 for eye centres and lip corners.

    The ground truth of FER2013's faces comes with the package; for other faces make it with
    **fer-train extract-landmarks**. Otherwise as **fer-train emotion**.
    """
    from fer_training.data.faces import read_faces
    from fer_training.data.ground_truth import GroundTruth
    from fer_training.fit import Run, train_landmarks
    from fer_training.recipe import LandmarksRecipe

    recipe = LandmarksRecipe.load(config, changes(settings))
    run = Run(output, data_name, version=version, start=start, save_every=save_every)
    typer.echo(train_landmarks(read_faces(data), GroundTruth.load(truth), recipe, run))


@app.command(
    epilog="Example:\n\n"
    "fer-train conventions old.safetensors fer2013.csv --votes fer2013new.csv -o new.safetensors"
)
def conventions(
    trained: Annotated[Path, typer.Argument(help="A checkpoint of an emotion network.")],
    data: _Data,
    votes: Annotated[Path, typer.Option(help="FER+ votes (fer2013new.csv).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The checkpoint to write.")],
    default: Annotated[
        str, typer.Option(help="What is used where no labels are asked for: fer2013 or ferplus.")
    ] = "ferplus",
    share: Annotated[
        float, typer.Option(help="Share of the shift that suits the votes best.", min=0, max=1)
    ] = 0.8,
    version: _Version = "0.1.0",
) -> None:
    """Let a trained checkpoint answer by FER2013's labels and as the FER+ voters use them.

    The weights stay as they are: one number a label is fitted on the faces that its recipe held
    out.
    """
    from fer_training.data.faces import read_faces
    from fer_training.data.ferplus import read_votes
    from fer_training.evaluation.conventions import add_conventions

    if default not in ("fer2013", "ferplus"):
        raise typer.BadParameter("use fer2013 or ferplus", param_hint="--default")
    faces = read_faces(data)
    described = add_conventions(
        trained,
        faces,
        read_votes(votes, faces),
        output,
        default="fer2013" if default == "fer2013" else "ferplus",
        share=share,
        version=version,
    )
    for name, shift in described.conventions.items():
        pairs = zip(described.labels, shift, strict=True)
        typer.echo(f"{name}: {', '.join(f'{label} {by:+.2f}' for label, by in pairs)}")
    for name, figures in described.metrics.items():
        typer.echo(f"{name}: accuracy {figures['accuracy']:.4f}, ECE {figures['ece']:.4f}")


@app.command(
    name="evaluate",
    epilog="Examples:\n\n"
    "fer-train evaluate --model emotion.fp32.onnx --data fer2013.csv --split PublicTest\n\n"
    "fer-train evaluate --model emotion.int8.onnx --data fer2013.csv --detect "
    "--report reports/emotion --epochs runs/emotion/epochs.jsonl",
)
def evaluate_model(
    model: Annotated[
        Path, typer.Option("--model", "-m", help="An exported model, emotion or landmarks.")
    ],
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            "-d",
            help="fer2013.csv, fer2013.csv.gz, or a folder train/LABEL/*.png. May be repeated: "
            "several stand side by side.",
        ),
    ],
    split: Annotated[
        str, typer.Option(help="Training, PublicTest (validation) or PrivateTest (test).")
    ] = "PublicTest",
    votes: Annotated[
        Path | None,
        typer.Option(
            help="FER+ votes (fer2013new.csv) of the CSV file: figures by their majority as well."
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="How the model uses the labels, fer2013 or ferplus; without it, its default."
        ),
    ] = None,
    truth: _Truth = None,
    detect: Annotated[
        bool,
        typer.Option(
            "--detect",
            help="Also measure where the default detector must find each face first (emotion): in "
            "the pictures of a folder as they are, in the crops of a CSV file with a margin.",
        ),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Write figures, tables and pictures into this folder."),
    ] = None,
    epochs: Annotated[
        Path | None,
        typer.Option(help="epochs.jsonl of the run that made the model: its curves, in --report."),
    ] = None,
    show_faces: Annotated[
        bool,
        typer.Option(
            "--show-faces", help="Put sample faces of the data into --report (landmarks)."
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the figures to this JSON file."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
) -> None:
    """Measure an exported model through the SDK's own code path."""
    from fer_training.data.faces import read_faces
    from fer_training.data.ferplus import read_votes
    from fer_training.data.ground_truth import GroundTruth
    from fer_training.evaluation.evaluate import evaluate, open_model
    from fer_training.evaluation.report import write_report
    from fer_training.json_file import write_json

    if report is None and (epochs is not None or show_faces):
        raise typer.BadParameter("give --report, the folder for the pictures")
    if report is not None and len(data) > 1:
        raise typer.BadParameter("--report is of one data set", param_hint="--data")
    opened = open_model(model, labels)
    results = []
    for path in data:
        faces = read_faces(path)
        shares = read_votes(votes, faces) if votes and faces.files is None else None
        results.append(
            evaluate(opened, faces, split, GroundTruth.load(truth), votes=shares, detect=detect)
        )
    figures = [result.to_dict() for result in results]
    plain: object = figures if len(data) > 1 else figures[0]
    if output is not None:
        write_json(output, plain)
    if report is not None:
        write_report(results[0], report, epochs=epochs, faces=show_faces)
    if as_json:
        typer.echo(json.dumps(plain, indent=2))
    else:
        from rich.console import Console

        console = Console()
        if len(data) == 1:
            console.print(*_tables(results[0]), sep="\n")
        console.print(_side_by_side(results))


@app.command(
    name="extract-landmarks",
    epilog="Example:\n\n"
    "fer-train extract-landmarks fer2013.csv --bundle face_landmarker.task -o truth.npz",
)
def extract_landmarks(
    data: _Data,
    bundle: Annotated[Path, typer.Option(help="MediaPipe's face_landmarker.task.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write (.npz).")],
) -> None:
    """Make ground-truth landmarks with MediaPipe's landmarker.

    Only needed for faces other than FER2013's. Fetch the bundle with
    **fer-train fetch face-landmarker**.
    """
    import numpy as np
    from rich.progress import Progress

    from fer_training.data.faces import read_faces
    from fer_training.data.ground_truth import extract, merge

    faces = read_faces(data)
    parts = []
    with Progress(console=_stderr()) as bar:
        task = bar.add_task("faces", total=len(faces))
        for part in extract(faces.images, bundle):
            parts.append(part)
            bar.advance(task, len(part.digests))
    truth = merge(parts)
    truth.save(output)
    found = ~np.isnan(truth.landmarks[:, 0, 0])
    typer.echo(f"{output}: {found.sum()} of {len(found)} different faces found")


@app.command(
    name="measure-crop", epilog="Example:\n\nfer-train measure-crop fer2013.csv -o crop.json"
)
def measure_crop(
    data: _Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write (.json).")],
    count: Annotated[int, typer.Option(help="Faces to measure on.", min=30)] = 8000,
    seed: Annotated[int, typer.Option(help="Of the choice of faces.")] = 0,
) -> None:
    """Measure how the training faces are framed, as the face detector sees them."""
    from fer_sdk.detectors import open_detector
    from fer_training.data.crop_geometry import measure_split
    from fer_training.data.faces import read_faces

    detector, _ = open_detector("mediapipe")
    try:
        measured = measure_split(read_faces(data), detector, count=count, seed=seed)
    finally:
        detector.close()
    measured.save(output)
    typer.echo(f"{output}: {measured.geometry}, {measured.found} of {measured.faces} faces found")


@app.command(epilog="Example:\n\nfer-train fetch face-landmarker -o models/face_landmarker.task")
def fetch(
    what: Annotated[str, typer.Argument(help="face-landmarker or resnet18-imagenet")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to put it.")],
) -> None:
    """Fetch a published file that training needs; checked by hash, resumed where it broke."""
    from rich.progress import DownloadColumn, Progress

    from fer_training.data.fetch import PUBLISHED
    from fer_training.data.fetch import fetch as fetch_file

    if what not in PUBLISHED:
        raise typer.BadParameter(f"{what!r}: use one of {', '.join(PUBLISHED)}")
    published = PUBLISHED[what]
    with Progress(*Progress.get_default_columns(), DownloadColumn(), console=_stderr()) as bar:
        task = bar.add_task(what)
        path = fetch_file(
            published, output, lambda here, total: bar.update(task, completed=here, total=total)
        )
    typer.echo(f"{path}: sha256 {published.sha256} as published ({published.licence})")


def _tables(result: Evaluation) -> Iterator[Table]:
    from rich.table import Table

    from fer_training.evaluation.evaluate import EmotionEvaluation
    from fer_training.evaluation.report import percent

    about = result.conditions
    title = f"{about.model} ({about.precision}) on {about.split}, {result.figures.faces} faces"
    if isinstance(result, EmotionEvaluation):
        emotion, found = result.figures, result.end_to_end
        header = ("emotion", "faces", "recall", "precision", *(["end to end"] if found else []))
        table = Table(*header, title=title)
        for name, count in emotion.counts.items():
            cells = [percent(emotion.recall[name]), percent(emotion.precision[name])]
            if found:
                cells.append(percent(found.recall[name]))
            table.add_row(name, str(count), *cells)
        table.caption = (
            f"accuracy {percent(emotion.accuracy)}   macro-F1 {percent(emotion.macro_f1)}   "
            f"ECE {percent(emotion.ece)}   log loss {emotion.log_loss:.3f}"
        )
        if found:
            table.caption += (
                f"\nend to end: accuracy {percent(found.accuracy)}, {percent(found.found)} found "
                f"by {found.detector}"
            )
        yield table
        yield _confusion_table(emotion)
        return
    figures = result.figures
    table = Table("point", "mean error (of the crop)", "by eye distance", title=title)
    for name, error in figures.error_by_point.items():
        table.add_row(name, f"{error:.4f}", f"{figures.normalised_by_point[name]:.4f}")
    table.caption = (
        f"mean error {figures.error:.4f}   by eye distance {figures.normalised_error:.4f}   "
        f"failures (> 0.1) {percent(figures.failures)}   without truth {figures.without_truth}"
    )
    yield table
    spoilt = Table("crops", "mean error (of the crop)", "by eye distance")
    for name, each in result.degraded.items():
        spoilt.add_row(name, f"{each.error:.4f}", f"{each.normalised_error:.4f}")
    yield spoilt


def _side_by_side(results: Sequence[Evaluation]) -> Table:
    """A row for each way in which each data set was measured; recalls in the last columns."""
    from rich.table import Table

    from fer_training.evaluation.evaluate import EmotionEvaluation, LandmarksEvaluation
    from fer_training.evaluation.report import percent

    emotions = [each for each in results if isinstance(each, EmotionEvaluation)]
    if not emotions:
        table = Table("data", "faces", "mean error (of the crop)")
        for other in results:
            if isinstance(other, LandmarksEvaluation):
                error = f"{other.figures.error:.4f}"
                table.add_row(other.conditions.data, str(other.figures.faces), error)
        return table
    names = list(emotions[0].figures.counts)
    table = Table("data", "faces", "accuracy", "macro-F1", "balanced", "ECE", *names)
    table.title = f"labels as in {emotions[0].conditions.labels or 'training'}; recall by emotion"
    for each in emotions:
        rows = {"": each.figures, ", FER+ majority": each.by_votes}
        for suffix, measured in rows.items():
            if measured is not None:
                table.add_row(
                    f"{each.conditions.data}{suffix}",
                    str(measured.faces),
                    *(
                        percent(share, 1)
                        for share in (
                            measured.accuracy,
                            measured.macro_f1,
                            measured.balanced,
                            measured.ece,
                            *measured.recall.values(),
                        )
                    ),
                )
        found = each.end_to_end
        if found is not None:
            recalls = [value for value in found.recall.values() if value is not None]
            table.add_row(
                f"{each.conditions.data}, found by {found.detector}",
                str(found.faces),
                percent(found.accuracy, 1),
                "",
                percent(sum(recalls) / len(recalls), 1),
                percent(found.ece, 1),
                *(percent(share, 1) for share in found.recall.values()),
            )
    return table


def _confusion_table(figures: EmotionFigures) -> Table:
    from rich.table import Table

    table = Table("true / given", *figures.counts, title="confusion, faces")
    for name, row in zip(figures.counts, figures.confusion, strict=True):
        table.add_row(name, *map(str, row))
    return table


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def main() -> None:
    """Run the command line: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        app()
    except FerError as error:
        typer.echo(f"fer-train: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt as stop:
        typer.echo(f"fer-train: {stop or 'stopped'}", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
