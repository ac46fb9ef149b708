"""Results to and from JSON files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from fer_bench.results.result import FORMAT, Result
from fer_sdk.errors import DataError


def write_result(result: Result, path: Path) -> None:
    """Write a result; the folder must exist.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        path.write_bytes(msgspec.json.encode(result) + b"\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_result(path: Path) -> Result:
    """Read a result that ``fer-bench --json`` wrote.

    Raises:
        DataError: no such file, not JSON, or not a result of this version; names the field.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Result)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: not a fer-bench result of format {FORMAT}: {error}; make one with "
            "fer-bench --json"
        ) from error


def schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a result file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "fer-bench result",
        **msgspec.json.schema(Result),
    }
