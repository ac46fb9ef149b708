"""What ``fer-bench tracking`` counts, on scenes whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fer_bench.cli import app as bench
from fer_bench.quality.detection_photos import RELATIVE, bin_of
from fer_bench.quality.scenes import bundled_portrait
from fer_bench.quality.tracking import measure_boxes, measure_pictures
from fer_bench.quality.tracking_scenes import SCENES, WIDTH, Noise
from fer_sdk.detectors.boxes import iou
from fer_sdk.pipeline import FerPipeline
from fer_sdk.tracker import Tracker


def test_scenes_with_a_perfect_detector_show_no_switch() -> None:
    perfect = Noise(centre=0, side=0, missed=0, false=0)
    for name in ("crossing", "turning back", "hidden", "coming and going"):
        for seed in range(4):
            result = measure_boxes(name, 30, seeds=[seed], noise=perfect)
            assert (name, seed, result.switches, result.mixed) == (name, seed, 0, 0)


def test_a_noisy_detector_costs_few_numbers() -> None:
    # More than twice what the command prints, so that only a worse tracker fails.
    for name, most in {
        "crossing": 3,
        "turning back": 1,
        "hidden": 1,
        "coming and going": 2,
    }.items():
        result = measure_boxes(name, 30, seeds=range(6))
        assert result.people >= 6
        assert result.switches <= most, name


def test_the_measure_counts_a_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(Tracker):
        def assign(self, *of: object) -> list[int]:
            count[0] += 1
            self._tracks = [] if count[0] == 20 else self._tracks
            return super().assign(*of)  # type: ignore[arg-type]

    count = [0]
    monkeypatch.setattr("fer_bench.quality.tracking.Tracker", Forgetful)
    perfect = Noise(centre=0, side=0, missed=0, false=0)
    result = measure_boxes("turning back", 30, seeds=[0], noise=perfect)
    assert (result.people, result.switches) == (2, 2)


def test_every_scene_has_people_to_see() -> None:
    for make in SCENES.values():
        scene = make(np.random.default_rng(0))
        seen = [scene.visible(t) for t in np.arange(0, scene.seconds, 0.1)]
        assert set().union(*seen) == set(range(len(scene.people)))


def test_the_command_prints_a_row_for_each_scene_and_writes_the_figures(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        bench,
        ["tracking", "--scenes", "1", "--pictures", "0", "--json", str(tmp_path / "t.json")],
        env={"COLUMNS": "200"},
    )
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "t.json").read_text())
    assert len(report["results"]) == 4 * len(SCENES)
    for row in report["results"]:
        assert 0.8 * row["visible"] < row["seen"] <= row["visible"]
        assert row["scene"] in done.stdout
    assert report["pipeline"]["models"]


def test_portraits_are_drawn_where_the_scene_has_them() -> None:
    with FerPipeline(detector="yunet", threads=1) as pipeline:
        result = measure_pictures(
            "hidden", pipeline, bundled_portrait(), detect_every=3, seeds=[1], rate=10
        )
    assert result.visible > 20
    assert result.seen > 0.6 * result.visible
    assert result.off is not None
    assert result.off < 0.15


def test_a_camera_pans_over_a_group() -> None:
    scene = SCENES["panning"](np.random.default_rng(0))
    sizes = {bin_of(RELATIVE, box.width / WIDTH) for box in scene.boxes(5).values()}
    assert sizes == set(RELATIVE)
    # Nobody stands before another, and all move alike.
    then, now = scene.visible(4), scene.visible(5)
    both = then.keys() & now.keys()
    assert len(both) > 10
    moved = [now[one].x - then[one].x for one in both]
    assert np.ptp(moved) == pytest.approx(0)
    assert -150 <= moved[0] <= -100
    overlaps = iou(list(now.values()), list(now.values()))
    assert (overlaps > 0).sum() == len(now)


def test_faces_of_every_size_are_followed_while_the_camera_pans() -> None:
    with FerPipeline(threads=1) as pipeline:
        result = measure_pictures(
            "panning", pipeline, bundled_portrait(), detect_every=None, seeds=[0], rate=15
        )
    assert (result.switches, result.mixed) == (0, 0)
    for name, of_size in result.by_size.items():
        assert of_size.faces > 50, name
        assert of_size.recall is not None
        assert of_size.recall > 0.85, name
