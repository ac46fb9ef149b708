"""The folder of a measured model: its figures as JSON, tables to read, pictures to look at."""

from __future__ import annotations

from pathlib import Path

from fer_sdk.types import LANDMARKS
from fer_training.evaluation import plots
from fer_training.evaluation.evaluate import EmotionEvaluation, Evaluation, LandmarksEvaluation
from fer_training.json_file import write_json

FIGURES_FILE = "figures.json"
REPORT_FILE = "report.md"


def write_report(
    evaluation: Evaluation, folder: Path, *, epochs: Path | None = None, faces: bool = False
) -> Path:
    """Write everything about an evaluation.

    Args:
        evaluation: what was measured.
        folder: where to; made if it is not there.
        epochs: the ``epochs.jsonl`` of the run that made the model, for its curves.
        faces: of a landmark model, also show sample faces. They are pictures of the data: whether
            they may be passed on is for its licence to say.

    Returns:
        The report's path.

    Raises:
        DataError: ``epochs`` is not what a run writes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FIGURES_FILE, evaluation.to_dict())
    about = evaluation.conditions
    title = f"{about.model} on {about.data}, {about.split}"
    lines = [
        f"# {title}",
        "",
        f"Version {about.version}, {about.precision} on {about.provider}, sha256 "
        f"`{about.sha256}`. {evaluation.figures.faces} faces, one crop each, no averaging."
        + (f" Labels as in {about.labels}." if about.labels else ""),
        "",
    ]
    if isinstance(evaluation, EmotionEvaluation):
        lines += _emotion(evaluation, folder, title)
    else:
        lines += _landmarks(evaluation, folder, title, faces)
    if epochs is not None:
        plots.curves(epochs, folder / "curves.png")
        lines += ["## Training", "", "![training curves](curves.png)", ""]
    path = folder / REPORT_FILE
    path.write_text("\n".join(lines), "utf-8")
    return path


def _emotion(evaluation: EmotionEvaluation, folder: Path, title: str) -> list[str]:
    figures, found = evaluation.figures, evaluation.end_to_end
    plots.confusion(figures, title, folder / "confusion.png")
    plots.reliability_diagram(
        evaluation.reliability, figures.ece, title, folder / "reliability.png"
    )
    plots.per_class(figures, title, folder / "classes.png")
    measured = [figures, *([evaluation.by_votes] if evaluation.by_votes else [])]
    lines = [
        *_table(
            ("figure", "value", "by the FER+ majority")[: 1 + len(measured)],
            [
                ("faces", *(str(each.faces) for each in measured)),
                ("accuracy", *(percent(each.accuracy) for each in measured)),
                ("macro-F1", *(percent(each.macro_f1) for each in measured)),
                ("balanced accuracy", *(percent(each.balanced) for each in measured)),
                ("expected calibration error, 15 bins", *(percent(e.ece) for e in measured)),
                ("log loss", *(f"{each.log_loss:.3f}" for each in measured)),
            ],
        ),
        "## By emotion",
        "",
        *_table(
            ("emotion", "faces", "recall", "precision"),
            [
                (name, str(count), percent(figures.recall[name]), percent(figures.precision[name]))
                for name, count in figures.counts.items()
            ],
        ),
        "![recall and precision by emotion](classes.png)",
        "",
        "![confusion matrix](confusion.png)",
        "",
        "![reliability diagram](reliability.png)",
        "",
    ]
    if found is None:
        return lines
    return [
        *lines,
        "## End to end",
        "",
        ("The pictures" if found.margin is None else "The same faces")
        + ("" if found.margin is None else f" with a margin of {percent(found.margin, 0)} of gray")
        + f", found by {found.detector} and cropped by the pipeline. A face that was not found "
        "counts as wrong.",
        "",
        *_table(
            ("figure", "given crops", "end to end"),
            [
                ("found", "", percent(found.found)),
                ("accuracy, of all", percent(figures.accuracy), percent(found.accuracy)),
                ("accuracy, of the found", "", percent(found.accuracy_found)),
                ("expected calibration error", percent(figures.ece), percent(found.ece)),
                *(
                    (f"recall of {name}", percent(figures.recall[name]), percent(recall))
                    for name, recall in found.recall.items()
                ),
            ],
        ),
    ]


def _landmarks(evaluation: LandmarksEvaluation, folder: Path, title: str, faces: bool) -> list[str]:
    figures = evaluation.figures
    measured = (evaluation.images, evaluation.predicted, evaluation.truth)
    plots.landmark_cloud(*measured, LANDMARKS, title, folder / "landmarks.png")
    plots.degradations(
        {"as they are": figures.error}
        | {name: each.error for name, each in evaluation.degraded.items()},
        title,
        folder / "degradations.png",
    )
    lines = [
        f"{figures.without_truth} more faces have no ground truth. Errors are mean Euclidean "
        "distances as fractions of the crop; the last column is by the true distance between the "
        "eyes.",
        "",
        *_table(
            ("point", "error", "by eye distance"),
            [
                *(
                    (name.replace("_", " "), f"{error:.4f}", f"{normalised:.4f}")
                    for (name, error), normalised in zip(
                        figures.error_by_point.items(),
                        figures.normalised_by_point.values(),
                        strict=True,
                    )
                ),
                ("all", f"{figures.error:.4f}", f"{figures.normalised_error:.4f}"),
            ],
        ),
        f"{percent(figures.failures)} of the faces are off by more than a tenth of the distance "
        "between the eyes.",
        "",
        "![predictions around the truth](landmarks.png)",
        "",
        "## Bad pictures",
        "",
        *_table(
            ("crops", "error", "by eye distance", "off by more than a tenth"),
            [
                (
                    name,
                    f"{each.error:.4f}",
                    f"{each.normalised_error:.4f}",
                    percent(each.failures),
                )
                for name, each in [("as they are", figures), *evaluation.degraded.items()]
            ],
        ),
        "![error by degradation](degradations.png)",
        "",
    ]
    if faces:
        plots.landmark_faces(*measured, title, folder / "faces.png")
        lines += ["## Sample faces", "", "![sample faces](faces.png)", ""]
    return lines


def percent(value: float | None, digits: int = 2) -> str:
    """A share as a percentage; a dash for None."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return [*markdown_table(header, rows), ""]


def markdown_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """The lines of a table, the first column to the left, the others to the right."""
    rule = ("---", *("---:" for _ in header[1:]))
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]
