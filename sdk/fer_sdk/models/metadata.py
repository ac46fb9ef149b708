"""The model contract: what an ONNX file of ours says about itself in its ``metadata_props``.

The export writes it, everything else reads it. Nothing that a model needs in order to be used
(labels, input size, crop geometry) is written down anywhere else.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast, get_args

from fer_sdk.errors import ModelError
from fer_sdk.image.crop import CropGeometry

FORMAT = 1
"""The version of the contract that this SDK reads and writes."""

Task = Literal["emotion", "landmarks"]
Precision = Literal["int8", "fp32", "fp16"]

INPUT = "faces"
"""Input of both models: uint8 gray ``[N, S, S]``."""

OUTPUT: Mapping[Task, str] = {"emotion": "scores", "landmarks": "landmarks"}
"""Output: emotion float32 ``[N, labels]`` that sum to 1; landmarks float32 ``[N, 4, 2]``, x and y
as fractions of the crop."""

_PREFIX = "fer_sdk."

SEAL = f"{_PREFIX}sha256"
"""In ``metadata_props`` of a sealed file: its sha256, taken with zeros in the place of this very
value. Files without it are read as well; it finds damage, and proves nothing of who made it."""

_UNSEALED = "0" * 64

# Files of before there were conventions have none.
_ABSENT = {"conventions": "{}", "convention": "null"}


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model file says about itself.

    Attributes:
        task: what the model gives.
        labels: emotion labels in the order of the scores, or the names of the landmarks.
        input_size: side of the square faces that it takes, in pixels.
        crop: how to frame a detected face for it.
        precision: how its weights and arithmetic are held.
        architecture: name and settings of the network.
        training_data: what it was trained on.
        temperature: by what its logits are divided inside the graph; None where it has none.
        metrics: figures by split, e.g. ``{"PublicTest": {"accuracy": 0.63}}``.
        version: version of the trained model.
        git_commit: the source that exported it; None where that was not known.
        tools: versions of the packages that exported it.
        licence: under which terms the weights may be used.
        conventions: ways in which people use the labels, by name: what each adds to the logarithms
            of the scores that the graph gives, before they are made to sum to 1 again. Empty where
            the model knows only that of its training labels.
        convention: the one that is used where none is asked for; None for the graph's own scores.
    """

    task: Task
    labels: tuple[str, ...]
    input_size: int
    crop: CropGeometry
    precision: Precision
    architecture: Mapping[str, Any]
    training_data: str
    version: str
    licence: str
    temperature: float | None = None
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    git_commit: str | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    conventions: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    convention: str | None = None

    def to_props(self) -> dict[str, str]:
        """As ``metadata_props``: one JSON value per field."""
        crop = {part.name: getattr(self.crop, part.name) for part in fields(self.crop)}
        # Those that a file may lack come first, so that no cut end of a file goes unnoticed.
        names = sorted((part.name for part in fields(self)), key=lambda name: name not in _ABSENT)
        props = {name: getattr(self, name) for name in names} | {"crop": crop}
        return {f"{_PREFIX}format": str(FORMAT)} | {
            f"{_PREFIX}{name}": json.dumps(value, sort_keys=True) for name, value in props.items()
        }

    @classmethod
    def from_props(cls, props: Mapping[str, str], source: str) -> ModelMetadata:
        """Read and check ``metadata_props``.

        Args:
            props: the file's metadata.
            source: what to call the file in an error.

        Raises:
            ModelError: not a model of ours, one of another format version, or a field missing or
                not what it should be.
        """
        version = props.get(f"{_PREFIX}format")
        if version is None:
            raise ModelError(
                f"{source}: not a fer-sdk model (it has no {_PREFIX}format in its metadata); "
                "make one with fer-export"
            )
        if version != str(FORMAT):
            raise ModelError(
                f"{source}: model format {version} is not the {FORMAT} that this fer-sdk reads; "
                "export it again with a matching fer-sdk"
            )
        values: dict[str, Any] = {}
        for part in fields(cls):
            text = props.get(f"{_PREFIX}{part.name}", _ABSENT.get(part.name))
            if text is None:
                raise ModelError(f"{source}: its metadata lacks {_PREFIX}{part.name}")
            try:
                values[part.name] = json.loads(text)
            except json.JSONDecodeError as error:
                raise ModelError(f"{source}: {_PREFIX}{part.name} is not JSON") from error
        return _checked(values, source)


def seal(content: bytes) -> bytes:
    """A file that was written with ``unsealed()`` among its properties, with its hash in there.

    Raises:
        ModelError: it was not, or that text is in it more than once.
    """
    zeros = _UNSEALED.encode()
    if content.count(zeros) != 1:
        raise ModelError(f"a model to be sealed must hold one {SEAL} of 64 zeros")
    return content.replace(zeros, hashlib.sha256(content).hexdigest().encode())


def unsealed() -> dict[str, str]:
    """The property that ``seal`` fills in."""
    return {SEAL: _UNSEALED}


def check_seal(content: bytes, props: Mapping[str, str], source: str) -> None:
    """See that a sealed file is, byte for byte, what was exported.

    Args:
        content: of the file.
        props: its metadata.
        source: what to call it in an error.

    Raises:
        ModelError: it is not.
    """
    value = props.get(SEAL)
    if value is None:
        return
    # The properties are written last, behind millions of weights.
    at = content.rfind(value.encode())
    whole = hashlib.sha256(memoryview(content)[:at])
    whole.update(_UNSEALED.encode())
    whole.update(memoryview(content)[at + len(value) :])
    if at < 0 or whole.hexdigest() != value:
        raise ModelError(
            f"{source}: its bytes are not those that were exported (they do not fit its {SEAL}): "
            "copy the file again, or export it again"
        )


def _checked(values: dict[str, Any], source: str) -> ModelMetadata:
    def require(holds: bool, name: str, what: str) -> None:
        if not holds:
            raise ModelError(f"{source}: {_PREFIX}{name} must be {what}, not {values[name]!r}")

    task, labels, crop = values["task"], values["labels"], values["crop"]
    require(task in get_args(Task), "task", f"one of {', '.join(get_args(Task))}")
    require(
        isinstance(labels, list)
        and len(labels) > 0
        and all(isinstance(label, str) and label for label in labels)
        and len(set(labels)) == len(labels),
        "labels",
        "a list of different names",
    )
    require(task != "landmarks" or len(labels) == 4, "labels", "the four landmarks")
    size = values["input_size"]
    require(_is_int(size) and 8 <= size <= 1024, "input_size", "a whole number from 8 to 1024")
    require(
        isinstance(crop, dict)
        and set(crop) == {part.name for part in fields(CropGeometry)}
        and all(_is_number(value) for value in crop.values())
        and 0.1 <= crop["scale"] <= 10
        and abs(crop["shift_x"]) <= 5
        and abs(crop["shift_y"]) <= 5,
        "crop",
        "scale (0.1 to 10), shift_x and shift_y (-5 to 5)",
    )
    precision = values["precision"]
    require(precision in get_args(Precision), "precision", f"one of {get_args(Precision)}")
    temperature = values["temperature"]
    require(
        temperature is None or (_is_number(temperature) and 0 < temperature < math.inf),
        "temperature",
        "null or a positive number",
    )
    for name in ("training_data", "version", "licence"):
        require(isinstance(values[name], str), name, "a text")
    for name in ("architecture", "metrics", "tools"):
        require(isinstance(values[name], dict), name, "an object")
    commit = values["git_commit"]
    require(commit is None or isinstance(commit, str), "git_commit", "null or a text")
    conventions = values["conventions"]
    require(
        isinstance(conventions, dict)
        and all(
            isinstance(shift, list)
            and len(shift) == len(labels)
            and all(_is_number(value) and abs(value) <= 20 for value in shift)
            for shift in conventions.values()
        ),
        "conventions",
        "a list of numbers from -20 to 20 for each name, one for each label",
    )
    require(
        values["convention"] is None or values["convention"] in conventions,
        "convention",
        "null or one of the conventions",
    )
    return ModelMetadata(
        task=cast(Task, task),
        labels=tuple(labels),
        input_size=size,
        crop=CropGeometry(**crop),
        conventions={name: tuple(shift) for name, shift in conventions.items()},
        precision=cast(Precision, precision),
        **{
            name: values[name]
            for name in (
                "architecture",
                "training_data",
                "version",
                "licence",
                "temperature",
                "metrics",
                "git_commit",
                "tools",
                "convention",
            )
        },
    )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    # NaN and infinity compare false to the bounds of any check that follows.
    return isinstance(value, int | float) and not isinstance(value, bool)
