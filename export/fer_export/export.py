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
from fer_sdk.models.half_weights import joined
from torch import nn

from fer_export.faces import at_size, held_out
from fer_export.graph import build_graph, set_properties
from fer_export.half import compute_in_half, round_as_in_half, store_in_half, without_shared
from fer_export.metadata import describe, with_measured
from fer_export.parity import GATES, Floats, Gates, Parity, failures, measure, reference, verify
from fer_export.quantise import Quantisation, balanced, calibrate, kernel_error, quantise
from fer_export.search import Search, Trial, search
from fer_sdk.errors import ModelError
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.landmarks import LandmarksModel
from fer_sdk.models.metadata import ModelMetadata, Precision, Task, seal, unsealed
from fer_training.checkpoint import load
from fer_training.faces import FaceSet

_KERNEL_FACES = 256


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
        quantisation: how to quantise; where ``search`` is set, from where to start.
        search: whether to choose the quantisation by measuring.
        shared_weights: whether fp16 is written as a graph alone, with the weights of the fp32 file
            that is made before it: see ``fer_sdk.models.half_weights``.
        threads: onnxruntime's, for measuring; None for all cores.
    """

    precisions: tuple[Precision, ...] = ("int8", "fp32")
    quantisation: Quantisation = field(default_factory=Quantisation)
    search: bool = False
    shared_weights: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        """See that the weights are there when they are shared."""
        both = [one for one in self.precisions if one in ("fp32", "fp16")]
        if self.shared_weights and both != ["fp32", "fp16"]:
            raise ValueError("shared_weights needs fp32, and fp16 after it")


class Export:
    """One checkpoint's files, from the making to the publishing. A context: what was not published
    is removed at its end.

    Attributes:
        checkpoint: what the files are made from.
        checkpoint_name: file name of the checkpoint.
        split: which faces they were compared on.
        candidates: one per precision.
        search: what choosing the quantisation measured; None where it was given.
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
        self.search: Search | None = None
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
        stored, weights = graph, None
        for precision in self._settings.precisions:
            quantisation = shared = rounded = None
            if precision == "int8":
                model, quantisation = self._quantised(graph)
            elif precision == "fp32":
                model = stored = store_in_half(graph, _weights(self._network))
            elif self._settings.shared_weights:
                model, shared = without_shared(compute_in_half(stored), stored), weights
            else:
                model = compute_in_half(graph)
            if precision == "fp16":
                rounded = round_as_in_half(graph)
            metadata = describe(self.checkpoint, precision, quantisation)
            self._told(f"{self.task} {precision}: parity on {len(images)} faces")
            self.candidates.append(self._measured(model, metadata, expected, shared, rounded))
            if precision == "fp32":
                weights = self.candidates[-1].waiting.read_bytes()

    def _quantised(self, graph: onnx.ModelProto) -> tuple[onnx.ModelProto, Quantisation]:
        chosen = self._settings.quantisation
        if self._settings.search:
            self._told(f"{self.task} int8: search")
            self.search = search(
                graph, self._training, chosen, told=lambda trial: self._told(_in_words(trial))
            )
            chosen = self.search.chosen
        self._told(f"{self.task} int8: calibration")
        faces = balanced(self._training, chosen.faces, chosen.seed)
        images = at_size(faces.images, self.checkpoint.architecture.input_size)
        ranges = calibrate(graph, images, chosen)
        return quantise(graph, ranges, images, chosen), chosen

    def _measured(
        self,
        model: onnx.ModelProto,
        metadata: ModelMetadata,
        expected: Floats,
        weights: bytes | None,
        rounded: onnx.ModelProto | None,
    ) -> Candidate:
        kind = "onnx" if weights is None else "graph"
        target = self._output / f"{self.task}.{metadata.precision}.{kind}"
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
                waiting.write_bytes(_contents(rounded, metadata, None)[0])
                computed = run()
            waiting.write_bytes(_contents(model, metadata, weights)[0])
            parity = run()
            metadata = replace(metadata, metrics=with_measured(metadata, self.split, parity.file))
            whole, content = _contents(model, metadata, weights)
            _reopen(whole, metadata, target.name)
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


def _contents(
    model: onnx.ModelProto, metadata: ModelMetadata, weights: bytes | None
) -> tuple[bytes, bytes]:
    """A whole file, and what is written of it: less where another file has its weights."""
    set_properties(model, metadata.to_props() | unsealed())
    own: bytes = model.SerializeToString(deterministic=True)
    whole = seal(own if weights is None else joined(own, weights, metadata.precision))
    return whole, whole[: len(own)]


def _reopen(content: bytes, metadata: ModelMetadata, name: str) -> None:
    kind = EmotionModel if metadata.task == "emotion" else LandmarksModel
    read = kind(content, source=name, device="cpu").metadata
    if read.to_props() != metadata.to_props():
        raise ModelError(f"{name}: its metadata are read otherwise than they were written")


def _in_words(trial: Trial) -> str:
    settings = trial.settings
    agreement = "" if trial.agreement is None else f", top label agrees on {trial.agreement:.2%}"
    return (
        f"  {settings.method}, {settings.activations}, {settings.weight_bits}-bit weights, float: "
        f"{', '.join(settings.float_layers) or 'none'}: off by {trial.difference:.5f}{agreement} "
        f"({trial.seconds:.0f} s)"
    )
