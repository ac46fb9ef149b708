"""The tables of a result: one description for the terminal, Markdown, CSV and the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from msgspec.structs import asdict

from fer_bench.quality.tracking import TrackingResult
from fer_bench.results.compare import Comparison
from fer_bench.results.result import Model, Result, Row, Target
from fer_bench.results.words import (
    COLD_PARTS,
    UNKNOWN,
    apart,
    cold_groups,
    number,
    plural,
    settings,
    share,
)

COLOURS = {
    "missed": "bold red",
    "slower": "bold red",
    "faster": "bold green",
    "same": "dim",
    "unclear": "yellow",
}
"""Of a cell with such a word."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text.

    Attributes:
        title: what it shows.
        head: names of the columns.
        body: rows of cells.
        words: which columns are words; the others are figures, to the right.
    """

    title: str
    head: Sequence[str]
    body: Sequence[Sequence[str]]
    words: Sequence[int] = (0,)

    def is_number(self, column: int) -> bool:
        """Whether a column is aligned to the right."""
        return column not in self.words


class _Column(NamedTuple):
    """A figure of a row: by what name in CSV and in tables (none: in CSV alone), and its form."""

    name: str
    head: str
    of: Callable[[Row], float | None]
    form: Callable[[float | None], str] = number


_COLUMNS = (
    _Column("count", "n", lambda row: row.latency.count, str),
    _Column("mean_ms", "", lambda row: row.latency.mean),
    _Column("sd_ms", "", lambda row: row.latency.sd),
    _Column("min_ms", "", lambda row: row.latency.min),
    _Column("p50_ms", "p50 ms", lambda row: row.latency.p50),
    _Column("p90_ms", "p90", lambda row: row.latency.p90),
    _Column("p95_ms", "p95", lambda row: row.latency.p95),
    _Column("p99_ms", "p99", lambda row: row.latency.p99),
    _Column("max_ms", "max", lambda row: row.latency.max),
    _Column("images_per_second", "images/s", lambda row: row.images_per_second),
    _Column("faces_per_second", "faces/s", lambda row: row.faces_per_second),
    _Column(
        "dropped",
        "dropped",
        lambda row: row.camera.dropped / row.camera.offered if row.camera else None,
        share,
    ),
    _Column("times_floor", "x floor", lambda row: row.limit.times_floor if row.limit else None),
    _Column(
        "accuracy", "accuracy", lambda row: row.accuracy.value if row.accuracy else None, share
    ),
)
_TITLES = {
    "single-stream": "single-stream, predict on a decoded array",
    "stages": "stages, predict on the bytes of a JPEG file",
    "inference": "inference, the three networks alone",
    "multi-thread": "multi-thread, callers that share one pipeline",
    "multi-process": "multi-process, callers that have a pipeline each",
    "offline": "offline, predict_batch on decoded arrays",
    "camera": "camera, from a frame's arrival to its answer",
    "model": "model, faces that are cut out already",
    "dynamic-batch": "dynamic-batch, another number of cut out faces in each run of a model",
    "cuda-model": "cuda-model, with the copies to and from the device apart",
    "package": "package, another package's whole call on a decoded array",
}
_PARTS = frozenset({"stages", "cuda-model"})
"""Scenarios whose rows are parts of one call: those of one call make one table."""
IN_README = {
    "single-stream": "predict on an array",
    "multi-thread": "predict from several threads",
    "package": "its whole call on an array",
}
"""Scenarios of the README's table, in its words."""


def all_tables(result: Result) -> list[Table]:
    """Everything that a result has figures for."""
    tables = [
        targets_table(result.targets),
        *rows_tables(result),
        cold_table(result),
        peaks_table(result),
        models_table(result.models),
    ]
    return [table for table in tables if table.body]


def csv_lines(result: Result) -> list[dict[str, object]]:
    """A line for each row of the result, without its samples; None is unknown."""
    return [
        {
            **asdict(row.conditions),
            "provider": row.provider,
            "faces_found": row.faces_found,
            **{column.name: column.of(row) for column in _COLUMNS},
            "notes": "; ".join(row.notes),
        }
        for row in result.rows
    ]


def rows_tables(result: Result) -> list[Table]:
    """A table for each scenario; what all its rows share stands in the title, once."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in result.rows:
        one = row.conditions
        key: tuple[str, ...] = (one.scenario,)
        if one.scenario in _PARTS:
            key += tuple(settings(one).values())
        elif one.scenario == "model":
            key += (one.stage,)
        groups.setdefault(key, []).append(row)
    return [_rows_table(key[0], rows) for key, rows in groups.items()]


def _rows_table(scenario: str, rows: Sequence[Row]) -> Table:
    shared, labels = apart(
        [
            {"subject": one.subject, "stage": one.stage, **settings(one)}
            for one in (row.conditions for row in rows)
        ]
    )
    if len(rows) == 1:
        # A table of one row still has to say what the row is.
        labels = [shared.pop("stage")]
    columns = [
        column
        for column in _COLUMNS
        # A p99 may be unknown in every row: a reader looks for it all the same.
        if column.head
        and (column.name == "p99_ms" or any(column.of(row) is not None for row in rows))
    ]
    if all(row.images_per_second == row.faces_per_second for row in rows):
        # With one face in each image they say the same.
        columns = [column for column in columns if column.name != "faces_per_second"]
    return Table(
        _title(_TITLES[scenario], shared),
        ["", *(column.head for column in columns)],
        [
            [label, *(column.form(column.of(row)) for column in columns)]
            for label, row in zip(labels, rows, strict=True)
        ],
    )


def _title(what: str, shared: Mapping[str, str]) -> str:
    return ": ".join([what, ", ".join(shared.values())]).removesuffix(": ")


def readme_table(result: Result) -> Table:
    """What a reader chooses by: calls of ours and of other packages."""
    rows = [row for row in result.rows if row.conditions.scenario in IN_README]
    shared, labels = apart(
        [
            {
                "subject": one.subject,
                "what": one.stage if one.stage == "given boxes" else IN_README[one.scenario],
                **settings(one),
            }
            for one in (row.conditions for row in rows)
        ]
    )
    body = [
        [
            label,
            number(row.latency.p50),
            number(row.latency.p99),
            number(row.images_per_second),
            share(row.accuracy.value if row.accuracy else None),
        ]
        for label, row in zip(labels, rows, strict=True)
    ]
    head = ["", "p50 ms", "p99 ms", "images/s", "accuracy"]
    return Table(_title("Speed", shared), head, body)


def targets_table(targets: Sequence[Target]) -> Table:
    """What the pipeline is held to."""
    verdicts = {None: "not measured", True: "met", False: "missed"}
    body = [
        [
            one.what,
            number(one.value)
            + ("" if one.low is None else f" ({number(one.low)} to {number(one.high)})"),
            f"{one.direction} {number(one.limit)}",
            one.unit,
            verdicts[one.met],
            one.basis,
        ]
        for one in targets
    ]
    head = ["target", "measured", "limit", "unit", "", "from"]
    return Table("Targets: in brackets the 99 % interval", head, body, words=(0, 3, 4, 5))


def cold_table(result: Result) -> Table:
    """Fresh processes, a pipeline a line, medians in ms."""
    groups = cold_groups(result)
    shared, labels = apart([dict(enumerate(words)) for words in groups])
    body = []
    for label, starts in zip(labels, groups.values(), strict=True):
        held = [one.peak_rss_bytes / 1e6 for one in starts if one.peak_rss_bytes is not None]
        body.append(
            [
                label,
                str(len(starts)),
                *(number(median(of(one) for one in starts)) for of in COLD_PARTS.values()),
                number(max(one.to_first_result_ms for one in starts)),
                number(median(one.second_call_ms for one in starts)),
                number(max(held, default=None)),
            ]
        )
    head = ["", "n", *COLD_PARTS, "most", "2nd", "peak MB"]
    return Table(
        _title("Cold start, a fresh process to its first result, medians in ms", shared), head, body
    )


def peaks_table(result: Result) -> Table:
    """What the machine can do at most."""
    peaks = result.peaks
    head = ["", *(plural(peak.threads, "thread") for peak in peaks)]
    body = []
    if peaks:
        body = [
            ["fp32, 10^9 multiply-adds/s", *(number(peak.fp32_gmacs) for peak in peaks)],
            ["int8, 10^9 multiply-adds/s", *(number(peak.int8_gmacs) for peak in peaks)],
        ]
        for size in sorted(peaks[0].bandwidth, key=int):
            label = f"copying {int(size) / 2**20:g} MiB, 10^9 bytes/s"
            body.append([label, *(number(peak.bandwidth[size] / 1e9) for peak in peaks)])
    return Table("Measured peaks of this machine", head, body)


def models_table(models: Sequence[Model]) -> Table:
    """The model files that ran, one a column."""
    work = [one.operations for one in models]
    facts: dict[str, list[object]] = {
        "file": [one.file for one in models],
        "version": [one.version for one in models],
        "precision": [one.precision for one in models],
        "input, pixels": [one.input_size for one in models],
        "int8 multiply-adds a face, 10^6": [one and number(one.int8_macs / 1e6) for one in work],
        "float multiply-adds a face, 10^6": [one and number(one.float_macs / 1e6) for one in work],
        "weights, MiB": [one and number(one.weight_bytes / 2**20) for one in work],
        "figures of the file": [_quality(one.metrics) for one in models],
        "sha256": [one.sha256[:12] for one in models],
    }
    body = [[what, *(str(one or UNKNOWN) for one in of)] for what, of in facts.items()]
    head = ["", *(one.name for one in models)]
    return Table("Models", head, body if models else [], words=range(len(head)))


def _quality(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """The one figure of each split that says most; the rest is in the JSON."""
    found = []
    for split, figures in metrics.items():
        if "accuracy" in figures:
            found.append(f"{split}: accuracy {share(figures['accuracy'])}")
        elif "error" in figures:
            found.append(f"{split}: error {number(figures['error'])}")
    return "; ".join(found) or UNKNOWN


def comparison_table(comparison: Comparison) -> Table:
    """Every pair of series and what follows from it."""
    body = [
        [
            one.what,
            number(one.before),
            number(one.after),
            one.unit,
            f"{one.ratio:.3f}",
            f"{one.low:.3f} to {one.high:.3f}",
            one.verdict,
        ]
        for one in comparison.differences
    ]
    head = ["row", "first p50", "second p50", "", "ratio", "interval", "verdict"]
    return Table("Second result over first", head, body, words=(0, 3, 6))


def tracking_tables(results: Sequence[TrackingResult]) -> list[Table]:
    """How well faces kept their track ids, a line for each kind of scene and its setting."""
    head = ["scene", "fps", "scenes", "people", "found", "switches", "mixed", "away"]
    boxes, pictures = [], []
    for one in results:
        found = share(one.seen / one.visible) if one.visible else UNKNOWN
        counts = (one.scenes, one.people, found, one.switches, one.mixed, one.away)
        line = [one.scene, f"{one.rate:.0f}", *map(str, counts)]
        if one.detect_every is None:
            boxes.append(line)
        else:
            pictures.append([*line, str(one.detect_every), number(one.off)])
    return [
        Table("Boxes with a detector's noise", head, boxes),
        Table(
            "Pictures; the detector on every Nth frame, off in sides of the face",
            [*head, "every", "off"],
            pictures,
        ),
    ]
