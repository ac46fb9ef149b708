"""The checks of a pull request, one session each: ``nox -s lint types tests``.

``nox -s wheel`` builds the wheel and tests it, as users get it; CI gives the wheel that it built
once: ``nox -s wheel -- dist/*.whl``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types", "tests"]

PINS = Path("requirements/ci.txt")
# What tests/sdk needs beside the wheel.
TEST_TOOLS = ("pytest", "pytest-timeout", "hypothesis", "onnx", "packaging", "pillow", "scipy")


def _install_pins(session: nox.Session) -> None:
    session.install("--require-hashes", "-r", str(PINS))
    session.install("--no-deps", "--no-build-isolation", "-e", ".")


def _wheel(session: nox.Session) -> str:
    if session.posargs:
        return session.posargs[0]
    folder = session.create_tmp()
    session.run("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ".", external=True)
    return str(max(Path(folder).glob("*.whl"), key=lambda wheel: wheel.stat().st_mtime))


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff, in the pinned version."""
    lines = PINS.read_text(encoding="utf-8").splitlines()
    session.install(next(line.split()[0] for line in lines if line.startswith("ruff==")))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy over packages and tests."""
    _install_pins(session)
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, with the pinned packages."""
    _install_pins(session)
    session.run("pytest", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The site; a warning is an error."""
    session.install("-e", ".[docs]")
    session.run("mkdocs", "build", "--strict", "--site-dir", session.create_tmp())


@nox.session
def wheel(session: nox.Session) -> None:
    """The tests of the SDK on the built wheel, with the newest of what it depends on."""
    session.install(f"{_wheel(session)}[table]", *TEST_TOOLS)
    session.run("pytest", "tests/sdk")


@nox.session(venv_backend="uv")
def oldest(session: nox.Session) -> None:
    """The same with the oldest of what it depends on."""
    pins = str(Path(session.create_tmp()) / "oldest.txt")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    compile_ = ("uv", "pip", "compile", "pyproject.toml", "--resolution", "lowest-direct")
    session.run(*compile_, "--python-version", version, "-q", "-o", pins, external=True)
    session.install(_wheel(session), "-c", pins, *TEST_TOOLS)
    session.run("pytest", "tests/sdk")


@nox.session
def no_vnni(session: nox.Session) -> None:
    """int8 on an emulated x86 CPU without VNNI; needs qemu-user."""
    session.install(_wheel(session), *TEST_TOOLS)
    python = str(Path(session.bin) / "python")
    emulated = ("qemu-x86_64", "-cpu", "Haswell", python, "-m", "pytest", "-o", "timeout=0")
    session.run(*emulated, "tests/sdk/test_int8.py", external=True)
