"""The system calls of a program and what they say about where its data went.

``strace`` writes them down, of every thread and of every program that is started on the way. What
counts is the attempt: that a call failed, for one because there is no network, is no excuse.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_sdk.errors import FerError

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


class TraceError(FerError, RuntimeError):
    """A program cannot be watched here, or it failed."""


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


def watch(
    command: Sequence[str],
    *,
    asked: Path,
    log: Path,
    folder: Path,
    environment: Mapping[str, str],
    limit: float = 600.0,
) -> Trace:
    """Run a program under strace.

    Args:
        command: the program and its arguments.
        asked: the one folder that it may write to.
        log: where strace writes.
        folder: in which it runs.
        environment: its variables.
        limit: seconds after which it is ended.

    Raises:
        TraceError: there is no strace, it may not watch here, or the program failed.
    """
    strace = ["strace", "-f", "-qq", "-y", "-s", "256", "-e", f"trace={_CALLS}", "-o", str(log)]
    try:
        done = subprocess.run(
            [*strace, "--", *command],
            capture_output=True,
            text=True,
            timeout=limit,
            cwd=folder,
            env=environment,
            check=False,
        )
    except FileNotFoundError as error:
        raise TraceError(
            "there is no strace here: install it ('apt install strace'); it is for Linux only"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise TraceError(f"{command[0]}: not done after {limit:.0f} seconds") from error
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    if not lines:
        raise TraceError(f"strace cannot watch here: {done.stderr.strip()[-400:]}")
    if done.returncode != 0:
        raise TraceError(
            f"what was watched failed with status {done.returncode}: {done.stderr.strip()[-800:]}"
        )
    return judge(lines, asked=asked, folder=folder, output=done.stdout)


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
