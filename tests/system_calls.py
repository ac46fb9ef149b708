"""Programs watched from outside: what their system calls say about where data went.

``strace`` records the calls of all threads and child processes. The attempt counts: a call that
failed, for example because there is no network, is a leak too.
"""

from __future__ import annotations

import os
import re
import site
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

_LIMIT = 600.0
_OPENS = ("open", "openat", "openat2")
_CHANGES = (
    "creat",
    "mkdir",
    "mkdirat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "rmdir",
    "truncate",
    "mknod",
    "mknodat",
    "chmod",
    "fchmodat",
    "chown",
    "lchown",
    "fchownat",
)
# Through io_uring a program could use the network without any of the calls that are named for it.
_OTHERS = ("io_uring_setup", "ptrace", "execve", "execveat")
# The question mark says that not every machine has each of these.
_CALLS = ",".join(("%network", *(f"?{name}" for name in (*_OPENS, *_CHANGES, *_OTHERS))))
_CALL = re.compile(r"(?:\d+ +)?(\w+)\((.*)", re.DOTALL)
_TEXT = re.compile(r'(?:AT_FDCWD|-?\d+)?(?:<((?:[^>\\]|\\.)*)>)?(?:, )?"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f"}
_FOR_WRITING = re.compile(r"\bO_(WRONLY|RDWR|CREAT|TRUNC|APPEND|TMPFILE)\b")
# What the C library opens to turn a name into an address.
_OF_NAMES = re.compile(
    r"/etc/(resolv\.conf|hosts|host\.conf|gai\.conf)|/libnss_(dns|resolve|mdns|myhostname)|/nscd/"
    r"|/systemd/resolve/"
)
# Nothing that is written there is kept, and the programs of the system themselves do so.
_NOWHERE = re.compile(r"/dev/(null|tty|shm)\b|/proc/self/|/proc/\d+/")


@dataclass(frozen=True, slots=True)
class Trace:
    """What a program did.

    Attributes:
        calls: how many of the system calls that matter were seen.
        files: how many files were opened, to read or to write.
        written: files that were written inside the folder that was asked for.
        leaks: what should not have happened: the system call, in a few words.
        output: what it printed.
    """

    calls: int
    files: int
    written: tuple[str, ...]
    leaks: tuple[str, ...]
    output: str


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
    """Folders for one run: ``asked`` may be written to, ``empty`` must stay empty."""

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

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program with home and temporary files in ``empty``."""
        moved = {name: str(self.empty) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
        # Python's own cache of modules is no file of ours, and packages of the user are at home.
        python = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUSERBASE": site.getuserbase()}
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            cwd=self.empty,
            env=dict(os.environ) | moved | python,
            check=False,
        )


def traced(command: Sequence[str], rooms: Rooms) -> Trace:
    """Watch a program; what it left in ``rooms.empty`` is a leak too. Skips without strace."""
    strace = ("strace", "-f", "-qq", "-y", "-s", "256", "-e", f"trace={_CALLS}", "-o")
    try:
        done = rooms.run(*strace, str(rooms.log), "--", *command)
    except FileNotFoundError:
        pytest.skip("system calls cannot be watched: there is no strace")
    log = rooms.log.read_text(encoding="utf-8", errors="replace") if rooms.log.exists() else ""
    if not log:
        pytest.skip(f"system calls cannot be watched: {done.stderr.strip()[-400:]}")
    assert done.returncode == 0, done.stderr
    trace = judge(log.splitlines(), asked=rooms.asked, folder=rooms.empty, output=done.stdout)
    left = tuple(f"left behind: {path}" for path in sorted(rooms.empty.rglob("*")))
    return replace(trace, leaks=trace.leaks + left)


def alone(command: Sequence[str], rooms: Rooms) -> str:
    """What a program prints in a network namespace without an interface. Skips without one."""
    unshare = ("unshare", "--map-root-user", "--net", "--")
    send = "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
    try:
        control = rooms.run(*unshare, sys.executable, "-c", f"import socket; {send}")
    except FileNotFoundError:
        pytest.skip("no network namespace: there is no unshare")
    if control.returncode == 0 or "Network is unreachable" not in control.stderr:
        pytest.skip(f"no network namespace: {control.stderr.strip()[-300:]}")
    done = rooms.run(*unshare, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def judge(lines: Iterable[str], *, asked: Path, folder: Path, output: str = "") -> Trace:
    """Read what strace wrote.

    Args:
        lines: of its log.
        asked: the one folder that may be written to.
        folder: in which the program ran.
        output: what it printed.
    """
    calls = files = programs = 0
    written: dict[str, None] = {}
    leaks: dict[str, None] = {}
    for line in lines:
        call = _CALL.match(line)
        if call is None:
            continue
        calls += 1
        name, rest = call[1], call[2]
        shown = f"{name}({rest}"[:200]
        opens = name in _OPENS
        files += opens
        if name in ("execve", "execveat"):
            programs += "ENOENT" not in rest
            if programs > 1:
                leaks[f"another program started: {shown}"] = None
        elif name not in (*_OPENS, *_CHANGES, "socketpair"):
            # Also sockets that stay on the machine: what listens there may pass things on.
            leaks[f"the network, or what could reach it: {shown}"] = None
        elif opens and _OF_NAMES.search(rest):
            leaks[f"a name looked up: {shown}"] = None
        elif name in _CHANGES or _FOR_WRITING.search(rest):
            for path in _paths(rest, folder):
                if path.is_relative_to(asked):
                    written[str(path)] = None
                elif not _NOWHERE.match(str(path)):
                    leaks[f"written elsewhere: {shown}"] = None
    return Trace(calls, files, tuple(written), tuple(leaks), output)


def _paths(rest: str, folder: Path) -> Iterator[Path]:
    for at, text in _TEXT.findall(rest):
        yield Path(os.path.normpath(Path(_plain(at) if at else folder, _plain(text))))


def _plain(text: str) -> str:
    """A text as strace quotes it."""

    def letter(escape: re.Match[bytes]) -> bytes:
        code = escape[1]
        return bytes([int(code, 8) & 255]) if code.isdigit() else _LETTERS.get(code, code)

    return _ESCAPE.sub(letter, text.encode("utf-8", "surrogateescape")).decode(
        "utf-8", "surrogateescape"
    )
