"""The command from end to end, on models so small that it takes seconds."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import bench_results
import numpy as np
import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

import tiny_models
from fer_bench.cli import app
from fer_bench.measure.plan import SCENARIOS
from fer_bench.measure.stages import STAGES
from fer_bench.results.files import read_result, write_result

RUNNER = CliRunner(env={"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    emotion, landmarks = tiny_models.write_models(tmp_path_factory.mktemp("models"))
    return ["--emotion-model", str(emotion), "--landmarks-model", str(landmarks)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, models: list[str]) -> Path:
    """What one run of everything leaves behind."""
    out = tmp_path_factory.mktemp("out")
    faces = out / "fer2013.csv"
    with faces.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["emotion", "pixels", "Usage"])
        # The tiny model says "angry" (0) for black and "neutral" (6) for white.
        for emotion, level, usage in (
            (0, 0, "PublicTest"),
            (6, 255, "PublicTest"),
            (3, 0, "PublicTest"),
            (0, 255, "PublicTest"),
            (6, 0, "PrivateTest"),
        ):
            writer.writerow([emotion, " ".join([str(level)] * 48 * 48), usage])
    done = RUNNER.invoke(
        app,
        [
            *models,
            *("--detector", "blazeface", "--threads", "1", "--batch", "1,3", "--faces", "1,2"),
            *("--workers", "2", "--min-time", "0.02", "--min-count", "6"),
            *("--rounds", "2", "--cold-starts", "1", "--data", str(faces)),
            *("--json", str(out / "a.json"), "--csv", str(out / "a.csv")),
            *("--markdown", str(out / "a.md")),
        ],
        catch_exceptions=False,
    )
    (out / "stdout.txt").write_text(done.output)
    assert done.exit_code == 0, done.output
    return out


def test_every_scenario_is_measured_as_asked(folder: Path) -> None:
    result = read_result(folder / "a.json")
    for row in result.rows:
        assert len(row.rounds_ms) == 2
        assert sum(map(len, row.rounds_ms)) == row.latency.count >= 6
        assert (row.latency.p99 is None) == (row.latency.count <= 300)
        assert row.provider == "CPUExecutionProvider"
    found = {
        (row.conditions.scenario, row.conditions.stage, row.conditions.batch, row.conditions.faces)
        for row in result.rows
    }
    expected = {("stages", stage, 1, faces) for stage in STAGES for faces in (1, 2)}
    for scenario in ("single-stream", "multi-thread", "camera"):
        expected |= {(scenario, "end to end", 1, faces) for faces in (1, 2)}
    expected |= {("inference", "three inference calls", 1, faces) for faces in (1, 2)}
    expected |= {("multi-process", "end to end", 1, faces) for faces in (1, 2)}
    expected |= {("offline", "end to end", batch, faces) for batch in (1, 3) for faces in (1, 2)}
    expected |= {
        ("model", model, batch, None) for model in ("landmarks", "emotion") for batch in (1, 3)
    }
    expected |= {("dynamic-batch", model, 3, None) for model in ("landmarks", "emotion")}
    assert found == expected


def test_faces_are_found_and_counted(folder: Path) -> None:
    result = read_result(folder / "a.json")
    assert [(scene.faces, scene.found) for scene in result.scenes] == [
        (1, {"blazeface": 1}),
        (2, {"blazeface": 2}),
    ]
    for row in result.rows:
        one = row.conditions
        if one.scenario == "offline":
            assert row.images_per_second is not None
            assert row.faces_per_second == pytest.approx(row.images_per_second * (one.faces or 0))


def test_stages_add_up_to_the_whole(folder: Path) -> None:
    result = read_result(folder / "a.json")
    for faces in (1, 2):
        stages = {
            row.conditions.stage: np.concatenate(row.rounds_ms)
            for row in result.rows
            if row.conditions.scenario == "stages" and row.conditions.faces == faces
        }
        whole = stages.pop("end to end")
        assert sum(stages.values()) == pytest.approx(whole, abs=1e-5)
        assert all((one > 0).all() for one in stages.values())


def test_accuracy_is_measured_on_the_split(folder: Path) -> None:
    # Two of the four faces of PublicTest are what the tiny model says.
    result = read_result(folder / "a.json")
    measured = {
        (row.accuracy.value, row.accuracy.split, row.accuracy.count, row.accuracy.source)
        for row in result.rows
        if row.accuracy is not None
    }
    assert measured == {(0.5, "PublicTest", 4, "measured")}
    without = {row.conditions.stage for row in result.rows if row.accuracy is None}
    assert without == {*STAGES, "three inference calls"} - {"emotion", "end to end"}


def test_cold_start_is_a_process_of_its_own(folder: Path) -> None:
    (cold,) = read_result(folder / "a.json").cold_starts
    parts = cold.interpreter_ms + cold.import_ms + cold.open_ms + cold.first_call_ms
    assert min(cold.interpreter_ms, cold.import_ms, cold.open_ms, cold.first_call_ms) > 0
    assert parts <= cold.to_first_result_ms
    if sys.platform == "linux":
        assert cold.peak_rss_bytes is not None
        assert 20 * 2**20 < cold.peak_rss_bytes < 2 * 2**30


def test_tables_and_files_are_written(folder: Path) -> None:
    shown = (folder / "stdout.txt").read_text()
    for words in ("single-stream", "landmarks", "p50 ms", "Cold start", "Measured peaks"):
        assert words in shown
    assert "skipped CUDA: onnxruntime" in shown
    result = read_result(folder / "a.json")
    assert len((folder / "a.csv").read_text().splitlines()) == 1 + len(result.rows)
    assert "single-stream" in (folder / "a.md").read_text()


def test_a_saved_result_is_shown_reported_and_compared(folder: Path) -> None:
    saved = str(folder / "a.json")
    assert "single-stream" in RUNNER.invoke(app, ["report", saved]).output
    page = folder / "page.html"
    assert RUNNER.invoke(app, ["report", saved, "-o", str(page)]).exit_code == 0
    assert page.read_text().startswith("<!doctype html>")
    same = RUNNER.invoke(app, ["compare", saved, saved])
    assert same.exit_code == 0
    assert "slower" not in same.output


def test_compare_fails_when_something_got_slower(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, median in zip(paths, (10.0, 13.0), strict=True):
        rounds = [random.normal(median, 0.2, 100).tolist() for _ in range(3)]
        row = bench_results.row(bench_results.CONDITIONS, rounds)
        write_result(bench_results.result(row), path)
    slower, faster = [str(path) for path in paths], [str(path) for path in reversed(paths)]
    assert RUNNER.invoke(app, ["compare", *slower]).exit_code == 1
    assert RUNNER.invoke(app, ["compare", *faster]).exit_code == 0
    assert RUNNER.invoke(app, ["compare", *faster, "--fail-on", "any"]).exit_code == 1
    assert RUNNER.invoke(app, ["compare", *slower, "--fail-on", "never"]).exit_code == 0
    assert RUNNER.invoke(app, ["compare", *slower, "--min-effect", "0.5"]).exit_code == 0


def test_compare_of_what_is_no_result_is_wrong_usage(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("{}")
    done = RUNNER.invoke(app, ["compare", str(path), str(path)])
    assert done.exit_code == 2
    other = tmp_path / "b.json"
    write_result(bench_results.full(), path)
    row = bench_results.row(replace(bench_results.CONDITIONS, batch=5), [[1.0] * 9])
    write_result(replace(bench_results.result(row), cold_starts=[]), other)
    assert RUNNER.invoke(app, ["compare", str(path), str(other)]).exit_code == 2


@pytest.mark.parametrize(
    "wrong",
    [
        ["--threads", "0"],
        ["--threads", "two"],
        ["--size", "640"],
        ["--precision", "int4"],
        ["--scenario", "nowhere"],
        ["--baseline", "nobody"],
        ["--baseline-python", "fer"],
        ["--image", "none.jpg"],
        ["--json", "no-such-folder/a.json"],
        ["--no-such-option"],
    ],
)
def test_wrong_usage_exits_with_2(wrong: list[str]) -> None:
    assert RUNNER.invoke(app, wrong).exit_code == 2


def test_a_photo_without_a_face_is_an_error(models: list[str], tmp_path: Path) -> None:
    import cv2

    gray = tmp_path / "gray.png"
    cv2.imwrite(str(gray), np.full((64, 64, 3), 100, np.uint8))
    done = RUNNER.invoke(app, [*models, "--detector", "blazeface", "--image", str(gray)])
    assert done.exit_code == 1
    assert "finds no face in it" in done.output


def test_a_picture_without_faces_is_measured_as_far_as_it_goes(
    models: list[str], tmp_path: Path
) -> None:
    saved = tmp_path / "a.json"
    done = RUNNER.invoke(
        app,
        [
            *models,
            *("--detector", "blazeface", "--threads", "1", "--faces", "0", "--no-roofline"),
            *("--scenario", "single-stream,stages", "--min-time", "0", "--min-count", "3"),
            *("--rounds", "1", "--cold-starts", "0", "--json", str(saved)),
        ],
    )
    assert done.exit_code == 0, done.output
    result = read_result(saved)
    assert [row.conditions.scenario for row in result.rows] == ["single-stream"]
    assert result.rows[0].faces_found == 0
    assert any("finds no face" in one.reason for one in result.skipped)


def test_help_and_lists_need_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from fer_bench.cli import app\n"
        "from typer.testing import CliRunner\n"
        "for words in (['--help'], ['run', '--help'], ['baselines'], ['compare', '--help']):\n"
        "    done = CliRunner().invoke(app, words)\n"
        "    assert done.exit_code == 0, done.output\n"
        "print([one for one in ('numpy', 'cv2', 'onnxruntime', 'matplotlib', 'onnx', 'msgspec')"
        " if one in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_without_the_extra_the_command_names_it() -> None:
    code = (
        "import sys\n"
        "sys.modules['msgspec'] = None\n"
        "sys.argv = ['fer-bench', '--quick']\n"
        "from fer_bench.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "msgspec is not installed: pip install 'fer-sdk[bench]'" in done.stderr


def test_the_help_lists_every_scenario() -> None:
    told = " ".join(RUNNER.invoke(app, ["run", "--help"], env={"COLUMNS": "400"}).output.split())
    assert ", ".join(SCENARIOS) in told


def test_the_schema_is_printed() -> None:
    printed = json.loads(RUNNER.invoke(app, ["schema"]).output)
    assert printed["title"] == "fer-bench result"


def test_what_does_not_open_is_skipped_and_the_rest_goes_on(
    models: list[str], tmp_path: Path
) -> None:
    saved = tmp_path / "a.json"
    words = [
        *models,
        *("--detector", "blazeface", "--threads", "1", "--batch", "1", "--no-roofline"),
        *("--scenario", "model", "--min-time", "0", "--min-count", "2", "--rounds", "1"),
        *("--cold-starts", "0", "--json", str(saved)),
    ]
    done = RUNNER.invoke(app, [*words, "--precision", "auto,int8"])
    assert done.exit_code == 0, done.output
    result = read_result(saved)
    assert {row.conditions.precision for row in result.rows} == {"fp32"}
    (reason,) = (one.reason for one in result.skipped if "int8" in one.what)
    assert "fp32" in reason
    # Where nothing opens there is nothing to go on with.
    nothing = RUNNER.invoke(app, [*words, "--precision", "int8"])
    assert nothing.exit_code == 1
    assert "no pipeline could be opened" in nothing.output


def test_each_model_is_named_by_its_own_precision(tmp_path: Path) -> None:
    emotion, landmarks = tmp_path / "e.onnx", tmp_path / "l.onnx"
    emotion.write_bytes(
        tiny_models.emotion_model(tiny_models.metadata("emotion", precision="int8"))
    )
    landmarks.write_bytes(tiny_models.landmarks_model())
    saved = tmp_path / "a.json"
    done = RUNNER.invoke(
        app,
        [
            *("--emotion-model", str(emotion), "--landmarks-model", str(landmarks)),
            *("--detector", "blazeface", "--threads", "1", "--batch", "1", "--no-roofline"),
            *("--scenario", "model", "--min-time", "0", "--min-count", "2", "--rounds", "1"),
            *("--cold-starts", "0", "--json", str(saved)),
        ],
    )
    assert done.exit_code == 0, done.output
    rows = {row.conditions.stage: row.conditions.precision for row in read_result(saved).rows}
    assert rows == {"emotion": "int8", "landmarks": "fp32"}
