"""What both models have in common: a session that was checked against the model contract."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from fer_sdk.errors import ModelError, SettingError
from fer_sdk.models.metadata import INPUT, OUTPUT, ModelMetadata, Task, check_seal
from fer_sdk.models.providers import Device
from fer_sdk.models.session import Session, read_model

MAX_FACES_A_RUN = 64
"""More faces than this go through the model in several runs, so that memory stays flat."""


class Model(ABC):
    """An open model of one task. Safe to use from many threads.

    Attributes:
        source: where it came from.
        sha256: hash of the file.
        metadata: what the file says about itself.
        session: what runs it, with its ``provider``, ``device`` and ``threads``.
        labels: the convention by which its labels are used; None where it knows only one.
        shift: what that adds to the logarithms of the graph's scores; see ``ModelMetadata``.
    """

    task: ClassVar[Task]

    def __init__(
        self,
        content: bytes,
        *,
        source: str,
        device: Device | str = "auto",
        threads: int | None = None,
        provider_options: Mapping[str, str] | None = None,
        labels: str | None = None,
    ) -> None:
        """Open a model and see that it keeps the contract.

        Args:
            content: of an ONNX file.
            source: what to call it in an error.
            device: where to run it.
            threads: onnxruntime's threads; None takes every core there is.
            provider_options: onnxruntime's options for the provider of the named device.
            labels: the convention by which the labels are used, one of ``metadata.conventions``;
                None takes ``metadata.convention``.

        Raises:
            ModelError: not a model of ours, a damaged one, one of another task, or one whose input
                or output is not what the contract says.
            DeviceUnavailableError: the named device is not where it would run.
            SettingError: no such device, fewer than one thread, or options for no named
                device, or labels by a convention that the model does not know.
        """
        self.source = source
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.session = Session(
            content,
            source=source,
            device=device,
            threads=threads,
            provider_options=provider_options,
        )
        self.metadata = ModelMetadata.from_props(self.session.metadata, source)
        check_seal(content, self.session.metadata, source)
        if self.metadata.task != self.task:
            raise ModelError(
                f"{source}: a model for {self.metadata.task}, where one for {self.task} is needed"
            )
        known = self.metadata.conventions
        if labels is not None and labels not in known:
            names = " or ".join(f'"{name}"' for name in known) or "none"
            raise SettingError(f"{source}: has no labels {labels!r}: use {names}")
        self.labels = labels or self.metadata.convention
        self.shift = known.get(self.labels or "", (0.0,) * len(self.metadata.labels))
        self._check_input()
        self._check_output()

    @classmethod
    def from_file(
        cls,
        path: str | PathLike[str],
        *,
        device: Device | str = "auto",
        threads: int | None = None,
        provider_options: Mapping[str, str] | None = None,
        labels: str | None = None,
    ) -> Self:
        """Open a model file; arguments and errors as of the class."""
        return cls(
            read_model(Path(path)),
            source=str(path),
            device=device,
            threads=threads,
            provider_options=provider_options,
            labels=labels,
        )

    def _check_input(self) -> None:
        side = self.metadata.input_size
        nodes = self.session.inputs
        if [(name, kind) for name, kind, _ in nodes] != [(INPUT, "tensor(uint8)")]:
            found = ", ".join(f"{name}: {kind}" for name, kind, _ in nodes)
            raise ModelError(
                f"{self.source}: its only input must be {INPUT}: tensor(uint8), not {found}"
            )
        shape = nodes[0][2]
        if len(shape) != 3 or isinstance(shape[0], int) or shape[1:] != [side, side]:
            raise ModelError(
                f"{self.source}: its input must have the shape [N, {side}, {side}] that its "
                f"metadata speak of, with any N, not {shape}"
            )

    def _check_output(self) -> None:
        names = [name for name, _, _ in self.session.outputs]
        if names != [OUTPUT[self.task]]:
            raise ModelError(
                f"{self.source}: its only output must be {OUTPUT[self.task]}, not "
                f"{', '.join(names)}"
            )
        # The shape written into a file is a claim, and a first run is slower than others anyway.
        side = self.metadata.input_size
        (output,) = self.session.run(np.zeros((2, side, side), np.uint8))
        expected = (2, *self._shape())
        if output.shape != expected or output.dtype != np.float32:
            raise ModelError(
                f"{self.source}: for two faces it must give float32 {list(expected)}, not "
                f"{output.dtype} {list(output.shape)}"
            )
        if not np.isfinite(output).all():
            raise ModelError(f"{self.source}: gives numbers that are not finite for black faces")
        self._check_values(output)

    @abstractmethod
    def _check_values(self, output: npt.NDArray[np.float32]) -> None:
        """See that what the model gives for two black faces can be what it should be."""

    @abstractmethod
    def _shape(self) -> tuple[int, ...]:
        """Shape of the output for one face."""

    def _run(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        side = self.metadata.input_size
        if faces.dtype != np.uint8 or faces.ndim != 3 or faces.shape[1:] != (side, side):
            raise ModelError(
                f"{self.source}: takes faces as uint8 [N, {side}, {side}], not {faces.dtype} "
                f"{list(faces.shape)}"
            )
        runs = [
            self.session.run(faces[start : start + MAX_FACES_A_RUN])[0]
            for start in range(0, len(faces), MAX_FACES_A_RUN)
        ]
        return np.concatenate(runs) if runs else np.empty((0, *self._shape()), np.float32)
