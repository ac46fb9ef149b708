"""The figures of the face detection as people read them in a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from fer_bench.quality.detection import Answers, DetectionResult


def show(result: DetectionResult, console: Console) -> None:
    """Print every table, and what it was measured on."""
    info = result.pipeline
    console.print(
        f"fer-sdk {info['fer_sdk']}, detector {info['detector']} ({info['detector_reason']}), "
        f"seed {result.seed}",
        style="dim",
        highlight=False,
        soft_wrap=True,
    )
    for title, table in (
        (f"Faces of FER2013, {result.split}", _answers(result)),
        ("Pictures without a face in which one is found", _alarms(result)),
        ("Faces found in scenes, +boxes beside them; sizes in the longer side", _reach(result)),
    ):
        if table.row_count:
            console.print(title, style="bold", highlight=False)
            console.print(table)


def _table(*heads: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for place, head in enumerate(heads):
        table.add_column(
            head, justify="right" if place else "left", no_wrap=not place, overflow="fold"
        )
    return table


def _answers(result: DetectionResult) -> Table:
    table = _table(
        "given as", "faces", "answered", "first", "again", "whole", "accuracy", "of answered",
        "given crops",
    )  # fmt: skip
    for name, one in (
        ("48x48, as they are", result.low_resolution),
        ("on a gray canvas", result.end_to_end),
    ):
        if one is not None:
            table.add_row(name, *_row(one))
    return table


def _row(one: Answers) -> tuple[str, ...]:
    return (
        str(one.pictures),
        f"{one.answered:.2%}",
        str(one.first),
        str(one.again),
        str(one.whole),
        f"{one.accuracy:.1%}",
        "" if one.accuracy_of_answered is None else f"{one.accuracy_of_answered:.1%}",
        f"{one.given_accuracy:.1%}",
    )


def _alarms(result: DetectionResult) -> Table:
    table = _table("pictures", "score from", "of", "first look", "second look", "most from")
    for one in result.false_alarms:
        table.add_row(
            one.size if one.tiles == 1 else f"{one.size}, tiles={one.tiles}",
            f"{one.threshold:g}",
            str(one.pictures),
            f"{one.first} ({one.first / one.pictures:.1%})",
            "" if one.again is None else f"{one.again} ({one.again / one.pictures:.1%})",
            ", ".join(f"{name} {count}" for name, count in list(one.sources.items())[:2]),
        )
    return table


_UNITS = {"size": "size 1/{}", "tilt": "tilt {}°", "count": "count {}"}


def _reach(result: DetectionResult) -> Table:
    columns = list(dict.fromkeys((one.face, one.tiles) for one in result.reach))
    table = _table("faces", *(f"{face}, tiles={tiles}" for face, tiles in columns))
    rows: dict[tuple[str, int], dict[tuple[str, int], str]] = {}
    for one in result.reach:
        beside = f" +{one.extra}" if one.extra else ""
        cell = f"{one.found}/{one.faces}{beside}"
        rows.setdefault((one.what, one.value), {})[one.face, one.tiles] = cell
    order = {what: place for place, what in enumerate(_UNITS)}
    for what, value in sorted(rows, key=lambda row: order[row[0]]):
        cells = rows[what, value]
        table.add_row(_UNITS[what].format(value), *(cells.get(column, "") for column in columns))
    return table
