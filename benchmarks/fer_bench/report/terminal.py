"""A result as people read it in a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from fer_bench.quality.tracking import TrackingResult
from fer_bench.report import layout
from fer_bench.report.layout import Table
from fer_bench.results.compare import Comparison
from fer_bench.results.result import Result

_DOUBTS = 8
_LABEL = 12
_COLOURS = {"slower": "bold red", "faster": "bold green", "same": "dim", "unclear": "yellow"}


def show_result(result: Result, console: Console) -> None:
    """Print provenance, tables, doubts and what was skipped."""
    for line in layout.provenance_lines(result):
        console.print(escape(line), style="dim", soft_wrap=True)
    tables = (
        layout.targets_table(result),
        *layout.rows_tables(result),
        layout.cold_table(result),
        layout.peaks_table(result),
        layout.models_table(result),
    )
    for table in tables:
        if table is not None and table.body:
            console.print(escape(table.title), style="bold", soft_wrap=True, highlight=False)
            console.print(_rich(table))
    for skipped in result.skipped:
        console.print(
            f"[yellow]skipped[/] {escape(skipped.what)}: {escape(skipped.reason)}", soft_wrap=True
        )
    doubts = layout.warnings(result)
    if doubts:
        console.print("\n[bold red]These figures are doubtful:[/]")
        shown = max(_DOUBTS, len(result.notes))
        for doubt in doubts[:shown]:
            console.print(f"[red]  ! {escape(doubt)}[/]", soft_wrap=True)
        if len(doubts) > shown:
            console.print(f"[red]  ! and {len(doubts) - shown} more, which --json keeps[/]")


def show_comparison(comparison: Comparison, console: Console) -> None:
    """Print every pair of rows and what follows from it."""
    table = RichTable(title="Second result over first", title_justify="left")
    for head, right in (
        ("row", False),
        ("first p50", True),
        ("second p50", True),
        ("", False),
        ("ratio", True),
        ("interval", True),
        ("verdict", False),
    ):
        table.add_column(head, justify="right" if right else "left", overflow="fold")
    for one in comparison.differences:
        colour = _COLOURS[one.verdict]
        table.add_row(
            escape(one.what),
            layout.number(one.before),
            layout.number(one.after),
            one.unit,
            f"{one.ratio:.3f}",
            f"{one.low:.3f} to {one.high:.3f}",
            f"[{colour}]{one.verdict}[/]",
        )
    console.print(table)
    for label, names in (
        ("only in the first", comparison.only_before),
        ("only in the second", comparison.only_after),
    ):
        for name in names:
            console.print(f"[yellow]{label}[/]: {escape(name)}", soft_wrap=True)
    for warning in comparison.warnings:
        console.print(f"[red]  ! {escape(warning)}[/]", soft_wrap=True)


def show_tracking(results: list[TrackingResult], console: Console) -> None:
    """Print how well faces kept their numbers, a line for each kind of scene and its setting."""
    boxes = [one for one in results if one.detect_every is None]
    pictures = [one for one in results if one.detect_every is not None]
    for title, some in (
        ("Boxes with a detector's noise", boxes),
        ("Pictures; the detector on every Nth frame, off in sides of the face", pictures),
    ):
        if not some:
            continue
        table = RichTable(
            title=title,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        table.add_column("scene", no_wrap=True)
        more = ("every", "off") if some is pictures else ()
        for head in ("fps", "scenes", "people", "found", "switches", "mixed", "away", *more):
            table.add_column(head, justify="right", no_wrap=True)
        for one in some:
            found = f"{one.seen / one.visible:.1%}" if one.visible else ""
            counts = (one.scenes, one.people, found, one.switches, one.mixed, one.away)
            off = "" if one.off is None else f"{one.off:.3f}"
            rest = (str(one.detect_every), off) if more else ()
            table.add_row(one.scene, f"{one.rate:.0f}", *map(str, counts), *rest)
        console.print(table)


def _rich(table: Table) -> RichTable:
    rich = RichTable(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for head, numeric in zip(table.head, table.numeric, strict=True):
        rich.add_column(
            escape(head),
            justify="right" if numeric else "left",
            no_wrap=numeric,
            overflow="fold",
            # Without it many columns would leave a word of the label a line each.
            min_width=0 if numeric else _LABEL,
        )
    for row in table.body:
        rich.add_row(*(escape(cell) for cell in row))
    return rich
