"""A result as JSON, under its schema, as tables, as pictures and as a page."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import bench_results
import jsonschema
import msgspec
import pytest
from msgspec.structs import replace

from fer_bench.report.plots import draw
from fer_bench.report.render import to_csv, to_html, to_markdown
from fer_bench.report.tables import rows_tables
from fer_bench.results import words
from fer_bench.results.files import read_result, schema, write_result
from fer_sdk.errors import DataError


def test_a_result_keeps_the_published_schema() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())
    validator.validate(msgspec.to_builtins(bench_results.full()))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plain: plain.pop("provenance"),
        lambda plain: plain.update(format=2),
        lambda plain: plain["rows"][0]["latency"].update(p50=None),
        lambda plain: plain["rows"][0]["conditions"].update(scenario="elsewhere"),
        lambda plain: plain["rows"][0].update(rounds_ms=[1, 2]),
        lambda plain: plain.update(more=1),
    ],
)
def test_schema_and_reader_refuse_the_same(spoil: Any, tmp_path: Path) -> None:
    plain = msgspec.to_builtins(bench_results.full())
    spoil(plain)
    assert not jsonschema.Draft202012Validator(schema()).is_valid(plain)
    path = tmp_path / "spoiled.json"
    path.write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(str(path))):
        read_result(path)


def test_written_and_read_is_the_same(tmp_path: Path) -> None:
    result = bench_results.full()
    write_result(result, tmp_path / "a.json")
    assert read_result(tmp_path / "a.json") == result


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "truncated"), ("[]", "not a fer-bench result"), ('{"format": 1}', "provenance")],
)
def test_what_is_no_result_says_why(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=reason):
        read_result(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_result(tmp_path / "none.json")


def test_csv_has_a_line_per_row_and_empty_cells_for_the_unknown() -> None:
    result = bench_results.full()
    lines = list(csv.DictReader(io.StringIO(to_csv(result))))
    assert len(lines) == len(result.rows)
    for line, row in zip(lines, result.rows, strict=True):
        assert float(line["p50_ms"]) == row.latency.p50
        assert line["scenario"] == row.conditions.scenario
        assert line["fps"] == ("" if row.conditions.fps is None else "30.0")
        assert line["dropped"] == ("" if row.camera is None else "0.175")


def test_markdown_tables_are_whole() -> None:
    result = bench_results.full()
    text = to_markdown(result)
    blocks = [block for block in text.split("\n\n") if block.startswith("| ")]
    assert len(blocks) >= 5
    for block in blocks:
        # A pipe inside a cell must not make a column.
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1
    assert "Some CPU" in text
    assert "63.2 %" in text
    assert "| odd | note" in text


def test_a_table_says_the_shared_conditions_once() -> None:
    tables = {table.title: table for table in rows_tables(bench_results.full())}
    (title,) = (title for title in tables if title.startswith("multi-thread"))
    assert "640x480" in title
    assert [line[0] for line in tables[title].body] == ["1 caller", "2 callers", "4 callers"]
    (stages,) = (title for title in tables if title.startswith("stages"))
    assert [line[0] for line in tables[stages].body] == ["decode", "detect", "end to end"]


def test_p99_is_shown_as_unknown() -> None:
    result = bench_results.result(bench_results.row(bench_results.CONDITIONS, [[1.0] * 20]))
    (table,) = rows_tables(result)
    assert table.body[0][table.head.index("p99")] == words.UNKNOWN


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.04567, "0.0457"),
        (1.23456, "1.23"),
        (12.3456, "12.3"),
        (123.456, "123"),
        (98765.4, "98765"),
        (0.000012, "1.2e-05"),
    ],
)
def test_figures_have_three_digits(value: float | None, text: str) -> None:
    assert words.number(value) == text


def test_pictures_are_drawn_for_what_is_there() -> None:
    figures = draw(bench_results.full())
    assert {"stages", "callers"} <= set(figures)
    assert "offline" not in figures
    stages = figures["stages"].axes[0]
    labels = [label.get_text() for label in stages.get_yticklabels()]
    assert labels == ["decode", "detect", "end to end"]
    callers = figures["callers"].axes[1].lines[0]
    assert list(callers.get_xdata()) == [1, 2, 4]
    assert list(callers.get_ydata()) == [190.0, 380.0, 760.0]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_needs_nothing_from_elsewhere() -> None:
    result = bench_results.full()
    hostile = replace(result, notes=['<script>alert("x")</script>'])
    text = to_html(hostile)
    page = _Page()
    page.feed(text)
    assert "script" not in page.tags
    assert 'alert("x")' in page.text
    assert page.tags.count("svg") == len(draw(result))
    # Inside an SVG everything refers to the page itself.
    assert all(link.startswith("#") for link in page.links)
    assert "url(http" not in text
    for row in result.rows:
        assert words.number(row.latency.p50) in page.text
    assert "63.2 %" in page.text
