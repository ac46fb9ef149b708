"""The reports of the project are those of the files that are bundled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fer_sdk.models import packaged as bundle

REPORTS = Path(__file__).resolve().parents[2] / "export" / "reports"


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
    kinds = ("int8.onnx", "fp32.onnx")
    assert told == _shipped(*(f".{kind}" for kind in kinds))
    for report in reports:
        page = (REPORTS / f"{report['task']}.md").read_text("utf-8")
        assert all(file["sha256"] in page for file in report["files"])
