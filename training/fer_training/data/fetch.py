"""Files that users fetch from their publishers: checked by hash, resumed where a transfer broke."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fer_sdk.errors import DataError

_CHUNK = 1 << 18
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Published:
    """A file that somebody publishes.

    Attributes:
        url: its documented address.
        sha256: of its content.
        licence: under which terms it comes.
    """

    url: str
    sha256: str
    licence: str


FACE_LANDMARKER = Published(
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
    "face_landmarker.task",
    "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    "Apache-2.0, Google",
)
"""MediaPipe's landmarker bundle, which makes the ground-truth landmarks."""

RESNET18_IMAGENET = Published(
    "https://download.pytorch.org/models/resnet18-f37072fd.pth",
    "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    "BSD-3-Clause, torchvision; trained on ImageNet",
)
"""torchvision's ResNet18 weights ``IMAGENET1K_V1``."""

PUBLISHED = {"face-landmarker": FACE_LANDMARKER, "resnet18-imagenet": RESNET18_IMAGENET}
"""What ``fer-train fetch`` knows, by name."""


def fetch(
    published: Published, path: Path, progress: Callable[[int, int | None], None] | None = None
) -> Path:
    """Bring a published file to ``path``.

    What arrives is kept in ``<path>.part``, from which a later call goes on; ``path`` appears only
    once its hash is right. A right file that is already there is left as it is.

    Args:
        published: what to fetch.
        path: where to.
        progress: is called with the bytes that are here and, where known, the bytes there will be.

    Raises:
        DataError: the address cannot be reached, the transfer broke, or the content is not what
            was published.
    """
    if path.exists():
        found = file_sha256(path)
        if found == published.sha256:
            return path
        raise DataError(
            f"{path}: is there already, but its sha256 {found} is not the published "
            f"{published.sha256}; move it away first"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        _transfer(published.url, part, progress)
    except urllib.error.HTTPError as error:
        raise DataError(
            f"{published.url}: the server answered {error.code} {error.reason}"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"{published.url}: cannot be fetched ({reason}). Without a network, fetch it elsewhere "
            f"and put it at {path}"
        ) from error
    found = file_sha256(part)
    if found != published.sha256:
        part.unlink()
        raise DataError(
            f"{published.url}: what came has sha256 {found} and not the published "
            f"{published.sha256}; it was thrown away"
        )
    part.replace(path)
    return path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _transfer(url: str, part: Path, progress: Callable[[int, int | None], None] | None) -> None:
    here = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url)
    if here:
        request.add_header("Range", f"bytes={here}-")
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        # Everything is here already: the server has nothing beyond the last byte.
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and here:
            return
        raise
    with answer:
        # A server that does not know ranges sends everything again.
        resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        here = here if resumed else 0
        length = answer.headers.get("Content-Length")
        total = here + int(length) if length else None
        with part.open("ab" if resumed else "wb") as stream:
            while chunk := answer.read(_CHUNK):
                stream.write(chunk)
                here += len(chunk)
                if progress is not None:
                    progress(here, total)
    if total is not None and here < total:
        raise OSError(f"the connection closed after {here} of {total} bytes")
