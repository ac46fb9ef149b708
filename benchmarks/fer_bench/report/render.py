"""Tables as people and programs read them: the terminal, Markdown, CSV and one HTML page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from importlib import resources
from statistics import median

import jinja2
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from fer_bench.quality.tracking import TrackingResult
from fer_bench.report.plots import draw, to_svg
from fer_bench.report.tables import (
    COLOURS,
    IN_README,
    Table,
    all_tables,
    comparison_table,
    csv_lines,
    readme_table,
    targets_table,
    tracking_tables,
)
from fer_bench.results import words
from fer_bench.results.compare import Comparison
from fer_bench.results.result import Result

_DOUBTS = 8
_LABEL = 12


def show_result(result: Result, console: Console) -> None:
    """Print provenance, tables, doubts and what was skipped."""
    for what, said in words.provenance(result).items():
        console.print(escape(f"{what}: {said}"), style="dim", soft_wrap=True)
    _show(all_tables(result), console)
    for skipped in result.skipped:
        console.print(
            f"[yellow]skipped[/] {escape(skipped.what)}: {escape(skipped.reason)}", soft_wrap=True
        )
    doubts = words.doubts(result)
    shown = max(_DOUBTS, len(result.notes))
    if doubts:
        console.print("\n[bold red]These figures are doubtful:[/]")
    _warn(doubts[:shown], console)
    if len(doubts) > shown:
        _warn([f"and {len(doubts) - shown} more, which --json keeps"], console)


def show_comparison(comparison: Comparison, console: Console) -> None:
    """Print every pair of rows and what follows from it."""
    _show([comparison_table(comparison)], console)
    for label, names in (
        ("only in the first", comparison.only_before),
        ("only in the second", comparison.only_after),
    ):
        for name in names:
            console.print(f"[yellow]{label}[/]: {escape(name)}", soft_wrap=True)
    _warn(comparison.warnings, console)


def show_tracking(results: Sequence[TrackingResult], console: Console) -> None:
    """Print how well faces kept their track ids."""
    _show(tracking_tables(results), console)


def _warn(lines: Iterable[str], console: Console) -> None:
    for line in lines:
        console.print(f"[red]  ! {escape(line)}[/]", soft_wrap=True)


def _show(tables: Iterable[Table], console: Console) -> None:
    for table in tables:
        if not table.body:
            continue
        console.print(escape(table.title), style="bold", soft_wrap=True, highlight=False)
        rich = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for column, head in enumerate(table.head):
            figures = table.is_number(column)
            rich.add_column(
                escape(head),
                justify="right" if figures else "left",
                no_wrap=figures,
                overflow="fold",
                # Without it many columns would leave a word of the label a line each.
                min_width=_LABEL if column == 0 else 0,
            )
        for row in table.body:
            rich.add_row(
                *(
                    f"[{COLOURS[cell]}]{cell}[/]" if cell in COLOURS else escape(cell)
                    for cell in row
                )
            )
        console.print(rich)


def to_csv(result: Result) -> str:
    """One line per row of the result, without its samples; an empty cell is unknown."""
    out = io.StringIO()
    lines = csv_lines(result)
    if lines:
        writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return out.getvalue()


def to_markdown(result: Result) -> str:
    """Tables with the machine and the conditions that they belong to."""
    parts = [_markdown(table) for table in all_tables(result)]
    parts.append("\n".join(f"- {what}: {said}" for what, said in words.provenance(result).items()))
    return "\n\n".join([*parts, *_doubtful(words.doubts(result))]) + "\n"


def to_readme(result: Result) -> str:
    """What a reader chooses by, on one screen: calls, other packages, targets, the machine."""
    tables = [readme_table(result), targets_table(result.targets)]
    parts = [_markdown(table) for table in tables if table.body]
    parts.append(words.conditions_line(result))
    return "\n\n".join([*parts, *_doubtful(words.doubts(result, list(IN_README)))]) + "\n"


def _doubtful(doubts: Sequence[str]) -> list[str]:
    if not doubts:
        return []
    return ["**These figures are doubtful:**", "\n".join(f"- {doubt}" for doubt in doubts)]


def _markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = ["---:" if table.is_number(column) else "---" for column in range(len(table.head))]
    return "\n".join([f"**{table.title}**\n", line(table.head), line(rule), *map(line, table.body)])


def to_html(result: Result) -> str:
    """One page that holds everything: no file beside it, nothing from the network."""
    template = resources.files("fer_bench").joinpath("report/page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        result=result,
        cards=_cards(result),
        pictures=[to_svg(figure) for figure in draw(result).values()],
        tables=all_tables(result),
        row_doubts=words.doubts(result)[len(result.notes) :],
        provenance=words.provenance(result),
    )


def _cards(result: Result) -> list[tuple[str, str]]:
    """The figures that a reader wants first, each with what it is."""
    cards = []
    for row in result.rows:
        conditions = row.conditions
        if conditions.subject == "fer-sdk" and conditions.scenario == "single-stream":
            said = ", ".join(words.settings(conditions).values())
            cards.append((f"{words.number(row.latency.p50)} ms", f"p50 of predict: {said}"))
            if row.accuracy is not None:
                source = f"accuracy on {row.accuracy.split} ({row.accuracy.source})"
                cards.append((words.share(row.accuracy.value), source))
            break
    for settings, starts in list(words.cold_groups(result).items())[:1]:
        middle = median(start.to_first_result_ms for start in starts)
        what = f"median cold start to the first answer: {', '.join(settings)}"
        cards.append((f"{middle / 1e3:.2f} s", what))
        peaks = [start.peak_rss_bytes for start in starts if start.peak_rss_bytes]
        if peaks:
            cards.append((f"{max(peaks) / 1e6:.0f} MB", "peak memory of a fresh process"))
    return cards
