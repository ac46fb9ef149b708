"""What the fuzzer found interesting, without the fuzzer: see ``fuzz/fuzz.py``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from checks import tried

_FUZZ = Path(__file__).resolve().parents[1] / "fuzz"
_specification = importlib.util.spec_from_file_location("fuzz_targets", _FUZZ / "targets.py")
assert _specification is not None
assert _specification.loader is not None
targets = importlib.util.module_from_spec(_specification)
sys.modules["fuzz_targets"] = targets
_specification.loader.exec_module(targets)

_LEARNED = sorted((_FUZZ / "learned").glob("*.zip"))
_CASES = sorted(path for path in (_FUZZ / "cases").rglob("*") if path.is_file())


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", _CASES, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_a_case_of_the_fuzzer_holds(case: Path) -> None:
    targets.TARGETS[case.parent.name](case.read_bytes())
    tried(f"files kept from fuzzing, {case.parent.name}")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("archive", _LEARNED, ids=lambda archive: archive.stem)
def test_what_the_fuzzer_learned_holds(archive: Path) -> None:
    with ZipFile(archive) as files:
        for name in files.namelist():
            targets.TARGETS[archive.stem](files.read(name))
            tried(f"files kept from fuzzing, {archive.stem}")


def test_every_target_has_cases() -> None:
    assert {case.parent.name for case in _CASES} == set(targets.TARGETS)
    assert {archive.stem for archive in _LEARNED} == set(targets.TARGETS)
