"""``fer``: what the SDK does, from the command line."""

from __future__ import annotations

import errno
import os
import signal
import sys

# Importing a command's module is what adds the command, in this order.
from fer_sdk.cli import predict  # isort: skip
from fer_sdk.cli import video  # isort: skip
from fer_sdk.cli import webcam  # isort: skip
from fer_sdk.cli import dataset  # isort: skip
from fer_sdk.cli import info  # isort: skip
from fer_sdk.cli.app import app

__all__ = ["app", "dataset", "info", "main", "predict", "video", "webcam"]

_CANNOT_PRINT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main() -> None:
    """The console command."""
    _stop_as_ctrl_c_does()
    try:
        app(prog_name="fer")
    except (ImportError, AttributeError):
        from fer_sdk.diagnostics import incomplete

        if (reason := incomplete()) is None:
            raise
        sys.exit(f"fer: {reason}")
    except OSError as error:
        # What else can go wrong with files is told by name where it happens.
        if error.errno not in _CANNOT_PRINT:
            raise
        # What is left to print would fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(f"fer: standard output cannot be written: {error.strerror}")


def _stop_as_ctrl_c_does() -> None:
    """Let SIGTERM and SIGHUP, which ``docker stop`` and closed terminals send, clean up too."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # One that is ignored, as under nohup, stays so.
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
