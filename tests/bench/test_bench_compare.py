"""Comparing two results: a real shift is found, noise is not taken for one."""

from __future__ import annotations

import bench_results
import numpy as np
import numpy.typing as npt
import pytest
from bench_results import CONDITIONS
from msgspec.structs import replace

from fer_bench.results.compare import compare
from fer_bench.results.result import Result, Row
from fer_bench.results.words import name
from fer_sdk.errors import DataError


def series(
    random: np.random.Generator, median: float, rounds: int = 3, count: int = 150
) -> list[list[float]]:
    """Latencies as they are: skewed, each like the one before it, and rounds that differ a bit."""
    found = []
    for _ in range(rounds):
        level = median * (1 + random.normal(0, 0.005))
        noise: npt.NDArray[np.float64] = random.lognormal(0, 0.05, count)
        drift = np.convolve(random.normal(0, 0.02, count + 9), np.ones(10) / 10, "valid")
        found.append((level * (noise + drift)).tolist())
    return found


def measured(*rows: Row) -> Result:
    """A result with these rows and no cold starts."""
    return replace(bench_results.result(*rows), cold_starts=[])


def pair(random: np.random.Generator, before: float, after: float) -> tuple[Result, Result]:
    return (
        measured(bench_results.row(CONDITIONS, series(random, before))),
        measured(bench_results.row(CONDITIONS, series(random, after))),
    )


@pytest.mark.parametrize(("after", "verdict"), [(11.5, "slower"), (8.5, "faster")])
def test_a_shift_of_15_per_cent_is_found(after: float, verdict: str) -> None:
    for seed in range(3):
        (found,) = compare(*pair(np.random.default_rng(seed), 10.0, after)).differences
        assert found.verdict == verdict
        assert found.low < after / 10 < found.high
        assert found.ratio == pytest.approx(after / 10, rel=0.03)


def test_noise_is_no_difference() -> None:
    verdicts = [
        compare(*pair(np.random.default_rng(seed), 10.0, 10.0)).differences[0].verdict
        for seed in range(20)
    ]
    assert set(verdicts) <= {"same", "unclear"}
    assert verdicts.count("same") >= 15


def test_a_difference_below_the_least_effect_is_none() -> None:
    before, after = pair(np.random.default_rng(3), 10.0, 10.4)
    assert compare(before, after, min_effect=0.10).differences[0].verdict == "same"


def test_rounds_that_disagree_make_it_unclear() -> None:
    random = np.random.default_rng(0)
    steady = bench_results.row(CONDITIONS, series(random, 10.0))
    torn = bench_results.row(
        CONDITIONS,
        [series(random, level, rounds=1)[0] for level in (8.0, 12.5, 12.6)],
    )
    (found,) = compare(measured(steady), measured(torn)).differences
    assert found.ratio > 1.05
    assert found.verdict == "unclear"


def test_too_few_samples_are_unclear() -> None:
    before = measured(bench_results.row(CONDITIONS, [[1.0, 1.0]]))
    after = measured(bench_results.row(CONDITIONS, [[9.0, 9.0]]))
    assert compare(before, after).differences[0].verdict == "unclear"


def test_the_same_files_give_the_same_answer() -> None:
    before, after = pair(np.random.default_rng(7), 10.0, 10.7)
    assert compare(before, after) == compare(before, after)


def test_rows_without_a_partner_are_named() -> None:
    other = replace(CONDITIONS, faces=4)
    before = measured(
        bench_results.row(CONDITIONS, [[1.0] * 9]), bench_results.row(other, [[2.0] * 9])
    )
    after = measured(
        bench_results.row(CONDITIONS, [[1.0] * 9]),
        bench_results.row(replace(CONDITIONS, threads=8), [[2.0] * 9]),
    )
    found = compare(before, after)
    assert [one.what for one in found.differences] == [name(CONDITIONS)]
    assert found.only_before == [name(other)]
    assert found.only_after == [name(replace(CONDITIONS, threads=8))]


def test_nothing_in_common_is_an_error() -> None:
    before = measured(bench_results.row(CONDITIONS, [[1.0] * 9]))
    after = measured(bench_results.row(replace(CONDITIONS, batch=2), [[1.0] * 9]))
    with pytest.raises(DataError, match="no row with the same conditions"):
        compare(before, after)


def test_cold_starts_and_their_memory_are_compared() -> None:
    before = bench_results.result()
    heavier = [bench_results.cold(900.0 + at, 240_000_000 + at) for at in range(5)]
    found = compare(before, replace(before, cold_starts=heavier))
    verdicts = {one.what.partition(" (")[0]: (one.verdict, one.unit) for one in found.differences}
    assert verdicts == {
        "cold start, Python": ("same", "ms"),
        "cold start, import": ("slower", "ms"),
        "cold start, open": ("same", "ms"),
        "cold start, 1st call": ("same", "ms"),
        "cold start, in all": ("slower", "ms"),
        "peak memory of a fresh process": ("slower", "MB"),
    }
    (memory,) = (one for one in found.differences if one.unit == "MB")
    assert (memory.before, memory.after) == pytest.approx((180.0, 240.0))


def test_models_of_one_task_are_told_apart_by_their_precision() -> None:
    before = measured(bench_results.row(CONDITIONS, [[1.0] * 9]))
    int8 = before.models[0]
    both = replace(before, models=[int8, replace(int8, precision="fp32", sha256="cd" * 32)])
    assert compare(both, replace(both, models=both.models[::-1])).warnings == []
    other = replace(both, models=[int8, replace(int8, precision="fp32", sha256="ef" * 32)])
    assert compare(both, other).warnings == ["the emotion model (fp32) is not the same file"]


def test_another_picture_is_a_warning() -> None:
    before = measured(bench_results.row(CONDITIONS, [[1.0] * 9]))
    (scene,) = before.scenes
    after = replace(before, scenes=[replace(scene, sha256="11" * 32, found={"mediapipe": 0})])
    assert compare(before, after).warnings == [
        "the 640x480 picture with 1 face is not the same one",
        "the 640x480 picture with 1 face: mediapipe finds 1 and 0",
    ]


def test_another_machine_is_a_warning() -> None:
    before = measured(bench_results.row(CONDITIONS, [[1.0] * 9]))
    origin = before.provenance
    after = replace(
        before,
        provenance=replace(origin, machine=replace(origin.machine, cpu="Another CPU")),
        peaks=[replace(before.peaks[0], fp32_gmacs=40.0)],
        models=[replace(before.models[0], sha256="cd" * 32)],
        notes=["THE MACHINE WAS BUSY"],
    )
    warnings = "\n".join(compare(before, after).warnings)
    assert "different CPUs: Some CPU and Another CPU" in warnings
    assert "the machine itself ran -20 %" in warnings
    assert "emotion model (int8) is not the same file" in warnings
    assert "second result: THE MACHINE WAS BUSY" in warnings
    assert compare(before, before).warnings == []
