"""``fer video`` and ``fer webcam``, as a user starts them."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import streams
import tiny_models
import videos
from checks import tried
from fer_sdk import cli
from fer_sdk.cli import webcam
from fer_sdk.errors import VideoError
from fer_sdk.image.load import load_image
from fer_sdk.stream import Frame
from fer_sdk.video import read as video_module
from fer_sdk.video.read import open_frames

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tiny_models.write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A face crop that gets lighter."""
    return videos.write(tmp_path / "film.mp4", videos.plain(40), fps=20)


def _options(models: tuple[Path, Path]) -> list[str]:
    given = ["--detector", "none", "--threads", "1"]
    return [*given, "--emotion-model", str(models[0]), "--landmarks-model", str(models[1])]


def _fer(models: tuple[Path, Path], *arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    command, *others = map(str, arguments)
    done = CliRunner().invoke(cli.app, [command, *_options(models), *others])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def _shots(path: Path) -> list[Any]:
    limits = {"max_pixels": 10**8, "max_bytes": 10**8}
    return list(open_frames(path, color="bgr", times=None, fps=None, **limits))


def _lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_a_table_of_who_was_seen(models: tuple[Path, Path], film: Path) -> None:
    status, output, errors = _fer(models, "video", film)
    assert (status, errors) == (0, "")
    row = next(line for line in output.splitlines() if "#1" in line)
    assert re.search(r"0:00 .* 0:02 .* 2\.0 s .* disgust|0:00 .* 0:02 .* 2\.0 s", row)


def test_all_that_is_written_agrees(models: tuple[Path, Path], film: Path, tmp_path: Path) -> None:
    names = {kind: tmp_path / f"out{kind}" for kind in (".webm", ".csv", ".jsonl", ".png")}
    status, output, errors = _fer(
        models, "video", film, "--json", "--save", names[".webm"], "--table", names[".csv"],
        "--timeline", names[".png"], "--smoothing", "0",
    )  # fmt: skip
    assert (status, errors) == (0, "")
    frames = _lines(output)
    assert [frame["frame"] for frame in frames] == list(range(40))
    assert [frame["time"] for frame in frames] == pytest.approx([i / 20 for i in range(40)])
    with names[".csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, frame, shot in zip(rows, frames, _shots(film), strict=True):
        (face,) = frame["faces"]
        assert (int(row["frame"]), float(row["time"])) == (frame["frame"], frame["time"])
        assert (row["emotion"], row["track_id"]) == (face["emotion"], "1")
        assert float(row["score_happy"]) == pytest.approx(face["scores"]["happy"])
        crop = cv2.resize(cv2.cvtColor(shot.pixels[:, 20:140], cv2.COLOR_RGB2GRAY), (16, 16))
        expected = tiny_models.expected_scores(crop[None])[0]
        assert list(face["scores"].values()) == pytest.approx(list(expected), abs=0.02)
    drawn = _shots(names[".webm"])
    assert [shot.time for shot in drawn] == pytest.approx([i / 20 for i in range(40)], abs=1e-3)
    # A frame is drawn around the whole picture, which is the face.
    assert abs(int(drawn[20].pixels[2, 80].mean()) - int(drawn[20].pixels[60, 80].mean())) > 30
    assert load_image(names[".png"]).shape[1] == 1600
    status, _, _ = _fer(models, "video", film, "-o", names[".jsonl"], "--smoothing", "0")
    assert status == 0
    assert _lines(names[".jsonl"].read_text()) == frames


def test_a_parquet_of_every_frame(models: tuple[Path, Path], film: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    status, _, _ = _fer(models, "video", film, "--table", tmp_path / "out.parquet")
    assert status == 0
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.num_rows == 40
    assert table.column("frame").to_pylist() == list(range(40))
    assert set(table.column("track_id").to_pylist()) == {1}


def test_without_pyarrow_it_says_what_to_install(
    models: tuple[Path, Path], film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    status, output, errors = _fer(models, "video", film, "--table", tmp_path / "out.parquet")
    assert (status, output) == (2, "")
    assert "pyarrow" in errors
    assert "pip install" in errors


def test_frames_without_a_face_have_a_row_too(tmp_path: Path) -> None:
    models = tiny_models.write_models(tmp_path)
    path = videos.write(tmp_path / "empty.mp4", videos.plain(6))
    status, output, _ = _fer(
        models, "video", path, "--detector", "blazeface", "-o", tmp_path / "out.csv"
    )
    assert status == 0
    assert "no face was seen" in output
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == [str(i) for i in range(6)]
    assert {row["emotion"] for row in rows} == {""}


def test_a_cut_video_is_used_as_far_as_it_goes(
    models: tuple[Path, Path], film: Path, tmp_path: Path
) -> None:
    short = videos.cut(videos.index_first(film), 0.6)
    status, output, errors = _fer(models, "video", short, "-o", tmp_path / "out.csv", "--json")
    assert status == 1
    done = len(output.splitlines())
    assert 5 < done < 40
    assert errors.startswith(f"fer: {short}: the file is cut: it ends after {done} frames")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == done + 1
    tried("videos that were cut off or damaged in the middle")


def test_what_is_no_video_writes_nothing(models: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "noise.mp4").write_bytes(os.urandom(999))
    for source, status in ((tmp_path / "noise.mp4", 1), (tmp_path / "none.mp4", 1)):
        done = _fer(models, "video", source, "--save", tmp_path / "out.mp4")
        assert done[:2] == (status, "")
        assert done[2].startswith(f"fer: {source}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["noise.mp4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--save", "out.gif"], "videos are written as"),
        (["--table", "out.xls"], "tables are written as"),
        (["--timeline", "out.txt"], "pictures are written as"),
        (["--save", "nowhere/out.mp4"], "there is no folder nowhere"),
        (["--save", "film.mp4"], "that is the input"),
        (["--save", "out.mp4", "--timeline", "out.png", "--table", "out.mp4"], "tables are"),
        (["--detect-every", "0"], "detect-every"),
        (["--fps", "0"], "fps"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_done(
    arguments: list[str],
    message: str,
    models: tuple[Path, Path],
    film: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(film.parent)
    status, output, errors = _fer(models, "video", "film.mp4", *arguments)
    assert (status, output) == (2, "")
    assert message in " ".join(errors.replace("│", " ").split())


def test_a_rate_of_ones_own(models: tuple[Path, Path], film: Path) -> None:
    _, output, _ = _fer(models, "video", film, "--json", "--fps", "1000")
    assert [frame["time"] for frame in _lines(output)] == [i / 1000 for i in range(40)]


_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"]


@pytest.mark.skipif(sys.platform == "win32", reason="interrupts are sent otherwise there")
@pytest.mark.parametrize("name", _SIGNALS)
def test_an_interrupt_leaves_nothing_half_done(
    name: str, models: tuple[Path, Path], tmp_path: Path
) -> None:
    long = videos.write(tmp_path / "long.mp4", videos.plain(100) * 40)
    (tmp_path / "out.csv").write_text("before")
    before = set(tmp_path.iterdir())
    program = subprocess.Popen(
        [sys.executable, "-m", "fer_sdk", "video", *_options(models), str(long), "--json",
         "--save", str(tmp_path / "out.mp4"), "-o", str(tmp_path / "out.csv"),
         "--timeline", str(tmp_path / "out.png")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # What a shell starts in the background ignores Ctrl-C, and so would what it starts.
        preexec_fn=_with_signals,  # noqa: PLW1509
    )  # fmt: skip
    assert program.stdout is not None
    for _ in range(20):
        assert program.stdout.readline()
    assert len(set(tmp_path.iterdir()) - before) == 2
    program.send_signal(getattr(signal, name))
    output, errors = program.communicate(timeout=60)
    assert program.returncode == 130, errors
    first, second = errors.splitlines()
    assert first == "fer: interrupted"
    done = re.fullmatch(
        r"fer: (\d+) frames were done, to [\d.]+ s; not written: .*out\.mp4.*out\.csv.*out\.png",
        second,
    )
    assert done is not None, second
    assert abs(int(done[1]) - 20 - len(output.splitlines())) <= 1
    assert set(tmp_path.iterdir()) == before
    assert (tmp_path / "out.csv").read_text() == "before"
    tried("interrupts while a video is written")


def _with_signals() -> None:
    for name in _SIGNALS:
        signal.signal(getattr(signal, name), signal.SIG_DFL)


@pytest.mark.skipif(sys.platform == "win32", reason="interrupts are sent otherwise there")
@pytest.mark.parametrize("name", _SIGNALS)
def test_a_recording_is_kept_when_it_is_stopped(
    name: str, models: tuple[Path, Path], tmp_path: Path
) -> None:
    with streams.rtsp_camera(videos.plain(500)) as address:
        program = subprocess.Popen(
            [sys.executable, "-m", "fer_sdk", "webcam", *_options(models), "--camera", address,
             "--view", "lines", "--save", str(tmp_path / "out.mp4")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_with_signals,  # noqa: PLW1509
        )  # fmt: skip
        assert program.stdout is not None
        for _ in range(20):
            assert program.stdout.readline()
        program.send_signal(getattr(signal, name))
        output, errors = program.communicate(timeout=60)
    assert (program.returncode, errors) == (0, "")
    assert "wrote" in output
    assert len(_shots(tmp_path / "out.mp4")) >= 20


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP")
def test_what_is_to_be_ignored_stays_so() -> None:
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from fer_sdk.cli import _stop_as_ctrl_c_does; _stop_as_ctrl_c_does()\n"
        "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_is_told_and_leaves_nothing(models: tuple[Path, Path], tmp_path: Path) -> None:
    import resource

    noise = np.random.default_rng(0).integers(0, 256, (40, 128, 128, 3), np.uint8)
    film = videos.write(tmp_path / "film.avi", noise)
    before = set(tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, "-m", "fer_sdk", "video", *_options(models), str(film),
         "--save", str(tmp_path / "out.mp4"), "-o", str(tmp_path / "out.csv")],
        capture_output=True, text=True, timeout=120, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "out.mp4: cannot be written: File too large" in done.stderr
    assert "frames were done" in done.stderr
    assert set(tmp_path.iterdir()) == before
    tried("disks that are full while a video is written")


def test_a_table_on_standard_output(models: tuple[Path, Path], film: Path, tmp_path: Path) -> None:
    assert _fer(models, "video", film, "-o", tmp_path / "out.csv")[0] == 0
    status, output, errors = _fer(models, "video", film, "-o", "-")
    assert (status, errors) == (0, "")
    assert output == (tmp_path / "out.csv").read_text()
    status, _, errors = _fer(models, "video", film, "-o", "-", "--json")
    assert status == 2
    assert "prints already" in errors


def test_a_folder_of_videos(models: tuple[Path, Path], film: Path, tmp_path: Path) -> None:
    other = videos.write(tmp_path / "talks" / "b.avi", videos.plain(5))
    film = film.rename(tmp_path / "talks" / "a.mp4")
    (tmp_path / "talks" / "notes.txt").write_text("none")
    status, output, errors = _fer(
        models, "video", tmp_path / "talks", "--json", "-o", tmp_path / "out.csv",
        "--save", tmp_path / "drawn", "--timeline", tmp_path / "drawn",
    )  # fmt: skip
    assert status == 0
    assert errors == f"wrote {tmp_path / 'out.csv'}\n"
    expected = [str(film)] * 40 + [str(other)] * 5
    assert [frame["video"] for frame in _lines(output)] == expected
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [row["video"] for row in csv.DictReader(file)] == expected
    drawn = {"a-faces.mp4", "b-faces.mp4", "a-timeline.png", "b-timeline.png"}
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == drawn
    assert len(_shots(tmp_path / "drawn" / "b-faces.mp4")) == 5


def test_one_of_several_videos_is_damaged(
    models: tuple[Path, Path], film: Path, tmp_path: Path
) -> None:
    (tmp_path / "noise.mp4").write_bytes(os.urandom(999))
    status, output, errors = _fer(
        models, "video", tmp_path / "noise.mp4", film, "-o", tmp_path / "out.jsonl"
    )
    assert status == 1
    assert errors.startswith(f"fer: {tmp_path / 'noise.mp4'}: not a video")
    assert output.splitlines()[0] == str(film)
    assert output.splitlines()[-1] == f"wrote {tmp_path / 'out.jsonl'}"
    assert len(_lines((tmp_path / "out.jsonl").read_text())) == 40


def test_a_folder_without_videos_is_told(models: tuple[Path, Path], tmp_path: Path) -> None:
    status, _, errors = _fer(models, "video", tmp_path)
    assert status == 2
    assert "there are no videos" in errors


def test_an_address_is_a_video(models: tuple[Path, Path], tmp_path: Path) -> None:
    videos.index_first(videos.write(tmp_path / "a.mp4", videos.plain(12)))
    with streams.http_server(tmp_path) as address:
        status, output, errors = _fer(models, "video", f"{address}/a.mp4", "--json")
    assert (status, errors) == (0, "")
    assert len(_lines(output)) == 12


def test_an_rtsp_camera_is_a_camera(models: tuple[Path, Path], tmp_path: Path) -> None:
    with streams.rtsp_camera(videos.plain(200)) as address:
        status, output, errors = _fer(
            models, "webcam", "--camera", address, "--frames", 10, "--json",
            "--save", tmp_path / "out.mp4",
        )  # fmt: skip
    assert (status, errors) == (0, "")
    assert len(_lines(output)) == 10
    assert len(_shots(tmp_path / "out.mp4")) == 10


def test_what_is_no_camera_is_told(models: tuple[Path, Path], film: Path) -> None:
    status, _, errors = _fer(models, "webcam", "--camera", film)
    assert status == 2
    assert "is no camera" in " ".join(errors.replace("│", " ").split())


def test_the_real_models_follow_the_example_face(example_photo: Path, tmp_path: Path) -> None:
    path = videos.write(tmp_path / "walk.mp4", videos.walk(example_photo, 20))
    done = CliRunner().invoke(
        cli.app, ["video", str(path), "--json", "--threads", "1", "--detect-every", "4"]
    )
    faces = [face for frame in _lines(done.stdout) for face in frame["faces"]]
    assert len(faces) >= 18
    assert {(face["track_id"], face["emotion"]) for face in faces} == {(1, "happy")}


# The camera


class _Camera:
    """What OpenCV would open."""

    def __init__(self, frames: int) -> None:
        self._frames = iter(videos.plain(frames, 64, 64))

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def set(self, what: int, value: float) -> bool:
        return True

    def read(self) -> tuple[bool, Any]:
        time.sleep(0.002)
        frame = next(self._frames, None)
        return frame is not None, frame

    def release(self) -> None:
        pass


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> None:
    real = cv2.VideoCapture
    monkeypatch.setattr(
        video_module.cv2, "VideoCapture", lambda *a: _Camera(30) if a == (0,) else real(*a)
    )


def test_no_camera_is_a_clear_message(models: tuple[Path, Path], tmp_path: Path) -> None:
    status, output, errors = _fer(
        models, "webcam", "--camera", "97", "--save", tmp_path / "out.mp4"
    )
    assert (status, output) == (2, "")
    assert errors.startswith("fer: camera 97 does not open: see that one is plugged in")
    assert len(errors.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_no_window_is_a_clear_message(models: tuple[Path, Path]) -> None:
    if cv2.currentUIFramework():
        pytest.skip("this OpenCV can open windows")
    status, _, errors = _fer(models, "webcam", "--view", "window")
    assert status == 2
    assert "built without windows" in " ".join(errors.replace("│", " ").split())


@pytest.mark.usefixtures("camera")
def test_a_camera_as_lines_of_text(models: tuple[Path, Path]) -> None:
    status, output, errors = _fer(models, "webcam", "--frames", 5)
    assert (status, errors) == (0, "")
    lines = [line for line in output.splitlines() if " s  #1 " in line]
    assert len(lines) == 5


@pytest.mark.usefixtures("camera")
def test_a_camera_into_files(models: tuple[Path, Path], tmp_path: Path) -> None:
    status, output, _ = _fer(
        models, "webcam", "--frames", 20, "--view", "lines", "--save", tmp_path / "out.avi",
        "-o", tmp_path / "out.csv",
    )  # fmt: skip
    assert status == 0
    assert "wrote" in output
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 21
    assert _shots(tmp_path / "out.avi")[0].pixels.shape == (64, 64, 3)


@pytest.mark.usefixtures("camera")
def test_a_camera_that_vanishes_keeps_what_was_seen(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    status, output, errors = _fer(models, "webcam", "--json", "-o", tmp_path / "out.csv")
    assert status == 1
    assert len(_lines(output)) == 30
    assert errors.startswith("fer: camera 0 gives no more frames, after 30: ")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 31
    tried("cameras that vanish")


@pytest.mark.usefixtures("camera")
def test_ctrl_c_is_how_a_camera_is_stopped(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(frame: Frame) -> None:
        if frame.index == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr(webcam, "_print_line", stop)
    status, output, errors = _fer(
        models, "webcam", "--view", "lines", "--table", tmp_path / "out.csv"
    )
    assert (status, errors) == (0, "")
    assert "wrote" in output
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 11


@pytest.mark.parametrize(
    ("camera", "source"), [("1", 1), ("rtsp://host/stream", "rtsp://host/stream")]
)
def test_a_camera_goes_by_number_or_by_address(
    models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, camera: str, source: object
) -> None:
    given: list[object] = []

    def stream(_: object, source: object, **settings: object) -> Any:
        given.append(source)
        raise VideoError("no camera")

    monkeypatch.setattr("fer_sdk.pipeline.FerPipeline.stream", stream)
    assert _fer(models, "webcam", "--camera", camera) == (2, "", "fer: no camera\n")
    assert given == [source]


@pytest.mark.usefixtures("camera")
def test_a_window_shows_the_faces_and_ends_when_it_is_closed(
    models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(webcam, "_no_window", lambda: None)
    monkeypatch.setattr(cv2, "imshow", lambda _, image: shown.append(image))
    monkeypatch.setattr(cv2, "waitKey", lambda _: ord("q") if len(shown) == 3 else -1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    status, _, errors = _fer(models, "webcam")
    assert (status, errors, len(shown)) == (0, "", 3)
    assert shown[0].shape == (64, 64, 3)
