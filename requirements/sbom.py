"""Completes a bill of materials with what our wheel is: its version, its hash, its models.

python requirements/sbom.py WHEEL BILL
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from zipfile import ZipFile

_MODELS = "fer_sdk/models/files/"
_SUFFIXES = (".onnx", ".tflite")


def complete(wheel: Path, bill: Path) -> int:
    """Add to the bill; the number of its components, ours not counted."""
    materials = json.loads(bill.read_text(encoding="utf-8"))
    version = wheel.name.split("-")[1]
    ours = materials["metadata"]["component"]
    ours |= {
        "version": version,
        "purl": f"pkg:pypi/{ours['name']}@{version}",
        "hashes": _hashes(wheel.read_bytes()),
    }
    with ZipFile(wheel) as files:
        models = [
            {
                "bom-ref": f"{ours['name']}/{name}",
                "type": "machine-learning-model",
                "name": name.removeprefix(_MODELS),
                "version": version,
                "hashes": _hashes(files.read(name)),
            }
            for name in sorted(files.namelist())
            if name.startswith(_MODELS) and name.endswith(_SUFFIXES)
        ]
    if not models:
        sys.exit(f"{wheel}: holds no models")
    materials["components"] += models
    for part in materials["dependencies"]:
        if part["ref"] == ours["bom-ref"]:
            part["dependsOn"] += [model["bom-ref"] for model in models]
    materials["dependencies"] += [{"ref": model["bom-ref"]} for model in models]
    bill.write_text(json.dumps(materials, indent=2) + "\n", encoding="utf-8")
    return len(materials["components"])


def _hashes(content: bytes) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}]


if __name__ == "__main__":
    count = complete(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.write(f"{sys.argv[2]}: {count} components\n")
