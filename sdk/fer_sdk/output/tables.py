"""Tables as CSV, JSON lines or Parquet, row by row, written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from fer_sdk.errors import DataError
from fer_sdk.output.atomic import written_whole

Row = Mapping[str, object]
Add = Callable[[Row], None]

_STDOUT = "-"

# Parquet is written in groups of rows: few of them read faster, and one is held in memory.
_ROWS_A_GROUP = 8192


@contextmanager
def open_table(path: str | os.PathLike[str], columns: Mapping[str, type]) -> Iterator[Add]:
    """Open a table of the kind that the file's name ends in; gives a function that adds a row.

    The file appears under its name when the block ends without an error; what was there before
    stays until then. Memory does not grow with the number of rows::

        with open_table("faces.csv", {"name": str, "age": int}) as add:
            add({"name": "Ada", "age": 36})

    Args:
        path: ends in one of ``KINDS``, or is ``-`` for CSV on standard output.
        columns: name and type (``str``, ``int`` or ``float``) of each value of a row, which may be
            None. JSON lines hold a row as it is given, which may be nested.

    Raises:
        DataError: the name has another end, Parquet is asked for where pyarrow is not installed,
            or the file cannot be written.
    """
    target = Path(path)
    check_table(target)
    if str(path) == _STDOUT:
        writer = csv.DictWriter(sys.stdout, list(columns), lineterminator="\n")
        writer.writeheader()
        yield writer.writerow
        return
    try:
        with (
            written_whole(target) as file,
            _WRITERS[target.suffix.lower()](file, columns) as add,
        ):
            yield add
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror or error}") from error


def check_table(path: str | os.PathLike[str]) -> None:
    """Check that a table can be written, by its name and by what is installed.

    Raises:
        DataError: it cannot be written; the message says what to do.
    """
    suffix = Path(path).suffix.lower()
    if str(path) == _STDOUT:
        return
    if suffix not in KINDS:
        raise DataError(f"{path}: tables are written as {', '.join(KINDS)}; use one of them")
    if suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise DataError(
                f"{path}: Parquet needs pyarrow, which is not installed: pip install pyarrow, or "
                "write .csv or .jsonl"
            ) from error


@contextmanager
def _csv(file: BinaryIO, columns: Mapping[str, type]) -> Iterator[Add]:
    # File names may hold bytes that are not text.
    text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    yield writer.writerow
    text.flush()
    text.detach()


@contextmanager
def _json_lines(file: BinaryIO, _: Mapping[str, type]) -> Iterator[Add]:
    def add(row: Row) -> None:
        file.write(json.dumps(row).encode() + b"\n")

    yield add


@contextmanager
def _parquet(file: BinaryIO, columns: Mapping[str, type]) -> Iterator[Add]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    rows: list[Row] = []

    def write() -> None:
        writer.write_table(pa.Table.from_pylist(rows, schema))
        rows.clear()

    def add(row: Row) -> None:
        rows.append(row)
        if len(rows) == _ROWS_A_GROUP:
            write()

    with ParquetWriter(file, schema) as writer:
        yield add
        if rows:
            write()


_WRITERS: dict[str, Callable[[BinaryIO, Mapping[str, type]], AbstractContextManager[Any]]] = {
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
KINDS = tuple(_WRITERS)
"""The kinds of tables, by the end of the file's name."""
