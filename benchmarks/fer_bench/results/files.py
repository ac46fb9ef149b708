"""Results to and from JSON files."""

from __future__ import annotations

import json
import math
import types
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from fer_bench.results.result import FORMAT, Result
from fer_sdk.errors import DataError

Kind = TypeVar("Kind")


def write_result(result: Result, path: Path) -> None:
    """Write a result; the folder must exist.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        # Strict JSON has no NaN: a figure that is none must have been None.
        path.write_text(to_json(result), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error


def to_json(result: Result) -> str:
    """A result as JSON text: sorted by meaning, one level indented, samples on one line."""
    parts = asdict(result)
    lines = []
    for name, value in parts.items():
        if isinstance(value, list) and value:
            items = ",\n".join(f"  {json.dumps(item, allow_nan=False)}" for item in value)
            lines.append(f" {json.dumps(name)}: [\n{items}\n ]")
        else:
            lines.append(f" {json.dumps(name)}: {json.dumps(value, allow_nan=False)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read_result(path: Path) -> Result:
    """Read a result that ``fer-bench --json`` wrote.

    Raises:
        DataError: no such file, not JSON, or not a result of this version; names the field.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise DataError(f"{path}: cannot be read: {reason}") from error
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: is not JSON: {error}") from error
    version = value.get("format") if isinstance(value, dict) else None
    if version != FORMAT:
        raise DataError(
            f"{path}: is not a fer-bench result of format {FORMAT} (its format is {version!r}); "
            "make one with fer-bench --json"
        )
    return from_plain(Result, value, str(path))


def from_plain(kind: type[Kind], value: object, where: str) -> Kind:
    """Build a dataclass out of parsed JSON, checking every type.

    Raises:
        DataError: something is missing, unknown or of another type; says where.
    """
    return cast(Kind, _build(kind, value, where))


def _build(hint: Any, value: Any, where: str) -> Any:  # noqa: PLR0911
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _build(arguments[0], value, where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (kind,) = (part for part in arguments if part is not type(None))
        return _build(kind, value, where)
    if origin is Literal:
        _require(value in arguments, where, f"one of {', '.join(map(str, arguments))}", value)
        return value
    if origin is list:
        _require(isinstance(value, list), where, "a list", value)
        return [_build(arguments[0], item, f"{where}[{at}]") for at, item in enumerate(value)]
    if origin is dict:
        _require(isinstance(value, dict), where, "an object", value)
        return {key: _build(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if is_dataclass(hint):
        return _object(hint, value, where)
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        _require(number and math.isfinite(value), where, "a number", value)
        return float(value)
    _require(type(value) is hint, where, hint.__name__, value)
    return value


def _object(kind: Any, value: Any, where: str) -> Any:
    _require(isinstance(value, dict), where, "an object", value)
    hints = get_type_hints(kind, include_extras=True)
    unknown = set(value) - set(hints)
    if unknown:
        raise DataError(f"{where}: unknown fields {', '.join(sorted(unknown))}")
    values = {}
    for part in fields(kind):
        if part.name in value:
            values[part.name] = _build(hints[part.name], value[part.name], f"{where}.{part.name}")
        elif part.default is MISSING and part.default_factory is MISSING:
            raise DataError(f"{where}: lacks {part.name}")
    return kind(**values)


def _require(holds: bool, where: str, what: str, value: object) -> None:
    if not holds:
        raise DataError(f"{where}: must be {what}, not {str(value)[:60]!r}")
