"""The soak: that it tells a leak from noise."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

SOAK = runpy.run_path(str(Path(__file__).parents[2] / "studies" / "soak.py"))
_MB = 2**20


def _samples(memory: list[float], descriptors: int = 0, threads: int = 0) -> list[Any]:
    return [
        SOAK["Sample"](
            10 * turn, int(held * _MB), 8 + (turn > 15) * descriptors, 4 + (turn > 15) * threads
        )
        for turn, held in enumerate(memory, 1)
    ]


@pytest.mark.parametrize(
    ("samples", "flat"),
    [
        (_samples([300.0] * 20), True),
        (_samples([300.0 + 30 * (turn % 3) for turn in range(20)]), True),
        (_samples([100.0 * turn for turn in range(1, 5)] + [400.0] * 16), True),
        (_samples([300.0 + 2 * turn for turn in range(20)]), False),
        (_samples([300.0] * 19 + [321.0]), False),
        (_samples([300.0] * 20, descriptors=1), False),
        (_samples([300.0] * 20, threads=1), False),
    ],
    ids=["flat", "noise", "warm-up", "leak", "jump", "descriptor", "thread"],
)
def test_what_grows_is_told_from_what_comes_and_goes(samples: list[Any], flat: bool) -> None:
    assert SOAK["judge"]("predicts", 200, 5, samples).flat == flat
