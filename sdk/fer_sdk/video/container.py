"""Videos as FFmpeg opens them, by PyAV: each as itself, never as a way to other files."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, BinaryIO, cast

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
# A stream may lead to other addresses, as HLS does, but never to a file of this machine.
_STREAM_FORMATS = ("rtsp", "sdp", "rtp", "hls", "mpjpeg", "live_flv")
_STREAM_PROTOCOLS = (
    *("http", "https", "httpproxy", "tcp", "tls", "udp", "crypto"),
    *("rtp", "srtp", "rtsp", "rtsps", "rtmp", "rtmps", "rtmpt", "srt"),
)
_ADDRESS = re.compile(r"(https?|rtsps?|rtmps?|udp|srt)://", re.IGNORECASE)
_OPENING_SECONDS, _READING_SECONDS = 15.0, 10.0
_LATEST = 0.5
# Each decoder thread holds a frame.
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
        rate: frames a second.
        duration: in seconds; None where the video does not tell.

    Raises:
        VideoError: it cannot be opened, or PyAV is not installed.
    """

    def __init__(self, source: BinaryIO | str, name: str, max_pixels: int | None = None) -> None:
        self._name, self._max_pixels = name, max_pixels
        self._container = _open(source, name)
        try:
            self._stream = _video_stream(self._container, name)
            context = self._stream.codec_context
            self._check_size(context.width, context.height)
        except BaseException:
            self.close()
            raise
        context.thread_type = "AUTO"
        context.thread_count = min(usable_cores(), _MOST_THREADS)
        # A container may claim its clock's unit as its rate.
        rates = (self._stream.average_rate, self._stream.guessed_rate)
        self.rate = min((float(rate) for rate in rates if rate), default=USUAL_RATE)
        if not 0 < self.rate <= HIGHEST_RATE:
            self.rate = USUAL_RATE
        of_stream, of_all = self._stream.duration, self._container.duration
        if of_stream is not None and self._stream.time_base is not None:
            self.duration: float | None = float(of_stream * self._stream.time_base)
        else:
            self.duration = None if of_all is None else of_all / 1e6
        self._is_live = isinstance(source, str) and of_all is None
        # What a camera sends does not wait: who is late leaves some out.
        self._is_pushed = self._is_live and not str(source).lower().startswith("http")

    def close(self) -> None:
        self._container.close()

    def frames(self) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
        """Time in seconds, which is NaN where there is none, and RGB uint8 ``[H, W, 3]``.

        Interlaced frames come deinterlaced, and those of a turned camera upright.

        Raises:
            VideoError: the video is damaged or cut, which shows after its last frame; or a frame is
                larger than ``max_pixels``.
        """
        count, moment, soonest = 0, 0.0, math.inf
        reader = _Reader(self._container, self._stream)
        for number, frame in enumerate(reader.frames()):
            self._check_size(frame.width, frame.height)
            moment = reader.seconds(frame)
            if self._is_pushed and not number and math.isnan(moment):
                # FFmpeg has no time for the first one of RTSP.
                continue
            if self._is_pushed:
                lag = time.monotonic() - moment
                soonest = min(soonest, lag)
                if lag - soonest > _LATEST:
                    continue
            yield moment, _pixels(frame)
            count += 1
        if self._is_live:
            raise VideoError(
                f"{self._name} gives no {'more ' if count else ''}frames, after {count}: see that "
                "it can still be reached"
            )
        if not count:
            raise VideoError(
                f"{self._name}: holds no frame that can be decoded: it is damaged or cut"
            )
        if reader.is_cut(self.rate):
            raise VideoError(
                f"{self._name}: the file is cut: it ends after {count} frames, at {moment:.2f} s, "
                "before its container does"
            )
        if reader.lost:
            raise VideoError(
                f"{self._name}: damaged: only {count} of {count + reader.lost} frames can be "
                f"decoded, to {moment:.2f} s"
            )

    def _check_size(self, width: int, height: int) -> None:
        if self._max_pixels is not None and width * height > self._max_pixels:
            raise VideoError(
                f"{self._name}: frames of {width}x{height} are more than the {self._max_pixels} "
                "pixels that are decoded; make them smaller, or raise max_pixels"
            )


class _Reader:
    """Decodes a video, and keeps account of what should have been there."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container, self._stream = container, stream
        self._start: float | None = None
        # Pictures that a camera sends over HTTP.
        self._is_untimed = container.format.name == "mpjpeg"
        if stream.start_time is not None and stream.time_base and not self._is_untimed:
            self._start = float(stream.start_time * stream.time_base)
        self._end = 0.0
        self._torn: dict[int, bool] = {}
        self._deinterlacer: _Deinterlacer | None = None
        self._is_begun = False
        self.lost = 0

    def seconds(self, frame: VideoFrame) -> float:
        if frame.pts is None:
            return math.nan
        moment = time.monotonic() if self._is_untimed else frame.time
        if self._start is None:
            self._start = moment
        return moment - self._start

    def is_cut(self, rate: float) -> bool:
        """Whether it ends before its container says, or within a packet."""
        if any(self._torn.values()):
            return True
        length = (self._container.duration or 0) / 1e6
        start = (self._container.start_time or 0) / 1e6
        return self._end - start < _ALMOST_ALL * length - _LAST_FRAMES / rate

    def frames(self) -> Iterator[VideoFrame]:
        import av

        # All of its streams, because the sound may be longer.
        with suppress(av.error.FFmpegError):
            for packet in self._container.demux():
                self._take_account(packet)
                if packet.stream is self._stream:
                    yield from self._decoded(cast("Packet[VideoStream]", packet))
        if self._deinterlacer is not None:
            yield from self._deinterlacer.rest()

    def _take_account(self, packet: Packet[Stream]) -> None:
        if packet.size:
            self._torn[packet.stream_index] = packet.is_corrupt
        if packet.pts is not None:
            self._end = max(
                self._end, float((packet.pts + (packet.duration or 0)) * packet.time_base)
            )

    def _decoded(self, packet: Packet[VideoStream]) -> Iterator[VideoFrame]:
        import av

        try:
            # What is missing of a packet would come as what was in memory before.
            frames = [] if packet.is_corrupt else packet.decode()
            is_lost = packet.is_corrupt
        except av.error.FFmpegError:
            frames, is_lost = [], True
        # A recording may begin anywhere, and what comes before a whole picture is of no use.
        self.lost += is_lost and self._is_begun
        self._is_begun = self._is_begun or bool(frames)
        for frame in frames:
            if self._deinterlacer is None and frame.interlaced_frame:
                self._deinterlacer = _Deinterlacer()
            if self._deinterlacer is None:
                yield frame
            else:
                yield from self._deinterlacer.next(frame)


class _Deinterlacer:
    """FFmpeg's filter that makes one frame of two fields, for a video of any sizes."""

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._kind: tuple[int, int, str] | None = None

    def next(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        kind = frame.width, frame.height, frame.format.name
        if kind != self._kind:
            yield from self.rest()
            self._graph, self._kind = _deinterlacing(frame), kind
        if self._graph is not None:
            self._graph.vpush(frame)
            yield from self._ready()

    def rest(self) -> Iterator[VideoFrame]:
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self._ready()

    def _ready(self) -> Iterator[VideoFrame]:
        while self._graph is not None:
            try:
                yield self._graph.vpull()
            except (BlockingIOError, EOFError):
                return


def _deinterlacing(frame: VideoFrame) -> Graph:
    import av.filter

    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    graph.link_nodes(
        source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink")
    ).configure()
    return graph


def _pixels(frame: VideoFrame) -> npt.NDArray[np.uint8]:
    pixels = np.ascontiguousarray(frame.to_ndarray(format="rgb24"), np.uint8)
    turn = _TURNS.get(frame.rotation)
    return pixels if turn is None else np.asarray(cv2.rotate(pixels, turn), np.uint8)


def _open(source: BinaryIO | str, name: str) -> InputContainer:
    try:
        import av
    except ImportError as error:
        raise VideoError(
            f"{name}: videos are read by PyAV, which is not installed: pip install av"
        ) from error

    formats: tuple[str, ...] = _FORMATS
    protocols: tuple[str, ...] = ("none",)
    file: object = source
    if isinstance(source, str):
        formats, protocols = (*_FORMATS, *_STREAM_FORMATS), _STREAM_PROTOCOLS
    else:
        if source.seekable():
            source.seek(0)
        # Without its name, which FFmpeg would judge it by.
        file = SimpleNamespace(
            read=source.read, seek=source.seek, tell=source.tell, seekable=source.seekable, name=""
        )
    try:
        return av.open(
            file,
            "r",
            container_options={
                "format_whitelist": ",".join(formats),
                "protocol_whitelist": ",".join(protocols),
                # Networks lose what is sent by UDP.
                "rtsp_flags": "prefer_tcp",
            },
            metadata_errors="replace",
            timeout=(_OPENING_SECONDS, _READING_SECONDS) if isinstance(source, str) else None,
        )
    except av.error.FFmpegError as error:
        if isinstance(source, str):
            raise VideoError(f"{name}: cannot be opened: {error.strerror or error}") from error
        raise VideoError(
            f"{name}: not a video that FFmpeg can read, or one that is damaged or cut"
        ) from error


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
