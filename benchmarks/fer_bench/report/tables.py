"""The tables of a result: one description for the terminal, Markdown, CSV and the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from msgspec.structs import asdict

from fer_bench.quality.detection_photos import RELATIVE
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
    "inference": "inference, the detector and the two models alone",
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
        conditions = row.conditions
        key: tuple[str, ...] = (conditions.scenario,)
        if conditions.scenario in _PARTS:
            key += tuple(settings(conditions).values())
        elif conditions.scenario == "model":
            key += (conditions.stage,)
        groups.setdefault(key, []).append(row)
    return [_rows_table(key[0], rows) for key, rows in groups.items()]


def _rows_table(scenario: str, rows: Sequence[Row]) -> Table:
    shared, labels = apart(
        [
            {"subject": conditions.subject, "stage": conditions.stage, **settings(conditions)}
            for conditions in (row.conditions for row in rows)
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
                "subject": conditions.subject,
                "what": conditions.stage
                if conditions.stage == "given boxes"
                else IN_README[conditions.scenario],
                **settings(conditions),
            }
            for conditions in (row.conditions for row in rows)
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
            target.what,
            number(target.value)
            + ("" if target.low is None else f" ({number(target.low)} to {number(target.high)})"),
            f"{target.direction} {number(target.limit)}",
            target.unit,
            verdicts[target.met],
            target.basis,
        ]
        for target in targets
    ]
    head = ["target", "measured", "limit", "unit", "", "from"]
    return Table("Targets: in brackets the 99 % interval", head, body, words=(0, 3, 4, 5))


def cold_table(result: Result) -> Table:
    """Fresh processes, a pipeline a line, medians in ms."""
    groups = cold_groups(result)
    shared, labels = apart([dict(enumerate(words)) for words in groups])
    body = []
    for label, starts in zip(labels, groups.values(), strict=True):
        held = [start.peak_rss_bytes / 1e6 for start in starts if start.peak_rss_bytes is not None]
        body.append(
            [
                label,
                str(len(starts)),
                *(number(median(of(start) for start in starts)) for of in COLD_PARTS.values()),
                number(max(start.to_first_result_ms for start in starts)),
                number(median(start.second_call_ms for start in starts)),
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
    work = [model.operations for model in models]
    facts: dict[str, list[object]] = {
        "file": [model.file for model in models],
        "version": [model.version for model in models],
        "precision": [model.precision for model in models],
        "input, pixels": [model.input_size for model in models],
        "int8 multiply-adds a face, 10^6": [
            model and number(model.int8_macs / 1e6) for model in work
        ],
        "float multiply-adds a face, 10^6": [
            model and number(model.float_macs / 1e6) for model in work
        ],
        "weights, MiB": [model and number(model.weight_bytes / 2**20) for model in work],
        "figures of the file": [_quality(model.metrics) for model in models],
        "sha256": [model.sha256[:12] for model in models],
    }
    body = [[what, *(str(fact or UNKNOWN) for fact in of)] for what, of in facts.items()]
    head = ["", *(model.name for model in models)]
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
            difference.what,
            number(difference.before),
            number(difference.after),
            difference.unit,
            f"{difference.ratio:.3f}",
            f"{difference.low:.3f} to {difference.high:.3f}",
            difference.verdict,
        ]
        for difference in comparison.differences
    ]
    head = ["row", "first p50", "second p50", "", "ratio", "interval", "verdict"]
    return Table("Second result over first", head, body, words=(0, 3, 6))


def tracking_tables(results: Sequence[TrackingResult]) -> list[Table]:
    """How well faces kept their track ids, a line for each kind of scene and its setting."""
    head = ["scene", "fps", "scenes", "people", "found", "switches", "mixed", "away"]
    boxes, pictures = [], []
    for result in results:
        found = share(result.seen / result.visible) if result.visible else UNKNOWN
        counts = (result.scenes, result.people, found, result.switches, result.mixed, result.away)
        line = [result.scene, f"{result.rate:.0f}", *map(str, counts)]
        if not result.pictures:
            boxes.append(line)
            continue
        sizes = [one.recall for one in result.by_size.values()]
        pictures.append(
            [
                *line,
                str(result.detect_every or "auto"),
                number(result.off),
                *("" if one is None else share(one) for one in sizes),
            ]
        )
    return [
        Table("Boxes with a detector's noise", head, boxes),
        Table(
            "Pictures; the detector on every Nth frame, off in sides of the face, found by its "
            "size in the picture",
            [*head, "every", "off", *RELATIVE],
            pictures,
        ),
    ]
