"""The published JSON schema of a result, made from the types in ``result``."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from fer_bench.results.result import Result

_PLAIN: Mapping[type, str] = {int: "integer", float: "number", str: "string", bool: "boolean"}


def schema() -> dict[str, object]:
    """JSON schema (draft 2020-12) of a result file."""
    definitions: dict[str, object] = {}
    root = _of(Result, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "fer-bench result",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _of(hint: Any, definitions: dict[str, object]) -> dict[str, object]:  # noqa: PLR0911
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return {**_of(arguments[0], definitions), "description": arguments[1]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of(part, definitions) for part in arguments]}
    if origin is list:
        return {"type": "array", "items": _of(arguments[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(arguments[1], definitions)}
    if hint is type(None):
        return {"type": "null"}
    if is_dataclass(hint):
        return _object(hint, definitions)
    return {"type": _PLAIN[hint]}


def _object(kind: Any, definitions: dict[str, object]) -> dict[str, object]:
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}
        hints = get_type_hints(kind, include_extras=True)
        definitions[kind.__name__] = {
            "type": "object",
            "description": (kind.__doc__ or "").strip(),
            "properties": {part.name: _of(hints[part.name], definitions) for part in fields(kind)},
            "required": [
                part.name
                for part in fields(kind)
                if part.default is MISSING and part.default_factory is MISSING
            ],
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{kind.__name__}"}
