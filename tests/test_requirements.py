"""requirements/*.txt pin everything that ``pyproject.toml`` asks for, with hashes."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_ROOT = Path(__file__).resolve().parent.parent
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
_EXTRAS = _PROJECT["project"]["optional-dependencies"]
_AGAIN = "run requirements/make"


def _wanted(requirements: list[str]) -> Iterator[Requirement]:
    """Requirements with our own extras replaced by what they contain."""
    for text in requirements:
        requirement = Requirement(text)
        if requirement.name == _PROJECT["project"]["name"]:
            for extra in sorted(requirement.extras):
                yield from _wanted(_EXTRAS[extra])
        else:
            yield requirement


def _pins(name: str) -> list[tuple[Requirement, int]]:
    """The pins, each with the number of its hashes."""
    text = (_ROOT / "requirements" / name).read_text(encoding="utf-8").replace("\\\n", "")
    pins = []
    for line in text.splitlines():
        pin, *hashes = line.split("--hash=sha256:")
        assert all(len(digest.strip()) == 64 for digest in hashes)
        pins.append((Requirement(pin), len(hashes)))
    return pins


@pytest.mark.parametrize(
    ("name", "requirements"),
    [
        ("runtime.txt", _PROJECT["project"]["dependencies"]),
        (
            "ci.txt",
            _PROJECT["project"]["dependencies"]
            + _EXTRAS["test"]
            + _PROJECT["build-system"]["requires"],
        ),
    ],
    ids=["runtime.txt", "ci.txt"],
)
def test_every_package_is_pinned_by_version_and_hash(name: str, requirements: list[str]) -> None:
    pins = _pins(name)
    for pin, hashes in pins:
        assert [clause.operator for clause in pin.specifier] == ["=="], f"{pin}: {_AGAIN}"
        assert hashes, f"{pin}: {_AGAIN}"
    for wanted in _wanted(requirements):
        fitting = [
            pin for pin, _ in pins if canonicalize_name(pin.name) == canonicalize_name(wanted.name)
        ]
        assert fitting, f"{wanted} is not in requirements/{name}: {_AGAIN}"
        for pin in fitting:
            version = next(iter(pin.specifier)).version
            assert wanted.specifier.contains(version), f"{pin} is not {wanted}: {_AGAIN}"


def test_ci_installs_from_the_pins_alone() -> None:
    lines = (_ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    pinned = lines.index(".venv/bin/pip install --quiet --require-hashes -r requirements/ci.txt")
    closed = next(i for i, line in enumerate(lines) if "PIP_NO_INDEX=1" in line)
    command = lines.index('bash -euo pipefail -c "$command"')
    assert pinned < closed < command
    assert not [line for line in lines[closed:] if "pip install" in line]
