"""The reports of the project are those of the files that are bundled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fer_sdk.models import packaged as bundle

REPORTS = Path(__file__).resolve().parents[2] / "export" / "reports"
CPUS = sorted(REPORTS.glob("cpus-onnxruntime-*.json"))


def _shipped(*suffixes: str) -> dict[str, str]:
    manifest = json.loads((bundle.bundled() / bundle.MANIFEST).read_text("utf-8"))["files"]
    hashes = {name: about["sha256"] for name, about in manifest.items()}
    return {name: hashes[name] for name in hashes if name.endswith(suffixes)}


def _report(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_a_report_for_every_model() -> None:
    reports = [_report(REPORTS / f"{task}.json") for task in ("emotion", "landmarks")]
    assert all(report["may_ship"] for report in reports)
    told = {file["file"]: file["sha256"] for report in reports for file in report["files"]}
    kinds = ("int8.onnx", "fp32.onnx", "fp16.graph")
    assert told == _shipped(*(f".{kind}" for kind in kinds))
    for report in reports:
        page = (REPORTS / f"{report['task']}.md").read_text("utf-8")
        assert all(file["sha256"] in page for file in report["files"])


@pytest.mark.parametrize("path", CPUS, ids=lambda path: path.stem)
def test_emulated_cpus_ran_the_files_that_are_shipped(path: Path) -> None:
    runs = _report(path)["runs"]
    shipped = _shipped(".int8.onnx")
    assert {(run["file"], run["sha256"]) for run in runs} == set(shipped.items())
    assert not any(run["failed"] or run["wrong_sums"] for run in runs)
    # x86 without VNNI, with and without AVX2; ARM without and with dot products.
    assert {"Haswell", "Nehalem", "cortex-a72", "cortex-a76"} <= {run["cpu"] for run in runs}
