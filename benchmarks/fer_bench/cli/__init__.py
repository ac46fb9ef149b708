"""The command ``fer-bench``."""

from __future__ import annotations

from fer_bench.cli import quality, results, run
from fer_bench.cli.app import app
from fer_bench.cli.options import fail

__all__ = ["app", "main", "quality", "results", "run"]


def main() -> None:
    """Entry point."""
    try:
        app()
    except ModuleNotFoundError as error:
        package = (error.name or str(error)).partition(".")[0]
        fail(f"{package} is not installed: pip install 'fer-sdk[bench]'")
