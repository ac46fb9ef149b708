"""The tables of a result inside somebody's README, between two marks that stay there."""

from __future__ import annotations

from pathlib import Path

from fer_sdk.errors import DataError

BEGIN = "<!-- written by fer-bench targets --readme -->"
END = "<!-- end of what fer-bench wrote -->"


def check(path: Path) -> None:
    """See that a file is new, or has the marks once and in order.

    Raises:
        DataError: it is neither, or cannot be read.
    """
    if path.exists():
        _parts(path)


def place(tables: str, path: Path) -> None:
    """Write tables between the marks of a file, or into a new one.

    Raises:
        DataError: the file is there and has no marks, or cannot be read or written.
    """
    before, after = _parts(path) if path.exists() else ("", "\n")
    try:
        path.write_text(f"{before}{BEGIN}\n\n{tables.strip()}\n\n{END}{after}", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error


def _parts(path: Path) -> tuple[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise DataError(f"{path}: cannot be read: {reason}") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise DataError(
            f"{path}: would be overwritten; put these two lines where the tables belong:\n"
            f"{BEGIN}\n{END}"
        )
    return before, after
