"""Fetching from a server of our own on the loopback interface."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fer_sdk.errors import DataError
from fer_training.data.fetch import FACE_LANDMARKER, Published, fetch, file_sha256

CONTENT = bytes(range(256)) * 4000


class _Publisher(BaseHTTPRequestHandler):
    ranges: list[str | None]
    breaks_after: int | None
    knows_ranges: bool

    def do_GET(self) -> None:
        if self.path != "/model":
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        type(self).ranges.append(wanted)
        start = (
            int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.knows_ranges else 0
        )
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = len(CONTENT) if self.breaks_after is None else start + self.breaks_after
        self.wfile.write(CONTENT[start:end])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: what was asked is in ``ranges``."""


@pytest.fixture
def publisher() -> Iterator[tuple[type[_Publisher], str]]:
    handler = type(
        "Publisher", (_Publisher,), {"ranges": [], "breaks_after": None, "knows_ranges": True}
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield handler, f"http://127.0.0.1:{server.server_port}/model"
    server.shutdown()
    server.server_close()


def _published(url: str, content: bytes = CONTENT) -> Published:
    return Published(url, hashlib.sha256(content).hexdigest(), "none")


def test_a_file_comes_whole_and_once(
    publisher: tuple[type[_Publisher], str], tmp_path: Path
) -> None:
    handler, url = publisher
    seen: list[tuple[int, int | None]] = []
    path = fetch(_published(url), tmp_path / "deep" / "model", lambda *at: seen.append(at))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    fetch(_published(url), path)
    assert handler.ranges == [None]


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_broken_transfer_goes_on_where_it_stopped(
    publisher: tuple[type[_Publisher], str], tmp_path: Path, knows_ranges: bool
) -> None:
    handler, url = publisher
    handler.breaks_after, handler.knows_ranges = 300_000, knows_ranges
    path = tmp_path / "model"
    with pytest.raises(DataError, match="cannot be fetched"):
        fetch(_published(url), path)
    assert not path.exists()
    handler.breaks_after = None
    assert fetch(_published(url), path).read_bytes() == CONTENT
    assert handler.ranges == [None, "bytes=300000-"]


def test_a_transfer_that_had_everything_only_needs_its_hash_checked(
    publisher: tuple[type[_Publisher], str], tmp_path: Path
) -> None:
    _, url = publisher
    (tmp_path / "model.part").write_bytes(CONTENT)
    assert fetch(_published(url), tmp_path / "model").read_bytes() == CONTENT


def test_other_content_than_published_is_thrown_away(
    publisher: tuple[type[_Publisher], str], tmp_path: Path
) -> None:
    _, url = publisher
    with pytest.raises(DataError, match="sha256"):
        fetch(_published(url, b"what should come"), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_in_the_way_is_kept_and_named(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"mine")
    with pytest.raises(DataError, match="move it away"):
        fetch(_published("http://127.0.0.1:9/model"), path)
    assert path.read_bytes() == b"mine"


def test_no_network_and_no_such_file_say_so(
    publisher: tuple[type[_Publisher], str], tmp_path: Path
) -> None:
    _, url = publisher
    with pytest.raises(DataError, match="404"):
        fetch(_published(url + "s"), tmp_path / "model")
    with pytest.raises(DataError, match="put it at"):
        fetch(_published("http://127.0.0.1:9/model"), tmp_path / "model")


@pytest.mark.landmarker
def test_the_published_hash_is_the_bundles(landmarker_bundle: Path) -> None:
    assert file_sha256(landmarker_bundle) == FACE_LANDMARKER.sha256
