"""The settings of a training run: read from TOML, frozen, saved with what they made."""

from __future__ import annotations

import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from fer_sdk.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What both tasks have in common.

    Attributes:
        network, stem, stem_pool, input_size, dropout: see ``networks.Architecture``.
        weights: ``"random"``, or ``"imagenet"`` to start from published weights (ResNet18 and
            EfficientNet-Lite0); see ``pretrained.py``.
        holdout: share of the training faces kept out of training, by which early stopping, the
            choice of an epoch and the calibration are decided. PublicTest decides nothing.
        holdout_seed: of the draw of those faces, so that networks that learn from each other can
            hold out the same ones; 0: ``seed``.
        flip: whether every second face is mirrored.
        rotation: largest rotation in degrees.
        jitter: how far position and size of the crop vary, in multiples of the spread that the
            detector's boxes show on the training faces.
        brightness, contrast: largest relative change.
        erasing: probability that a rectangle of the face is blotted out.
        noise: largest standard deviation of added Gaussian noise, in gray levels.
        low_resolution: probability that a face is shrunk to as little as half its size and back.
        blur: largest standard deviation of a Gaussian blur, in pixels.
        gamma: largest exponent that the light is raised to, as its natural logarithm; every second
            face gets darker, the others brighter.
        jpeg: probability that a face is compressed as a JPEG of a quality between 20 and 90.
        small_epochs: how many epochs, at the beginning, train on smaller faces, which is faster
            (progressive learning: Tan and Le, "EfficientNetV2", ICML 2021).
        small_size: side of the faces in those epochs, in pixels.
        optimizer: ``"sgd"`` (Nesterov) or ``"adamw"``.
        momentum: of SGD; AdamW's first beta.
        beta2: AdamW's second beta.
        learning_rate: the highest, reached after the warm-up.
        schedule: ``"cosine"`` to zero, ``"plateau"`` (a tenth when the held-out loss stalls for
            three epochs) or ``"constant"``.
        warmup_epochs: length of the linear warm-up; may be a fraction.
        gradient_clip: largest gradient norm; 0 for none.
        ema: decay of the averaged weights that are validated and kept, lower in the first steps; 0
            for none.
        early_stopping: epochs without a better held-out loss after which training stops; 0: never.
        keep: the ``"last"`` epoch, or the ``"best"`` by held-out loss.
        seed: of everything random.
    """

    network: Literal["resnet18", "efficientnet_lite0", "vit"] = "resnet18"
    weights: Literal["random", "imagenet"] = "random"
    stem: Literal["torchvision", "stride1", "3x3"] = "stride1"
    stem_pool: bool = True
    input_size: int = 48
    dropout: float = 0.3
    holdout: float = 0.05
    holdout_seed: int = 0
    flip: bool = True
    rotation: float = 10.0
    jitter: float = 1.0
    brightness: float = 0.2
    contrast: float = 0.2
    erasing: float = 0.0
    noise: float = 0.0
    low_resolution: float = 0.0
    blur: float = 0.0
    gamma: float = 0.0
    jpeg: float = 0.0
    small_epochs: int = 0
    small_size: int = 32
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.05
    momentum: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 5e-4
    batch_size: int = 64
    epochs: int = 30
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    warmup_epochs: float = 1.0
    gradient_clip: float = 0.0
    ema: float = 0.999
    early_stopping: int = 0
    keep: Literal["last", "best"] = "last"
    seed: int = 1

    def __post_init__(self) -> None:
        for part in fields(self):
            self._check(part.name, getattr(self, part.name))
        if self.network == "vit" and self.small_epochs:
            raise DataError(
                f"small_epochs = {self.small_epochs}: network vit takes faces of one size only; "
                "use small_epochs = 0"
            )
        if self.weights == "imagenet" and self.network == "vit":
            raise DataError("weights = 'imagenet': there are none for network vit; use 'random'")
        if self.weights == "imagenet" and self.network == "resnet18" and self.stem == "3x3":
            raise DataError(
                "weights = 'imagenet': ResNet18's are for a 7x7 stem; use stem 'torchvision' or "
                "'stride1'"
            )

    def _check(self, name: str, value: object) -> None:
        wanted = typing.get_type_hints(type(self))[name]
        if typing.get_origin(wanted) is Literal:
            if value not in typing.get_args(wanted):
                raise DataError(
                    f"{name} = {value!r}: use one of {', '.join(map(str, typing.get_args(wanted)))}"
                )
            return
        accepted = (float, int) if wanted is float else (wanted,)
        if not isinstance(value, accepted) or (wanted is not bool and isinstance(value, bool)):
            raise DataError(f"{name} = {value!r}: must be of type {_type_name(wanted)}")
        low, high = _BOUNDS.get(name, (0, float("inf")))
        if wanted is not bool and not low <= typing.cast(float, value) <= high:
            raise DataError(f"{name} = {value!r}: must be from {low} to {high}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as ``load`` reads them."""
        return asdict(self)

    @classmethod
    def load(
        cls, path: Path | None, changes: Mapping[str, str] = types.MappingProxyType({})
    ) -> Self:
        """Read a recipe.

        Args:
            path: a TOML file of settings, or the bare name of one in the package; None for the
                recipe of the shipped model.
            changes: settings that replace the file's, each value as TOML (a bare word is a text).

        Raises:
            DataError: the file cannot be read, or a setting is unknown or out of its range.
        """
        source = f"{path}" if path else f"the packaged {cls._packaged()}"
        try:
            text = _packaged_text(cls._packaged() if path is None else f"{path}.toml")
            if text is None:
                text = typing.cast(Path, path).read_text("utf-8")
            values = tomllib.loads(text)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise DataError(f"{source}: cannot be read as a recipe: {error}") from error
        values |= {name: _toml_value(value) for name, value in changes.items()}
        unknown = set(values) - {part.name for part in fields(cls)}
        if unknown:
            raise DataError(
                f"{source}: unknown settings {', '.join(sorted(unknown))}; known are "
                f"{', '.join(part.name for part in fields(cls))}"
            )
        return cls(**values)

    @classmethod
    def _packaged(cls) -> str:
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class EmotionRecipe(Recipe):
    """Settings of the emotion network.

    Attributes:
        attention: whether the network has its channel self-attention block.
        label_smoothing: share of each target that is spread evenly over the labels.
        votes: share of each target that is what the FER+ votes, where they are given, make of the
            label; see ``votes.label_probabilities``.
        ferplus: share of the loss by which the network learns the votes as they are, beside the
            labels: of both it gives the same logits, but for a constant of each label, which is
            how much more often voters use the word than the labels do.
        labels: the convention that the model answers by where none is asked for, if FER+ votes are
            given: ``"fer2013"``, its training labels, or ``"ferplus"``, as voters use them.
        vote_shift: share of the shift with which the scores suit the votes for the held-out faces
            best. Eight tenths of it give the best calibration by the majority of the voters.
        mixup: alpha of Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; 0
            for none.
        class_weights: ``"balanced"`` weighs the loss of each label by the inverse of its count.
        calibration: how the scores are made to be right as often as they say, on held-out faces:
            by a ``"temperature"`` for all labels, or before that by a scale and a bias for each
            (``"vector"``), which become part of the network's last layer; see ``calibration.py``.
        sampling: ``"over"`` repeats faces of rare labels until all labels are as frequent as the
            most frequent, ``"under"`` leaves out faces until all are as rare as the rarest.
        teaching: ``"each_step"``: teachers see every face as the student does, varied and mixed;
            ``"once"``: they see each face and its mirror image before training, and what they say
            becomes part of the target, as the votes are. That costs no time in training.
        distill: share of the loss, or of the target, that comes from teachers, where some are
            given.
        distill_temperature: by what the logits of teachers (and, at each step, of the student too)
            are divided: the higher, the more of the unlikely labels is taken over.
    """

    attention: bool = True
    label_smoothing: float = 0.1
    votes: float = 0.25
    ferplus: float = 0.0
    labels: Literal["fer2013", "ferplus"] = "ferplus"
    vote_shift: float = 0.8
    mixup: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    calibration: Literal["temperature", "vector"] = "temperature"
    sampling: Literal["none", "over", "under"] = "none"
    teaching: Literal["each_step", "once"] = "each_step"
    distill: float = 0.8
    distill_temperature: float = 2.0

    @classmethod
    def _packaged(cls) -> str:
        return "emotion.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class LandmarksRecipe(Recipe):
    """Settings of the landmark network.

    Attributes:
        beta: where the smooth L1 loss turns from square to linear, as a fraction of the crop.
    """

    beta: float = 0.02

    @classmethod
    def _packaged(cls) -> str:
        return "landmarks.toml"


_BOUNDS: Mapping[str, tuple[float, float]] = {
    "input_size": (16, 512),
    "small_size": (16, 512),
    "dropout": (0, 0.95),
    "holdout": (0.005, 0.5),
    "rotation": (0, 180),
    "jitter": (0, 5),
    "brightness": (0, 1),
    "contrast": (0, 1),
    "erasing": (0, 1),
    "low_resolution": (0, 1),
    "noise": (0, 255),
    "blur": (0, 10),
    "gamma": (0, 2),
    "jpeg": (0, 1),
    "ferplus": (0, 1),
    "vote_shift": (0, 1),
    "learning_rate": (1e-8, 100),
    "momentum": (0, 0.9999),
    "beta2": (0, 0.999999),
    "batch_size": (1, 65536),
    "epochs": (1, 100_000),
    "ema": (0, 0.999999),
    "label_smoothing": (0, 0.9),
    "votes": (0, 1),
    "mixup": (0, 10),
    "distill": (0, 1),
    "distill_temperature": (0.1, 100),
    "beta": (1e-6, 10),
}


def _packaged_text(name: str) -> str | None:
    """A recipe of the package; None if ``name`` is not one."""
    file = resources.files("fer_training") / "recipes" / name
    return file.read_text("utf-8") if Path(name).name == name and file.is_file() else None


def _type_name(wanted: type) -> str:
    return {int: "whole number", float: "number", bool: "true or false"}.get(wanted, "text")


def _toml_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
