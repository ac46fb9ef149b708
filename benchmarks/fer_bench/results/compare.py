"""Which differences between two results exceed the noise.

For each pair of series, which are the rows and the parts of the cold start: a confidence interval
of the ratio of the two medians, by bootstrap. Samples that follow each other are alike, and so are
the rounds of a run within themselves: rounds are resampled as wholes, and inside them blocks of
neighbouring samples (Künsch 1989), so that a thousand samples do not pass for a thousand
independent ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fer_bench.results import words
from fer_bench.results.result import Result
from fer_sdk.errors import DataError

Verdict = Literal["faster", "slower", "same", "unclear"]
Rounds = Sequence[Sequence[float]]
"""Samples, by round."""

_RESAMPLES = 1000
_MOST_OF_A_ROUND = 2000
_MOST_AT_ONCE = 2_000_000
_FEW = 5
_MACHINE_DRIFT = 0.05


@dataclass(frozen=True, slots=True)
class Difference:
    """One pair of series.

    Attributes:
        what: was measured in both, in words.
        unit: of ``before`` and ``after``: ms, or MB (10^6 bytes) of memory.
        before: p50 of the first result.
        after: p50 of the second.
        ratio: after over before.
        low: lower end of the ratio's confidence interval.
        high: its upper end.
        verdict: ``"faster"`` or ``"slower"`` (of memory: less, more) when the interval excludes 1
            and the ratio is at least the least effect away from it; ``"same"`` when the whole
            interval lies within the least effect; else ``"unclear"``: more samples would be needed.
    """

    what: str
    unit: Literal["ms", "MB"]
    before: float
    after: float
    ratio: float
    low: float
    high: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results side by side.

    Attributes:
        differences: the series that both have.
        only_before: series of the first alone, in words.
        only_after: series of the second alone.
        warnings: why the two may not be comparable.
    """

    differences: list[Difference]
    only_before: list[str]
    only_after: list[str]
    warnings: list[str]

    @property
    def slower(self) -> bool:
        """Whether anything got slower beyond the noise."""
        return any(difference.verdict == "slower" for difference in self.differences)


def compare(
    before: Result,
    after: Result,
    *,
    min_effect: float = 0.05,
    confidence: float = 0.99,
    seed: int = 0,
) -> Comparison:
    """Pair the series of two results by their conditions.

    Args:
        before: the first result.
        after: the second.
        min_effect: least relevant change, as a share of the first median.
        confidence: of each pair's interval.
        seed: of the resampling, so that the same files give the same answer.

    Raises:
        DataError: the two have no series in common.
    """
    first, second = _series(before), _series(after)
    shared = [what for what in first if what in second]
    if not shared:
        raise DataError(
            "the two results have no row with the same conditions; run both with the same options"
        )
    random = np.random.default_rng(seed)
    return Comparison(
        [
            _difference(name, first[name], second[name], min_effect, confidence, random)
            for name in shared
        ],
        [name for name in first if name not in second],
        [name for name in second if name not in first],
        _warnings(before, after),
    )


def interval(
    above: Rounds, below: Rounds, confidence: float, random: np.random.Generator
) -> tuple[float, float] | None:
    """Confidence interval of the ratio of two series' medians; None of fewer than 5 samples."""
    if min(sum(map(len, above)), sum(map(len, below))) < _FEW:
        return None
    ratios = _medians(above, random) / _medians(below, random)
    tail = 100 * (1 - confidence) / 2
    low, high = (float(value) for value in np.percentile(ratios, [tail, 100 - tail]))
    return low, high


class _Series(NamedTuple):
    rounds: Rounds
    unit: Literal["ms", "MB"]


def _series(result: Result) -> dict[str, _Series]:
    """Everything that can be compared, by what it is in words."""
    found = {words.name(row.conditions): _Series(row.rounds_ms, "ms") for row in result.rows}
    for said, starts in words.cold_groups(result).items():
        settings = ", ".join(said)
        for part, of in words.COLD_PARTS.items():
            found[f"cold start, {part} ({settings})"] = _Series(
                [[of(start) for start in starts]], "ms"
            )
        held = [start.peak_rss_bytes / 1e6 for start in starts if start.peak_rss_bytes is not None]
        if held:
            found[f"peak memory of a fresh process ({settings})"] = _Series([held], "MB")
    return found


def _difference(
    what: str,
    before: _Series,
    after: _Series,
    min_effect: float,
    confidence: float,
    random: np.random.Generator,
) -> Difference:
    old, new = (
        median(sample for part in series.rounds for sample in part) for series in (before, after)
    )
    ratio = new / old
    ends = interval(after.rounds, before.rounds, confidence, random)
    if ends is None:
        return Difference(what, before.unit, old, new, ratio, 0.0, float("inf"), "unclear")
    low, high = ends
    verdict: Verdict = "unclear"
    if high < 1 and ratio <= 1 - min_effect:
        verdict = "faster"
    elif low > 1 and ratio >= 1 + min_effect:
        verdict = "slower"
    elif low >= 1 - min_effect and high <= 1 + min_effect:
        verdict = "same"
    return Difference(what, before.unit, old, new, ratio, low, high, verdict)


def _medians(rounds: Rounds, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Medians of resampled series: rounds first, then blocks of neighbours inside each."""
    lengths = np.array([len(part) for part in rounds if len(part)])
    flat = np.concatenate([np.asarray(part, np.float64) for part in rounds if len(part)])
    offsets = np.cumsum(lengths) - lengths
    # Of very long rounds a part is drawn: that widens the interval, it never narrows it.
    drawn = min(round(lengths.mean()), _MOST_OF_A_ROUND)
    block = min(max(1, round(drawn ** (1 / 3))), int(lengths.min()))
    blocks = -(-drawn // block)
    at_once = max(1, _MOST_AT_ONCE // (len(lengths) * blocks * block))
    medians = []
    for done in range(0, _RESAMPLES, at_once):
        shape = (min(at_once, _RESAMPLES - done), len(lengths))
        picked = random.integers(0, len(lengths), shape)
        room = (lengths[picked] - block + 1)[..., None]
        starts = offsets[picked][..., None] + (random.random((*shape, blocks)) * room).astype(int)
        places = (starts[..., None] + np.arange(block)).reshape(shape[0], -1)
        medians.append(np.median(flat[places], axis=1))
    return np.concatenate(medians)


def _warnings(before: Result, after: Result) -> list[str]:
    found = [f"first result: {note}" for note in before.notes]
    found += [f"second result: {note}" for note in after.notes]
    first, second = before.provenance, after.provenance
    for what, old, new in (
        ("CPUs", first.machine.cpu, second.machine.cpu),
        ("numbers of cores", first.machine.cores, second.machine.cores),
        ("container limits", first.machine.cpu_quota, second.machine.cpu_quota),
        ("GPUs", first.machine.gpu, second.machine.gpu),
        ("governors", first.machine.governor, second.machine.governor),
        ("versions of Python", first.software.python, second.software.python),
        ("versions of onnxruntime", first.software.onnxruntime, second.software.onnxruntime),
        ("versions of OpenCV", first.software.opencv, second.software.opencv),
        ("versions of MediaPipe", first.software.mediapipe, second.software.mediapipe),
        ("settings of spinning", first.software.spinning, second.software.spinning),
    ):
        if old != new:
            found.append(f"different {what}: {old} and {new}")
    ran = {row.conditions: row.provider for row in before.rows}
    providers = {(ran.get(row.conditions, row.provider), row.provider) for row in after.rows}
    found += [f"different providers: {a} and {b}" for a, b in sorted(providers, key=str) if a != b]
    found += _machine_drift(before, after)
    models = {(model.name, model.precision): model.sha256 for model in before.models}
    found += [
        f"the {model.name} model{f' ({model.precision})' if model.precision else ''} is not the "
        "same file"
        for model in after.models
        if models.get((model.name, model.precision), model.sha256) != model.sha256
    ]
    return found + _other_pictures(before, after)


def _other_pictures(before: Result, after: Result) -> list[str]:
    scenes = {(scene.width, scene.height, scene.faces): scene for scene in before.scenes}
    found = []
    for new in after.scenes:
        old = scenes.get((new.width, new.height, new.faces))
        if old is None:
            continue
        which = f"the {new.width}x{new.height} picture with {words.plural(new.faces, 'face')}"
        if old.sha256 != new.sha256:
            found.append(f"{which} is not the same one")
        found += [
            f"{which}: {name} finds {old.found[name]} and {count}"
            for name, count in new.found.items()
            if old.found.get(name, count) != count
        ]
    return found


def _machine_drift(before: Result, after: Result) -> list[str]:
    """The peak says how fast the machine itself was: it does not depend on our code."""
    peaks = {peak.threads: peak.fp32_gmacs for peak in before.peaks}
    found = []
    for peak in after.peaks:
        old, new = peaks.get(peak.threads), peak.fp32_gmacs
        if old and new and abs(new / old - 1) > _MACHINE_DRIFT:
            found.append(
                f"the machine itself ran {100 * (new / old - 1):+.0f} % (fp32 peak with "
                f"{words.plural(peak.threads, 'thread')}): differences of that size are not the "
                "code's"
            )
    return found
