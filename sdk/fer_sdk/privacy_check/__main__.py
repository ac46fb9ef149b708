"""``python -m fer_sdk.privacy_check [PHOTO...]``: exit status 0 kept, 1 broken, 2 unknown."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fer_sdk import FerError, __version__
from fer_sdk.privacy_check import check

KEPT, BROKEN, UNCHECKED = 0, 1, 2


def main(arguments: Sequence[str], console: Console) -> int:
    """Check, tell, and return the exit status."""
    photos = [Path(name) for name in arguments]
    for photo in photos:
        if not photo.is_file():
            console.print(f"{photo}: no such file", markup=False)
            return UNCHECKED
    say = console.print
    say(f"fer-sdk {__version__}: nothing leaves this device\n", highlight=False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            rooms = [_rooms(Path(folder), name) for name in ("controls", "traced", "alone")]
            missed = check.unseen(rooms[0])
            trace = check.traced_session(rooms[1], photos)
            alone = check.session_without_network(rooms[2], photos)
    except FerError as error:
        say(f"not checked: {error}", markup=False, highlight=False)
        return UNCHECKED
    seen = [name for name in check.LEAKS if name not in missed]
    same = alone == trace.output
    rows = (
        (not missed, f"made on purpose and seen: {', '.join(seen)}"),
        (
            not trace.leaks,
            f"a session with {_detectors(trace.output)}: {trace.calls} system calls, {trace.files} "
            f"files opened, {len(trace.written)} written where asked, {len(trace.leaks)} leaks",
        ),
        (same, "the same faces in a network namespace without an interface"),
    )
    for holds, what in rows:
        say(
            f"{'kept' if holds else 'BROKEN':6} {what}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    for leak in (*(f"not seen: {name}" for name in missed), *trace.leaks):
        say(f"       {leak}", markup=False, highlight=False, soft_wrap=True)
    return KEPT if all(holds for holds, _ in rows) else BROKEN


def _rooms(folder: Path, name: str) -> check.Rooms:
    (folder / name).mkdir()
    return check.Rooms.below(folder / name)


def _detectors(output: str) -> str:
    found = [json.loads(line) for line in output.splitlines()]
    names = [str(one["detector"] or "no detector") for one in found if "refused" not in one]
    return ", ".join(names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Console()))
