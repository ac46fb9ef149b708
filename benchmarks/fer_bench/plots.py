"""Pictures of a result: where the time goes, how it scales, how far the limit is."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_bench import layout
from fer_bench.percentiles import percentile
from fer_bench.result import Conditions, Result, Row
from fer_sdk.errors import FerError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREEN, _RED = "#2f6fb0", "#d9822b", "#3b8f5c", "#b8433f"
_WIDTH = 8.0
_BINS = 60
_SHOWN = 0.995
_STYLE: Mapping[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "fer-bench",
}


class PlotsUnavailableError(FerError, RuntimeError):
    """There is no matplotlib to draw with."""


def draw(result: Result) -> dict[str, Figure]:
    """Every picture that the result has the rows for, by name.

    Raises:
        PlotsUnavailableError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise PlotsUnavailableError(
            "pictures need matplotlib: pip install 'fer-sdk[bench]'"
        ) from error
    with mpl.rc_context(dict(_STYLE)):
        figures = {
            "stages": _stages(result),
            "threads": _scaling(
                result, "threads", ("single-stream", "multi-thread"), "threads of one model run"
            ),
            "callers": _scaling(result, "workers", ("multi-thread",), "callers on one pipeline"),
            "batch": _scaling(result, "batch", ("model",), "faces in one run of a model"),
            "offline": _scaling(result, "batch", ("offline",), "images in one predict_batch"),
            "faces": _scaling(result, "faces", ("single-stream",), "faces in the image"),
            "limit": _limits(result),
        }
    return {name: figure for name, figure in figures.items() if figure is not None}


def save(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write each picture as PNG; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=150)
        written.append(path)
    return written


def to_svg(figure: Figure) -> str:
    """The ``<svg>`` element, without the XML declaration around it."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _figure(height: float) -> tuple[Figure, Axes]:
    # Without pyplot there is no global state, and no window system is looked for.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _stages(result: Result) -> Figure | None:
    """The distribution of each stage of the first set of conditions that has stages."""
    rows = [row for row in result.rows if row.conditions.scenario == "stages"]
    if not rows:
        return None
    wanted = layout.settings(rows[0].conditions)
    rows = [row for row in rows if layout.settings(row.conditions) == wanted]
    figure, axes = _figure(0.62 * len(rows) + 1.2)
    for place, row in enumerate(rows):
        _distribution(axes, row, place)
    axes.set_yticks(range(len(rows)), [row.conditions.stage for row in rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("ms (log); bar: p50, dot: p95, small dot: p99; the last 0.5 % is cut off")
    # The largest figure stands to the right of its bar.
    axes.set_xlim(right=axes.get_xlim()[1] * 1.8)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_title(f"Where the time goes: {', '.join(wanted.values())}")
    return figure


def _distribution(axes: Axes, row: Row, place: int) -> None:
    import numpy as np

    samples = sorted(value for part in row.rounds_ms for value in part)
    shown = [max(one, 1e-6) for one in samples[: max(round(_SHOWN * len(samples)), 1)]]
    edges = np.geomspace(shown[0] * 0.98, shown[-1] * 1.02, _BINS + 1)
    counts, _ = np.histogram(shown, edges)
    heights = 0.42 * counts / counts.max()
    colour = _ORANGE if row.conditions.stage == "end to end" else _BLUE
    axes.fill_between(
        edges, place - np.append(heights, heights[-1]), place, step="post", color=colour, alpha=0.55
    )
    middle = row.latency.p50
    axes.plot([middle, middle], [place - 0.45, place + 0.12], color=colour, linewidth=1.6)
    axes.plot(row.latency.p95, place, "o", color=colour, markersize=4)
    if row.latency.p99 is not None:
        axes.plot(row.latency.p99, place, "o", color=colour, markersize=2)
    axes.annotate(
        f" {layout.number(middle)} ms",
        (middle, place + 0.13),
        fontsize=8,
        verticalalignment="top",
        color="#444444",
    )


def _scaling(result: Result, axis: str, scenarios: Sequence[str], label: str) -> Figure | None:
    """Throughput and p50 over one condition, a line for each set of the others."""
    rows = [
        row
        for row in result.rows
        if row.conditions.scenario in scenarios and _place(row, axis) is not None
    ]
    shared = _shared(rows, axis)
    lines: dict[str, list[tuple[int, Row]]] = {}
    for row in rows:
        labels = _labels(row, axis).items()
        name = ", ".join(words for what, words in labels if what not in shared)
        lines.setdefault(name, []).append((_place(row, axis) or 0, row))
    lines = {
        name: sorted(line, key=lambda one: one[0])
        for name, line in lines.items()
        if len({place for place, _ in line}) > 1
    }
    if not lines:
        return None
    from matplotlib.figure import Figure

    named = list(lines) != [""]
    figure = Figure(figsize=(_WIDTH, 3.6 + 0.2 * named * len(lines)), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, line in lines.items():
        places = [place for place, _ in line]
        found = [row for _, row in line]
        left.plot(places, [row.latency.p50 for row in found], "o-", label=name, linewidth=1.4)
        left.fill_between(
            places,
            [percentile(_sorted(row), 0.1) for row in found],
            [row.latency.p90 for row in found],
            alpha=0.15,
        )
        rates = [row.faces_per_second or row.images_per_second or 0.0 for row in found]
        right.plot(places, rates, "o-", linewidth=1.4)
    ticks = sorted({place for line in lines.values() for place, _ in line})
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel(label)
        axes.set_ylim(bottom=0)
    left.set_title("p50 of one call, ms (band: p10 to p90)")
    right.set_title("faces per second")
    figure.suptitle(", ".join(shared.values()), fontsize=10, x=0.02, horizontalalignment="left")
    if named:
        figure.legend(loc="outside lower left", fontsize=8, frameon=False)
    return figure


def _place(row: Row, axis: str) -> int | None:
    # Where the detector missed some, the row is about the faces that it found.
    if axis == "faces" and row.faces_found:
        return row.faces_found
    value = getattr(row.conditions, axis)
    return None if value is None else int(value)


def _shared(rows: Sequence[Row], axis: str) -> dict[str, str]:
    labels = [_labels(row, axis) for row in rows]
    return {
        what: words
        for what, words in (labels[0] if labels else {}).items()
        if all(label.get(what) == words for label in labels)
    }


def _labels(row: Row, axis: str) -> dict[str, str]:
    one = row.conditions
    labels = {"subject": one.subject, "scenario": one.scenario, "stage": one.stage}
    labels |= layout.settings(one)
    labels.pop(axis, None)
    return labels


def _sorted(row: Row) -> list[float]:
    return sorted(value for part in row.rounds_ms for value in part)


def _limits(result: Result) -> Figure | None:
    """How many times the floor each model takes."""
    rows = [row for row in result.rows if row.limit is not None]
    if not rows:
        return None
    figure, axes = _figure(0.34 * len(rows) + 1.2)
    names = [f"{row.conditions.stage}, {', '.join(_brief(row.conditions))}" for row in rows]
    times = [row.limit.times_floor if row.limit else 0.0 for row in rows]
    colours = [_GREEN if row.limit and row.limit.bound_by == "compute" else _RED for row in rows]
    bars = axes.barh(range(len(rows)), times, color=colours, height=0.6)
    axes.bar_label(bars, [f" {layout.number(one)}x" for one in times], fontsize=8)
    axes.axvline(1, color="#222222", linewidth=1)
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set_xlim(right=axes.get_xlim()[1] * 1.08)
    axes.set_axisbelow(True)
    axes.set_xlabel("p50 over its floor (green: bound by compute, red: by memory)")
    axes.set_title("Distance from the least time that the measured peaks allow (the line at 1)")
    return figure


def _brief(conditions: Conditions) -> list[str]:
    return [
        words
        for what, words in layout.settings(conditions).items()
        if what in {"precision", "threads", "batch", "faces"}
    ]
