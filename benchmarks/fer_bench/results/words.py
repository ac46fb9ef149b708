"""A result in words: figures, conditions, the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fer_bench.results.result import ColdStart, Conditions, Machine, Result

UNKNOWN = "-"

_CROWDS = frozenset({"multi-thread", "multi-process"})


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
    alone = conditions.scenario in {"offline", "model", "dynamic-batch", "cuda-model"}
    found = {
        "size": None if conditions.width is None else f"{conditions.width}x{conditions.height}",
        "faces": None if conditions.faces is None else plural(conditions.faces, "face"),
        "device": conditions.device,
        "precision": conditions.precision,
        "threads": None if conditions.threads is None else plural(conditions.threads, "thread"),
        "workers": plural(conditions.workers, "caller") if conditions.scenario in _CROWDS else None,
        "batch": _batch(conditions) if alone or conditions.batch > 1 else None,
        "fps": None if conditions.fps is None else f"{conditions.fps:g} frames/s",
        "detector": None if conditions.detector is None else f"detector {conditions.detector}",
    }
    return {what: words for what, words in found.items() if words is not None}


def _batch(conditions: Conditions) -> str:
    return f"batch {'1 to ' if conditions.scenario == 'dynamic-batch' else ''}{conditions.batch}"


def plural(count: int, what: str) -> str:
    """A count with its word: ``1 face``, ``2 faces``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def name(conditions: Conditions) -> str:
    """A row in one line."""
    return (
        f"{conditions.subject}, {conditions.scenario}, {conditions.stage} "
        f"({', '.join(settings(conditions).values())})"
    )


def apart(labels: Sequence[Mapping[Any, str]]) -> tuple[dict[Any, str], list[str]]:
    """What all labels say, and for each in a line what it says beyond that."""
    shared = {
        what: words
        for what, words in (labels[0] if labels else {}).items()
        if all(label.get(what) == words for label in labels)
    }
    return shared, [
        ", ".join(words for what, words in label.items() if what not in shared) for label in labels
    ]


COLD_PARTS: Mapping[str, Callable[[ColdStart], float]] = {
    "Python": lambda start: start.interpreter_ms,
    "import": lambda start: start.import_ms,
    "open": lambda start: start.open_ms,
    "1st call": lambda start: start.first_call_ms,
    "in all": lambda start: start.to_first_result_ms,
}
"""What a fresh process spends its time on, in its order; the last is all of it."""


def cold_groups(result: Result) -> dict[tuple[str, ...], list[ColdStart]]:
    """The fresh processes of each pipeline, by its settings in words."""
    groups: dict[tuple[str, ...], list[ColdStart]] = {}
    for start in result.cold_starts:
        detector = f"detector {start.detector}" if start.detector else "no detector"
        words = (start.device, start.precision, plural(start.threads, "thread"), detector)
        groups.setdefault(words, []).append(start)
    return groups


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


def provenance(result: Result) -> dict[str, str]:
    """Where the figures come from."""
    origin = result.provenance
    software, load = origin.software, origin.load
    spinning = {None: UNKNOWN, True: "on", False: "off"}[software.spinning]
    facts = {
        "machine": machine_line(origin.machine),
        "software": f"{_versions(result)} (spinning {spinning}), {software.python}, "
        f"numpy {software.numpy or UNKNOWN}, opencv {software.opencv or UNKNOWN}, "
        f"mediapipe {software.mediapipe or UNKNOWN}",
        "load": f"average {number(load.load_average_before)} before, others used "
        f"{share(load.others_share)} of the CPU time, the hypervisor kept "
        f"{share(load.stolen_share)}",
        "baselines": ", ".join(_baselines(result)),
        "accuracy": accuracy_sources(result),
        "time": f"{origin.started}, took {origin.seconds:.0f} s",
        "command": f"fer-bench {' '.join(origin.command)}",
    }
    return {what: said for what, said in facts.items() if said}


def conditions_line(result: Result) -> str:
    """Under which conditions all of it was measured, in a sentence or two."""
    origin = result.provenance
    counts = {row.latency.count for row in result.rows}
    accuracies = accuracy_sources(result)
    parts = [
        machine_line(origin.machine),
        _versions(result),
        *_baselines(result),
        f"{' to '.join(str(count) for count in sorted({min(counts), max(counts)}))} samples a row"
        if counts
        else "",
        origin.started.partition("T")[0],
        f"fer-bench {' '.join(origin.command)}",
    ]
    line = "; ".join(part for part in parts if part) + "."
    return line + (f" Accuracy: {accuracies}." if accuracies else "")


def _versions(result: Result) -> str:
    software = result.provenance.software
    commit = UNKNOWN if software.git_commit is None else software.git_commit[:12]
    changes = " with changes" if software.git_dirty else ""
    # What really ran our models.
    ours = {row.provider for row in result.rows if row.conditions.subject == "fer-sdk"}
    providers = ", ".join(sorted(provider for provider in ours if provider)) or UNKNOWN
    return (
        f"fer-sdk {software.fer_sdk or UNKNOWN} (commit {commit}{changes}), "
        f"onnxruntime {software.onnxruntime or UNKNOWN} on {providers}"
    )


def _baselines(result: Result) -> list[str]:
    """The versions of the baselines, which their rows have where ours have the provider."""
    theirs = {row.provider for row in result.rows if row.conditions.subject != "fer-sdk"}
    return sorted(provider for provider in theirs if provider)


def accuracy_sources(result: Result) -> str:
    """On which faces the accuracies of a result were taken, and by whom."""
    found = set()
    for row in result.rows:
        if row.accuracy is not None:
            count = row.accuracy.count
            faces = "" if count is None else f", {count} faces"
            found.add(f"{row.accuracy.split} ({row.accuracy.source}{faces})")
    return ", ".join(sorted(found))


def doubts(result: Result, scenarios: Sequence[str] | None = None) -> list[str]:
    """What is doubtful: the whole run first, then rows, of these scenarios or all."""
    return list(result.notes) + [
        f"{name(row.conditions)}: {note}"
        for row in result.rows
        for note in row.notes
        if scenarios is None or row.conditions.scenario in scenarios
    ]
