"""What was measured, as JSON for programs and a page of Markdown for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fer_export.cpu import this_cpu
from fer_export.export import Candidate, Export
from fer_export.graph import IR_VERSION, OPSET
from fer_export.metadata import git_commit, tools
from fer_export.parity import Comparison, Parity

_UNKNOWN = "not known"


def to_dict(export: Export) -> dict[str, Any]:
    """Everything that an export measured, with the conditions."""
    checkpoint = export.checkpoint
    return {
        "task": export.task,
        "checkpoint": {
            "file": export.checkpoint_name,
            "version": checkpoint.version,
            "training_data": checkpoint.training_data,
            "licence": checkpoint.licence,
            "architecture": checkpoint.architecture.to_dict(),
            "temperature": checkpoint.temperature,
            "metrics": checkpoint.metrics,
        },
        "git_commit": git_commit(),
        "tools": tools(),
        "cpu": asdict(this_cpu()),
        "opset": OPSET,
        "ir_version": IR_VERSION,
        "may_ship": export.may_ship,
        "warnings": export.warnings,
        "files": [_file(candidate) for candidate in export.candidates],
    }


def write(export: Export, folder: Path) -> list[Path]:
    """Write ``TASK.json`` and ``TASK.md``; where a gate failed, ``TASK.failed.json`` and ``.md``.

    The report of the files that are in place is thus never replaced by that of files that are not.
    A report of an earlier failure is removed when all is well.
    """
    names = {kind: f"{export.task}.failed.{kind}" for kind in ("json", "md")}
    folder.mkdir(parents=True, exist_ok=True)
    if export.may_ship:
        for name in names.values():
            (folder / name).unlink(missing_ok=True)
        names = {kind: f"{export.task}.{kind}" for kind in ("json", "md")}
    texts = {
        "json": json.dumps(to_dict(export), indent=2, ensure_ascii=False) + "\n",
        "md": to_markdown(export),
    }
    return [_replace(folder / names[kind], text) for kind, text in texts.items()]


def to_markdown(export: Export) -> str:
    """The page for people."""
    checkpoint = export.checkpoint
    failed = [candidate for candidate in export.candidates if candidate.failed]
    verdict = "**Must not ship.**" if failed else "All files keep their gates: they may ship."
    made = [
        ("trained model", f"{checkpoint.version}, from `{export.checkpoint_name}`"),
        ("training data", checkpoint.training_data),
        ("licence", checkpoint.licence),
        ("network", _network(export)),
        ("source", git_commit() or _UNKNOWN),
        ("tools", ", ".join(f"{name} {version}" for name, version in tools().items())),
        ("measured on", str(this_cpu())),
        (
            "file format",
            f"ONNX opset {OPSET}, the one that torch's exporter writes itself, IR version "
            f"{IR_VERSION}: onnxruntime from 1.14 on; `tests/test_export_oldest.py` runs the "
            "bundled files with the oldest that fer-sdk allows",
        ),
    ]
    parts = [
        f"# Export of the {export.task} model",
        verdict,
        *[f"- {candidate.target.name}: {'; '.join(candidate.failed)}" for candidate in failed],
        *[f"- **Warning: {warning}.**" for warning in export.warnings],
        _table(("", ""), made),
        "## Files",
        _table(("file", "MB", "sha256"), [_size(candidate) for candidate in export.candidates]),
        f"## Parity with PyTorch on {export.candidates[0].parity.real.faces:,} real faces "
        f"({export.split})",
        _parity_table(export),
        _gates_sentence(export),
        "## Inputs that are no faces, and batches",
        _adversarial_table(export),
        *_integer_section(export),
    ]
    return "\n\n".join(parts) + "\n"


def _file(candidate: Candidate) -> dict[str, Any]:
    architecture = candidate.metadata.architecture
    return {
        "file": candidate.target.name,
        "precision": candidate.metadata.precision,
        "bytes": candidate.bytes,
        "sha256": candidate.sha256,
        "quantisation": architecture.get("quantisation"),
        "parity": candidate.parity.to_dict(),
        "rounded": None if candidate.rounded is None else candidate.rounded.to_dict(),
        "gates": asdict(candidate.gates),
        "failed": list(candidate.failed),
        "kernel_error": candidate.kernel_error,
    }


def _network(export: Export) -> str:
    architecture = export.checkpoint.architecture
    stem = f"{architecture.stem} stem{' with max-pool' if architecture.stem_pool else ''}"
    return f"{architecture.network}, {architecture.input_size} px, {stem}"


def _size(candidate: Candidate) -> tuple[str, str, str]:
    return candidate.target.name, f"{candidate.bytes / 1e6:.1f}", f"`{candidate.sha256}`"


def _measured(export: Export) -> Iterator[tuple[str, Parity]]:
    for candidate in export.candidates:
        yield from candidate.measured


def _parity_table(export: Export) -> str:
    return _emotion_table(export) if export.task == "emotion" else _landmarks_table(export)


def _emotion_table(export: Export) -> str:
    header = (
        "precision",
        "accuracy",
        "change",
        "macro-F1",
        "change",
        "ECE",
        "same top label",
        "largest difference of a score",
        "mean difference",
    )
    figures = ("accuracy", "macro_f1", "ece")
    network = export.candidates[0].parity.network
    accuracy, macro_f1, ece = (_percent(network.get(name)) for name in figures)
    rows = [("PyTorch", accuracy, "", macro_f1, "", ece, "", "", "")]
    for name, parity in _measured(export):
        accuracy, macro_f1, ece = (_percent(parity.file.get(figure)) for figure in figures)
        rows.append(
            (
                name,
                accuracy,
                _points(parity.accuracy_loss),
                macro_f1,
                _points(parity.macro_f1_loss),
                ece,
                _percent(parity.real.agreement),
                f"{parity.real.largest:.2g}",
                f"{parity.real.mean:.2g}",
            )
        )
    return _table(header, rows)


def _landmarks_table(export: Export) -> str:
    header = (
        "precision",
        "error against truth (crop)",
        "mean drift (crop)",
        "mean drift (px)",
        "largest drift (px)",
    )
    rows = [("PyTorch", _fraction(export.candidates[0].parity.network.get("error")), "", "", "")]
    for name, parity in _measured(export):
        real, size = parity.real, parity.input_size
        rows.append(
            (
                name,
                _fraction(parity.file.get("error")),
                _fraction(real.drift),
                _UNKNOWN if real.drift is None else f"{size * real.drift:.4f}",
                _UNKNOWN if real.largest_drift is None else f"{size * real.largest_drift:.4f}",
            )
        )
    return _table(header, rows)


def _gates_sentence(export: Export) -> str:
    asked = []
    for candidate in export.candidates:
        gates = candidate.gates
        limits = []
        if gates.difference is not None:
            limits.append(f"no output off by more than {gates.difference:g} on any input")
        if export.task == "emotion" and gates.agreement is not None:
            limits.append(f"the same top label on {gates.agreement:.1%} of the faces")
        if export.task == "emotion" and gates.accuracy_loss is not None:
            limits.append(f"at most {100 * gates.accuracy_loss:.1f} points of accuracy lost")
        if export.task == "landmarks" and gates.drift is not None:
            limits.append(f"a mean drift of at most {gates.drift:g} of the crop")
        kept = "not kept" if candidate.failed else "kept"
        asked.append(f"- Gates of {candidate.metadata.precision}, {kept}: {', '.join(limits)}.")
    first = export.candidates[0].parity
    asked.append(
        f"- The files ran through the SDK on {first.provider} with {first.threads} threads. A face "
        "in a batch and the same face alone differ by at most "
        f"{max(parity.batch_difference for _, parity in _measured(export)):.2g}."
    )
    if any(candidate.rounded for candidate in export.candidates):
        asked.append(
            "- CPUs compute the fp16 file in float32. *On a GPU* it is computed in half precision: "
            "that was measured on the CPU, with every result in between rounded to half. "
            "`fer-export parity --device cuda` holds the file to its gates on a GPU at hand."
        )
    return "\n".join(asked)


def _adversarial_table(export: Export) -> str:
    measured = list(_measured(export))
    names = [part.inputs for part in measured[0][1].adversarial]
    precisions = [precision for precision, _ in measured]
    what = "largest difference" if export.task == "emotion" else "largest drift, px"
    header = ("input", *(f"{precision}: {what}" for precision in precisions))
    if export.task == "emotion":
        header += tuple(f"{precision}: same top label" for precision in precisions)
    rows = []
    for index, name in enumerate(names):
        compared = [parity.adversarial[index] for _, parity in measured]
        row = [name, *(_largest(part, export) for part in compared)]
        if export.task == "emotion":
            row += [_percent(part.agreement) for part in compared]
        rows.append(row)
    return _table(header, rows)


def _largest(part: Comparison, export: Export) -> str:
    if part.largest_drift is None:
        return f"{part.largest:.2g}"
    return f"{export.checkpoint.architecture.input_size * part.largest_drift:.2g}"


def _integer_section(export: Export) -> list[str]:
    candidate = next((c for c in export.candidates if c.metadata.precision == "int8"), None)
    if candidate is None:
        return []
    settings = candidate.metadata.architecture["quantisation"]
    layers = ", ".join(settings["float_layers"]) or "none"
    return [
        "## int8",
        f"Static QDQ, per channel, 7-bit weights, uint8 activations, calibrated by "
        f"{settings['calibration']} on {settings['faces']} training faces (balanced over the "
        f"labels, seed {settings['seed']}). In float32: preprocessing, pooling and attention "
        f"products, softmax, and the layers {layers}.",
        "With 7-bit weights no sum of two products leaves 16 bits (255 x 64 x 2 = 32640), so x86 "
        "CPUs without VNNI, whose kernels add in 16 bits with saturation, give what all others do. "
        f"Measured on this CPU ({this_cpu()}): the kernels that onnxruntime chooses differ from "
        f"its kernels that cannot saturate by {candidate.kernel_error:.2g} at most. ARM gets this "
        "same file: its dot and matrix products (`sdot`, `ummla`) add into 32 bits, and before "
        "ARMv8.2 the sum of two products (`smull`, `smlal`) is at most 128 x 64 x 2 = 16384.",
    ]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{100 * value:.2f} %"


def _points(loss: float | None) -> str:
    return _UNKNOWN if loss is None else f"{-100 * loss:+.2f} points"


def _fraction(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.5f}"


def _replace(path: Path, text: str) -> Path:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    return part.replace(path)
