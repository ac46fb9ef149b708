"""What a series of samples says, and what it is too short to say."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fer_bench.results.result import Latency

SAMPLES_FOR_P99 = 300
"""A 99th percentile of fewer samples rests on two or three of them."""


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0..1) of the sorted samples lie, interpolated linearly."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def summarise(samples: Sequence[float]) -> Latency:
    """Percentiles of samples in milliseconds; there must be at least one."""
    ordered = sorted(samples)
    count = len(ordered)
    mean = math.fsum(ordered) / count
    spread = math.fsum((value - mean) ** 2 for value in ordered)
    return Latency(
        count=count,
        mean=mean,
        sd=math.sqrt(spread / (count - 1)) if count > 1 else None,
        min=ordered[0],
        p50=percentile(ordered, 0.50),
        p90=percentile(ordered, 0.90),
        p95=percentile(ordered, 0.95),
        p99=percentile(ordered, 0.99) if count > SAMPLES_FOR_P99 else None,
        max=ordered[-1],
    )
