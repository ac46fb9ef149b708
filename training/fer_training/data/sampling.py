"""Which faces an epoch shows, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """A new order for every epoch, given by the seed and the epoch's number alone.

    A run that was interrupted so goes on exactly as it would have without.
    """

    def __init__(
        self,
        labels: npt.NDArray[np.int64],
        sampling: Literal["none", "over", "under"],
        seed: int,
    ) -> None:
        """Sample positions of ``labels`` ``[N]``; see ``EmotionRecipe.sampling``."""
        super().__init__()
        self._groups = (
            [np.arange(len(labels))]
            if sampling == "none"
            else [np.flatnonzero(labels == label) for label in np.unique(labels)]
        )
        sizes = [len(group) for group in self._groups]
        self._size = min(sizes) if sampling == "under" else max(sizes)
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._size * len(self._groups)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self._seed, self._epoch))
        chosen = np.concatenate([self._draw(group, random) for group in self._groups])
        return iter(random.permutation(chosen).tolist())

    def _draw(
        self, group: npt.NDArray[np.int64], random: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        rounds, rest = divmod(self._size, len(group))
        return np.concatenate([*[group] * rounds, random.choice(group, rest, replace=False)])
