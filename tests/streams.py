"""Servers of videos, for tests: an RTSP camera, and HTTP with files and a live MJPEG."""

from __future__ import annotations

import http.server
import io
import itertools
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import cv2

import videos


@contextmanager
def rtsp_camera(frames: list[videos.Image], fps: int = 25) -> Iterator[str]:
    """The address of a camera that sends H.264 in real time, over TCP, and then hangs up."""
    raw = videos.encode(
        io.BytesIO(), frames, "libx264", container="h264", fps=fps,
        tune="zerolatency", g="5", **{"x264-params": "sliced-threads=0"},
    )  # fmt: skip
    with av.open(io.BytesIO(raw.getvalue()), format="h264") as container:
        packets = [bytes(packet) for packet in container.demux() if packet.size]
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve_rtsp, args=(server, packets, fps), daemon=True)
        thread.start()
        yield f"rtsp://user:secret@127.0.0.1:{server.getsockname()[1]}/live"
    thread.join(20)


def _serve_rtsp(server: socket.socket, packets: list[bytes], fps: int) -> None:
    with suppress(OSError):
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as requests:
            while True:
                head = list(iter(lambda: requests.readline().decode().strip(), ""))
                if not head:
                    return
                number = next(line for line in head if line.lower().startswith("cseq"))
                method = head[0].split()[0]
                _answer(connection, method, number)
                if method == "PLAY":
                    _play(connection, packets, fps)
                    return


def _answer(connection: socket.socket, method: str, number: str) -> None:
    lines = ["RTSP/1.0 200 OK", number, "Session: 1"]
    body = ""
    if method == "OPTIONS":
        lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
    elif method == "SETUP":
        lines.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
    elif method == "DESCRIBE":
        body = (
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
            "a=rtpmap:96 H264/90000\r\na=control:one\r\n"
        )
        lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())


def _play(connection: socket.socket, packets: list[bytes], fps: int) -> None:
    sequence = itertools.count(7)
    start = time.monotonic()
    for index, packet in enumerate(packets):
        time.sleep(max(0.0, start + index / fps - time.monotonic()))
        units = [unit for unit in packet.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]
        for unit in units:
            last = unit is units[-1]
            header = struct.pack(
                ">BBHII", 0x80, 96 | last << 7, next(sequence), 1000 + index * 90_000 // fps, 5
            )
            connection.sendall(b"$\0" + struct.pack(">H", 12 + len(unit)) + header + unit)


@contextmanager
def http_server(folder: Path) -> Iterator[str]:
    """The address of a server of the files of a folder, and of an endless ``/live``."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            with suppress(ConnectionError):
                if self.path != "/live":
                    super().do_GET()
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                for image in itertools.cycle(videos.plain(20)):
                    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}"
                    self.wfile.write(head.encode() + b"\r\n\r\n" + jpeg + b"\r\n")
                    time.sleep(0.01)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
