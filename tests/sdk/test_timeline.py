"""Who was seen when, and the chart of their scores."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import tiny_models
import videos
from fer_sdk import cli
from fer_sdk.errors import DataError
from fer_sdk.output.chart import draw_timeline
from fer_sdk.output.draw import PALETTE
from fer_sdk.output.timeline import Timeline, clock
from fer_sdk.stream import Frame
from fer_sdk.types import Box, Face, Point


def _face(number: int, emotion: str) -> Face:
    scores = {label: 0.7 if label == emotion else 0.05 for label in tiny_models.EMOTIONS}
    return Face(Box(10, 10, 30, 30), 0.9, (Point(20, 20),) * 4, emotion, 0.7, scores, number)


@pytest.fixture
def two_people() -> Timeline:
    """Ten seconds: one is happy, then sad; the other is there for a third of the time."""
    timeline = Timeline()
    for i in range(300):
        faces = [_face(1, "happy" if i < 150 else "sad")]
        faces += [_face(2, "neutral")] if 100 <= i < 200 else []
        timeline.add(Frame(i, i / 30, 64, 64, tuple(faces)))
    return timeline


def test_who_was_seen_when_and_with_which_scores(two_people: Timeline) -> None:
    first, second = two_people.people()
    assert (first.track_id, first.frames, first.first, first.last) == (1, 300, 0.0, 299 / 30)
    assert first.scores["happy"] == pytest.approx(0.375)
    assert (second.track_id, second.first, second.last) == (2, 100 / 30, 199 / 30)


def test_the_chart_shows_each_score_as_high_as_it_is(two_people: Timeline) -> None:
    pytest.importorskip("matplotlib", reason="needs the plot extra")
    picture = draw_timeline(two_people).astype(int)
    assert picture.shape[1] == 1600
    # Without the legend and the text.
    picture = picture[50:, 290:]
    colors = np.array(PALETTE)
    which = np.abs(picture[:, :, None] - colors).sum(-1)
    drawn = which.min(-1) < 30
    which = np.where(drawn, which.argmin(-1), -1)
    rows = np.nonzero(drawn.any(axis=1))[0]
    # Between the rows there is white.
    gap = int(np.diff(rows).argmax())
    upper = which[rows[0] : rows[gap] + 1]
    lower = which[rows[gap + 1] : rows[gap + 1] + len(upper)]
    columns = np.nonzero((upper >= 0).any(axis=0))[0]
    start, end = columns.min(), columns.max() + 1
    middle = (start + end) // 2

    def share(first: int, last: int, emotion: str) -> float:
        return float((upper[:, first:last] == tiny_models.EMOTIONS.index(emotion)).mean())

    assert share(start + 9, middle - 9, "happy") == pytest.approx(0.7, abs=0.03)
    assert share(start + 9, middle - 9, "sad") == pytest.approx(0.05, abs=0.03)
    assert share(middle + 9, end - 9, "sad") == pytest.approx(0.7, abs=0.03)
    # Before and after they were there, the second person's row is empty.
    inside = np.nonzero((lower >= 0).any(axis=0))[0]
    seconds = (inside - start) / (end - start) * 10
    assert seconds.min() == pytest.approx(100 / 30, abs=0.1)
    assert seconds.max() == pytest.approx(200 / 30, abs=0.15)


def test_an_hour_with_many_people_stays_small() -> None:
    timeline = Timeline()
    for i in range(3600 * 4):
        timeline.add(Frame(i, i / 4, 64, 64, (_face(1 + i // 4, "happy"), _face(0, "sad"))))
    people = timeline.people()
    assert len(people) <= 1000
    assert len(timeline.curve(0)[1]) <= 1501
    assert sum(len(record.bins) for record in timeline._records.values()) < 10_000
    assert people[0].track_id == 0
    assert people[0].frames == 3600 * 4
    assert people[0].scores["sad"] == pytest.approx(0.7)
    # Those who are here now are never left out.
    assert 3600 in {person.track_id for person in people}


def test_the_chart_shows_faces_and_a_limited_number_of_people() -> None:
    pytest.importorskip("matplotlib", reason="needs the plot extra")
    timeline = Timeline()
    red = np.full((64, 64, 3), (0, 0, 250), np.uint8)
    timeline.add(Frame(0, 0.0, 64, 64, tuple(_face(i, "sad") for i in range(30)), red))
    outside = replace(_face(40, "sad"), box=Box(-90, -90, 20, 20))
    timeline.add(Frame(1, 0.1, 64, 64, (outside,), red))
    assert timeline.portrait(40) is None
    picture = draw_timeline(timeline)
    assert picture.shape == (130 * 12 + 110, 1600, 3)
    assert (picture[:, :280] == (250, 0, 0)).all(axis=-1).mean() > 0.2


def test_a_timeline_of_nobody_can_be_drawn() -> None:
    pytest.importorskip("matplotlib", reason="needs the plot extra")
    timeline = Timeline()
    assert draw_timeline(timeline).shape[1] == 1600
    timeline.add(Frame(0, 0.0, 64, 64, ()))
    assert timeline.people() == []
    assert draw_timeline(timeline).shape[1] == 1600


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DataError, match=r"needs matplotlib.*pip install 'fer-sdk\[plot\]'"):
        draw_timeline(Timeline())


def test_the_command_says_so_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    video = videos.write(tmp_path / "film.mp4", videos.plain(3))
    goal = str(tmp_path / "out.png")
    done = CliRunner().invoke(cli.app, ["video", str(video), "--timeline", goal])
    assert done.exit_code == 2
    assert "needs matplotlib" in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("seconds", "words"), [(7.5, "0:07.5"), (750, "12:30"), (3750, "1:02:30"), (-2, "-0:02")]
)
def test_a_time_as_people_read_it(seconds: float, words: str) -> None:
    assert clock(seconds) == words
