"""One HTML page that holds everything: no file beside it, nothing from the network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import median

from fer_bench.report import layout
from fer_bench.report.layout import Table
from fer_bench.report.plots import PlotsUnavailableError, draw, to_svg
from fer_bench.results.result import Result

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --dim: #5b6675; --line: #d9dee5;
  --paper: #ffffff; --panel: #f5f7fa; --alarm: #a6322f; --alarm-paper: #fdeeed; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --dim: #9aa6b5; --line: #343d49;
  --paper: #14181e; --panel: #1c222b; --alarm: #ff9a94; --alarm-paper: #3a1d1c; } }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p.lead { color: var(--dim); margin: 0 0 .8rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: left; border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; } th { background: var(--panel); font-weight: 600; }
td.missed { color: var(--alarm); font-weight: 600; }
th.n, td.n { text-align: right; white-space: nowrap; }
.alarm { background: var(--alarm-paper); color: var(--alarm); border-radius: 6px;
  padding: .7rem 1rem; margin: 1rem 0; } .alarm ul { margin: .3rem 0 0; padding-left: 1.2rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: 6px;
  padding: .8rem 1rem; } .card b { display: block; font-size: 1.5rem; }
.card span { color: var(--dim); font-size: .85rem; }
figure { margin: 0 0 1.2rem; background: #fff; border: 1px solid var(--line);
  border-radius: 6px; padding: .5rem; } figure svg { width: 100%; height: auto; display: block; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; margin: 0; }
dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
"""


def to_html(result: Result) -> str:
    """The page. Without matplotlib it has no pictures and says so."""
    tables = [
        layout.targets_table(result),
        *layout.rows_tables(result),
        layout.cold_table(result),
        layout.peaks_table(result),
        layout.models_table(result),
    ]
    started = result.provenance.started.replace("T", " ").removesuffix("+00:00")
    cpu = result.provenance.machine.cpu or "an unknown CPU"
    body = [
        "<h1>fer-bench</h1>",
        f'<p class="lead">{escape(cpu)}, {escape(started)} UTC</p>',
        _doubts(result),
        _cards(result),
        "<h2>Pictures</h2>",
        _figures(result),
        *(_table(table) for table in tables if table is not None and table.body),
        _skipped(result),
        "<h2>Where these figures come from</h2>",
        _provenance(result),
    ]
    inside = "\n".join(part for part in body if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>fer-bench: {escape(cpu)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{inside}\n</main>\n</body>\n</html>\n"
    )


def _cards(result: Result) -> str:
    """The figures that a reader wants first."""
    cards = []
    for row in result.rows:
        one = row.conditions
        if one.subject == "fer-sdk" and one.scenario == "single-stream":
            words = ", ".join(layout.settings(one).values())
            cards.append((f"{layout.number(row.latency.p50)} ms", f"p50 of predict: {words}"))
            if row.accuracy is not None:
                source = f"accuracy on {row.accuracy.split} ({row.accuracy.source})"
                cards.append((layout.share(row.accuracy.value), source))
            break
    for settings, starts in list(layout.cold_groups(result).items())[:1]:
        middle = median(one.to_first_result_ms for one in starts)
        cards.append(
            (
                f"{middle / 1e3:.2f} s",
                f"median cold start to the first answer: {', '.join(settings)}",
            )
        )
        peaks = [one.peak_rss_bytes for one in starts if one.peak_rss_bytes]
        if peaks:
            cards.append((f"{max(peaks) / 1e6:.0f} MB", "peak memory of a fresh process"))
    inside = "".join(
        f'<div class="card"><b>{escape(big)}</b><span>{escape(small)}</span></div>'
        for big, small in cards
    )
    return f'<div class="cards">{inside}</div>' if cards else ""


def _figures(result: Result) -> str:
    try:
        figures = draw(result)
    except PlotsUnavailableError as error:
        return f"<p>{escape(str(error))}</p>"
    return "\n".join(f"<figure>{to_svg(figure)}</figure>" for figure in figures.values())


def _table(table: Table) -> str:
    def line(tag: str, cells: list[str]) -> str:
        inside = "".join(
            f"<{tag}{_class(cell, numeric)}>{escape(cell)}</{tag}>"
            for cell, numeric in zip(cells, table.numeric, strict=True)
        )
        return f"<tr>{inside}</tr>"

    body = "\n".join(line("td", row) for row in table.body)
    what, _, conditions = table.title.partition(": ")
    return (
        f"<h2>{escape(what)}</h2>\n<p class=lead>{escape(conditions)}</p>\n"
        f'<div class="scroll"><table>\n<thead>{line("th", table.head)}</thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _class(cell: str, numeric: bool) -> str:
    if cell == layout.MISSED:
        return " class=missed"
    return " class=n" if numeric else ""


def _doubts(result: Result) -> str:
    """What concerns the whole run in full; single rows on demand, there may be many."""
    doubts = layout.warnings(result)
    if not doubts:
        return ""
    run, rows = doubts[: len(result.notes)], doubts[len(result.notes) :]
    parts = ["<b>These figures are doubtful</b>", _list(run)]
    if rows:
        parts.append(
            f"<details><summary>Notes on rows: {len(rows)}</summary>{_list(rows)}</details>"
        )
    return f'<div class="alarm">{"".join(parts)}</div>'


def _list(items: Sequence[str]) -> str:
    inside = "".join(f"<li>{escape(one)}</li>" for one in items)
    return f"<ul>{inside}</ul>" if items else ""


def _skipped(result: Result) -> str:
    if not result.skipped:
        return ""
    skipped = [f"{one.what}: {one.reason}" for one in result.skipped]
    return f"<h2>Not measured</h2>\n{_list(skipped)}"


def _provenance(result: Result) -> str:
    items = ""
    for line in layout.provenance_lines(result):
        what, _, rest = line.partition(": ")
        items += f"<dt>{escape(what)}</dt><dd>{escape(rest)}</dd>"
    return f"<dl>{items}</dl>"
