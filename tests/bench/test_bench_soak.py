"""The soak: that it tells a leak from noise, and runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from fer_bench.cli import app
from fer_bench.soak import Sample, judge
from fer_sdk.errors import DataError

_MB = 2**20


def _samples(memory: list[float], descriptors: int = 0, threads: int = 0) -> list[Sample]:
    return [
        Sample(10 * turn, int(held * _MB), 8 + (turn > 15) * descriptors, 4 + (turn > 15) * threads)
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
def test_what_grows_is_told_from_what_comes_and_goes(samples: list[Sample], flat: bool) -> None:
    part = judge("predicts", 200, 5, samples)
    assert part.flat == flat
    assert part.samples == tuple(samples)


def test_too_few_calls_are_no_soak() -> None:
    with pytest.raises(DataError, match="3 predicts are too few"):
        judge("predicts", 3, 0, [Sample(3, 1, 1, 1)])


def test_a_short_soak_leaves_numbers_and_a_curve(tmp_path: Path) -> None:
    options = ["--predicts", "120", "--frames", "40", "--threads", "1", "--detector", "blazeface"]
    done = CliRunner().invoke(app, ["soak", "-o", str(tmp_path / "out"), *options])
    # So short a run may still grow; whether it does is not what this test is about.
    assert done.exit_code in (0, 1), done.output
    result = json.loads((tmp_path / "out" / "soak.json").read_text(encoding="utf-8"))
    assert [(part["name"], part["calls"]) for part in result["parts"]] == [
        ("predicts", 120),
        ("frames", 40),
    ]
    assert (done.exit_code == 0) == result["flat"]
    assert result["detector"] == "blazeface"
    for part in result["parts"]:
        assert part["faces"] > 40
        assert part["samples"][-1]["calls"] == part["calls"]
        assert all(sample["rss_bytes"] > 50 * _MB for sample in part["samples"])
    assert Image.open(tmp_path / "out" / "soak.png").size[0] > 800
    nothing = ["soak", "-o", str(tmp_path), "--predicts", "0", "--frames", "0"]
    assert CliRunner().invoke(app, nothing).exit_code == 2
