"""Exit statuses, and error messages on standard error."""

from __future__ import annotations

import logging
import sys
import warnings

SOME_FAILED, USAGE, INTERRUPTED = 1, 2, 130
"""Exit statuses: some input failed; nothing could start; Ctrl+C, as shells have it."""


def complain(error: object) -> None:
    print(f"fer: {plain(str(error))}", file=sys.stderr)


def show_warnings() -> None:
    """Print what the SDK logs as the command's own complaints, and nothing of Pillow's."""
    logging.getLogger("fer_sdk").handlers[:] = [_Complaints()]
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"PIL\.")


class _Complaints(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


def plain(text: str) -> str:
    """Text that can be printed: file names may hold bytes that are not text."""
    return text.encode(errors="backslashreplace").decode()
