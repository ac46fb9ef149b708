"""Which pictures are meant by what was typed: files, folders, patterns and standard input."""

from __future__ import annotations

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fer_sdk.image.folder import split_pictures

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Photo:
    """A picture to look at.

    Attributes:
        name: its path, or ``-``.
        content: what came on standard input; None: it is read from the path.
        problem: why there is none of that name; None where there may be.
    """

    name: str
    content: bytes | None = None
    problem: str | None = None


def find_photos(given: Iterable[str], *, recursive: bool) -> tuple[list[Photo], Counter[str]]:
    """The pictures that paths, folders, patterns and ``-`` stand for, in their order.

    Of a folder these are the files that end as pictures do, sorted, without hidden ones; how many
    others there are of each kind is the second result.

    Args:
        given: as it was typed; a path that is there is never taken for a pattern.
        recursive: whether the folders in a folder are searched too.
    """
    photos: list[Photo] = []
    left_out: Counter[str] = Counter()
    for name in given:
        if name == STDIN:
            photos.append(_from_stdin())
            continue
        if Path(name).is_dir():
            pictures, others = split_pictures(_in_folder(name, recursive))
            found = [Photo(path) for path in pictures]
            left_out += others
            missing = "no pictures in this folder"
            if not recursive:
                missing += "; --recursive looks into the folders in it"
        elif not os.path.lexists(name) and glob.has_magic(name):
            matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 as it was typed
            found = [Photo(path) for path in matches if not Path(path).is_dir()]
            missing = "no file has a name like that"
        else:
            found, missing = [Photo(name)], ""
        photos += found or [Photo(name, problem=f"{name}: {missing}")]
    return photos, left_out


def _in_folder(folder: str, recursive: bool) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if recursive and not one.startswith("."))
        for file in sorted(files):
            yield os.path.join(parent, file)  # noqa: PTH118 as it was typed


def _from_stdin() -> Photo:
    from fer_sdk.image.load import MAX_BYTES

    content = sys.stdin.buffer.read(MAX_BYTES + 1)
    problem = None
    if len(content) > MAX_BYTES:
        content, problem = b"", f"standard input: more than the {MAX_BYTES} bytes that are read"
    elif not content:
        problem = "standard input: nothing came on it"
    return Photo(STDIN, content, problem)


def read_list(path: str) -> list[str]:
    """The lines of a file, or of standard input where it is ``-``, without empty ones.

    Raises:
        OSError: it cannot be read.
    """
    content = sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
    return [os.fsdecode(line) for line in content.splitlines() if line.strip()]
