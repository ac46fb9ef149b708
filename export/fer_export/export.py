"""From a checkpoint to files that may ship: made, measured, held to their gates, then published.

Nothing replaces a file of an earlier export before every file of this one has passed.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import onnx
from torch import nn

from fer_export.faces import at_size, held_out
from fer_export.graph import build_graph, set_properties
from fer_export.half import compute_in_half, round_as_in_half, store_in_half
from fer_export.metadata import describe, with_measured
from fer_export.parity import GATES, Floats, Gates, Parity, failures, measure, reference, verify
from fer_export.quantise import Quantisation, balanced, kernel_error, quantise
from fer_sdk.errors import ModelError
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.landmarks import LandmarksModel
from fer_sdk.models.metadata import ModelMetadata, Precision, Task, seal, unsealed
from fer_training.data.faces import FaceSet
from fer_training.networks.checkpoint import load

_KERNEL_FACES = 256
_ENOUGH_FACES = 200
"""With fewer a single face moves a gate of 98.5 % by half a point and more."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that was made and measured, and waits under a temporary name.

    Attributes:
        waiting: where it is.
        target: where it goes when it may ship.
        metadata: what it says about itself.
        parity: how it compares with its network.
        rounded: of an fp16 file, what it gives on a device that computes in half precision, which
            CPUs do not: see ``half.round_as_in_half``.
        gates: what it must keep.
        failed: the gates that it does not keep, in words.
        kernel_error: of an int8 file, see ``quantise.kernel_error``.
        sha256: of the file.
        bytes: its size.
    """

    waiting: Path
    target: Path
    metadata: ModelMetadata
    parity: Parity
    rounded: Parity | None
    gates: Gates
    failed: tuple[str, ...]
    kernel_error: float | None
    sha256: str
    bytes: int

    @property
    def measured(self) -> Iterator[tuple[str, Parity]]:
        """What was measured of the file, by the name of how it was computed."""
        precision = self.metadata.precision
        yield precision, self.parity
        if self.rounded is not None:
            yield f"{precision} on a GPU", self.rounded


@dataclass(frozen=True, slots=True)
class Settings:
    """How to export.

    Attributes:
        precisions: which files to make.
        quantisation: how to quantise.
        threads: onnxruntime's, for measuring; None for all cores.
    """

    precisions: tuple[Precision, ...] = ("int8", "fp32")
    quantisation: Quantisation = field(default_factory=Quantisation)
    threads: int | None = None


class Export:
    """One checkpoint's files, from the making to the publishing. A context: what was not published
    is removed at its end.

    Attributes:
        checkpoint: what the files are made from.
        checkpoint_name: file name of the checkpoint.
        split: which faces they were compared on.
        candidates: one per precision.
    """

    def __init__(
        self,
        path: Path,
        output: Path,
        faces: FaceSet,
        settings: Settings,
        *,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Make and measure the files.

        Args:
            path: the checkpoint.
            output: folder of the files.
            faces: training and validation faces, of any size.
            settings: what to make.
            told: called with what is being done.

        Raises:
            DataError: the checkpoint cannot be read, or there are no faces for what was asked.
            ModelError: something in between is not valid.
        """
        network, self.checkpoint = load(path)
        self.checkpoint_name = path.name
        self.split, self._held_out = held_out(faces)
        self._training = faces.split("Training")
        self._network = network
        self._settings = settings
        self._told = told
        self.candidates: list[Candidate] = []
        self._output = output
        output.mkdir(parents=True, exist_ok=True)
        try:
            self._make()
        except BaseException:
            self._remove()
            raise

    @property
    def task(self) -> Task:
        """What the files give."""
        return self.checkpoint.architecture.task

    @property
    def warnings(self) -> list[str]:
        """Why passing the gates may say little; empty where there are enough faces."""
        counts = [(len(self._held_out), f"{self.split} faces to compare on")]
        if "int8" in self._settings.precisions:
            counts.append((len(self._training), "Training faces to calibrate on"))
        return [
            f"only {count} {faces}: give at least {_ENOUGH_FACES}, or the gates prove little"
            for count, faces in counts
            if count < _ENOUGH_FACES
        ]

    @property
    def may_ship(self) -> bool:
        """Whether every file keeps its gates."""
        return not any(candidate.failed for candidate in self.candidates)

    def verify(self) -> None:
        """Hold every file to its gates.

        Raises:
            GateError: the first that does not keep them, with its figures.
        """
        for candidate in self.candidates:
            for _, parity in candidate.measured:
                verify(parity, candidate.gates)

    def publish(self) -> list[Path]:
        """Put the files where they belong, each in one step; ``verify`` first.

        Raises:
            GateError: as ``verify``; then nothing was replaced.
        """
        self.verify()
        for candidate in self.candidates:
            candidate.waiting.replace(candidate.target)
        return [candidate.target for candidate in self.candidates]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    def _make(self) -> None:
        self._told(f"{self.task}: graph")
        graph = build_graph(self._network, self.checkpoint)
        images = at_size(self._held_out.images, self.checkpoint.architecture.input_size)
        self._told(f"{self.task}: PyTorch on {len(images)} faces")
        expected = reference(self._network, self.checkpoint, images)
        for precision in self._settings.precisions:
            quantisation = rounded = None
            if precision == "int8":
                quantisation = self._settings.quantisation
                model = self._quantised(graph, quantisation)
            elif precision == "fp32":
                model = store_in_half(graph, _weights(self._network))
            else:
                model, rounded = compute_in_half(graph), round_as_in_half(graph)
            metadata = describe(self.checkpoint, precision, quantisation)
            self._told(f"{self.task} {precision}: parity on {len(images)} faces")
            self.candidates.append(self._measured(model, metadata, expected, rounded))

    def _quantised(self, graph: onnx.ModelProto, settings: Quantisation) -> onnx.ModelProto:
        self._told(f"{self.task} int8: calibration")
        faces = balanced(self._training, settings.faces, settings.seed)
        images = at_size(faces.images, self.checkpoint.architecture.input_size)
        return quantise(graph, images, settings)

    def _measured(
        self,
        model: onnx.ModelProto,
        metadata: ModelMetadata,
        expected: Floats,
        rounded: onnx.ModelProto | None,
    ) -> Candidate:
        target = self._output / f"{self.task}.{metadata.precision}.onnx"
        waiting = target.with_name(f".{target.name}.part")
        run = functools.partial(
            measure,
            waiting,
            self._network,
            self.checkpoint,
            self._held_out,
            split=self.split,
            expected=expected,
            threads=self._settings.threads,
        )
        computed = None
        try:
            if rounded is not None:
                waiting.write_bytes(_content(rounded, metadata))
                computed = run()
            waiting.write_bytes(_content(model, metadata))
            parity = run()
            metadata = replace(metadata, metrics=with_measured(metadata, self.split, parity.file))
            content = _content(model, metadata)
            _reopen(content, metadata, target.name)
            waiting.write_bytes(content)
        except BaseException:
            waiting.unlink(missing_ok=True)
            raise
        error = None
        if metadata.precision == "int8":
            images = at_size(self._held_out.images[:_KERNEL_FACES], metadata.input_size)
            error = kernel_error(model, images, source=target.name)
        gates = GATES[metadata.precision]
        return Candidate(
            waiting=waiting,
            target=target,
            metadata=metadata,
            parity=parity,
            rounded=computed,
            gates=gates,
            failed=tuple(
                sentence
                for one in (parity, computed)
                if one is not None
                for sentence in failures(one, gates)
            ),
            kernel_error=error,
            sha256=hashlib.sha256(content).hexdigest(),
            bytes=len(content),
        )

    def _remove(self) -> None:
        for candidate in self.candidates:
            candidate.waiting.unlink(missing_ok=True)


def _weights(network: nn.Module) -> dict[str, Any]:
    return {name: value.numpy() for name, value in network.state_dict().items()}


def _content(model: onnx.ModelProto, metadata: ModelMetadata) -> bytes:
    set_properties(model, metadata.to_props() | unsealed())
    return seal(model.SerializeToString(deterministic=True))


def _reopen(content: bytes, metadata: ModelMetadata, name: str) -> None:
    kind = EmotionModel if metadata.task == "emotion" else LandmarksModel
    read = kind(content, source=name, device="cpu").metadata
    if read.to_props() != metadata.to_props():
        raise ModelError(f"{name}: its metadata are read otherwise than they were written")
