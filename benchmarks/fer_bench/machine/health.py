"""Whether a series of samples can be trusted, said in words."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from fer_bench.measure.series import CALLS_TO_JUDGE, WarmUp

_FIRST_TIMES = 2.0
_DRIFT = 1.10
_FAR_TIMES = 3.0
_FAR_SHARE = 0.01


def complaints(rounds: Sequence[Sequence[float]], warm_up: WarmUp | None) -> list[str]:
    """What spoils a series that was taken in rounds; empty when nothing does.

    Args:
        rounds: samples in milliseconds, in the order in which they were taken.
        warm_up: what came before the first round.
    """
    samples = [value for part in rounds for value in part]
    middle = median(samples)
    found: list[str] = []
    if warm_up is not None and not warm_up.stable:
        found.append(
            f"was still changing after {warm_up.count} warm-up calls"
            if warm_up.count >= CALLS_TO_JUDGE
            else f"had time for only {warm_up.count} warm-up calls"
        )
    if len(samples) > 1 and samples[0] > _FIRST_TIMES * middle:
        found.append(f"the first sample after warm-up took {samples[0] / middle:.1f} times p50")
    far = sum(value > _FAR_TIMES * middle for value in samples)
    if far > max(1, _FAR_SHARE * len(samples)):
        found.append(f"{far} of {len(samples)} samples took over {_FAR_TIMES:.0f} times p50")
    medians = [median(part) for part in rounds if len(part) > 4]
    if len(medians) > 1 and max(medians) > _DRIFT * min(medians):
        found.append(
            f"p50 moved between rounds from {min(medians):.3g} to {max(medians):.3g} ms "
            f"({100 * (max(medians) / min(medians) - 1):.0f} %)"
        )
    return found
