"""A result as CSV for programs and as Markdown for a README."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict

from fer_bench.report import layout
from fer_bench.report.layout import Table
from fer_bench.results.result import Result


def to_csv(result: Result) -> str:
    """One line per row of the result, without its samples; an empty cell is unknown."""
    lines: list[dict[str, object]] = [
        {
            **asdict(row.conditions),
            "provider": row.provider,
            "faces_found": row.faces_found,
            **{
                f"{what}_ms" if what != "count" else what: value
                for what, value in asdict(row.latency).items()
            },
            "images_per_second": row.images_per_second,
            "faces_per_second": row.faces_per_second,
            "frames_offered": row.camera.offered if row.camera else None,
            "frames_dropped": row.camera.dropped if row.camera else None,
            "floor_ms": row.limit.floor_ms if row.limit else None,
            "times_floor": row.limit.times_floor if row.limit else None,
            "accuracy": row.accuracy.value if row.accuracy else None,
            "accuracy_split": row.accuracy.split if row.accuracy else None,
            "accuracy_source": row.accuracy.source if row.accuracy else None,
            "notes": "; ".join(row.notes),
        }
        for row in result.rows
    ]
    out = io.StringIO()
    if lines:
        writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return out.getvalue()


def to_markdown(result: Result) -> str:
    """Tables with the machine and the conditions that they belong to."""
    parts = [
        _markdown(table)
        for table in (
            layout.targets_table(result),
            *layout.rows_tables(result),
            layout.cold_table(result),
            layout.peaks_table(result),
        )
        if table is not None and table.body
    ]
    parts.append("\n".join(f"- {line}" for line in layout.provenance_lines(result)))
    doubts = layout.warnings(result)
    if doubts:
        parts.append(
            "**These figures are doubtful:**\n\n" + "\n".join(f"- {one}" for one in doubts)
        )
    return "\n\n".join(parts) + "\n"


def to_readme(result: Result) -> str:
    """What a reader chooses by, on one screen: calls, other packages, targets, the machine."""
    tables = [layout.readme_table(result), layout.targets_table(result)]
    parts = [_markdown(table) for table in tables if table is not None]
    parts.append(layout.conditions_line(result))
    doubts = layout.readme_doubts(result)
    if doubts:
        parts.append(
            "**These figures are doubtful:**\n\n" + "\n".join(f"- {one}" for one in doubts)
        )
    return "\n\n".join(parts) + "\n"


def _markdown(table: Table) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = ["---:" if numeric else "---" for numeric in table.numeric]
    return "\n".join([f"**{table.title}**\n", line(table.head), line(rule), *map(line, table.body)])
