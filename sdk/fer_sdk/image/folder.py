"""Which files of a folder are pictures, and how the others are told of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import PurePath

HEIC = (".heic", ".heif", ".hif")
"""What HEIC pictures end in, which are read where pillow-heif is installed."""

PICTURES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".avif", ".jp2", ".pnm", ".pbm", ".pgm", ".ppm", *HEIC),
)
"""What the files of a folder that are taken for pictures end in."""

VIDEOS = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mts", ".m2ts", ".ts", ".mpg", ".mpeg"),
    *(".wmv", ".3gp"),
)

# What systems leave in folders that people look at.
_LITTER = ("thumbs.db", "desktop.ini")


def split_pictures(paths: Iterable[str]) -> tuple[list[str], Counter[str]]:
    """Take the pictures out of a folder's files.

    Returns:
        The paths of pictures that can be read here, in their order, and how many other files there
        are of each kind, by what their names end in. Hidden files count as none.
    """
    readable = set(PICTURES) - (set() if find_spec("pillow_heif") else set(HEIC))
    pictures: list[str] = []
    left_out: Counter[str] = Counter()
    for path in paths:
        name = PurePath(path).name
        kind = PurePath(name).suffix.lower()
        if name.startswith(".") or name.lower() in _LITTER:
            continue
        if kind in readable:
            pictures.append(path)
        else:
            left_out[kind or "without an ending"] += 1
    return pictures, left_out


def describe_left_out(left_out: Mapping[str, int]) -> str:
    """What ``split_pictures`` left out, in words, with what helps: ``2 .mov (use fer video)``."""
    hints = dict.fromkeys(HEIC, " (pip install 'fer-sdk[heif]')")
    hints |= dict.fromkeys(VIDEOS, " (use fer video)")
    kinds = (f"{count} {kind}{hints.get(kind, '')}" for kind, count in sorted(left_out.items()))
    return f"left out: {', '.join(kinds)}"
