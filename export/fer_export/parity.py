"""Whether an exported file gives what its network gives, in figures that can be held to a gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fer_export.faces import at_size
from fer_sdk.errors import ModelError, ParityError
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.landmarks import LandmarksModel
from fer_sdk.models.metadata import Precision, Task
from fer_sdk.models.providers import Device
from fer_training.data.faces import FaceSet
from fer_training.data.ground_truth import GroundTruth
from fer_training.evaluation.metrics import emotion_figures, landmark_figures
from fer_training.networks.architecture import normalise
from fer_training.networks.checkpoint import Checkpoint

Floats = npt.NDArray[np.float32]
Faces = npt.NDArray[np.uint8]

_BATCH = 64
_BATCHES = (1, 7, 64)
_SUM_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Gates:
    """What a file must keep to be shipped; None where nothing is asked.

    Attributes:
        difference: largest difference of any output from the network's, on any input.
        agreement: smallest share of real faces with the network's top label.
        accuracy_loss: how much lower the accuracy may be, as a share of the faces.
        drift: largest mean distance of a landmark from the network's, as a fraction of the crop.
        batch_difference: largest difference between a face in a batch and the same face alone.
    """

    difference: float | None
    agreement: float | None
    accuracy_loss: float | None
    drift: float | None
    batch_difference: float | None = 1e-4


GATES: Mapping[Precision, Gates] = MappingProxyType(
    {
        "fp32": Gates(difference=1e-4, agreement=1.0, accuracy_loss=0.0, drift=1e-4),
        "fp16": Gates(difference=None, agreement=0.998, accuracy_loss=0.003, drift=0.0005),
        "int8": Gates(difference=None, agreement=0.985, accuracy_loss=0.003, drift=0.002),
    }
)
"""The gates of every export."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the file and the network give for the same faces.

    Attributes:
        inputs: which faces.
        faces: how many.
        largest: largest difference of any output value.
        mean: mean difference of the output values.
        agreement: share of faces with the same top label; None for landmarks.
        drift: mean distance between the two positions of a landmark, as a fraction of the crop;
            None for emotions.
        largest_drift: the largest such distance.
    """

    inputs: str
    faces: int
    largest: float
    mean: float
    agreement: float | None
    drift: float | None
    largest_drift: float | None


@dataclass(frozen=True, slots=True)
class Parity:
    """An exported file held against its network.

    Attributes:
        task: of the model.
        precision: of the file.
        input_size: side of a face in pixels; a drift times it is in pixels.
        real: on real faces.
        adversarial: on black, white and noise, and on batches of several sizes.
        batch_difference: largest difference of an output between a face in a batch and alone.
        network: figures of the network on the real faces, as ``evaluation.metrics`` defines
            them: ``accuracy``, ``macro_f1`` and ``ece`` where their labels are the model's,
            ``error`` and ``normalised_error`` where their landmarks are known.
        file: the same of the file.
        provider: onnxruntime's, that ran the file.
        threads: with which it ran.
    """

    task: Task
    precision: Precision
    input_size: int
    real: Comparison
    adversarial: tuple[Comparison, ...]
    batch_difference: float
    network: Mapping[str, float]
    file: Mapping[str, float]
    provider: str
    threads: int

    @property
    def accuracy_loss(self) -> float | None:
        """How much lower the file's accuracy is; None where it is not known."""
        return self._loss("accuracy")

    @property
    def macro_f1_loss(self) -> float | None:
        """How much lower the file's macro-F1 is; None where it is not known."""
        return self._loss("macro_f1")

    def _loss(self, figure: str) -> float | None:
        if figure not in self.network:
            return None
        return self.network[figure] - self.file[figure]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a report."""
        return asdict(self) | {
            "accuracy_loss": self.accuracy_loss,
            "macro_f1_loss": self.macro_f1_loss,
        }


class GateError(ParityError):
    """A file does not keep its gates. ``parity`` has the figures."""

    def __init__(self, message: str, parity: Parity) -> None:
        super().__init__(message)
        self.parity = parity


def measure(
    path: Path,
    network: nn.Module,
    checkpoint: Checkpoint,
    faces: FaceSet,
    *,
    split: str,
    expected: Floats | None = None,
    device: Device = "cpu",
    threads: int | None = None,
) -> Parity:
    """Run an exported file, as the SDK runs it, against the network that it was made from.

    Args:
        path: the file.
        network: in evaluation mode.
        checkpoint: of the network.
        faces: real faces, of any size.
        split: what to call them.
        expected: what ``reference`` gave for these faces, where several files are compared.
        device: where the file runs.
        threads: onnxruntime's; None for all cores.

    Raises:
        ParityError: the file is of another task, size or labels than the network, or gives
            something that cannot be scores or landmarks.
        ModelError: the file cannot be opened.
    """
    architecture = checkpoint.architecture
    run, model = _open(path, checkpoint, device, threads)
    images = at_size(faces.images, architecture.input_size)

    def compared(name: str, inputs: Faces) -> Comparison:
        return compare(name, reference(network, checkpoint, inputs), _sane(path, name, run(inputs)))

    if expected is None:
        expected = reference(network, checkpoint, images)
    given = _sane(path, split, run(images))
    batches = {size: np.resize(images, (size, *images.shape[1:])) for size in _BATCHES}
    alone = np.concatenate([run(face[None]) for face in batches[_BATCHES[-1]]])
    return Parity(
        task=architecture.task,
        precision=model.metadata.precision,
        input_size=architecture.input_size,
        real=compare(split, expected, given),
        adversarial=(
            *(compared(name, inputs) for name, inputs in adversarial(architecture.input_size)),
            *(compared(f"batch of {size}", batch) for size, batch in batches.items()),
        ),
        batch_difference=max(
            float(np.abs(run(batch) - alone[: len(batch)]).max()) for batch in batches.values()
        ),
        network=_figures(expected, checkpoint, faces),
        file=_figures(given, checkpoint, faces),
        provider=model.session.provider,
        threads=model.session.threads,
    )


def verify(parity: Parity, gates: Gates | None = None) -> None:
    """Hold figures against gates; None takes those of the file's precision.

    Raises:
        GateError: with every gate that is not kept, and its figure.
    """
    failed = failures(parity, GATES[parity.precision] if gates is None else gates)
    if failed:
        remedy = {
            "int8": "try --search, or fine-tune the network with quantisation in the loop",
            "fp16": "ship fp32 for this network",
            "fp32": "the graph is not the network: report it, with fer-export's versions",
        }[parity.precision]
        raise GateError(
            f"{parity.task} {parity.precision} must not ship: {'; '.join(failed)}; {remedy}", parity
        )


def failures(parity: Parity, gates: Gates) -> list[str]:
    """One sentence for each gate that is not kept."""
    real = parity.real
    worst = max((real, *parity.adversarial), key=lambda part: part.largest)
    failed = []
    if gates.difference is not None and not worst.largest <= gates.difference:
        failed.append(
            f"largest difference {worst.largest:.3g} on {worst.inputs}, at most "
            f"{gates.difference:g} allowed"
        )
    agreement, loss = real.agreement, parity.accuracy_loss
    if gates.agreement is not None and agreement is not None and not agreement >= gates.agreement:
        failed.append(
            f"top label agrees on {agreement:.2%} of {real.faces} {real.inputs} faces, at least "
            f"{gates.agreement:.2%} asked"
        )
    if gates.accuracy_loss is not None and loss is not None and not loss <= gates.accuracy_loss:
        failed.append(
            f"accuracy {100 * parity.file['accuracy']:.2f} instead of "
            f"{100 * parity.network['accuracy']:.2f} on {real.inputs}, a loss of at most "
            f"{100 * gates.accuracy_loss:.2f} points allowed"
        )
    if gates.drift is not None and real.drift is not None and not real.drift <= gates.drift:
        failed.append(
            f"landmarks drift {real.drift:.5f} of the crop on average, at most {gates.drift:g} "
            "allowed"
        )
    if gates.batch_difference is not None and not parity.batch_difference <= gates.batch_difference:
        failed.append(
            f"a face in a batch differs by {parity.batch_difference:.3g} from the same face "
            f"alone, at most {gates.batch_difference:g} allowed"
        )
    return failed


def reference(network: nn.Module, checkpoint: Checkpoint, faces: Faces) -> Floats:
    """What PyTorch gives for faces uint8 ``[N, S, S]``: scores ``[N, L]`` or ``[N, 4, 2]``."""
    outputs = []
    with torch.inference_mode():
        for start in range(0, len(faces), _BATCH):
            batch = torch.from_numpy(faces[start : start + _BATCH])
            output = network(normalise(batch, checkpoint.architecture))
            if checkpoint.architecture.task == "emotion":
                output = torch.softmax(output / (checkpoint.temperature or 1.0), dim=1)
            outputs.append(output.numpy())
    return np.concatenate(outputs).astype(np.float32)


def adversarial(size: int) -> Iterator[tuple[str, Faces]]:
    """Inputs that no face looks like, by name: uint8 ``[N, size, size]``."""
    random = np.random.default_rng(0)
    yield "all black", np.zeros((1, size, size), np.uint8)
    yield "all white", np.full((1, size, size), 255, np.uint8)
    yield "noise", random.integers(0, 256, (_BATCH, size, size), np.uint8)
    yield "black and white noise", 255 * random.integers(0, 2, (_BATCH, size, size), np.uint8)


def _open(
    path: Path, checkpoint: Checkpoint, device: Device, threads: int | None
) -> tuple[Callable[[Faces], Floats], EmotionModel | LandmarksModel]:
    model: EmotionModel | LandmarksModel
    try:
        if checkpoint.architecture.task == "emotion":
            model = EmotionModel.from_file(path, device=device, threads=threads)
            run = model.graph_scores
        else:
            model = LandmarksModel.from_file(path, device=device, threads=threads)
            run = model.landmarks
    except ModelError as error:
        raise ParityError(f"the SDK refuses the exported file: {error}") from error
    theirs, ours = model.metadata, checkpoint
    for what, of_file, of_network in (
        ("labels", theirs.labels, ours.labels),
        ("input size", theirs.input_size, ours.architecture.input_size),
    ):
        if of_file != of_network:
            raise ParityError(f"{path}: its {what} {of_file} are not the network's {of_network}")
    return run, model


def _sane(path: Path, name: str, output: Floats) -> Floats:
    if not np.isfinite(output).all():
        raise ParityError(f"{path}: gives numbers that are not finite on {name}")
    if output.ndim == 2:
        off = float(np.abs(output.sum(axis=1) - 1).max())
        if off > _SUM_TOLERANCE or output.min() < 0:
            raise ParityError(
                f"{path}: its scores on {name} are not probabilities (off by {off:g})"
            )
    return output


def compare(name: str, expected: Floats, given: Floats) -> Comparison:
    """Two outputs for the same inputs, scores ``[N, L]`` or landmarks ``[N, 4, 2]``."""
    difference = np.abs(given.astype(np.float64) - expected)
    agreement = drift = largest_drift = None
    if expected.ndim == 2:
        agreement = float((given.argmax(axis=1) == expected.argmax(axis=1)).mean())
    else:
        distances = np.linalg.norm(given.astype(np.float64) - expected, axis=-1)
        drift, largest_drift = float(distances.mean()), float(distances.max())
    return Comparison(
        inputs=name,
        faces=len(expected),
        largest=float(difference.max()),
        mean=float(difference.mean()),
        agreement=agreement,
        drift=drift,
        largest_drift=largest_drift,
    )


def _figures(output: Floats, checkpoint: Checkpoint, faces: FaceSet) -> dict[str, float]:
    if output.ndim == 2:
        if faces.label_names != checkpoint.labels:
            return {}
        emotion = emotion_figures(output, faces.labels, checkpoint.labels)
        return {
            "faces": emotion.faces,
            "accuracy": emotion.accuracy,
            "macro_f1": emotion.macro_f1,
            "ece": emotion.ece,
        }
    truth = GroundTruth.load().of(faces.images)
    if np.isnan(truth).all():
        return {}
    landmarks = landmark_figures(output, truth, checkpoint.labels)
    return {
        "faces": landmarks.faces,
        "error": landmarks.error,
        "normalised_error": landmarks.normalised_error,
    }
