"""Files written whole or not at all, pictures among them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.errors import ImageError
from fer_sdk.native_logs import quiet

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""The kinds of pictures that are written, by the end of the file's name."""


def save_image(rgb: npt.NDArray[np.uint8], path: str | os.PathLike[str]) -> None:
    """Write an RGB image uint8 ``[H, W, 3]`` as the kind of file that its name ends in.

    The file appears under its name when it is complete; what was there before stays until then.

    Raises:
        ImageError: the name does not end in one of ``SUFFIXES``, the picture is too large for this
            kind of file, or it cannot be written there.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise ImageError(
            f"{target}: pictures are written as {', '.join(SUFFIXES)}; end the name in one of these"
        )
    try:
        with quiet():
            encoded, content = cv2.imencode(
                target.suffix.lower(), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
            )
    except cv2.error as error:
        raise ImageError(f"{target}: OpenCV cannot encode it: {error.err}") from error
    if not encoded:
        raise ImageError(f"{target}: OpenCV cannot encode a picture of {rgb.shape[1::-1]} pixels")
    try:
        with written_whole(target) as file:
            file.write(content.tobytes())
    except OSError as error:
        raise ImageError(f"{target}: cannot be written: {error.strerror or error}") from error


@contextmanager
def written_whole(target: Path) -> Iterator[BinaryIO]:
    """A file to write, which appears as ``target`` when the block ends; on an error it never does.

    What was there before stays until then.

    Raises:
        OSError: it cannot be written there.
    """
    with path_written_whole(target) as temporary, temporary.open("wb") as file:
        yield file


@contextmanager
def path_written_whole(target: Path) -> Iterator[Path]:
    """The same for what writes by path: an empty file, whose content appears as ``target``.

    Raises:
        OSError: it cannot be written there.
    """
    # Beside the target, because only within one file system does it take its place at once.
    handle, name = tempfile.mkstemp(prefix=".", suffix=target.suffix, dir=target.parent)
    temporary = Path(name)
    try:
        os.close(handle)
        yield temporary
        temporary.chmod(_mode(target))
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _mode(target: Path) -> int:
    """The rights that writing the file in place would have given it."""
    try:
        return target.stat().st_mode & 0o777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
