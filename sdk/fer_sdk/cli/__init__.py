"""``fer``: what the SDK does, from the command line."""

from __future__ import annotations

# Importing a command's module is what adds the command, in this order.
from fer_sdk.cli import predict  # isort: skip
from fer_sdk.cli import video  # isort: skip
from fer_sdk.cli import webcam  # isort: skip
from fer_sdk.cli import dataset  # isort: skip
from fer_sdk.cli import info  # isort: skip
from fer_sdk.cli.app import app

__all__ = ["app", "dataset", "info", "main", "predict", "video", "webcam"]


def main() -> None:
    """The console command."""
    app(prog_name="fer")
