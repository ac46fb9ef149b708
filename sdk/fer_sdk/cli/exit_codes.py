"""Exit statuses, and error messages on standard error."""

from __future__ import annotations

import sys

SOME_FAILED, USAGE, INTERRUPTED = 1, 2, 130
"""Exit statuses: some input failed; nothing could start; Ctrl+C, as shells have it."""


def complain(error: object) -> None:
    print(f"fer: {plain(str(error))}", file=sys.stderr)


def plain(text: str) -> str:
    """Text that can be printed: file names may hold bytes that are not text."""
    return text.encode(errors="backslashreplace").decode()
