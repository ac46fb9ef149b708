"""What each part of a recipe is worth: train with all of them, then without each in turn.

    python studies/ablation.py fer2013.csv --votes fer2013new.csv --seeds 3 -o runs/ablation
    python studies/ablation.py fer2013.csv --votes fer2013new.csv --part attention \\
        --set epochs=60 -o runs/attention --report training/reports/attention

Every variant is trained with several seeds. The seed changes the start, the order, the augmentation
and which faces are held out, so the spread between the seeds of one variant says which differences
between variants mean anything.
"""

from __future__ import annotations

import json
import math
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from scipy.stats import t as students_t  # type: ignore[import-untyped]

from fer_sdk.errors import DataError
from fer_training.cli import changes
from fer_training.data.faces import FaceSet, read_faces
from fer_training.data.ferplus import read_votes
from fer_training.evaluation import plots
from fer_training.evaluation.report import markdown_table
from fer_training.fit import METRICS_FILE, Run, train_emotion
from fer_training.json_file import write_json
from fer_training.recipe import EmotionRecipe

PARTS: Mapping[str, Mapping[str, Any]] = {
    "attention": {"attention": False},
    "augmentation": {
        "flip": False,
        "rotation": 0.0,
        "brightness": 0.0,
        "contrast": 0.0,
        "erasing": 0.0,
        "noise": 0.0,
        "low_resolution": 0.0,
        "blur": 0.0,
        "gamma": 0.0,
        "jpeg": 0.0,
    },
    "jitter": {"jitter": 0.0},
    "mixup": {"mixup": 0.0},
    "label smoothing": {"label_smoothing": 0.0},
    "FER+ votes": {"votes": 0.0},
    "EMA": {"ema": 0.0},
    "class weighting": {"class_weights": "none"},
}
"""By name, the settings that take a part away."""

BASE = "everything"
_FIGURES = ("accuracy", "macro_f1", "ece")
_SPLIT = "PublicTest"
_PLAN_FILE = "plan.json"
_HEADER = ("recipe", "accuracy, %", "difference", "macro-F1, %", "difference", "ECE, %")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one variant, as fractions.

    Attributes:
        values: of each seed, in the order of ``Ablation.seeds``.
        mean: of them.
        spread: their standard deviation; None with one seed.
        difference: mean minus that of the base; None for the base.
        interval: half width of the difference's 95 % interval; None where there is no difference
            or no spread to judge it by.
    """

    values: tuple[float, ...]
    mean: float
    spread: float | None
    difference: float | None
    interval: float | None


@dataclass(frozen=True, slots=True)
class Ablation:
    """What came out.

    Attributes:
        recipe: of the base, without its seed.
        seeds: each variant was trained with.
        split: that was measured on.
        variants: by name of the part that was taken away, the figures by name; the base first.
        spread: of each figure from run to run: the standard deviation within variants, over all.
    """

    recipe: Mapping[str, Any]
    seeds: tuple[int, ...]
    split: str
    variants: Mapping[str, Mapping[str, Figure]]
    spread: Mapping[str, float | None]


def variants(base: EmotionRecipe, parts: Sequence[str]) -> dict[str, EmotionRecipe]:
    """The base, and the base without each of the parts.

    Raises:
        DataError: there is no such part, or the base does not have it.
    """
    recipes = {BASE: base}
    for part in parts:
        if part not in PARTS:
            raise DataError(f"there is no part {part!r}: use some of {', '.join(PARTS)}")
        without = replace(base, **PARTS[part])
        if without == base:
            raise DataError(f"the recipe has no {part} to take away")
        recipes[part] = without
    return recipes


def parts_of(base: EmotionRecipe) -> list[str]:
    """The parts that a recipe has."""
    return [part for part, off in PARTS.items() if replace(base, **off) != base]


def ablate(
    faces: FaceSet,
    votes: npt.NDArray[np.float32] | None,
    base: EmotionRecipe,
    *,
    parts: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    data_name: str | None,
    jobs: int = 1,
    save_every: int = 1,
) -> Ablation:
    """Train all variants with all seeds, those of the first seed first.

    Args:
        faces: a whole set, with a PublicTest.
        votes: as of ``train_emotion``.
        base: the recipe with everything; its seed is not used.
        parts: to take away, each in turn.
        seeds: to train each variant with.
        folder: gets a run for each variant and seed. What is in it already is not trained again;
            an unfinished run goes on.
        data_name: as of ``Run``.
        jobs: how many runs go on at the same time, each in a process of its own.
        save_every: as of ``Run``.

    Raises:
        DataError: as of ``variants`` and ``train_emotion``, no faces to measure on, no votes to
            take away, or the folder holds the ablation of another recipe.
        Interrupted: by the user; the same call goes on.
    """
    recipes = variants(base, parts)
    if votes is None and "FER+ votes" in recipes:
        raise DataError("without --votes there are no FER+ votes to take away")
    if not (faces.splits == _SPLIT).any():
        raise DataError(f"the data has no face in {_SPLIT} to measure on")
    _claim(folder, base, votes is not None)
    names, planned = [], []
    for seed in seeds:
        for name, recipe in recipes.items():
            run = folder / f"{'_'.join(name.lower().split())}-{seed}"
            names.append(name)
            planned.append((replace(recipe, seed=seed), Run(run, data_name, save_every=save_every)))
    if jobs == 1:
        figures = [_figures(faces, votes, recipe, run) for recipe, run in planned]
    else:
        # Not forked: CUDA does not survive that.
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            waiting = [pool.submit(_figures, faces, votes, *each) for each in planned]
            figures = [each.result() for each in waiting]
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in recipes}
    for name, values in zip(names, figures, strict=True):
        measured[name].append(values)
    return summarise(base, seeds, measured)


def _claim(folder: Path, base: EmotionRecipe, votes: bool) -> None:
    """Keep runs of one base apart from those of another."""
    plan = {"recipe": _without_seed(base), "votes": votes}
    path = folder / _PLAN_FILE
    if path.exists() and json.loads(path.read_text("utf-8")) != json.loads(json.dumps(plan)):
        raise DataError(f"{folder}: holds the ablation of another recipe; choose another folder")
    write_json(path, plan)


def _without_seed(base: EmotionRecipe) -> dict[str, Any]:
    return {name: value for name, value in base.to_dict().items() if name != "seed"}


def _figures(
    faces: FaceSet,
    votes: npt.NDArray[np.float32] | None,
    recipe: EmotionRecipe,
    run: Run,
) -> dict[str, float]:
    path = run.folder / METRICS_FILE
    if not path.exists():
        train_emotion(faces, votes, recipe, run)
    # Only the figures are wanted of a run that is done; all the weights would fill a disk.
    for file in (*run.folder.glob("*.ckpt"), *run.folder.glob("*.safetensors")):
        file.unlink()
    figures = json.loads(path.read_text("utf-8"))["splits"][_SPLIT]
    return {name: float(figures[name]) for name in _FIGURES}


def summarise(
    base: EmotionRecipe, seeds: Sequence[int], measured: Mapping[str, Sequence[Mapping[str, float]]]
) -> Ablation:
    """Means, spreads and differences of what was measured of each variant with each seed.

    The spread from run to run is taken to be the same for all variants, which makes the most of
    few seeds: a difference of two means has the 95 % interval of Student's t with the degrees of
    freedom of all variants together.
    """
    count = len(seeds)
    values = {
        figure: np.array([[run[figure] for run in runs] for runs in measured.values()])
        for figure in _FIGURES
    }
    spread: dict[str, float | None] = {}
    summary: dict[str, dict[str, Figure]] = {name: {} for name in measured}
    for figure, table in values.items():
        means = table.mean(axis=1)
        freedom = len(table) * (count - 1)
        pooled = math.sqrt(float(table.var(axis=1, ddof=1).mean())) if freedom else None
        spread[figure] = pooled
        half = (
            None
            if pooled is None
            else float(students_t.ppf(0.975, freedom)) * pooled * math.sqrt(2 / count)
        )
        for row, name in enumerate(measured):
            is_base = row == 0
            summary[name][figure] = Figure(
                values=tuple(float(value) for value in table[row]),
                mean=float(means[row]),
                spread=float(table[row].std(ddof=1)) if freedom else None,
                difference=None if is_base else float(means[row] - means[0]),
                interval=None if is_base else half,
            )
    return Ablation(_without_seed(base), tuple(seeds), _SPLIT, summary, spread)


def write_ablation(ablation: Ablation, folder: Path) -> Path:
    """Write ``ablation.json``, ``ablation.md`` and ``ablation.png``.

    Returns:
        The Markdown file's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "ablation.json", asdict(ablation))
    without = {name: each for name, each in ablation.variants.items() if name != BASE}
    plots.differences(
        {
            f"no {name}": (
                100 * (each["accuracy"].difference or 0),
                None if (half := each["accuracy"].interval) is None else 100 * half,
            )
            for name, each in without.items()
        },
        f"{ablation.split} accuracy without one part, {_runs(ablation)}",
        "difference to the whole recipe, points"
        + ("" if len(ablation.seeds) == 1 else ", with 95 % interval"),
        folder / "ablation.png",
    )
    spread = ablation.spread["accuracy"]
    recipe = ablation.recipe
    lines = [
        "# Ablation",
        "",
        f"{recipe['network']} with the {recipe['stem']} stem at {recipe['input_size']} px, "
        f"{recipe['epochs']} epochs, {_runs(ablation)}. Means over the seeds ± their standard "
        f"deviation, on {ablation.split}; differences in points to the recipe with everything, "
        + (
            "which one seed cannot tell from chance."
            if spread is None
            else "± half of their 95 % interval (Student's t, spread pooled over all variants). "
            f"From run to run the accuracy strays by {100 * spread:.2f} points (one standard "
            "deviation): a difference whose interval holds 0 means nothing."
        ),
        "",
        *markdown_table(_HEADER, [_row(n, each) for n, each in ablation.variants.items()]),
        "",
        "![differences in accuracy](ablation.png)",
        "",
    ]
    path = folder / "ablation.md"
    path.write_text("\n".join(lines), "utf-8")
    return path


def _runs(ablation: Ablation) -> str:
    count = len(ablation.seeds)
    return f"{count} seed{'s' if count > 1 else ''} each"


def _row(name: str, figures: Mapping[str, Figure]) -> tuple[str, ...]:
    accuracy, f1, ece = (figures[figure] for figure in _FIGURES)
    return (
        name if name == BASE else f"no {name}",
        _with_spread(accuracy.mean, accuracy.spread),
        _difference(accuracy),
        _with_spread(f1.mean, f1.spread),
        _difference(f1),
        _with_spread(ece.mean, ece.spread),
    )


def _with_spread(mean: float, spread: float | None) -> str:
    return f"{100 * mean:.2f}" + ("" if spread is None else f" ± {100 * spread:.2f}")


def _difference(figure: Figure) -> str:
    if figure.difference is None:
        return ""
    text = f"{100 * figure.difference:+.2f}"
    if figure.interval is None:
        return text
    text += f" ± {100 * figure.interval:.2f}"
    return f"**{text}**" if abs(figure.difference) > figure.interval else text


def main(
    data: Path,
    votes: Annotated[
        Path | None, typer.Option(help="FER+ votes (fer2013new.csv) as soft labels.")
    ] = None,
    parts: Annotated[
        list[str] | None,
        typer.Option(
            "--part", help="Take away only this part. May be repeated; without it, each in turn."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each variant.", min=1)] = 3,
    jobs: Annotated[
        int,
        typer.Option(
            help="Runs at the same time, each in a process of its own: on a GPU that one run "
            "leaves half idle.",
            min=1,
        ),
    ] = 1,
    save_every: int = 1,
    config: Annotated[
        Path,
        typer.Option("--recipe", help="The base recipe, in TOML or by its name in the package."),
    ] = Path("ablation"),
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change one setting. May be repeated.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the runs; unfinished ones go on.")
    ] = Path("runs/ablation"),
    report: Annotated[
        Path, typer.Option(help="Folder for the table, the picture and the figures.")
    ] = Path("training/reports/ablation"),
    data_name: str | None = None,
) -> None:
    """Measure what each part of a recipe is worth, by training without it.

    Parts: attention, augmentation, jitter, mixup, label smoothing, FER+ votes, EMA, class
    weighting. More seeds may be asked for later: what is trained already stays.
    """

    base = EmotionRecipe.load(config, changes(settings))
    faces = read_faces(data, side=base.input_size)
    shares = read_votes(votes, faces) if votes else None
    chosen = parts or [part for part in parts_of(base) if votes or part != "FER+ votes"]
    result = ablate(
        faces,
        shares,
        base,
        parts=chosen,
        seeds=range(1, seeds + 1),
        folder=output,
        data_name=data_name,
        jobs=jobs,
        save_every=save_every,
    )
    typer.echo(write_ablation(result, report))


if __name__ == "__main__":
    typer.run(main)
