"""What a series of samples says, and what it is too short to say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fer_bench.results.result import Latency

SAMPLES_FOR_P99 = 300
"""A 99th percentile of fewer samples rests on two or three of them."""


def summarise(samples: Sequence[float]) -> Latency:
    """Percentiles of samples in milliseconds; there must be at least one."""
    values = np.asarray(samples, np.float64)
    p50, p90, p95, p99 = (float(value) for value in np.percentile(values, [50, 90, 95, 99]))
    return Latency(
        count=len(values),
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)) if len(values) > 1 else None,
        min=float(values.min()),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99 if len(values) > SAMPLES_FOR_P99 else None,
        max=float(values.max()),
    )
