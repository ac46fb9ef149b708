"""Which differences between two results exceed the noise.

For each pair of rows: a confidence interval of the ratio of the two medians, by bootstrap. Samples
that follow each other are alike, and so are the rounds of a run within themselves: rounds are
resampled as wholes, and inside them blocks of neighbouring samples (Künsch 1989), so that a
thousand samples do not pass for a thousand independent ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fer_bench.result import Conditions, Result, Row
from fer_sdk.errors import DataError

Verdict = Literal["faster", "slower", "same", "unclear"]

_RESAMPLES = 1000
_MOST_OF_A_ROUND = 2000
_MOST_AT_ONCE = 2_000_000
_FEW = 5
_MACHINE_DRIFT = 0.05


@dataclass(frozen=True, slots=True)
class Difference:
    """One pair of rows.

    Attributes:
        conditions: what was measured in both.
        before: p50 of the first result, ms.
        after: p50 of the second, ms.
        ratio: after over before.
        low: lower end of the ratio's confidence interval.
        high: its upper end.
        verdict: ``"faster"`` or ``"slower"`` when the interval excludes 1 and the ratio is at
            least the least effect away from it; ``"same"`` when the whole interval lies within
            the least effect; else ``"unclear"``: more samples would be needed.
    """

    conditions: Conditions
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
        differences: the rows that both have.
        only_before: rows of the first alone.
        only_after: rows of the second alone.
        warnings: why the two may not be comparable.
    """

    differences: list[Difference]
    only_before: list[Conditions]
    only_after: list[Conditions]
    warnings: list[str]

    @property
    def slower(self) -> bool:
        """Whether anything got slower beyond the noise."""
        return any(one.verdict == "slower" for one in self.differences)


def compare(
    before: Result,
    after: Result,
    *,
    min_effect: float = 0.05,
    confidence: float = 0.99,
    seed: int = 0,
) -> Comparison:
    """Pair the rows of two results by their conditions.

    Args:
        before: the first result.
        after: the second.
        min_effect: least relevant change, as a share of the first median.
        confidence: of each row's interval.
        seed: of the resampling, so that the same files give the same answer.

    Raises:
        DataError: the two have no row in common.
    """
    first = {row.conditions: row for row in before.rows}
    second = {row.conditions: row for row in after.rows}
    shared = [conditions for conditions in first if conditions in second]
    if not shared:
        raise DataError(
            "the two results have no row with the same conditions; run both with the same options"
        )
    random = np.random.default_rng(seed)
    return Comparison(
        [difference(first[one], second[one], min_effect, confidence, random) for one in shared],
        [one for one in first if one not in second],
        [one for one in second if one not in first],
        _warnings(before, after, [(first[one], second[one]) for one in shared]),
    )


def difference(
    before: Row, after: Row, min_effect: float, confidence: float, random: np.random.Generator
) -> Difference:
    """Compare one pair of rows."""
    old, new = before.latency.p50, after.latency.p50
    ratio = new / old
    if min(before.latency.count, after.latency.count) < _FEW:
        return Difference(before.conditions, old, new, ratio, 0.0, float("inf"), "unclear")
    ratios = _medians(after.rounds_ms, random) / _medians(before.rounds_ms, random)
    tail = 100 * (1 - confidence) / 2
    low, high = (float(value) for value in np.percentile(ratios, [tail, 100 - tail]))
    verdict: Verdict = "unclear"
    if high < 1 and ratio <= 1 - min_effect:
        verdict = "faster"
    elif low > 1 and ratio >= 1 + min_effect:
        verdict = "slower"
    elif low >= 1 - min_effect and high <= 1 + min_effect:
        verdict = "same"
    return Difference(before.conditions, old, new, ratio, low, high, verdict)


def _medians(
    rounds: Sequence[Sequence[float]], random: np.random.Generator
) -> npt.NDArray[np.float64]:
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


def _warnings(before: Result, after: Result, pairs: Sequence[tuple[Row, Row]]) -> list[str]:
    found = [f"first result: {note}" for note in before.notes]
    found += [f"second result: {note}" for note in after.notes]
    one, two = before.provenance, after.provenance
    for what, old, new in (
        ("CPUs", one.machine.cpu, two.machine.cpu),
        ("numbers of cores", one.machine.cores, two.machine.cores),
        ("GPUs", one.machine.gpu, two.machine.gpu),
        ("governors", one.machine.governor, two.machine.governor),
        ("versions of onnxruntime", one.software.onnxruntime, two.software.onnxruntime),
    ):
        if old != new:
            found.append(f"different {what}: {old} and {new}")
    providers = {(a.provider, b.provider) for a, b in pairs if a.provider != b.provider}
    found += [f"different providers: {a} and {b}" for a, b in sorted(providers, key=str)]
    found += _machine_drift(before, after)
    models = {model.name: model.sha256 for model in before.models}
    found += [
        f"the {model.name} model is not the same file"
        for model in after.models
        if models.get(model.name, model.sha256) != model.sha256
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
                f"{peak.threads} threads): differences of that size are not the code's"
            )
    return found
