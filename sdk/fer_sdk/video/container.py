"""Videos as FFmpeg opens them, by PyAV: each as itself, never as a way to other files."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.cpu_count import usable_cores
from fer_sdk.errors import VideoError

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.filter import Graph
    from av.stream import Stream
    from av.video.stream import VideoStream

Frames: TypeAlias = Generator[tuple[float, npt.NDArray[np.uint8]], None, None]
"""The source's own time of each frame, which may be NaN, and RGB uint8 ``[H, W, 3]``."""

USUAL_RATE = 30.0
"""Frames a second of what does not tell."""

HIGHEST_RATE = 1e5

_FORMATS = (
    *("avi", "mov", "matroska", "mpegts", "mpeg", "flv", "ogg", "asf", "mxf", "nut", "rm", "wtv"),
    *("ivf", "dv", "gif", "apng", "mjpeg", "yuv4mpegpipe"),
    *("mpegvideo", "m4v", "h263", "h264", "hevc", "vvc", "obu", "av1", "vc1"),
    # Music: opened only to say that there is no video in it.
    *("mp3", "flac", "wav", "aac"),
)
# An address may lead to others, as HLS does, but never to a file of this machine.
_STREAM_FORMATS = ("rtsp", "sdp", "rtp", "hls", "mpjpeg", "live_flv")
_STREAM_PROTOCOLS = (
    *("http", "https", "httpproxy", "tcp", "tls", "udp", "crypto"),
    *("rtp", "srtp", "rtsp", "rtsps", "rtmp", "rtmps", "rtmpt"),
)
_ADDRESS = re.compile(r"(https?|rtsps?|rtmps?|udp)://", re.IGNORECASE)
_OPENING_SECONDS, _READING_SECONDS = 15.0, 10.0
_LATEST_SECONDS = 0.5
# Each thread of a decoder holds a frame.
_MOST_THREADS = 4
_ALMOST_ALL, _LAST_FRAMES = 0.98, 2
_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, -90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180}


def is_address(source: object) -> bool:
    """Whether it is a URL of a video, to which a connection is opened."""
    return isinstance(source, str) and _ADDRESS.match(source) is not None


class Film:
    """An open video: its facts, and its frames from the first to the last, once.

    Args:
        source: a file, which is read from its start where it can be, or a URL.
        name: what errors call it.
        max_pixels: larger frames are refused.

    Attributes:
        rate: frames a second, on average.
        duration: in seconds; None where the video does not tell.

    Raises:
        VideoError: it cannot be opened, or PyAV is not installed.
    """

    def __init__(self, source: BinaryIO | str, name: str, max_pixels: int | None) -> None:
        self._name, self._max_pixels = name, max_pixels
        self._container = _open(source, name)
        try:
            self._stream = _video_stream(self._container, name)
            self._check_size(self._stream.codec_context.width, self._stream.codec_context.height)
        except BaseException:
            self.close()
            raise
        self._stream.codec_context.thread_type = "AUTO"
        self._stream.codec_context.thread_count = min(usable_cores(), _MOST_THREADS)
        # A container may claim its clock's unit as its rate.
        rates = (self._stream.average_rate, self._stream.guessed_rate)
        rate = min((float(rate) for rate in rates if rate), default=USUAL_RATE)
        self.rate = rate if 0 < rate <= HIGHEST_RATE else USUAL_RATE
        length = self._container.duration
        self.duration = None if length is None else length / 1e6
        if self._stream.duration is not None and self._stream.time_base is not None:
            self.duration = float(self._stream.duration * self._stream.time_base)
        is_live = isinstance(source, str) and length is None
        self._is_live = is_live
        # What is sent does not wait for who is slower; pictures over HTTP have no times.
        self._is_sent = is_live and not str(source).lower().startswith("http")
        self._is_untimed = self._container.format.name == "mpjpeg"
        self._lost = 0
        self._end = 0.0
        self._is_torn: dict[int, bool] = {}

    def close(self) -> None:
        self._container.close()

    def frames(self) -> Frames:
        """All frames: interlaced ones deinterlaced, and those of a turned camera upright.

        Raises:
            VideoError: the video is damaged or cut, which shows after its last frame; or a frame is
                larger than ``max_pixels``.
        """
        from av.error import FFmpegError

        count, moment, start, soonest = 0, 0.0, self._start(), math.inf
        for number, frame in enumerate(_deinterlaced(self._decoded())):
            self._check_size(frame.width, frame.height)
            now = time.monotonic()
            moment = now if self._is_untimed else math.nan if frame.pts is None else frame.time
            start = moment if math.isnan(start) else start
            moment -= start
            if self._is_sent:
                # FFmpeg has no time for the first frame of RTSP.
                is_timed = number or not math.isnan(moment)
                soonest = min(soonest, now - moment)
                if not is_timed or now - moment - soonest > _LATEST_SECONDS:
                    continue
            try:
                pixels = _pixels(frame)
            except FFmpegError:
                self._lost += 1
                continue
            yield moment, pixels
            count += 1
        problem = self._problem(count, moment)
        if problem is not None:
            raise VideoError(f"{self._name}{problem}")

    def _start(self) -> float:
        """Where its times begin; NaN: at its first frame."""
        start, unit = self._stream.start_time, self._stream.time_base
        return (
            math.nan if start is None or unit is None or self._is_untimed else float(start * unit)
        )

    def _decoded(self) -> Iterator[VideoFrame]:
        from av.error import FFmpegError

        is_begun = False
        # All of its streams, because the sound may be longer.
        with suppress(FFmpegError):
            for packet in self._container.demux():
                self._take_account(packet)
                if packet.stream is not self._stream:
                    continue
                frames: list[VideoFrame] = []
                # What is missing of a packet would be seen as what was there before.
                is_lost = packet.is_corrupt
                if not is_lost:
                    try:
                        frames = cast("Packet[VideoStream]", packet).decode()
                    except FFmpegError:
                        is_lost = True
                # A recording may begin between two whole pictures.
                self._lost += is_lost and is_begun
                is_begun = is_begun or bool(frames)
                yield from frames

    def _take_account(self, packet: Packet[Stream]) -> None:
        if packet.size:
            self._is_torn[packet.stream_index] = packet.is_corrupt
        if packet.pts is not None:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            self._end = max(self._end, end)

    def _problem(self, count: int, moment: float) -> str | None:
        if self._is_live:
            more = "more " if count else ""
            return f" gives no {more}frames, after {count}: see that it can still be reached"
        if not count:
            return ": holds no frame that can be decoded: it is damaged or cut"
        length, start = (
            (t or 0) / 1e6 for t in (self._container.duration, self._container.start_time)
        )
        almost = _ALMOST_ALL * length - _LAST_FRAMES / self.rate
        if any(self._is_torn.values()) or self._end - start < almost:
            return (
                f": the file is cut: it ends after {count} frames, at {moment:.2f} s, before its "
                "container does"
            )
        if self._lost:
            return (
                f": damaged: only {count} of {count + self._lost} frames can be decoded, to "
                f"{moment:.2f} s"
            )
        return None

    def _check_size(self, width: int, height: int) -> None:
        if self._max_pixels is not None and width * height > self._max_pixels:
            raise VideoError(
                f"{self._name}: frames of {width}x{height} are more than the {self._max_pixels} "
                "pixels that are decoded; make them smaller, or raise max_pixels"
            )


def _pixels(frame: VideoFrame) -> npt.NDArray[np.uint8]:
    pixels = np.ascontiguousarray(frame.to_ndarray(format="rgb24"), np.uint8)
    turn = _TURNS.get(frame.rotation)
    return pixels if turn is None else np.asarray(cv2.rotate(pixels, turn), np.uint8)


def _deinterlaced(frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """One frame for each two fields; from the first interlaced frame on, by FFmpeg's filter."""
    graph: Graph | None = None
    kind: tuple[int, int, str] | None = None
    for frame in frames:
        if graph is None and not frame.interlaced_frame:
            yield frame
            continue
        if kind != (kind := (frame.width, frame.height, frame.format.name)):
            yield from _filtered(graph, None)
            graph = _deinterlacer(frame)
        yield from _filtered(graph, frame)
    yield from _filtered(graph, None)


def _deinterlacer(frame: VideoFrame) -> Graph:
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
    graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
    return graph


def _filtered(graph: Graph | None, frame: VideoFrame | None) -> Iterator[VideoFrame]:
    """What is ready when a frame is added, which may be none; without one, what is left."""
    from av.error import FFmpegError

    if graph is not None:
        # It raises one too where nothing is ready yet.
        with suppress(FFmpegError):
            graph.vpush(frame)
            while True:
                yield graph.vpull()


def _open(source: BinaryIO | str, name: str) -> InputContainer:
    try:
        import av
    except ImportError as error:
        raise VideoError(
            f"{name}: videos are read by PyAV, which is not installed: pip install av"
        ) from error

    file: object = source
    options = {"format_whitelist": ",".join(_FORMATS), "protocol_whitelist": "none"}
    if isinstance(source, str):
        options["format_whitelist"] += f",{','.join(_STREAM_FORMATS)}"
        options["protocol_whitelist"] = ",".join(_STREAM_PROTOCOLS)
        # By UDP, networks lose some of it.
        options["rtsp_flags"] = "prefer_tcp"
    else:
        if source.seekable():
            source.seek(0)
        # Without its name, so that FFmpeg knows of no file.
        methods = {key: getattr(source, key) for key in ("read", "seek", "tell", "seekable")}
        file = SimpleNamespace(name="", **methods)
    # From 19 on it is by itself: a title may be in any encoding.
    is_strict = int(av.__version__.partition(".")[0]) < 19
    lenient: dict[str, Any] = {"metadata_errors": "replace"} if is_strict else {}
    try:
        container: InputContainer = av.open(
            file,
            "r",
            container_options=options,
            timeout=(_OPENING_SECONDS, _READING_SECONDS) if isinstance(source, str) else None,
            **lenient,
        )
    except av.error.FFmpegError as error:
        reason = "not a video that FFmpeg can read, or one that is damaged or cut"
        if isinstance(source, str):
            reason = f"cannot be opened: {error.strerror or error}"
        raise VideoError(f"{name}: {reason}") from error
    return container


def _video_stream(container: InputContainer, name: str) -> VideoStream:
    from av.stream import Disposition

    stream = cast("VideoStream | None", container.streams.best("video"))
    if stream is None:
        raise VideoError(f"{name}: there is no video in it, only sound or other data")
    if Disposition.attached_pic in stream.disposition:
        raise VideoError(f"{name}: music with a cover picture, not a video")
    if stream.codec_context is None:
        raise VideoError(f"{name}: FFmpeg has no decoder for this kind of video")
    return stream
