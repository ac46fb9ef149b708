"""Calibration on held-out faces: make a score of 0.8 right 8 times out of 10.

Both methods are those of Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import cross_entropy

_LEAST, _MOST = 0.05, 20.0
"""Between these a temperature and a scale are sought: beyond them nothing was learnt."""

# How far the scale of one label may stray from that of all, and a bias from zero: standard
# deviations of a Gaussian prior, which only counts where there are few faces.
_SCALE_SPREAD = 0.5
_BIAS_SPREAD = 1.0


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The temperature for which held-out labels are likeliest.

    Args:
        logits: float32 ``[N, L]`` of faces that were not trained on.
        labels: int64 ``[N]``.

    Returns:
        What to divide the logits by, between 0.05 and 20.
    """
    logits = logits.detach().double()
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    _minimise([log_temperature], lambda: cross_entropy(logits / log_temperature.exp(), labels))
    return float(log_temperature.detach().exp().clamp(_LEAST, _MOST))


def fit_vector_scaling(
    logits: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A scale and a bias for each label with which held-out labels are likeliest.

    One temperature for all labels cannot mend a network that is too sure of labels that people
    disagree on, such as fear, and not sure enough of plain ones, such as happy.

    Args:
        logits: float32 ``[N, L]`` of faces that were not trained on.
        labels: int64 ``[N]``.

    Returns:
        What to multiply each logit by, between 0.05 and 20, and what to add then: both float32
        ``[L]``.
    """
    logits = logits.detach().double()
    common = torch.zeros((), dtype=torch.float64, requires_grad=True)
    own = torch.zeros(logits.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(logits.shape[1], dtype=torch.float64, requires_grad=True)

    def loss() -> torch.Tensor:
        prior = ((own / _SCALE_SPREAD) ** 2).sum() / 2 + ((bias / _BIAS_SPREAD) ** 2).sum() / 2
        scaled = logits * (common + own).exp() + bias
        return cross_entropy(scaled, labels) + prior / len(logits)

    _minimise([common, own, bias], loss)
    scale = (common + own).detach().exp().clamp(_LEAST, _MOST)
    return scale.float(), bias.detach().float()


def fit_shift(log_scores: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """What must be added to the logarithms of scores for another way of using the labels.

    Saerens et al., "Adjusting the Outputs of a Classifier to New a Priori Probabilities", Neural
    Computation 2002, with the ratio of the priors fitted instead of counted.

    Args:
        log_scores: float32 ``[N, L]`` of faces that were not trained on.
        shares: of each label by the other way, float32 ``[N, L]``; rows that are all zero do not
            count.

    Returns:
        float32 ``[L]`` with a mean of zero.
    """
    log_scores = log_scores.detach().double()
    shift = torch.zeros(log_scores.shape[1], dtype=torch.float64, requires_grad=True)
    _minimise([shift], lambda: cross_entropy(log_scores + shift, shares.double()))
    fitted = shift.detach()
    return (fitted - fitted.mean()).float()


def _minimise(parameters: Sequence[torch.Tensor], loss: Callable[[], torch.Tensor]) -> None:
    optimizer = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
