"""Choosing how to quantise a network by measuring it.

Judged on training faces that did not calibrate, by how far the outputs move from the float32
graph's: neither their labels nor the validation faces have a say, so the gates on those stay
honest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx

from fer_export.faces import at_size
from fer_export.graph import multiplications
from fer_export.integers import weight_bounds
from fer_export.quantise import (
    Calibration,
    Quantisation,
    TensorRanges,
    balanced,
    calibrate,
    covers,
    kernel_error,
    quantise,
)
from fer_sdk.errors import DataError
from fer_sdk.models.session import Session
from fer_training.faces import FaceSet

METHODS: tuple[tuple[Calibration, float], ...] = (
    ("minmax", 100.0),
    ("entropy", 100.0),
    ("percentile", 99.9),
    ("percentile", 99.99),
    ("percentile", 99.999),
)
"""The calibration methods that are tried, with the percentile where it is one."""

_ACTIVATIONS: tuple[Literal["uint8", "int8"], ...] = ("uint8", "int8")

# Layers with a larger share of the multiplications are what int8 is for.
_CHEAP = 0.05
# What comes later in the search has to take away this share of the error: a layer in float32 costs
# time, and int8 activations do on x86, whose instructions take unsigned ones.
_WORTH = 0.05
_JUDGES = 1024
_KERNEL_FACES = 32
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to quantise, measured.

    Attributes:
        settings: the way.
        difference: mean difference of an output value from the float32 graph's.
        agreement: share of faces with the same top label; None for landmarks.
        drift: mean distance of a landmark, as a fraction of the crop; None for emotions.
        kernel_error: see ``quantise.kernel_error``; on the CPU that ran the search. 0 without a
            run where the weights alone show that nothing can saturate.
        float_share: share of the multiplications that stay in float32.
        bytes: size of the file.
        seconds: how long it took to quantise and to measure, and, where it was the first with its
            calibration method, to calibrate.
    """

    settings: Quantisation
    difference: float
    agreement: float | None
    drift: float | None
    kernel_error: float
    float_share: float
    bytes: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a report."""
        return asdict(self) | {"settings": self.settings.to_dict()}


@dataclass(frozen=True, slots=True)
class Search:
    """What a search measured, and what it chose.

    Attributes:
        chosen: the settings.
        trials: in the order in which they ran.
        calibration_faces: how many faces calibrated.
        judge_faces: how many others the outputs were compared on.
    """

    chosen: Quantisation
    trials: tuple[Trial, ...]
    calibration_faces: int
    judge_faces: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a report."""
        return {
            "chosen": self.chosen.to_dict(),
            "calibration_faces": self.calibration_faces,
            "judge_faces": self.judge_faces,
            "trials": [trial.to_dict() for trial in self.trials],
        }


def search(
    model: onnx.ModelProto,
    training: FaceSet,
    start: Quantisation,
    *,
    methods: Sequence[tuple[Calibration, float]] = METHODS,
    told: Callable[[Trial], None] = lambda _: None,
) -> Search:
    """Measure the ways to quantise a graph and choose one.

    First calibration method and activation type, with ``start.float_layers`` in float32; then bias
    correction; then, with the best of those, which parts are worth to be left in float32. Only
    7-bit weights can be chosen: they alone are exact on every CPU, whatever the input. Eight bits
    are measured once, to say what that costs.

    Args:
        model: the float32 graph.
        training: training faces, of any size.
        start: number of faces, seed, and layers in float32 to start from.
        methods: the calibration methods to try, each with its percentile.
        told: called with each trial when it is done.

    Raises:
        DataError: too few training faces to have some that do not calibrate.
    """
    size = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    calibrators = balanced(training, start.faces, start.seed)
    judges = balanced(training, _JUDGES, start.seed, skip=start.faces)
    if len(judges) == 0:
        raise DataError(
            f"all {len(training)} training faces calibrate: give more, or fewer calibration faces"
        )
    bench = _Bench(
        model, at_size(calibrators.images, size), at_size(judges.images, size), told=told
    )
    first = [
        bench.run(
            replace(
                start,
                calibration=calibration,
                percentile=percentile,
                activations=activations,
                weight_bits=7,
            )
        )
        for calibration, percentile in methods
        for activations in _ACTIVATIONS
    ]
    least = min(trial.difference for trial in first)
    best = next(trial for trial in first if trial.difference * (1 - _WORTH) <= least)
    bench.run(replace(best.settings, weight_bits=8))
    uncorrected = bench.run(replace(best.settings, bias_correction=False))
    best = min(best, uncorrected, key=lambda trial: trial.difference)
    chosen = _choose_layers(bench, best)
    return Search(chosen, tuple(bench.trials), len(calibrators), len(judges))


def _choose_layers(bench: _Bench, best: Trial) -> Quantisation:
    """Leave out of int8 what is cheap and spoils much."""
    base = best.settings
    without = bench.run(replace(base, float_layers=()))
    parts = [
        part
        for part in bench.parts()
        if part not in base.float_layers and bench.share(part) <= _CHEAP
    ]
    alone = {
        part: bench.run(replace(base, float_layers=(*base.float_layers, part))) for part in parts
    }
    if without.difference * (1 - _WORTH) <= best.difference:
        best = without
    gain = {
        part: 1 - trial.difference / max(best.difference, 1e-12) for part, trial in alone.items()
    }
    for part in sorted(gain, key=lambda part: -gain[part]):
        if gain[part] < _WORTH:
            break
        more = bench.run(replace(best.settings, float_layers=(*best.settings.float_layers, part)))
        if more.difference <= best.difference * (1 - _WORTH):
            best = more
    return best.settings


class _Bench:
    """Measures trials, each once, calibrating once per method."""

    def __init__(
        self,
        model: onnx.ModelProto,
        calibrators: npt.NDArray[np.uint8],
        judges: npt.NDArray[np.uint8],
        *,
        told: Callable[[Trial], None],
    ) -> None:
        self._model = model
        self._calibrators = calibrators
        self._judges = judges
        self._told = told
        self._costs = multiplications(model)
        self._expected = self._outputs(model, "float32 graph")
        self._ranges: dict[tuple[str, float], TensorRanges] = {}
        self._done: dict[Quantisation, Trial] = {}

    @property
    def trials(self) -> list[Trial]:
        """In the order in which they ran."""
        return list(self._done.values())

    def run(self, settings: Quantisation) -> Trial:
        """Measure one way to quantise."""
        if settings not in self._done:
            self._done[settings] = self._measure(settings)
            self._told(self._done[settings])
        return self._done[settings]

    def parts(self) -> Iterator[str]:
        """Names of the parts of the network: its blocks, shortcuts, and what is not in a block."""
        seen = set()
        for layer in self._costs:
            names = layer.split(".")
            if "downsample" in names:
                part = ".".join(names[: names.index("downsample") + 1])
            elif names[0] == "backbone":
                part = ".".join(names[:3])
            else:
                part = names[0]
            if part not in seen:
                seen.add(part)
                yield part

    def share(self, *parts: str) -> float:
        """Share of the network's multiplications that some of its parts have."""
        inside = sum(
            cost
            for layer, cost in self._costs.items()
            if any(covers(part, layer) for part in parts)
        )
        return inside / sum(self._costs.values())

    def _measure(self, settings: Quantisation) -> Trial:
        started = perf_counter()
        key = (settings.calibration, settings.percentile)
        if key not in self._ranges:
            self._ranges[key] = calibrate(self._model, self._calibrators, settings)
        quantised = quantise(self._model, self._ranges[key], self._calibrators, settings)
        given = self._outputs(quantised, "int8 graph")
        difference = np.abs(given - self._expected)
        agreement = drift = None
        if given.ndim == 2:
            agreement = float((given.argmax(axis=1) == self._expected.argmax(axis=1)).mean())
        else:
            drift = float(np.linalg.norm(given - self._expected, axis=-1).mean())
        return Trial(
            settings=settings,
            difference=float(difference.mean()),
            agreement=agreement,
            drift=drift,
            kernel_error=0.0
            if weight_bounds(quantised).exact_everywhere
            else kernel_error(quantised, self._judges[:_KERNEL_FACES], source="int8 graph"),
            float_share=self.share(*settings.float_layers),
            bytes=quantised.ByteSize(),
            seconds=perf_counter() - started,
        )

    def _outputs(self, model: onnx.ModelProto, source: str) -> npt.NDArray[np.float32]:
        session = Session(model.SerializeToString(), source=source)
        batches = range(0, len(self._judges), _BATCH)
        return np.concatenate(
            [session.run(self._judges[start : start + _BATCH])[0] for start in batches]
        )
