"""Pictures of what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke

from fer_sdk.errors import DataError
from fer_training.evaluation.metrics import EmotionFigures, ReliabilityBin

_BLUE, _ORANGE, _GREEN, _GRAY = "#2f6db0", "#d9772b", "#3d9a62", "#8a8f98"
_DPI = 150


def confusion(figures: EmotionFigures, title: str, path: Path) -> None:
    """Which label was given for which, as shares of each true label's faces."""
    names = list(figures.counts)
    counts = np.array(figures.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.6 + 0.62 * len(names)
    figure = Figure(layout="constrained", figsize=(side, side))
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(shares.shape):
        share = shares[row, column]
        axes.text(
            column,
            row,
            f"{100 * share:.0f}",
            ha="center",
            va="center",
            color="white" if share > 0.5 else "black" if counts[row, column] else "#c4c8cd",
            fontweight="bold" if row == column else "normal",
        )
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axes.set_yticks(range(len(names)), [f"{n} ({figures.counts[n]})" for n in names])
    axes.set_xlabel("given")
    axes.set_ylabel("true (faces)")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{title}\nper cent of each row; accuracy {100 * figures.accuracy:.1f} %")
    _save(figure, path)


def reliability_diagram(bins: Sequence[ReliabilityBin], ece: float, title: str, path: Path) -> None:
    """How often a confidence is right, and how many faces got it."""
    figure = Figure(layout="constrained", figsize=(5.4, 6.2))
    above, below = figure.subplots(2, height_ratios=[3, 1], sharex=True)
    filled = [each for each in bins if each.accuracy is not None and each.confidence is not None]
    middles = [100 * (each.low + each.high) / 2 for each in filled]
    width = 100 / len(bins) * 0.92
    accuracy = np.array([100 * (each.accuracy or 0) for each in filled])
    confidence = np.array([100 * (each.confidence or 0) for each in filled])
    both = np.minimum(accuracy, confidence)
    above.bar(middles, both, width, color=_BLUE, label="right")
    for gap, colour, what in (
        (confidence - both, _ORANGE, "said, but not right"),
        (accuracy - both, _GREEN, "right, but not said"),
    ):
        above.bar(middles, gap, width, bottom=both, color=colour, alpha=0.6, label=what)
    above.plot([0, 100], [0, 100], color=_GRAY, linestyle="--", linewidth=1)
    above.set_ylabel("accuracy, %")
    above.set_ylim(0, 100)
    above.legend(loc="upper left", frameon=False)
    below.bar(middles, [each.faces for each in filled], width, color=_GRAY)
    below.set_ylabel("faces")
    below.set_xlabel("confidence, %")
    below.set_xlim(0, 100)
    for axes in (above, below):
        _plain(axes)
    figure.suptitle(f"{title}\nexpected calibration error {100 * ece:.1f} %", fontsize=12)
    _save(figure, path)


def per_class(figures: EmotionFigures, title: str, path: Path) -> None:
    """Recall and precision of each label."""
    names = list(figures.counts)
    figure = Figure(layout="constrained", figsize=(6.8, 0.62 * len(names) + 1.5))
    axes = figure.subplots()
    at = np.arange(len(names))
    for offset, values, colour, what in (
        (-0.19, figures.recall, _BLUE, "recall"),
        (0.19, figures.precision, _ORANGE, "precision"),
    ):
        shares = [100 * (values[name] or 0) for name in names]
        bars = axes.barh(at + offset, shares, 0.36, color=colour, label=what)
        axes.bar_label(bars, [_per_cent(values[name]) for name in names], padding=3, fontsize=9)
    axes.set_yticks(at, [f"{name}\n{figures.counts[name]} faces" for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, 109)
    axes.set_xlabel("%")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    axes.set_title(f"{title}; macro-F1 {100 * figures.macro_f1:.1f} %", pad=30)
    _plain(axes)
    axes.tick_params(axis="y", length=0)
    _save(figure, path)


def landmark_cloud(
    images: npt.NDArray[np.uint8],
    predicted: npt.NDArray[np.float32],
    truth: npt.NDArray[np.float32],
    names: Sequence[str],
    title: str,
    path: Path,
) -> None:
    """Where predictions lie around the truth, on the mean of all the faces.

    Args:
        images: crops uint8 ``[N, S, S]``.
        predicted, truth: ``[N, 4, 2]``, as fractions of the crop.
        names: of the points.
        title: of the picture.
        path: of the file.
    """
    figure = Figure(layout="constrained", figsize=(6.2, 6.6))
    axes = figure.subplots()
    axes.imshow(images.mean(axis=0), cmap="gray", extent=(0, 1, 1, 0), interpolation="bicubic")
    centres, errors = truth.mean(axis=0), predicted - truth
    outline = [withStroke(linewidth=2.5, foreground="black")]
    for point, name in enumerate(names):
        colour = (_BLUE, _ORANGE)[point % 2]
        around = centres[point] + errors[:, point]
        axes.scatter(around[:, 0], around[:, 1], s=3, color=colour, alpha=0.25, linewidths=0)
        _ellipse(axes, centres[point] + errors[:, point].mean(axis=0), errors[:, point])
        axes.plot(*centres[point], "+", color="white", markersize=11, markeredgewidth=1.6)
        mean = float(np.linalg.norm(errors[:, point], axis=-1).mean())
        # Outward, where the neighbour's name is not.
        outward = -1 if centres[point, 0] < 0.5 else 1
        axes.annotate(
            f"{_words(name)}\n{mean:.4f}",
            centres[point],
            (38 * outward, -26),
            textcoords="offset points",
            ha="center",
            va="top",
            color="white",
            fontsize=10,
            path_effects=outline,
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(1, 0)
    axes.set_axis_off()
    axes.set_title(
        f"{title}\nprediction minus truth around the mean face; ellipses hold 95 % of the faces",
        fontsize=10,
    )
    _save(figure, path)


def _ellipse(axes: Axes, centre: npt.NDArray[np.float32], errors: npt.NDArray[np.float32]) -> None:
    values, vectors = np.linalg.eigh(np.cov(errors.T))
    # Whatever their distribution: the scale at which 95 % of the errors are inside.
    away = (errors - errors.mean(axis=0)) @ vectors / np.sqrt(np.maximum(values, 1e-12))
    scale = float(np.quantile(np.linalg.norm(away, axis=1), 0.95))
    width, height = 2 * scale * np.sqrt(np.maximum(values, 0))
    angle = float(np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0])))
    axes.add_patch(
        Ellipse(
            (float(centre[0]), float(centre[1])),
            float(width),
            float(height),
            angle=angle,
            fill=False,
            color="white",
            linewidth=1.2,
        )
    )


def landmark_faces(
    images: npt.NDArray[np.uint8],
    predicted: npt.NDArray[np.float32],
    truth: npt.NDArray[np.float32],
    title: str,
    path: Path,
    *,
    seed: int = 0,
) -> None:
    """Truth and prediction on faces: 18 drawn by lot, then the 6 that are furthest off.

    Arguments as of ``landmark_cloud``; ``seed`` is that of the lot.
    """
    error = np.linalg.norm(predicted - truth, axis=-1).mean(axis=1)
    order = np.argsort(error)
    worst = order[::-1][:6]
    rest = order[:-6] if len(order) > 6 else order[:0]
    drawn = np.random.default_rng(seed).permutation(rest)[:18]
    drawn = drawn[np.argsort(error[drawn])]
    rows = -(-len(drawn) // 6) + 1
    figure = Figure(layout="constrained", figsize=(10, 1.8 * rows + 0.8))
    grid = figure.subplots(rows, 6, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    placed = [*zip(grid[:-1].flat, drawn, strict=False), *zip(grid[-1], worst, strict=False)]
    for axes, index in placed:
        axes.imshow(images[index], cmap="gray", vmin=0, vmax=255, extent=(0, 1, 1, 0))
        for true, said in zip(truth[index], predicted[index], strict=True):
            axes.plot(*zip(true, said, strict=True), color="#ffd75e", linewidth=1)
        axes.plot(*truth[index].T, "o", mfc="none", mec="#5ee08a", markersize=6)
        axes.plot(*predicted[index].T, "x", color="#ff6b5e", markersize=5)
        axes.set_xlim(0, 1)
        axes.set_ylim(1, 0)
        axes.set_title(f"{error[index]:.3f}", fontsize=8, pad=2)
    figure.suptitle(
        f"{title}\nrings: truth, crosses: prediction; mean error above each. "
        "Drawn by lot; last row: the worst of all",
        fontsize=10,
    )
    _save(figure, path)


def degradations(errors: Mapping[str, float], title: str, path: Path) -> None:
    """Mean error by what was done to the crops."""
    figure = Figure(layout="constrained", figsize=(6.8, 0.5 * len(errors) + 1.3))
    axes = figure.subplots()
    bars = axes.barh(list(errors), list(errors.values()), 0.6, color=_BLUE)
    axes.bar_label(bars, [f"{error:.4f}" for error in errors.values()], padding=3)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.18 * max(errors.values()))
    axes.set_xlabel("mean error, of the crop")
    axes.set_title(title)
    _plain(axes)
    axes.tick_params(axis="y", length=0)
    _save(figure, path)


def curves(epochs: Path, path: Path) -> None:
    """What a run wrote about each of its epochs.

    Args:
        epochs: a run's ``epochs.jsonl``.
        path: of the picture.

    Raises:
        DataError: no such file, or not one of a run.
    """
    try:
        lines = [json.loads(line) for line in epochs.read_text("utf-8").splitlines()]
        at = [line["epoch"] for line in lines]
        names = [name for name in lines[0] if name != "epoch"]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{epochs}: not the epochs.jsonl of a run: {error}") from error
    losses = [name for name in names if name.endswith("loss")]
    others = [name for name in names if name not in losses]
    figure = Figure(layout="constrained", figsize=(9.6, 3.8))
    for axes, shown, scale, label in zip(
        figure.subplots(1, 2),
        (losses, others),
        (1, 100 if "train_accuracy" in others else 1),
        ("loss", "%" if "train_accuracy" in others else "mean error, of the crop"),
        strict=True,
    ):
        for name, colour in zip(shown, (_BLUE, _ORANGE, _GREEN), strict=False):
            values = [scale * line.get(name, float("nan")) for line in lines]
            marker = "o" if len(at) <= 30 else ""
            axes.plot(at, values, color=colour, marker=marker, markersize=3, label=_words(name))
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
        _plain(axes)
    _save(figure, path)


def differences(
    parts: Mapping[str, tuple[float, float | None]], title: str, unit: str, path: Path
) -> None:
    """Differences with their uncertainty, one a row.

    Args:
        parts: by name, the difference and the half width of its 95 % interval, if known.
        title: of the picture.
        unit: what is along the axis.
        path: of the file.
    """
    figure = Figure(layout="constrained", figsize=(6.8, 0.46 * len(parts) + 1.4))
    axes = figure.subplots()
    for row, (mean, half) in enumerate(parts.values()):
        certain = half is not None and abs(mean) > half
        colour = (_ORANGE if mean < 0 else _GREEN) if certain else _GRAY
        axes.errorbar(mean, row, xerr=half, fmt="o", color=colour, capsize=3)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(parts)), list(parts))
    axes.set_ylim(len(parts) - 0.5, -0.5)
    axes.set_xlabel(unit)
    axes.set_title(title, fontsize=11)
    _plain(axes)
    axes.tick_params(axis="y", length=0)
    _save(figure, path)


def tilts(
    degrees: Sequence[float], accuracy: Mapping[str, Sequence[float]], title: str, path: Path
) -> None:
    """Accuracy by how far the faces are tilted, a line for each way to crop them."""
    figure = Figure(layout="constrained", figsize=(6.8, 4.2))
    axes = figure.subplots()
    for (name, values), colour in zip(
        accuracy.items(), (_GRAY, _BLUE, _ORANGE, _GREEN), strict=False
    ):
        axes.plot(degrees, [100 * v for v in values], "o-", color=colour, label=name)
    axes.set_xticks(list(degrees))
    axes.set_xlabel("tilt added to the face, degrees")
    axes.set_ylabel("accuracy, %")
    axes.set_title(title)
    axes.legend(frameon=False)
    _plain(axes)
    _save(figure, path)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _words(name: str) -> str:
    return {"holdout_f1": "held-out macro-F1"}.get(
        name, name.replace("holdout", "held-out").replace("train", "training").replace("_", " ")
    )


def _per_cent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f}"


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the date and version that matplotlib would add: the same figures, the same file.
    figure.savefig(path, dpi=_DPI, bbox_inches="tight", metadata={"Software": None})
