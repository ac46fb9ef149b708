"""The checks that nothing leaves the device, each with a control that it can fail."""

from __future__ import annotations

import os
import site
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_sdk.privacy_check.trace import Trace, TraceError, watch

_LIMIT = 600.0
_SEND = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
LEAKS: Mapping[str, tuple[str, str]] = {
    "a socket": (
        "import contextlib, socket\n"
        "with contextlib.suppress(OSError):\n"
        "    socket.create_connection(('127.0.0.1', 9), timeout=1)",
        "the network, or what could reach it: connect(",
    ),
    "a name looked up": (
        "import contextlib, socket\n"
        "with contextlib.suppress(OSError):\n"
        "    socket.getaddrinfo('name.invalid', 443)",
        "a name looked up: ",
    ),
    "a file written elsewhere": (
        "open('left-behind', 'w').close()",
        "written elsewhere: ",
    ),
    "another program": (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', ''])",
        "another program started: ",
    ),
}
"""Programs that do what must not happen, and how it shows."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """Folders for one run: what is asked for, and what must stay empty."""

    asked: Path
    empty: Path
    log: Path

    @classmethod
    def below(cls, folder: Path) -> Rooms:
        """Make them in a folder that exists."""
        asked, empty = folder / "asked", folder / "empty"
        asked.mkdir()
        empty.mkdir()
        return cls(asked.resolve(), empty.resolve(), folder / "strace.log")

    def environment(self) -> dict[str, str]:
        """Variables under which whatever is kept at home or for a while lands in ``empty``."""
        moved = {name: str(self.empty) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
        # Python's own cache of modules is no file of ours, and packages of the user are at home.
        python = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUSERBASE": site.getuserbase()}
        return dict(os.environ) | moved | python


def traced_session(rooms: Rooms, photos: Sequence[Path]) -> Trace:
    """Watch a whole session; what it left in ``rooms.empty`` counts as a leak too.

    Raises:
        TraceError: it cannot be watched here, or the session failed.
    """
    return traced([*_session(rooms, photos)], rooms)


def traced(command: Sequence[str], rooms: Rooms) -> Trace:
    """Watch any program in these rooms.

    Raises:
        TraceError: it cannot be watched here, or it failed.
    """
    trace = watch(
        command,
        asked=rooms.asked,
        log=rooms.log,
        folder=rooms.empty,
        environment=rooms.environment(),
        limit=_LIMIT,
    )
    left = tuple(f"left behind: {path}" for path in sorted(rooms.empty.rglob("*")))
    return Trace(trace.calls, trace.files, trace.written, trace.leaks + left, trace.output)


def unseen(rooms: Rooms) -> list[str]:
    """Which of the leaks that are made on purpose the tracing does not see.

    Raises:
        TraceError: it cannot be watched here.
    """
    missed = []
    for name, (code, shown) in LEAKS.items():
        trace = traced([sys.executable, "-c", code], rooms)
        if not any(leak.startswith(shown) for leak in trace.leaks):
            missed.append(name)
    return missed


def session_without_network(rooms: Rooms, photos: Sequence[Path]) -> str:
    """What the session prints in a network namespace that has no interface that is up.

    Raises:
        TraceError: there can be no such namespace here, or the session failed in it.
    """
    control = alone([sys.executable, "-c", _SEND], rooms)
    if control.returncode == 0 or "Network is unreachable" not in control.stderr:
        raise TraceError(
            "a network namespace cannot be made here ('unshare --net' of util-linux, which needs "
            f"user namespaces or root): {control.stderr.strip()[-300:]}"
        )
    done = alone(_session(rooms, photos), rooms)
    if done.returncode != 0:
        raise TraceError(f"without a network the session fails: {done.stderr.strip()[-800:]}")
    return done.stdout


def _session(rooms: Rooms, photos: Sequence[Path]) -> list[str]:
    here = [str(photo.resolve()) for photo in photos]
    return [sys.executable, "-m", "fer_sdk.privacy_check.session", str(rooms.asked), *here]


def alone(command: Sequence[str], rooms: Rooms) -> subprocess.CompletedProcess[str]:
    """Run any program in a network namespace of its own, where no interface is up.

    Raises:
        TraceError: there is no unshare, or it takes too long.
    """
    try:
        return subprocess.run(
            ["unshare", "--map-root-user", "--net", "--", *command],
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            cwd=rooms.empty,
            env=rooms.environment(),
            check=False,
        )
    except FileNotFoundError as error:
        raise TraceError(
            "there is no unshare here: install util-linux; it is for Linux only"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise TraceError(f"not done after {_LIMIT:.0f} seconds") from error
