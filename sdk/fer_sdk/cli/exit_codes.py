"""How a command ends, and how it says what went wrong."""

from __future__ import annotations

import sys

SOME_FAILED, USAGE, INTERRUPTED = 1, 2, 130
"""Exit statuses: some input failed; nothing could start; Ctrl+C, as shells have it."""


def complain(error: object) -> None:
    print(f"fer: {plain(str(error))}", file=sys.stderr)


def plain(text: str) -> str:
    """A file name may hold bytes that are no text."""
    return text.encode(errors="backslashreplace").decode()
