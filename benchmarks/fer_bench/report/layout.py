"""The rows of a result as cells of text: the one layout of tables, Markdown and pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from fer_bench.results.result import (
    ColdStart,
    Conditions,
    Machine,
    Model,
    Operations,
    Result,
    Row,
    Target,
)

UNKNOWN = "-"
MISSED = "missed"

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
    alone = one.scenario in {"offline", "model", "dynamic-batch", "cuda-model"}
    found = {
        "size": None if one.width is None else f"{one.width}x{one.height}",
        "faces": None if one.faces is None else plural(one.faces, "face"),
        "device": one.device,
        "precision": one.precision,
        "threads": None if one.threads is None else plural(one.threads, "thread"),
        "workers": plural(one.workers, "caller") if one.scenario in _CROWDS else None,
        "batch": _batch(one) if alone or one.batch > 1 else None,
        "fps": None if one.fps is None else f"{one.fps:g} frames/s",
        "detector": None if one.detector is None else f"detector {one.detector}",
    }
    return {what: words for what, words in found.items() if words is not None}


def _batch(one: Conditions) -> str:
    return f"batch {'1 to ' if one.scenario == 'dynamic-batch' else ''}{one.batch}"


def plural(count: int, what: str) -> str:
    """A count with its word: ``1 face``, ``2 faces``."""
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
_RATES = ("images/s", "faces/s")
_ALWAYS = "p99"
"""Kept although it may be unknown in every row: a reader looks for it."""
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
    shared, apart = _apart(
        [
            {"subject": one.subject, "stage": one.stage, **settings(one)}
            for one in (row.conditions for row in rows)
        ]
    )
    if len(rows) == 1:
        # A table of one row still has to say what the row is.
        apart = [shared.pop("stage")]
    body = [[cell(row) for _, cell in _COLUMNS] for row in rows]
    used = [
        at
        for at, (head, _) in enumerate(_COLUMNS)
        if head == _ALWAYS or any(line[at] != UNKNOWN for line in body)
    ]
    images, faces = (
        next(at for at, one in enumerate(_COLUMNS) if one[0] == head) for head in _RATES
    )
    if all(line[images] == line[faces] for line in body):
        # With one face in each image they say the same.
        used = [at for at in used if at != faces]
    return Table(
        ": ".join([_TITLES[scenario], ", ".join(shared.values())]).removesuffix(": "),
        ["", *(_COLUMNS[at][0] for at in used)],
        [False, *(True for _ in used)],
        [[label, *(line[at] for at in used)] for label, line in zip(apart, body, strict=True)],
    )


def _apart(labels: Sequence[Mapping[str, str]]) -> tuple[dict[str, str], list[str]]:
    """What all labels say, and for each in a line what it says beyond that."""
    shared = {
        what: words
        for what, words in labels[0].items()
        if all(label.get(what) == words for label in labels)
    }
    return shared, [
        ", ".join(words for what, words in label.items() if what not in shared) for label in labels
    ]


_FOR_README = {
    "single-stream": "predict on an array",
    "multi-thread": "predict from several threads",
    "package": "its whole call on an array",
}


def readme_table(result: Result) -> Table | None:
    """What a reader chooses by: calls of ours and of other packages; None without any."""
    rows = [row for row in result.rows if row.conditions.scenario in _FOR_README]
    if not rows:
        return None
    shared, apart = _apart(
        [
            {
                "subject": one.subject,
                "what": one.stage if one.stage == "given boxes" else _FOR_README[one.scenario],
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
        for label, row in zip(apart, rows, strict=True)
    ]
    head = ["", "p50 ms", "p99 ms", "images/s", "accuracy"]
    title = ": ".join(["Speed", ", ".join(shared.values())])
    return Table(title, head, [False, True, True, True, True], body)


def readme_doubts(result: Result) -> list[str]:
    """What is doubtful about the whole run, and about the rows of ``readme_table``."""
    rows = [row for row in result.rows if row.conditions.scenario in _FOR_README]
    return list(result.notes) + [
        f"{name(row.conditions)}: {note}" for row in rows for note in row.notes
    ]


def conditions_line(result: Result) -> str:
    """Under which conditions all of it was measured, in a sentence or two."""
    origin = result.provenance
    counts = [row.latency.count for row in result.rows]
    accuracies = accuracy_sources(result)
    parts = [
        machine_line(origin.machine),
        f"onnxruntime {origin.software.onnxruntime or UNKNOWN} on {_providers(result)}",
        f"fer-sdk {origin.software.fer_sdk or UNKNOWN} (commit {_commit(result)})",
        *_rivals(result),
        f"{' to '.join(sorted({str(min(counts)), str(max(counts))}, key=int))} samples a row"
        if counts
        else "",
        origin.started.partition("T")[0],
        f"fer-bench {' '.join(origin.command)}",
    ]
    line = "; ".join(part for part in parts if part) + "."
    return line + (f" Accuracy: {accuracies}." if accuracies else "")


def accuracy_sources(result: Result) -> str:
    """On which faces the accuracies of a result were taken, and by whom."""
    found = {
        f"{one.split} ({one.source}{'' if one.count is None else f', {one.count} faces'})"
        for one in (row.accuracy for row in result.rows)
        if one is not None
    }
    return ", ".join(sorted(found))


def measured(target: Target) -> str:
    """A target's figure, with the interval that it lies in where there is one."""
    if target.low is None or target.high is None:
        return number(target.value)
    return f"{number(target.value)} ({number(target.low)} to {number(target.high)})"


def targets_table(result: Result) -> Table | None:
    """What the pipeline is held to; None unless it was asked for."""
    verdicts = {None: "not measured", True: "met", False: MISSED}
    body = [
        [
            one.what,
            measured(one),
            f"{one.direction} {number(one.limit)}",
            one.unit,
            verdicts[one.met],
            one.basis,
        ]
        for one in result.targets
    ]
    head = ["target", "measured", "limit", "unit", "", "from"]
    numeric = [False, True, True, False, False, False]
    title = "Targets: in brackets the 99 % interval"
    return Table(title, head, numeric, body) if body else None


COLD_PARTS: Mapping[str, Callable[[ColdStart], float]] = {
    "Python": lambda one: one.interpreter_ms,
    "import": lambda one: one.import_ms,
    "open": lambda one: one.open_ms,
    "1st call": lambda one: one.first_call_ms,
    "in all": lambda one: one.to_first_result_ms,
}
"""What a fresh process spends its time on, in its order; the last is all of it."""


def cold_groups(result: Result) -> dict[tuple[str, ...], list[ColdStart]]:
    """The fresh processes of each pipeline, by its settings in words."""
    groups: dict[tuple[str, ...], list[ColdStart]] = {}
    for one in result.cold_starts:
        detector = f"detector {one.detector}" if one.detector else "no detector"
        words = (one.device, one.precision, plural(one.threads, "thread"), detector)
        groups.setdefault(words, []).append(one)
    return groups


def cold_table(result: Result) -> Table | None:
    """Fresh processes, a pipeline a line, medians in ms; None without any."""
    groups = cold_groups(result)
    if not groups:
        return None
    every = list(zip(*groups, strict=True))
    shared = [words[0] for words in every if len(set(words)) == 1]
    body = []
    for settings, starts in groups.items():
        held = [one.peak_rss_bytes / 1e6 for one in starts if one.peak_rss_bytes is not None]
        body.append(
            [
                ", ".join(words for words in settings if words not in shared),
                str(len(starts)),
                *(number(median(of(one) for one in starts)) for of in COLD_PARTS.values()),
                number(max(one.to_first_result_ms for one in starts)),
                number(median(one.second_call_ms for one in starts)),
                number(max(held, default=None)),
            ]
        )
    head = ["", "n", *COLD_PARTS, "most", "2nd", "peak MB"]
    title = "Cold start, a fresh process to its first result, medians in ms"
    # With one pipeline the title says it all.
    first = int(len(groups) == 1)
    return Table(
        ": ".join([title, ", ".join(shared)]),
        head[first:],
        [False, *(True for _ in head[1:])][first:],
        [line[first:] for line in body],
    )


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
    head = ["", *(plural(peak.threads, "thread") for peak in peaks)]
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
    """The one figure of each split that says most; the rest is in the JSON."""
    found = []
    for split, figures in metrics.items():
        if "accuracy" in figures:
            found.append(f"{split}: accuracy {share(figures['accuracy'])}")
        elif "error" in figures:
            found.append(f"{split}: error {number(figures['error'])}")
    return "; ".join(found)


def machine_line(machine: Machine) -> str:
    """The machine in one line."""
    parts = [
        machine.cpu or "unknown CPU",
        plural(machine.cores, "usable core"),
        f"held to {machine.cpu_quota:g} cores' time" if machine.cpu_quota else "",
        " ".join(machine.instructions),
        f"governor {machine.governor}" if machine.governor else "",
        f"{machine.memory_bytes / 2**30:.0f} GiB" if machine.memory_bytes else "",
        # Of all that a system says about itself its name and its version.
        " ".join(machine.system.split("-")[:2]),
        f"{machine.gpu}, driver {machine.gpu_driver}, CUDA {machine.cuda}" if machine.gpu else "",
    ]
    return ", ".join(part for part in parts if part)


def provenance_lines(result: Result) -> list[str]:
    """Where the figures come from, a fact or two a line."""
    origin = result.provenance
    software, load = origin.software, origin.load
    accuracies = accuracy_sources(result)
    spinning = {None: UNKNOWN, True: "on", False: "off"}[software.spinning]
    return [
        f"machine: {machine_line(origin.machine)}",
        f"software: fer-sdk {software.fer_sdk or UNKNOWN} (commit {_commit(result)}), "
        f"onnxruntime {software.onnxruntime or UNKNOWN} ran on {_providers(result)} "
        f"(spinning {spinning}), {software.python}, numpy {software.numpy or UNKNOWN}, "
        f"opencv {software.opencv or UNKNOWN}, "
        f"mediapipe {software.mediapipe or UNKNOWN}",
        f"load: average {number(load.load_average_before)} before, others used "
        f"{share(load.others_share)} of the CPU time, the hypervisor kept "
        f"{share(load.stolen_share)}",
        *(f"beside it: {one}" for one in _rivals(result)),
        *([f"accuracy: {accuracies}"] if accuracies else []),
        f"time: {origin.started}, took {origin.seconds:.0f} s",
        f"command: fer-bench {' '.join(origin.command)}",
    ]


def _commit(result: Result) -> str:
    software = result.provenance.software
    if software.git_commit is None:
        return UNKNOWN
    return software.git_commit[:12] + (" with changes" if software.git_dirty else "")


def _providers(result: Result) -> str:
    """What really ran our models."""
    ours = {row.provider for row in result.rows if row.conditions.subject == "fer-sdk"}
    return ", ".join(sorted(one for one in ours if one)) or UNKNOWN


def _rivals(result: Result) -> list[str]:
    """The versions of the rivals, which their rows have where ours have the provider."""
    theirs = {row.provider for row in result.rows if row.conditions.subject != "fer-sdk"}
    return sorted(one for one in theirs if one)


def warnings(result: Result) -> list[str]:
    """What is doubtful: the whole run first, then rows."""
    return list(result.notes) + [
        f"{name(row.conditions)}: {note}" for row in result.rows for note in row.notes
    ]
