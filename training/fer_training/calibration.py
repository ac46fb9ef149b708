"""Temperature scaling: make a score of 0.8 right 8 times out of 10."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The temperature for which held-out labels are likeliest.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Args:
        logits: float32 ``[N, L]`` of faces that were not trained on.
        labels: int64 ``[N]``.

    Returns:
        What to divide the logits by, between 0.05 and 20.
    """
    logits = logits.detach().clone().double()
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(logits / log_temperature.exp(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return float(log_temperature.detach().exp().clamp(0.05, 20.0))
