"""The rows of a result as cells of text: the one layout of tables, Markdown and pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fer_bench.result import Conditions, Machine, Model, Operations, Result, Row

UNKNOWN = "-"

_CROWDS = frozenset({"multi-thread", "multi-process"})


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text.

    Attributes:
        title: what it shows.
        head: names of the columns.
        numeric: whether a column is aligned to the right.
        body: rows of cells.
    """

    title: str
    head: list[str]
    numeric: list[bool]
    body: list[list[str]]


def number(value: float | None, digits: int = 3) -> str:
    """A figure with so many significant digits, without an exponent."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    whole = len(str(int(abs(value))))
    if abs(value) >= 1:
        return f"{value:.{max(digits - whole, 0)}f}"
    return f"{value:.{digits}g}" if abs(value) >= 1e-4 else f"{value:.1e}"


def share(value: float | None) -> str:
    """A share as per cent."""
    return UNKNOWN if value is None else f"{100 * value:.1f} %"


def settings(conditions: Conditions) -> dict[str, str]:
    """Everything about a row but its subject, scenario and stage, in words, by what it is."""
    one = conditions
    alone = one.scenario in {"offline", "model", "cuda-model"}
    found = {
        "size": None if one.width is None else f"{one.width}x{one.height}",
        "faces": None if one.faces is None else _plural(one.faces, "face"),
        "device": one.device,
        "precision": one.precision,
        "threads": None if one.threads is None else _plural(one.threads, "thread"),
        "workers": _plural(one.workers, "caller") if one.scenario in _CROWDS else None,
        "batch": f"batch {one.batch}" if alone or one.batch > 1 else None,
        "fps": None if one.fps is None else f"{one.fps:g} frames/s",
        "detector": None if one.detector is None else f"detector {one.detector}",
    }
    return {what: words for what, words in found.items() if words is not None}


def _plural(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def name(conditions: Conditions) -> str:
    """A row in one line."""
    return (
        f"{conditions.subject}, {conditions.scenario}, {conditions.stage} "
        f"({', '.join(settings(conditions).values())})"
    )


_Column = tuple[str, Callable[[Row], str]]

_COLUMNS: Sequence[_Column] = (
    ("n", lambda row: str(row.latency.count)),
    ("p50 ms", lambda row: number(row.latency.p50)),
    ("p90", lambda row: number(row.latency.p90)),
    ("p95", lambda row: number(row.latency.p95)),
    ("p99", lambda row: number(row.latency.p99)),
    ("max", lambda row: number(row.latency.max)),
    ("images/s", lambda row: number(row.images_per_second)),
    ("faces/s", lambda row: number(row.faces_per_second)),
    ("dropped", lambda row: share(row.camera.dropped / row.camera.offered if row.camera else None)),
    ("x floor", lambda row: number(row.limit.times_floor if row.limit else None)),
    ("accuracy", lambda row: share(row.accuracy.value if row.accuracy else None)),
)
_ALWAYS = "p99"
"""Kept although it may be unknown in every row: a reader looks for it."""
_PARTS = frozenset({"stages", "cuda-model"})
"""Scenarios whose rows are parts of one call: those of one call make one table."""


def rows_tables(result: Result) -> list[Table]:
    """A table for each scenario; what all its rows share stands in the title, once."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in result.rows:
        one = row.conditions
        apart: Iterable[str] = ()
        if one.scenario in _PARTS:
            apart = settings(one).values()
        elif one.scenario == "model":
            apart = (one.stage,)
        groups.setdefault((one.scenario, *apart), []).append(row)
    return [_rows_table(key[0], rows) for key, rows in groups.items()]


def _rows_table(scenario: str, rows: Sequence[Row]) -> Table:
    labels = [_labels(row.conditions) for row in rows]
    shared = {
        what: words
        for what, words in labels[0].items()
        if all(label.get(what) == words for label in labels)
    }
    apart = [
        ", ".join(words for what, words in label.items() if what not in shared) for label in labels
    ]
    if len(rows) == 1:
        # A table of one row still has to say what the row is.
        apart = [shared.pop("stage")]
    body = [[cell(row) for _, cell in _COLUMNS] for row in rows]
    used = [
        at
        for at, (head, _) in enumerate(_COLUMNS)
        if head == _ALWAYS or any(line[at] != UNKNOWN for line in body)
    ]
    return Table(
        f"{scenario}: {', '.join(shared.values())}" if shared else scenario,
        ["", *(_COLUMNS[at][0] for at in used)],
        [False, *(True for _ in used)],
        [[label, *(line[at] for at in used)] for label, line in zip(apart, body, strict=True)],
    )


def _labels(conditions: Conditions) -> dict[str, str]:
    return {
        "subject": conditions.subject,
        "stage": conditions.stage,
        **settings(conditions),
    }


def readme_table(rows: Sequence[Row]) -> Table:
    """A line for each series, in words that need no table beside it."""
    body = []
    for row in rows:
        one = row.conditions
        what = [one.scenario if one.scenario != "package" else one.stage, *settings(one).values()]
        body.append(
            [
                one.subject,
                ", ".join(what),
                number(row.latency.p50),
                number(row.latency.p99),
                number(row.images_per_second),
                share(row.accuracy.value if row.accuracy else None),
            ]
        )
    head = ["", "", "p50 ms", "p99 ms", "images/s", "accuracy"]
    return Table("Speed", head, [False, False, True, True, True, True], body)


def conditions_line(result: Result) -> str:
    """Under which conditions all of it was measured, in a sentence or two."""
    origin = result.provenance
    counts = [row.latency.count for row in result.rows]
    accuracies = {
        f"{row.accuracy.split} ({row.accuracy.source})" for row in result.rows if row.accuracy
    }
    parts = [
        machine_line(origin.machine),
        f"onnxruntime {origin.software.onnxruntime or UNKNOWN}",
        f"fer-sdk {origin.software.fer_sdk or UNKNOWN}",
        f"{min(counts)} to {max(counts)} samples a row" if counts else "",
        origin.started.partition("T")[0],
        f"fer-bench {' '.join(origin.command)}",
    ]
    line = "; ".join(part for part in parts if part) + "."
    return line + (f" Accuracy: {', '.join(sorted(accuracies))}." if accuracies else "")


def targets_table(result: Result) -> Table | None:
    """What the pipeline is held to; None unless it was asked for."""
    verdicts = {None: "not measured", True: "met", False: "missed"}
    body = [
        [
            one.what,
            number(one.value),
            f"{one.direction} {number(one.limit)}",
            one.unit,
            verdicts[one.met],
            one.basis,
        ]
        for one in result.targets
    ]
    head = ["target", "measured", "limit", "unit", "", "from"]
    numeric = [False, True, True, False, False, False]
    return Table("Targets", head, numeric, body) if body else None


def cold_table(result: Result) -> Table | None:
    """Fresh processes, one a line; None without any."""
    body = [
        [
            str(at + 1),
            number(one.interpreter_ms),
            number(one.import_ms),
            number(one.open_ms),
            number(one.first_call_ms),
            number(one.second_call_ms),
            number(one.to_first_result_ms),
            UNKNOWN if one.peak_rss_bytes is None else f"{one.peak_rss_bytes / 2**20:.0f}",
        ]
        for at, one in enumerate(result.cold_starts)
    ]
    head = [
        "process",
        "start ms",
        "import",
        "open",
        "1st call",
        "2nd call",
        "to 1st result",
        "peak MiB",
    ]
    return Table("Cold start, fresh processes", head, [True] * 8, body) if body else None


def peaks_table(result: Result) -> Table | None:
    """What the machine can do at most; None when that was not measured."""
    peaks = result.peaks
    if not peaks:
        return None
    body = [
        ["fp32, 10^9 multiply-adds/s", *(number(peak.fp32_gmacs) for peak in peaks)],
        ["int8, 10^9 multiply-adds/s", *(number(peak.int8_gmacs) for peak in peaks)],
    ]
    for size in sorted(peaks[0].bandwidth, key=int):
        label = f"copying {int(size) / 2**20:g} MiB, 10^9 bytes/s"
        body.append([label, *(number(peak.bandwidth[size] / 1e9) for peak in peaks)])
    head = ["", *(_plural(peak.threads, "thread") for peak in peaks)]
    return Table("Measured peaks of this machine", head, [False, *(True for _ in peaks)], body)


def models_table(result: Result) -> Table:
    """The model files that ran, one a column."""
    facts: Sequence[tuple[str, Callable[[Model], str | None]]] = (
        ("file", lambda one: one.file),
        ("version", lambda one: one.version),
        ("precision", lambda one: one.precision),
        ("input, pixels", lambda one: str(one.input_size) if one.input_size else None),
        ("int8 multiply-adds a face, 10^6", lambda one: _millions(one, "int8_macs")),
        ("float multiply-adds a face, 10^6", lambda one: _millions(one, "float_macs")),
        ("weights, MiB", lambda one: _mebibytes(one.operations)),
        ("figures of the file", lambda one: _figures(one.metrics)),
        ("sha256", lambda one: one.sha256[:12]),
    )
    return Table(
        "Models",
        ["", *(model.name for model in result.models)],
        [False, *(False for _ in result.models)],
        [[what, *(of(model) or UNKNOWN for model in result.models)] for what, of in facts],
    )


def _millions(model: Model, what: str) -> str | None:
    return None if model.operations is None else number(getattr(model.operations, what) / 1e6)


def _mebibytes(operations: Operations | None) -> str | None:
    return None if operations is None else number(operations.weight_bytes / 2**20)


def _figures(metrics: Mapping[str, Mapping[str, float]]) -> str:
    return "; ".join(
        f"{split}: " + ", ".join(f"{what} {value:.4g}" for what, value in figures.items())
        for split, figures in metrics.items()
    )


def machine_line(machine: Machine) -> str:
    """The machine in one line."""
    parts = [
        machine.cpu or "unknown CPU",
        f"{machine.cores} usable core{'' if machine.cores == 1 else 's'}",
        " ".join(machine.instructions),
        f"governor {machine.governor}" if machine.governor else "",
        f"{machine.memory_bytes / 2**30:.0f} GiB" if machine.memory_bytes else "",
        machine.system,
        f"{machine.gpu}, driver {machine.gpu_driver}, CUDA {machine.cuda}" if machine.gpu else "",
    ]
    return ", ".join(part for part in parts if part)


def provenance_lines(result: Result) -> list[str]:
    """Where the figures come from, a fact or two a line."""
    origin = result.provenance
    software, load = origin.software, origin.load
    commit = UNKNOWN
    if software.git_commit:
        commit = software.git_commit[:12] + (" with changes" if software.git_dirty else "")
    providers = sorted({row.provider for row in result.rows if row.provider})
    spinning = {None: UNKNOWN, True: "on", False: "off"}[software.spinning]
    return [
        f"machine: {machine_line(origin.machine)}",
        f"software: fer-sdk {software.fer_sdk or UNKNOWN} (commit {commit}), "
        f"onnxruntime {software.onnxruntime or UNKNOWN} ran on {', '.join(providers) or UNKNOWN} "
        f"(spinning {spinning}), {software.python}, numpy {software.numpy or UNKNOWN}, "
        f"opencv {software.opencv or UNKNOWN}, mediapipe {software.mediapipe or UNKNOWN}",
        f"load: average {number(load.load_average_before)} before, others used "
        f"{share(load.others_share)} of the CPU time, the hypervisor kept "
        f"{share(load.stolen_share)}",
        f"time: {origin.started}, took {origin.seconds:.0f} s",
        f"command: fer-bench {' '.join(origin.command)}",
    ]


def warnings(result: Result) -> list[str]:
    """What is doubtful: the whole run first, then rows."""
    return list(result.notes) + [
        f"{name(row.conditions)}: {note}" for row in result.rows for note in row.notes
    ]
