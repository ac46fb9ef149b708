"""The speed that the pipeline is held to: each figure from the right series, and a miss is one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import bench_results
import pytest
from bench_results import CONDITIONS
from msgspec.structs import replace
from typer.testing import CliRunner

import tiny_models
from fer_bench.cli import app
from fer_bench.report import readme
from fer_bench.report.render import to_readme
from fer_bench.results.files import read_result
from fer_bench.results.result import Limit, Result, Row, Skipped, Target
from fer_bench.results.targets import judge, targets_plan
from fer_sdk.errors import DataError

ALONE = replace(CONDITIONS, detector="mediapipe")
RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def steady(level: float, slowest: float | None = None) -> list[list[float]]:
    """Four rounds of a hundred samples around a level in ms, a fiftieth of them slower."""
    part = [level * (1 + 0.002 * (at % 5 - 2)) for at in range(100)]
    part[10:12] = [slowest or level] * 2
    return [part] * 4


def rows(times: dict[str, float]) -> list[Row]:
    """What ``fer-bench targets`` measures, with these medians in ms."""
    of = bench_results.row
    many = replace(ALONE, faces=16)
    crowd = replace(ALONE, workers=8)
    model = replace(ALONE, scenario="model", detector=None, width=None, height=None, faces=None)
    package = replace(ALONE, scenario="package", precision=None, detector=None)
    emotion = of(replace(model, stage="emotion"), steady(times["emotion"]))
    return [
        replace(of(ALONE, steady(times["one"], times["slowest"])), faces_found=1),
        replace(of(many, steady(times["sixteen"])), faces_found=16),
        of(
            replace(ALONE, scenario="inference", stage="three inference calls"),
            steady(times["calls"]),
        ),
        replace(
            of(replace(crowd, scenario="multi-thread"), steady(40.0)),
            images_per_second=times["threads"],
        ),
        replace(
            of(replace(crowd, scenario="multi-process"), steady(40.0)),
            images_per_second=times["processes"],
        ),
        replace(emotion, limit=Limit(2.0, "compute", emotion.latency.p50 / 2.0)),
        replace(of(replace(package, subject="fer (Haar)"), steady(times["haar"])), faces_found=1),
        replace(of(replace(package, subject="fer (MTCNN)"), steady(times["mtcnn"])), faces_found=1),
    ]


MET = {
    "one": 5.0,
    "slowest": 7.0,
    "sixteen": 44.0,
    "calls": 4.2,
    "threads": 390.0,
    "processes": 400.0,
    "emotion": 2.6,
    "haar": 80.0,
    "mtcnn": 210.0,
}
FIGURES = {
    "predict over its three inference calls": 5.0 / 4.2,
    "p99 over p50 of predict": 1.4,
    "16 faces over one face": 8.8,
    "images a second, 8 processes over 8 threads on one pipeline": 400 / 390,
    "emotion model over the roofline's floor": 1.3,
    "fer with its Haar cascade over us": 16.0,
    "fer with MTCNN over us": 42.0,
    "cold start to the first result": 0.552,
    "peak memory of a fresh process": 180.0,
}


def judged(result: Result) -> dict[str, Target]:
    return {one.what: one for one in judge(result)}


def test_each_figure_is_that_of_its_series() -> None:
    found = judged(bench_results.result(*rows(MET)))
    assert {what: one.value for what, one in found.items()} == pytest.approx(FIGURES, rel=0.01)
    assert all(one.met for one in found.values())
    for one in found.values():
        if one.low is not None and one.high is not None and one.value is not None:
            assert one.low <= one.value <= one.high


@pytest.mark.parametrize(
    ("worse", "missed"),
    [
        ({"calls": 3.9}, "predict over its three inference calls"),
        ({"slowest": 8.5}, "p99 over p50 of predict"),
        ({"sixteen": 46.0}, "16 faces over one face"),
        ({"threads": 370.0}, "images a second, 8 processes over 8 threads on one pipeline"),
        ({"emotion": 3.1}, "emotion model over the roofline's floor"),
        ({"haar": 70.0}, "fer with its Haar cascade over us"),
        ({"mtcnn": 190.0}, "fer with MTCNN over us"),
    ],
)
def test_a_miss_is_called_a_miss(worse: dict[str, float], missed: str) -> None:
    found = judged(bench_results.result(*rows(MET | worse)))
    assert [what for what, one in found.items() if one.met is False] == [missed]


@pytest.mark.parametrize(
    ("whole", "memory", "missed"),
    [
        (1201.0, 250_000_000, "cold start to the first result"),
        (1200.0, 250_000_001, "peak memory of a fresh process"),
    ],
)
def test_seconds_and_megabytes_are_what_they_say(whole: float, memory: int, missed: str) -> None:
    result = bench_results.result(*rows(MET))
    starts = [bench_results.cold(whole, memory)] * 3
    found = judged(replace(result, cold_starts=starts))
    assert [what for what, one in found.items() if one.met is False] == [missed]


def test_cold_starts_of_other_pipelines_do_not_count() -> None:
    result = bench_results.result(*rows(MET))
    other = replace(bench_results.cold(9000.0, 900_000_000), precision="fp32")
    found = judged(replace(result, cold_starts=[*result.cold_starts, other]))
    assert found["cold start to the first result"].value == pytest.approx(0.552)
    assert found["peak memory of a fresh process"].value == pytest.approx(180.0)


def without(result: Result, drop: Sequence[str]) -> Result:
    kept = [one for one in result.rows if one.conditions.subject not in drop]
    return replace(result, rows=kept)


def test_what_is_missing_is_neither_met_nor_missed() -> None:
    result = bench_results.result(*rows(MET))
    haar, mtcnn = "fer with its Haar cascade over us", "fer with MTCNN over us"
    left_out = without(result, ["fer (Haar)", "fer (MTCNN)"])
    left_out = replace(left_out, skipped=[Skipped("fer (Haar)", "not installed (pip install fer)")])
    found = judged(left_out)
    assert (found[haar].met, found[haar].basis) == (None, "not installed (pip install fer)")
    assert (found[mtcnn].met, found[mtcnn].basis) == (None, "not asked for")
    # Another number of faces is other work.
    blind = [
        replace(one, faces_found=0) if one.conditions.subject == "fer (Haar)" else one
        for one in result.rows
    ]
    assert judged(replace(result, rows=blind))[haar].basis == "it finds 0 faces where we find 1"
    # So is another number of threads.
    threads = [
        replace(one, conditions=replace(one.conditions, threads=2))
        if one.conditions.subject == "fer (Haar)"
        else one
        for one in result.rows
    ]
    assert judged(replace(result, rows=threads))[haar].met is None
    short = [replace(one, latency=replace(one.latency, p99=None)) for one in result.rows]
    tail = judged(replace(result, rows=short))["p99 over p50 of predict"]
    assert tail.met is None
    assert "needs more than 300" in tail.basis
    nothing = judged(replace(bench_results.result(), cold_starts=[]))
    assert {one.met for one in nothing.values()} == {None}


def test_the_plan_measures_what_is_judged() -> None:
    plan = targets_plan()
    assert (plan.threads, plan.sizes, plan.faces) == ((1,), ((640, 480),), (1, 16))
    assert plan.workers == (8,)
    assert plan.rule.min_count > 300
    assert set(plan.scenarios) >= {"single-stream", "inference", "multi-thread", "multi-process"}
    assert plan.baselines == ("fer", "fer-mtcnn")


def test_the_readme_names_machine_conditions_and_misses() -> None:
    result = bench_results.result(*rows(MET | {"slowest": 9.0}))
    text = to_readme(replace(result, targets=judge(result), notes=["THE MACHINE WAS BUSY"]))
    assert "Some CPU, 4 usable cores" in text
    assert "onnxruntime 1.30.0" in text
    assert "THE MACHINE WAS BUSY" in text
    (missed,) = (line for line in text.splitlines() if "| missed |" in line)
    assert missed.startswith("| p99 over p50 of predict | 1.80 ")
    assert "fer (Haar)" in text


def test_tables_go_between_the_marks_of_a_readme(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"# Title\n\n{readme.BEGIN}\nold\n{readme.END}\n\n## Next\n")
    readme.place("| new |\n", path)
    expected = f"# Title\n\n{readme.BEGIN}\n\n| new |\n\n{readme.END}\n\n## Next\n"
    assert path.read_text() == expected
    readme.place("| new |\n", path)
    assert path.read_text() == expected
    fresh = tmp_path / "speed.md"
    readme.place("| a |", fresh)
    readme.place("| b |", fresh)
    assert fresh.read_text() == f"{readme.BEGIN}\n\n| b |\n\n{readme.END}\n"


@pytest.mark.parametrize(
    "text",
    [
        "# Mine\n",
        f"{readme.END}\n{readme.BEGIN}\n",
        f"{readme.BEGIN}\n{readme.BEGIN}\n{readme.END}\n",
    ],
)
def test_a_file_without_the_marks_is_never_overwritten(text: str, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(DataError, match="would be overwritten"):
        readme.place("| new |", path)
    # The command says so before it measures for minutes.
    done = RUNNER.invoke(app, ["targets", "--quick", "--readme", str(path)])
    assert done.exit_code == 2
    assert path.read_text() == text


def test_the_command_measures_judges_and_fails_on_a_miss(tmp_path: Path) -> None:
    emotion, landmarks = tiny_models.write_models(tmp_path)
    saved, table = tmp_path / "a.json", tmp_path / "speed.md"
    done = RUNNER.invoke(
        app,
        [
            *("targets", "--quick", "--detector", "blazeface"),
            *("--emotion-model", str(emotion), "--landmarks-model", str(landmarks)),
            *("--json", str(saved), "--readme", str(table)),
        ],
    )
    result = read_result(saved)
    assert len(result.targets) == len(FIGURES)
    assert done.exit_code == int(any(one.met is False for one in result.targets)), done.output
    found = {one.what: one for one in result.targets}
    assert found["fer with its Haar cascade over us"].met is None
    assert found["p99 over p50 of predict"].met is None  # too few samples in a quick run
    for what in (
        "predict over its three inference calls",
        "16 faces over one face",
        "images a second, 8 processes over 8 threads on one pipeline",
        "cold start to the first result",
        "peak memory of a fresh process",
    ):
        assert found[what].value is not None, found[what].basis
    crowds = {row.conditions.faces for row in result.rows if row.conditions.workers == 8}
    assert crowds == {1}
    assert "THE SERIES ARE SHORT" in table.read_text()
    assert (
        result.provenance.machine.cpu is None or result.provenance.machine.cpu in table.read_text()
    )
