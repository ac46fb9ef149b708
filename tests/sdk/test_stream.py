"""Videos, cameras and frames of one's own, followed by the pipeline."""

from __future__ import annotations

import gc
import io
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import psutil
import pytest
from PIL import Image as PillowImage

import streams
import tiny_models
import videos
from checks import tried
from fer_sdk.detectors.base import Detection
from fer_sdk.errors import ImageError, PipelineClosedError, SettingError, VideoError
from fer_sdk.pipeline import FerPipeline
from fer_sdk.stream import Frame, follow
from fer_sdk.types import Box, Face, Point
from fer_sdk.video import read as video_module
from fer_sdk.video.read import Shot, open_frames, read_facts
from fer_sdk.video.write import open_video

LIMITS = {"max_pixels": 10**8, "max_bytes": 10**8}
KINDS = tuple(videos.CODECS)


class Bright:
    """Finds the one bright square of a dark picture."""

    name = "bright"

    def __init__(self) -> None:
        self.calls = 0

    def detect(self, image: npt.NDArray[np.uint8]) -> list[Detection]:
        self.calls += 1
        rows, columns = np.nonzero(image[..., 0] > 100)
        if not len(rows):
            return []
        left, top = int(columns.min()), int(rows.min())
        width, height = int(columns.max()) + 1 - left, int(rows.max()) + 1 - top
        return [Detection(Box(left, top, width, height), 0.9)]

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tiny_models.write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def pipeline(models: tuple[Path, Path]) -> Iterator[FerPipeline]:
    with FerPipeline(
        detector=None, emotion_model=models[0], landmarks_model=models[1], threads=1
    ) as opened:
        yield opened


def _bright(models: tuple[Path, Path], detector: Bright) -> FerPipeline:
    # The tiny model's eyes are anywhere: none of its faces is to be turned by them.
    return FerPipeline(
        detector=detector,
        emotion_model=models[0],
        landmarks_model=models[1],
        threads=1,
        align_beyond=None,
    )


def _square(x: float, y: float = 60, side: int = 40, level: int = 200) -> npt.NDArray[np.uint8]:
    picture = np.zeros((160, 240, 3), np.uint8)
    picture[round(y) : round(y) + side, max(round(x), 0) : round(x) + side] = level
    return picture


def _shots(source: Any, **settings: Any) -> list[Shot]:
    given: dict[str, Any] = {"color": "bgr", "times": None, "fps": None, **LIMITS, **settings}
    return list(open_frames(source, **given))


def _until_error(source: Any, **settings: Any) -> tuple[list[Shot], VideoError]:
    given: dict[str, Any] = {"color": "bgr", "times": None, "fps": None, **LIMITS, **settings}
    shots = []
    try:
        for shot in open_frames(source, **given):
            shots.append(shot)
    except VideoError as error:
        return shots, error
    pytest.fail("nothing was wrong with it")


# Reading


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_gives_all_frames_at_its_own_times(kind: str, tmp_path: Path) -> None:
    path = videos.write(tmp_path / f"a{kind}", videos.plain(50), fps=25)
    shots = _shots(path)
    assert [shot.time for shot in shots] == pytest.approx([i / 25 for i in range(50)], abs=6e-4)
    levels = [float(shot.pixels.mean()) for shot in shots]
    assert levels == pytest.approx([20 + 2 * i for i in range(50)], abs=4)
    facts = read_facts(path)
    assert facts.rate == pytest.approx(25)
    assert facts.duration == pytest.approx(2.0)


def test_colors_are_those_that_were_asked_for(tmp_path: Path) -> None:
    blue = [np.full((64, 64, 3), (250, 20, 20), np.uint8)] * 3
    path = videos.write_avi(tmp_path / "blue.avi", blue, 25)
    for color, strong in (("bgr", 0), ("rgb", 2)):
        shot = _shots(path, color=color)[0]
        assert int(shot.image[..., strong].mean()) > 200
        assert int(shot.pixels[..., 2].mean()) > 200
        assert int(shot.pixels[..., 0].mean()) < 60


def test_a_video_of_a_turned_phone_stands_upright(tmp_path: Path) -> None:
    half = np.zeros((120, 160, 3), np.uint8)
    half[:60] = 255
    path = videos.turned(videos.write(tmp_path / "t.mp4", [half] * 3))
    pixels = _shots(path)[0].pixels
    assert pixels.shape == (160, 120, 3)
    # The top went to the right.
    assert pixels[:, 70:].mean() > 200
    assert pixels[:, :50].mean() < 50


def _moving(count: int) -> list[npt.NDArray[np.uint8]]:
    """A bright square that moves by six pixels a frame."""
    return [_square(10 + 6 * i) for i in range(count)]


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "options"),
    [
        ("a.mp4", "h264", "yuv420p", {"x264-params": "tff=1"}),
        ("a.mkv", "h264", "yuv422p", {"x264-params": "bff=1"}),
        ("a.mts", "mpeg2video", "yuv420p", {"b": "8M"}),
        ("a.mov", "prores_ks", "yuv422p10le", {}),
    ],
)
def test_each_frame_of_an_interlaced_video_is_its_own(
    name: str, codec: str, pixels: str, options: dict[str, str], tmp_path: Path
) -> None:
    fields = _moving(30)
    path = tmp_path / name
    videos.encode(path, videos.woven(fields), codec, pixels, interlaced=True, **options)
    shots = _shots(path)
    assert [shot.time for shot in shots] == pytest.approx([i / 30 for i in range(15)], abs=6e-4)
    for i, shot in enumerate(shots):
        # Of the two fields, the frame shows one, and not a comb of both.
        off = [np.abs(shot.pixels.astype(int) - fields[2 * i + k]).mean() for k in (0, 1)]
        assert min(off) < 4, (i, off)
    tried("interlaced videos, whose frames hold two moments each")


def test_a_video_that_is_interlaced_in_parts_keeps_all_its_frames(tmp_path: Path) -> None:
    parts = [
        videos.encode(tmp_path / f"{i}.m2v", frames, "mpeg2video", interlaced=i == 1, b="8M")
        for i, frames in enumerate((_moving(10), videos.woven(_moving(20)), videos.plain(10)))
    ]
    path = tmp_path / "all.m2v"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    shots = _shots(path)
    # The decoder gives up one frame where the size changes.
    assert [shot.pixels.shape for shot in shots] == [(160, 240, 3)] * 19 + [(120, 160, 3)] * 10
    tried("interlaced videos, whose frames hold two moments each")


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "options"),
    [
        ("a.mp4", "libsvtav1", "yuv420p10le", {"svtav1-params": "lp=1", "preset": "12"}),
        ("a.mp4", "libx265", "yuv420p10le", {"x265-params": "log-level=none"}),
        ("a.mp4", "h264", "yuv444p", {}),
        ("a.webm", "libvpx-vp9", "yuv420p", {"deadline": "realtime"}),
        ("a.mov", "prores_ks", "yuv444p10le", {}),
        ("a.mov", "dvvideo", "yuv420p", {}),
        ("a.flv", "flv1", "yuv420p", {"b": "2M"}),
        ("a.wmv", "wmv2", "yuv420p", {"b": "2M"}),
        ("a.mxf", "mpeg2video", "yuv420p", {"b": "2M"}),
        ("a.gif", "gif", "rgb8", {}),
        ("a.h264", "h264", "yuv420p", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_people_have_is_read(
    name: str, codec: str, pixels: str, options: dict[str, str], tmp_path: Path
) -> None:
    frames = videos.plain(25, 720, 576)
    path = videos.encode(tmp_path / name, frames, codec, pixels, fps=25, **options)
    shots = _shots(path)
    assert [shot.time for shot in shots] == pytest.approx([i / 25 for i in range(25)], abs=6e-3)
    levels = [float(shot.pixels.mean()) for shot in shots]
    # A GIF has few grays.
    far = 20 if name == "a.gif" else 4
    assert levels == pytest.approx([20 + 2 * i for i in range(25)], abs=far)
    tried("kinds of videos that OpenCV alone does not read everywhere")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.flv"])
def test_sound_that_is_longer_is_no_damage(name: str, tmp_path: Path) -> None:
    codec = "mjpeg" if name == "a.avi" else "h264"
    pixels = "yuvj420p" if name == "a.avi" else "yuv420p"
    # Noise, so that the frames are most of the file.
    noise = np.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), np.uint8)
    path = videos.encode(tmp_path / name, noise, codec, pixels, audio=True)
    assert len(_shots(path)) == 60
    if name == "a.mp4":
        videos.index_first(path)
    # Where all frames are there, some of the sound is not.
    for share in (0.5, 0.9):
        assert "the file is cut" in str(_until_error(videos.cut(path, share))[1])
    tried("videos that were cut off or damaged in the middle", 2)


@pytest.mark.parametrize("kind", ["bytes", "spooled", "open file"])
def test_a_file_object_is_read_from_its_start(
    kind: str, tmp_path: Path, pipeline: FerPipeline
) -> None:
    path = videos.write(tmp_path / "a.mp4", videos.plain(20))
    with path.open("rb") as opened, tempfile.SpooledTemporaryFile() as spooled:
        spooled.write(path.read_bytes())
        opened.seek(99)
        sources = {"bytes": io.BytesIO(path.read_bytes()), "spooled": spooled, "open file": opened}
        source: Any = sources[kind]
        frames = list(pipeline.stream(source))
        assert frames == list(pipeline.stream(path))
        # It is the caller's.
        assert not source.closed


def test_a_file_object_that_is_no_video_is_told(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="video of BytesIO: not a video"):
        _shots(io.BytesIO(b"noise" * 99))
    with pytest.raises(SettingError, match="open it in binary mode"):
        _shots(io.StringIO("text"))

    class Upload:
        async def read(self) -> bytes:
            return b""

    with pytest.raises(SettingError, match=r"Upload is read asynchronously.*upload\.file"):
        _shots(Upload())


@pytest.mark.skipif(sys.platform != "linux", reason="names elsewhere are text")
def test_a_name_that_is_no_text_is_read_and_written(tmp_path: Path) -> None:
    target = tmp_path / os.fsdecode(b"na\xffme.mp4")
    with open_video(target, 30) as show:
        show(0.0, videos.plain(1)[0])
    assert len(_shots(target)) == 1


def test_a_title_may_be_in_any_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(path, "w") as out:
        out.metadata["title"] = "CAFEx"
        stream: Any = out.add_stream("mpeg4", 30)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(videos.plain(1, 64, 64)[0], "bgr24")))
        out.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"CAFEx", b"CAF\xe9x"))
    assert len(_shots(path)) == 1


def test_without_pyav_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipeline: FerPipeline
) -> None:
    path = videos.write(tmp_path / "a.mp4", videos.plain(3))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(VideoError, match="pip install av"):
        pipeline.stream(path)
    with pytest.raises(VideoError, match="pip install av"), open_video(tmp_path / "b.mp4", 30):
        pass
    assert len(list(pipeline.stream(videos.plain(3)))) == 3


def test_a_thousand_frames_a_second(tmp_path: Path) -> None:
    for path in (
        videos.write(tmp_path / "k.mp4", videos.plain(40), fps=1000),
        videos.write_avi(tmp_path / "k.avi", videos.plain(40), 1000),
    ):
        assert [shot.time for shot in _shots(path)] == pytest.approx(np.arange(40) / 1000)
        assert read_facts(path).rate == pytest.approx(1000)
        tried("videos of 1,000 frames a second")


def test_frames_at_uneven_distances_keep_their_times(tmp_path: Path) -> None:
    there = [0, 1, 4, 5, 6, 7, 12, 20, 21, 29]
    frames = [frame if i in there else None for i, frame in enumerate(videos.plain(30))]
    path = videos.write_avi(tmp_path / "v.avi", frames, 10)
    assert [shot.time for shot in _shots(path)] == pytest.approx([i / 10 for i in there])
    tried("videos whose frames come at uneven times, at the same time, or without one")


def test_a_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    lasting = [512, 100, 3000, 1, 700, 512, 9000, 512]
    path = videos.uneven(videos.write(tmp_path / "v.mp4", videos.plain(8), fps=30), lasting)
    times = [shot.time for shot in _shots(path)]
    # OpenCV has a clock of 15,360 ticks a second for 30 frames.
    starts = [sum(lasting[:i]) / 15_360 for i in range(8)]
    assert times == pytest.approx(starts, abs=6e-5)
    tried("videos whose frames come at uneven times, at the same time, or without one")


def test_a_file_without_times_goes_by_its_rate(tmp_path: Path) -> None:
    path = tmp_path / "a.mjpeg"
    path.write_bytes(
        b"".join(cv2.imencode(".jpg", frame)[1].tobytes() for frame in videos.plain(6))
    )
    times = [shot.time for shot in _shots(path)]
    assert times == pytest.approx([i / 25 for i in range(6)])
    assert [shot.time for shot in _shots(path, fps=10)] == pytest.approx([i / 10 for i in range(6)])
    tried("videos whose frames come at uneven times, at the same time, or without one")


def test_given_times_and_rates_go_before_those_of_the_file(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.mp4", videos.plain(5))
    assert [shot.time for shot in _shots(path, fps=1000)] == [0, 0.001, 0.002, 0.003, 0.004]
    assert [s.time for s in _shots(path, times=[1.5, 2, 7, 8, 9])] == [1.5, 2, 7, 8, 9]


class _Film:
    """A video with times of our own."""

    rate = 25.0

    def __init__(self, times: Sequence[float]) -> None:
        self._times = times

    def frames(self) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
        for moment in self._times:
            yield moment, np.full((48, 64, 3), 90, np.uint8)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([0, 0, 0, 0], [0, 0.04, 0.08, 0.12]),
        ([0, 0.5, 0.5, 0.3, 2.0], [0, 0.5, 0.54, 0.58, 2.0]),
        ([float("nan"), 0.1, float("inf"), 0.2], [0, 0.1, 0.14, 0.2]),
        ([-1, 0.04, 0.08], [0, 0.04, 0.08]),
    ],
)
def test_times_that_stand_still_or_go_back_are_put_right(
    told: list[float], expected: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = videos.write(tmp_path / "a.mkv", videos.plain(2))
    monkeypatch.setattr(video_module, "Film", lambda *_: _Film(told))
    assert [shot.time for shot in _shots(path)] == pytest.approx(expected)
    tried("videos whose frames come at uneven times, at the same time, or without one")


def test_a_changing_size_is_no_end(tmp_path: Path, pipeline: FerPipeline) -> None:
    changing = videos.plain(5) + videos.plain(5, 320, 240) + videos.plain(5, 90, 160)
    path = videos.write_avi(tmp_path / "s.avi", changing, 25)
    assert len(_shots(path)) == 15
    frames = list(pipeline.stream(changing))
    assert [(frame.width, frame.height) for frame in frames[::5]] == [
        (160, 120),
        (320, 240),
        (90, 160),
    ]
    assert all(len(frame.faces) == 1 for frame in frames)
    tried("videos whose frames change their size", 2)


@pytest.mark.parametrize("kind", [".avi", ".mkv", ".webm", "index first"])
def test_a_file_cut_in_the_middle_gives_what_there_is_and_says_so(
    kind: str, tmp_path: Path
) -> None:
    path = tmp_path / ("a.mp4" if kind == "index first" else f"a{kind}")
    videos.write(path, videos.plain(60))
    if kind == "index first":
        videos.index_first(path)
    assert len(_shots(path)) == 60
    short = videos.cut(path, 0.6)
    shots, error = _until_error(short)
    assert 10 < len(shots) < 59
    assert str(error).startswith(f"{short}: the file is cut: it ends after {len(shots)} frames")
    tried("videos that were cut off or damaged in the middle")


def test_damage_in_the_middle_is_told(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.mp4", videos.plain(60))
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat")
    # The place of every chunk of frames is in the index, which is at the end.
    at = content.index(b"stsz") + 16
    content[at + 4 * 20 : at + 4 * 60] = b"\0\0\0\1" * 40
    path.write_bytes(content)
    assert start > 0
    shots, error = _until_error(path)
    assert 15 <= len(shots) <= 25
    assert f"damaged: only {len(shots)} of 60 frames can be decoded" in str(error)
    tried("videos that were cut off or damaged in the middle")


def test_damage_of_any_kind_is_a_video_error_or_none(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 64, 96, 3), np.uint8)
    files = [
        videos.encode(tmp_path / name, noise, codec, pixels, interlaced=interlaced).read_bytes()
        for name, codec, pixels, interlaced in (
            ("a.mp4", "h264", "yuv420p", False),
            ("b.mp4", "h264", "yuv420p", True),
            ("a.ts", "mpeg2video", "yuv420p", True),
            ("a.avi", "mjpeg", "yuvj420p", False),
            ("a.mkv", "mpeg4", "yuv420p", False),
            ("a.mov", "prores_ks", "yuv422p10le", False),
        )
    ]
    rng = np.random.default_rng(1)
    errors = 0
    for case in range(300):
        content = bytearray(files[case % len(files)])
        for _ in range(int(rng.integers(1, 20))):
            # Most of them where it says what follows.
            at = int(rng.integers(0, len(content) if rng.random() < 0.5 else 600))
            content[at] = int(rng.integers(0, 256))
        try:
            _shots(io.BytesIO(content))
        except VideoError:
            errors += 1
    assert 0 < errors < 300
    tried("videos that were cut off or damaged in the middle", 300)


def test_what_was_trimmed_off_is_not_missing(tmp_path: Path) -> None:
    for first, frames in ((0, 30), (24, 30), (12, 48)):
        path = videos.write(tmp_path / "a.mp4", videos.plain(60), fps=30)
        shots = _shots(videos.trimmed(path, first, frames))
        assert abs(len(shots) - frames) <= 1
        assert float(shots[0].pixels.mean()) == pytest.approx(20 + 2 * first, abs=4)
    tried("videos that were trimmed without encoding them again", 3)


def _refusals(tmp_path: Path) -> Iterator[tuple[str, object, str]]:
    whole = videos.write(tmp_path / "a.mp4", videos.plain(10))
    yield "cut before its index", videos.cut(whole), "damaged or cut"
    (tmp_path / "empty.mp4").touch()
    yield "empty", tmp_path / "empty.mp4", "empty"
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    yield "noise", tmp_path / "noise.mp4", "not a video that FFmpeg can read"
    (tmp_path / "letters.txt").write_text("What FFmpeg would draw.\n" * 50)
    yield "text", tmp_path / "letters.txt", "a text file or a playlist"
    yield "folder", tmp_path, "a folder, not a video"
    yield "missing", tmp_path / "none.mp4", "cannot be read: No such file"
    yield "sound", videos.song(tmp_path / "a.m4a", cover=False), "there is no video in it"
    yield "cover", videos.song(tmp_path / "b.m4a", cover=True), "music with a cover picture"
    yield "network", "rtsp://127.0.0.1:1/live", "cannot be opened: Connection refused"
    yield "protocol", "concat:a.mp4|b.mp4", "cannot be read: No such file"
    yield "zero byte", "a\0b.mp4", "cannot be read"
    yield "camera", 97, "camera 97 does not open"
    yield "device", "/dev/video97", "camera 97 does not open"


def test_what_is_no_video_is_refused_at_once_and_by_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    refusals = list(_refusals(tmp_path))
    capfd.readouterr()
    for what, source, message in refusals:
        with pytest.raises(VideoError, match=message) as caught:
            open_frames(source, color="bgr", times=None, fps=None, **LIMITS)  # type: ignore[arg-type]
        name = "97" if what == "device" else repr(source)[1:-1]
        name = name if isinstance(source, str) else Path(str(source)).name
        assert name in str(caught.value), what
        tried("other things that are no videos")
    # OpenCV and FFmpeg say nothing of their own.
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="neither a file nor a link"):
        _shots(tmp_path / "pipe.mp4")
    tried("other things that are no videos")


def test_a_video_of_no_frames(tmp_path: Path) -> None:
    path = videos.write_avi(tmp_path / "a.avi", [*videos.plain(1)], 25)
    content = path.read_bytes()
    jpeg = content.index(b"\xff\xd8")
    path.write_bytes(content[:jpeg] + bytes(len(content) - jpeg))
    with pytest.raises(VideoError, match=r"a\.avi: (holds no frame|not a video)"):
        _shots(path)
    tried("videos without a frame")


def test_a_frame_may_be_too_large(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.mp4", videos.plain(3))
    with pytest.raises(VideoError, match="160x120 are more than the 1000 pixels"):
        _shots(path, max_pixels=1000)


@pytest.mark.parametrize("kind", ["m3u8", "sdp", "ffconcat", "mp4"])
def test_a_playlist_reaches_neither_the_network_nor_another_file(kind: str, tmp_path: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(0.5)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/a.ts"
        text = {
            "m3u8": f"#EXTM3U\n#EXTINF:2,\n{url}\n#EXT-X-ENDLIST\n",
            "mp4": f"#EXTM3U\n#EXTINF:2,\n{url}\n#EXT-X-ENDLIST\n",
            "sdp": "v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
            "ffconcat": f"ffconcat version 1.0\nfile {url}\n",
        }[kind]
        (tmp_path / f"list.{kind}").write_text(text)
        with pytest.raises(VideoError, match="a text file or a playlist"):
            _shots(tmp_path / f"list.{kind}")
        with pytest.raises(TimeoutError):
            listening.accept()
    tried("playlists, which lead to other files")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", "#EXTM3U\n#\1\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"),
        ("list.mp4", "ffconcat version 1.0\n#\1\nfile {}\n"),
    ],
    ids=["m3u8", "ffconcat"],
)
def test_a_playlist_that_poses_as_a_video_reads_no_other_file(
    name: str, text: str, tmp_path: Path
) -> None:
    videos.write(tmp_path / "private.mp4", videos.plain(3))
    # One byte that is no letter, and it is no text any more.
    (tmp_path / name).write_text(text.format("private.mp4"))
    with pytest.raises(VideoError, match=f"{name}: not a video that FFmpeg can read"):
        _shots(tmp_path / name)
    tried("playlists, which lead to other files")


def test_a_numbered_picture_does_not_stand_for_the_others(tmp_path: Path) -> None:
    for name in ("face%02d.jpg", "face01.jpg", "face02.jpg"):
        cv2.imwrite(str(tmp_path / name), np.zeros((48, 64, 3), np.uint8))
    for name in ("face%02d.jpg", "face01.jpg"):
        with pytest.raises(VideoError, match=f"{name}: a picture, not a video"):
            _shots(tmp_path / name)
    film = videos.write(tmp_path / "face%02d.mp4", videos.plain(3))
    assert len(_shots(film)) == 3
    tried("playlists, which lead to other files", 2)


class _Capture:
    """The camera that OpenCV would open."""

    def __init__(self, frames: int) -> None:
        self.left, self.released = frames, False

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def set(self, what: int, value: float) -> bool:
        return True

    def read(self) -> tuple[bool, npt.NDArray[np.uint8] | None]:
        self.left -= 1
        return self.left >= 0, np.full((48, 64, 3), 90, np.uint8) if self.left >= 0 else None

    def release(self) -> None:
        self.released = True


@pytest.mark.parametrize("source", [2, "/dev/video2", Path("/dev/video2")])
def test_a_camera_that_vanishes_is_named(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = _Capture(3)
    monkeypatch.setattr(
        video_module.cv2, "VideoCapture", lambda number: camera if number == 2 else None
    )
    shots, error = _until_error(source)
    assert len(shots) == 3
    assert str(error).startswith("camera 2 gives no more frames, after 3: ")
    assert camera.released
    times = [shot.time for shot in shots]
    assert times[0] == 0
    assert all(earlier < later for earlier, later in itertools.pairwise(times))
    tried("cameras that vanish")


def test_an_rtsp_camera_is_watched_in_real_time() -> None:
    with streams.rtsp_camera(videos.plain(50), fps=25) as address:
        shots, error = _until_error(address)
    # FFmpeg has no time for the first frame.
    assert [shot.time for shot in shots] == pytest.approx([i / 25 for i in range(49)], abs=1e-3)
    levels = [float(shot.pixels.mean()) for shot in shots]
    assert levels == pytest.approx([22 + 2 * i for i in range(49)], abs=6)
    assert " gives no more frames, after 49: " in str(error)
    assert "secret" in address
    assert "secret" not in str(error)
    tried("cameras that vanish")


def test_who_is_slower_than_a_camera_leaves_frames_out() -> None:
    behind = []

    def watch(address: str) -> None:
        for shot in open_frames(address, color="bgr", times=None, fps=None, **LIMITS):
            time.sleep(0.1)
            behind.append(time.monotonic() - shot.time)

    with (
        streams.rtsp_camera(videos.plain(75), fps=25) as address,
        pytest.raises(VideoError, match="no more frames"),
    ):
        watch(address)
    assert 20 < len(behind) < 60
    # Less than a second, however long it goes on.
    assert max(behind) - min(behind) < 1


def test_an_address_is_read_as_a_file_is(tmp_path: Path, pipeline: FerPipeline) -> None:
    path = videos.index_first(videos.write(tmp_path / "a.mp4", videos.plain(40)))
    videos.encode(tmp_path / "b.ts", videos.plain(30), "h264")
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    (tmp_path / "hls.m3u8").write_text(playlist.format("b.ts"))
    (tmp_path / "local.m3u8").write_text(playlist.format(f"file://{tmp_path}/b.ts"))
    with streams.http_server(tmp_path) as address:
        assert list(pipeline.stream(f"{address}/a.mp4")) == list(pipeline.stream(path))
        assert len(list(pipeline.stream(f"{address}/hls.m3u8"))) == 30
        # What is in the network reads no file of this machine.
        with pytest.raises(VideoError, match=r"local\.m3u8: cannot be opened"):
            pipeline.stream(f"{address}/local.m3u8")
        with pytest.raises(VideoError, match=r"none\.mp4: cannot be opened: .*404"):
            pipeline.stream(f"{address}/none.mp4")


def test_pictures_of_a_camera_over_http_come_by_the_clock(
    tmp_path: Path, pipeline: FerPipeline
) -> None:
    with streams.http_server(tmp_path) as address:
        start = time.monotonic()
        stream = pipeline.stream(f"{address}/live")
        times = [next(stream).time for _ in range(30)]
        assert times[0] == 0
        assert times[-1] <= time.monotonic() - start
        assert all(later > one for one, later in itertools.pairwise(times))
        stream.close()


def test_a_path_is_never_an_address(tmp_path: Path) -> None:
    for source in (Path("rtsp://127.0.0.1/live"), "file:///etc/hosts", "concat:a|b", "pipe:0"):
        with pytest.raises(VideoError, match="cannot be read: No such file"):
            _shots(source)


def test_times_must_go_with_the_frames() -> None:
    frames = videos.plain(3)
    for times, message in (
        ([0, 1], "more frames than times: only 2"),
        ([0, 1, 1], r"times\[2\] is 1.0, which is not after 1.0"),
        ([0, float("nan"), 1], r"times\[1\] is nan"),
        ([0, "later", 1], r"times\[1\] is not a number"),
    ):
        with pytest.raises(VideoError, match=message):
            _shots(frames, times=times)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fps": 0}, "fps must be"),
        ({"fps": float("nan")}, "fps must be"),
        ({"fps": 25, "times": [0]}, "either times or fps"),
        ({"color": "gray"}, "color must be"),
        ({"detect_every": 0}, "detect_every must be"),
        ({"detect_every": 1.5}, "detect_every must be"),
        ({"smoothing": 0}, "smoothing must be"),
        ({"smoothing": float("inf")}, "smoothing must be"),
        ({"keep": -1}, "keep must be"),
        ({"max_faces": 0}, "max_faces must be"),
    ],
)
def test_settings_are_checked_before_the_first_frame(
    settings: dict[str, Any], message: str, pipeline: FerPipeline
) -> None:
    with pytest.raises(SettingError, match=message):
        pipeline.stream(videos.plain(1), **settings)


@pytest.mark.parametrize("source", [b"bytes", 3.5, None, -1, np.zeros((4, 4), np.uint8)])
def test_what_cannot_be_a_video_is_refused(source: Any, pipeline: FerPipeline) -> None:
    with pytest.raises(SettingError, match=r"not a video|numbered from 0"):
        pipeline.stream(source)


def test_own_frames_may_be_in_any_form(tmp_path: Path, pipeline: FerPipeline) -> None:
    array = np.full((48, 48, 3), (250, 10, 10), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), array)
    frames = [array, tmp_path / "a.png", PillowImage.fromarray(array[..., ::-1]), array[..., 0]]
    results = list(pipeline.stream(frames, fps=10, images=True))
    assert [frame.time for frame in results] == [0, 0.1, 0.2, 0.3]
    assert results[0].image is array
    for frame in results[1:3]:
        assert frame.image is not None
        assert np.array_equal(frame.image, array)


def test_an_own_frame_that_is_no_image_is_named_by_its_place(pipeline: FerPipeline) -> None:
    stream = pipeline.stream([*videos.plain(2), np.zeros((4, 4), np.float32)])
    with pytest.raises(ImageError, match="frame 2: array of float32"):
        list(stream)


# Following


def test_without_smoothing_every_frame_is_what_predict_gives(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    frames = [_square(20 + 3 * i, level=120 + 2 * i) for i in range(40)]
    with _bright(models, Bright()) as pipeline:
        streamed = list(pipeline.stream(frames, smoothing=None))
        for index, (frame, picture) in enumerate(zip(streamed, frames, strict=True)):
            expected = [replace(face, track_id=1) for face in pipeline.predict(picture)]
            assert list(frame.faces) == expected
            assert (frame.index, frame.width, frame.height) == (index, 240, 160)


def test_scores_are_smoothed_with_the_time_constant(models: tuple[Path, Path]) -> None:
    levels = [110] * 30 + [250] * 30
    frames = [_square(60, level=level) for level in levels]
    with _bright(models, Bright()) as pipeline:
        raw = [frame.faces[0] for frame in pipeline.stream(frames, smoothing=None, fps=30)]
        smooth = [frame.faces[0] for frame in pipeline.stream(frames, smoothing=0.4, fps=30)]
    label = raw[-1].emotion
    before, after = raw[0].scores[label], raw[-1].scores[label]
    assert after - before > 0.3
    for i in (30, 35, 45, 59):
        share = 1 - np.exp(-((i - 29) / 30) / 0.4)
        shown = smooth[i].scores[label]
        assert shown == pytest.approx(before + share * (after - before), abs=1e-6)
        assert sum(smooth[i].scores.values()) == pytest.approx(1, abs=1e-5)
        assert smooth[i].confidence == max(smooth[i].scores.values())
        assert smooth[i].scores[smooth[i].emotion] == smooth[i].confidence


@pytest.mark.parametrize("every", [2, 4, 7])
def test_between_detections_the_box_stays_on_the_face(
    every: int, models: tuple[Path, Path]
) -> None:
    detector = Bright()
    path = [20 + 90 * (1 - np.cos(i / 12)) for i in range(60)]
    with _bright(models, detector) as pipeline:
        for frame in pipeline.stream([_square(x) for x in path], detect_every=every):
            (face,) = frame.faces
            assert face.track_id == 1
            assert face.box.x == pytest.approx(path[frame.index], abs=40 / 3)
    assert detector.calls == -(-60 // every)


class Paced(Bright):
    """Says of each look what it cost."""

    def __init__(self, costs: list[int]) -> None:
        super().__init__()
        self.costs = costs
        self.levels: list[int] = []

    def look(self, image: npt.NDArray[np.uint8]) -> tuple[list[Detection], int]:
        self.levels.append(int(image.max()))
        return self.detect(image), self.costs[min(len(self.levels), len(self.costs)) - 1]


@pytest.mark.parametrize(
    ("costs", "every", "looked_at"),
    [
        ([1], None, list(range(24))),
        ([4], None, [0, 4, 8, 12, 16, 20]),
        ([16], None, [0, 16]),
        ([1, 1, 16, 4, 1], None, [0, 1, 2, 18, 22, 23]),
        ([16], 5, [0, 5, 10, 15, 20]),
        ([4], 1, list(range(24))),
    ],
)
def test_a_look_that_costs_more_is_taken_less_often(
    costs: list[int], every: int | None, looked_at: list[int], models: tuple[Path, Path]
) -> None:
    detector = Paced(costs)
    # The level of a frame's square is its number.
    frames = [_square(60, level=150 + index) for index in range(24)]
    with _bright(models, detector) as pipeline:
        seen = list(pipeline.stream(frames, detect_every=every))
    assert [level - 150 for level in detector.levels] == looked_at
    assert all([face.track_id for face in frame.faces] == [1] for frame in seen)


def test_a_detector_that_tells_no_cost_looks_at_every_frame(models: tuple[Path, Path]) -> None:
    detector = Bright()
    with _bright(models, detector) as pipeline:
        assert len(list(pipeline.stream([_square(60)] * 10))) == 10
    assert detector.calls == 10


def test_a_frame_of_another_size_is_looked_at_at_once(models: tuple[Path, Path]) -> None:
    detector = Paced([16])
    frames = [_square(60)] * 3 + [cv2.resize(_square(60), (480, 320))] * 3
    with _bright(models, detector) as pipeline:
        last = list(pipeline.stream(frames))[-1]
    assert len(detector.levels) == 2
    assert last.faces[0].box == Box(120, 120, 80, 80)


def test_frames_that_are_faces_need_no_detector(pipeline: FerPipeline) -> None:
    rng = np.random.default_rng(1)
    frames = [rng.integers(0, 256, (64, 48, 3), np.uint8) for _ in range(6)]
    for every in (1, 3):
        for frame in pipeline.stream(frames, detect_every=every, smoothing=None):
            expected = [replace(face, track_id=1) for face in pipeline.predict(frames[frame.index])]
            assert list(frame.faces) == expected


def test_a_new_face_is_found_at_the_next_detection(models: tuple[Path, Path]) -> None:
    frames = [_square(0, level=0)] * 5 + [_square(60)] * 10
    with _bright(models, Bright()) as pipeline:
        found = [len(frame.faces) for frame in pipeline.stream(frames, detect_every=4)]
    assert found == [0] * 8 + [1] * 7


def test_a_face_that_is_hidden_for_a_moment_keeps_its_id(models: tuple[Path, Path]) -> None:
    frames = [_square(60 if i < 20 or i >= 35 else 0, level=200 * (not 20 <= i < 35))
              for i in range(60)]  # fmt: skip
    with _bright(models, Bright()) as pipeline:
        for keep, last in ((1.0, 1), (0.2, 2)):
            ids = [
                [face.track_id for face in frame.faces]
                for frame in pipeline.stream(frames, fps=30, keep=keep)
            ]
            assert ids == [[1]] * 20 + [[]] * 15 + [[last]] * 25


def test_the_example_face_is_followed_along_its_path(example_photo: Path, tmp_path: Path) -> None:
    path = videos.write(tmp_path / "walk.mp4", videos.walk(example_photo, 60))
    with FerPipeline(detector="blazeface", threads=1) as pipeline:
        # On every frame, where the face is by itself; then what following makes of it.
        alone = [pipeline.predict(shot.pixels, color="rgb") for shot in _shots(path)]
        for every in (1, 5):
            frames = list(pipeline.stream(path, detect_every=every, smoothing=None))
            assert len(frames) == 60
            seen = [face.track_id for frame in frames for face in frame.faces]
            assert set(seen) == {1}
            assert len(seen) >= 55
            off = [
                np.hypot(
                    frame.faces[0].box.x - faces[0].box.x, frame.faces[0].box.y - faces[0].box.y
                )
                / faces[0].box.width
                for frame, faces in zip(frames, alone, strict=True)
                if frame.faces and faces
            ]
            assert np.mean(off) < (0.001 if every == 1 else 0.1)
            assert {face.emotion for frame in frames for face in frame.faces} == {"happy"}


class _Still:
    """A pipeline that costs nothing: one face, always there."""

    def __init__(self) -> None:
        scores = dict.fromkeys(tiny_models.EMOTIONS, 1 / 7)
        self.face = Face(Box(10, 10, 40, 40), 0.9, (Point(20, 20),) * 4, "angry", 1 / 7, scores)
        self.people = 0

    def find(self, image: npt.NDArray[np.uint8]) -> tuple[list[Face], int]:
        self.people += 1
        # Every second somebody new, somewhere else.
        x = 10.0 + 97 * (self.people // 10 % 12)
        return [replace(self.face, box=Box(x, 10, 40, 40))], 1

    def look(self, image: npt.NDArray[np.uint8], faces: Sequence[Face]) -> list[Face]:
        return list(faces)


def test_an_hour_of_frames_leaves_memory_flat() -> None:
    picture = np.zeros((120, 1280, 3), np.uint8)
    rate, hour = 10, 3600
    shots = (Shot(i / rate, picture, picture) for i in range(hour * rate))
    process, objects, resident, ids = psutil.Process(), [], [], set()
    for frame in follow(shots, _Still(), detect_every=3, smoothing=0.3, keep=1.0, images=True):
        ids.add(frame.faces[0].track_id)
        if frame.index % (300 * rate) == 0:
            gc.collect()
            objects.append(len(gc.get_objects()))
            resident.append(process.memory_info().rss)
    assert len(ids) > 1000
    assert max(objects[1:]) - min(objects[1:]) < 100
    assert max(resident[1:]) - min(resident[1:]) < 4 * 2**20
    tried("frames of an hour, in which memory stays flat", len(resident) * 300 * rate)


def test_frames_are_taken_only_as_they_are_asked_for(pipeline: FerPipeline) -> None:
    taken = []

    def frames() -> Iterator[npt.NDArray[np.uint8]]:
        for i in itertools.count():
            taken.append(i)
            yield np.full((8, 8, 3), i % 256, np.uint8)

    stream = pipeline.stream(frames())
    assert [next(stream).index for _ in range(3)] == [0, 1, 2]
    assert taken == [0, 1, 2]
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)


def test_a_file_is_let_go_of_with_its_stream(tmp_path: Path, pipeline: FerPipeline) -> None:
    path = videos.write(tmp_path / "a.mkv", videos.plain(5))

    def is_open() -> bool:
        return str(path) in {file.path for file in psutil.Process().open_files()}

    stream = pipeline.stream(path)
    next(stream)
    assert is_open()
    stream.close()
    assert not is_open()
    with pytest.raises(VideoError):
        pipeline.stream(videos.cut(path, 0.01))
    assert not is_open()


def test_a_live_feed_brings_its_own_clock(pipeline: FerPipeline) -> None:
    def feed() -> Iterator[npt.NDArray[np.uint8]]:
        for frame in videos.plain(4):
            time.sleep(0.02)
            yield frame

    times = [f.time for f in pipeline.stream(feed(), times=iter(time.monotonic, None))]
    assert all(later - one >= 0.02 for one, later in itertools.pairwise(times))


def test_closing_the_pipeline_ends_its_streams(models: tuple[Path, Path]) -> None:
    pipeline = _bright(models, Bright())
    stream = pipeline.stream(videos.plain(5))
    next(stream)
    pipeline.close()
    with pytest.raises(PipelineClosedError):
        next(stream)
    with pytest.raises(PipelineClosedError):
        pipeline.stream(videos.plain(5))


def test_streams_on_one_pipeline_do_not_know_of_each_other(models: tuple[Path, Path]) -> None:
    frames = [_square(20 + 2 * i) for i in range(20)]
    with _bright(models, Bright()) as pipeline:
        alone = list(pipeline.stream(frames))
        results: dict[int, list[Frame]] = {}
        threads = [
            threading.Thread(target=lambda i=i: results.update({i: list(pipeline.stream(frames))}))
            for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(results[i] == alone for i in range(4))


def test_a_frame_as_plain_values(pipeline: FerPipeline) -> None:
    (frame,) = pipeline.stream(videos.plain(1))
    plain = json.loads(json.dumps(frame.to_dict()))
    assert {key: plain[key] for key in ("frame", "time", "width", "height")} == {
        "frame": 0,
        "time": 0.0,
        "width": 160,
        "height": 120,
    }
    assert plain["faces"] == [frame.faces[0].to_dict()]
    assert frame.image is None


# Writing


@pytest.mark.parametrize("kind", [".mp4", ".mov", ".mkv", ".avi", ".webm"])
def test_what_is_written_keeps_its_frames_and_times(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / f"out{kind}"
    with open_video(target, 25) as show:
        for i, frame in enumerate(videos.plain(50)):
            show(i / 25, frame)
        assert not target.exists()
    shots = _shots(target)
    assert [shot.time for shot in shots] == pytest.approx([i / 25 for i in range(50)], abs=6e-4)
    assert [float(shot.pixels.mean()) for shot in shots] == pytest.approx(
        [20 + 2 * i for i in range(50)], abs=4
    )
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", KINDS)
def test_uneven_frames_are_shown_for_as_long_as_they_lasted(kind: str, tmp_path: Path) -> None:
    target = tmp_path / f"out{kind}"
    with open_video(target, 10) as show:
        for moment, level in (
            (5.0, 10),
            (5.3, 100),
            (5.3004, 1),
            (5.4, 150),
            (5.8, 200),
            (65.0, 250),
        ):
            show(moment, np.full((64, 64, 3), level, np.uint8))
    shots = _shots(target)
    # What comes within the same millisecond is left out.
    assert [shot.time for shot in shots] == pytest.approx([0, 0.3, 0.4, 0.8, 60.0], abs=1e-3)
    levels = [float(shot.pixels.mean()) for shot in shots]
    assert levels == pytest.approx([10, 100, 150, 200, 250], abs=4)


def test_frames_of_another_size_are_fitted_in(tmp_path: Path) -> None:
    with open_video(tmp_path / "out.avi", 10) as show:
        show(0.0, np.full((64, 96, 3), 200, np.uint8))
        show(0.1, np.full((128, 64, 3), 200, np.uint8))
    first, second = (shot.pixels for shot in _shots(tmp_path / "out.avi"))
    assert first.shape == second.shape == (64, 96, 3)
    assert second[:, :24].mean() < 20
    assert second[:, 40:56].mean() > 180


def test_an_error_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"before")

    def interrupted() -> None:
        with open_video(target, 25) as show:
            show(0.0, videos.plain(1)[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 1
    tried("interrupts while a video is written")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize("kind", [".mp4", ".avi", ".mkv", ".webm"])
def test_a_disk_that_is_full_is_found_out(kind: str, tmp_path: Path) -> None:
    code = (
        "import resource, sys, numpy\n"
        "from fer_sdk.video.write import open_video\n"
        "from fer_sdk import VideoError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        "random = numpy.random.default_rng(0)\n"
        "try:\n"
        "    with open_video(sys.argv[1], 25) as show:\n"
        "        for i in range(60):\n"
        "            show(i / 25, random.integers(0, 256, (128, 128, 3), numpy.uint8))\n"
        "except VideoError as error: print(error)\n"
    )
    target = tmp_path / f"out{kind}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.startswith(f"{target}: cannot be written: "), done.stderr
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []
    tried("disks that are full while a video is written")
