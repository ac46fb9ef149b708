"""Pictures of a result: where the time goes, how it scales, how far the limit is."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import matplotlib as mpl
import numpy as np

# Without pyplot there is no global state, and no window system is looked for.
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fer_bench.results import words
from fer_bench.results.result import Result, Row

_BLUE, _ORANGE, _GREEN, _RED = "#2f6fb0", "#d9822b", "#3b8f5c", "#b8433f"
_WIDTH = 8.0
_BINS = 60
_SHOWN = 0.995
_BESIDE = 0.12
_ONE_STAGE = frozenset(
    {"single-stream", "inference", "multi-thread", "multi-process", "offline", "camera"}
)
"""Scenarios that say all by themselves what is timed."""
STYLE: Mapping[Any, Any] = {
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


def draw(result: Result) -> dict[str, Figure]:
    """Every picture that the result has the rows for, by name."""
    with mpl.rc_context(dict(STYLE)):
        figures = {
            "stages": _stages(result),
            "threads": _scaling(
                result, "threads", ("single-stream", "model"), "threads of one model run"
            ),
            "callers": _scaling(
                result, "workers", ("multi-thread", "multi-process"), "callers at the same time"
            ),
            "batch": _scaling(result, "batch", ("model",), "faces in one run of a model"),
            "offline": _scaling(result, "batch", ("offline",), "images in one predict_batch"),
            "faces": _scaling(result, "faces", ("single-stream",), "faces in the image"),
            "limit": _limits(result),
        }
    return {name: figure for name, figure in figures.items() if figure is not None}


def to_svg(figure: Figure) -> str:
    """The ``<svg>`` element, without the XML declaration around it."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _stages(result: Result) -> Figure | None:
    """The distribution of each stage of the first set of conditions that has stages."""
    rows = [row for row in result.rows if row.conditions.scenario == "stages"]
    if not rows:
        return None
    wanted = words.settings(rows[0].conditions)
    rows = [row for row in rows if words.settings(row.conditions) == wanted]
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
    axes.set_axisbelow(True)
    _head(figure, f"Where the time goes: {', '.join(wanted.values())}")
    return figure


def _distribution(axes: Axes, row: Row, place: int) -> None:
    samples = np.sort(np.concatenate(row.rounds_ms))
    shown = [max(value, 1e-6) for value in samples[: max(round(_SHOWN * len(samples)), 1)]]
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
        f" {words.number(middle)} ms",
        (middle, place + 0.13),
        fontsize=8,
        verticalalignment="top",
        color="#444444",
    )


def _scaling(result: Result, axis: str, scenarios: Sequence[str], label: str) -> Figure | None:
    """p50 and throughput over one condition, a line for each set of the others."""
    rows = [
        row
        for row in result.rows
        if row.conditions.scenario in scenarios and _place(row, axis) is not None
    ]
    shared, names = words.apart(
        [{what: said for what, said in _words(row).items() if what != axis} for row in rows]
    )
    lines: dict[str, list[tuple[int, Row]]] = {}
    for name, row in zip(names, rows, strict=True):
        lines.setdefault(name, []).append((_place(row, axis) or 0, row))
    lines = {
        name: sorted(line, key=itemgetter(0))
        for name, line in lines.items()
        if len({place for place, _ in line}) > 1
    }
    if not lines:
        return None
    named = list(lines) != [""]
    figure = Figure(figsize=(_WIDTH, 3.6 + 0.2 * named * len(lines)), layout="constrained")
    left, right = figure.subplots(1, 2)
    for at, (name, line) in enumerate(lines.items()):
        # Side by side, so that no line hides the spread of another.
        aside = 1 + _BESIDE * ((at + 0.5) / len(lines) - 0.5)
        places = [place * aside for place, _ in line]
        found = [row for _, row in line]
        middle = [row.latency.p50 for row in found]
        below = [
            p50 - np.percentile(np.concatenate(row.rounds_ms), 10)
            for p50, row in zip(middle, found, strict=True)
        ]
        above = [row.latency.p90 - p50 for p50, row in zip(middle, found, strict=True)]
        left.errorbar(
            places, middle, [below, above], fmt="o-", label=name, linewidth=1.4, capsize=3
        )
        rates = [row.faces_per_second or row.images_per_second or 0.0 for row in found]
        right.plot([place for place, _ in line], rates, "o-", linewidth=1.4)
    ticks = sorted({place for line in lines.values() for place, _ in line})
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel(label)
        axes.set_ylim(bottom=0)
    left.set_title("p50 of one call, ms (whiskers: p10 to p90)")
    right.set_title("faces per second")
    _head(figure, ", ".join(shared.values()))
    if named:
        figure.legend(
            *left.get_legend_handles_labels(), loc="outside lower left", fontsize=8, frameon=False
        )
    return figure


def _head(figure: Figure, text: str) -> None:
    figure.suptitle(text, fontsize=10, x=0.02, horizontalalignment="left")


def _place(row: Row, axis: str) -> int | None:
    # Where the detector missed some, the row is about the faces that it found.
    if axis == "faces" and row.faces_found:
        return row.faces_found
    value = getattr(row.conditions, axis)
    return None if value is None else int(value)


def _words(row: Row) -> dict[str, str]:
    """What a row is, by what it says about it."""
    conditions = row.conditions
    alone = conditions.scenario in _ONE_STAGE
    said = {"subject": conditions.subject, "scenario": conditions.scenario}
    return said | ({} if alone else {"stage": conditions.stage}) | words.settings(conditions)


def _limits(result: Result) -> Figure | None:
    """How many times its floor each stage, model and whole call takes."""
    # What offline adds are further batches of the same.
    rows = [
        row for row in result.rows if row.limit is not None and row.conditions.scenario != "offline"
    ]
    if not rows:
        return None
    shared, names = words.apart([_words(row) for row in rows])
    figure, axes = _figure(0.3 * len(rows) + 1.4)
    times = [row.limit.times_floor if row.limit else 0.0 for row in rows]
    colours = [_GREEN if row.limit and row.limit.bound_by == "compute" else _RED for row in rows]
    bars = axes.barh(range(len(rows)), times, color=colours, height=0.6)
    axes.bar_label(bars, [f" {words.number(factor)}x" for factor in times], fontsize=8)
    axes.axvline(1, color="#222222", linewidth=1)
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(right=axes.get_xlim()[1] * 1.08)
    axes.set_axisbelow(True)
    figure.supxlabel(
        "p50 over the least time that the measured peaks allow, which is the line at 1 "
        "(green: bound by compute, red: by memory)",
        fontsize=9,
    )
    _head(figure, f"How far from this machine's limit: {', '.join(shared.values())}")
    return figure
