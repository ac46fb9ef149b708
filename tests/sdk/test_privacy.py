"""Nothing leaves the device: system calls, a network that is not there, and what is switched off.

The checks are those of ``python -m fer_sdk.privacy_check``. Where a check cannot be made it is
skipped with the reason, never passed.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from fer_sdk.detectors.mediapipe import installed_version, refusal
from fer_sdk.privacy_check import __main__ as command
from fer_sdk.privacy_check import check
from fer_sdk.privacy_check.trace import Trace, TraceError, judge
from promises import tried

pytestmark = pytest.mark.timeout(900)


def _rooms(folder: Path) -> check.Rooms:
    return check.Rooms.below(folder)


def _traced(arguments: list[str], rooms: check.Rooms) -> Trace:
    try:
        return check.traced(arguments, rooms)
    except TraceError as error:
        if "strace" not in str(error):
            raise
        pytest.skip(f"system calls cannot be watched: {error}")


@pytest.fixture(scope="module")
def session(
    tmp_path_factory: pytest.TempPathFactory, example_photo: Path
) -> tuple[Trace, check.Rooms]:
    rooms = _rooms(tmp_path_factory.mktemp("session"))
    try:
        return check.traced_session(rooms, [example_photo]), rooms
    except TraceError as error:
        if "strace" not in str(error):
            raise
        pytest.skip(f"system calls cannot be watched: {error}")


@pytest.mark.parametrize("name", check.LEAKS)
def test_a_leak_made_on_purpose_is_seen(tmp_path: Path, name: str) -> None:
    code, shown = check.LEAKS[name]
    trace = _traced([sys.executable, "-c", code], _rooms(tmp_path))
    assert [leak for leak in trace.leaks if leak.startswith(shown)]
    tried("leaks made on purpose, to see that they are caught")


def test_a_program_that_does_nothing_has_no_leaks(tmp_path: Path) -> None:
    trace = _traced([sys.executable, "-c", "print('done')"], _rooms(tmp_path))
    assert (trace.leaks, trace.written, trace.output) == ((), (), "done\n")


def test_a_whole_session_leaks_nothing(session: tuple[Trace, check.Rooms]) -> None:
    trace, rooms = session
    assert trace.leaks == ()
    # It did run: files were opened and the pictures that were asked for are there.
    assert trace.files > 100
    annotated = rooms.asked / "annotated-astronaut.jpg"
    assert annotated.stat().st_size > 10_000
    film = rooms.asked / "film-of-astronaut.mp4"
    assert film.stat().st_size > 10_000
    assert str(annotated) in trace.written
    assert sorted(rooms.asked.iterdir()) == [annotated, film]
    tried("system calls of whole sessions, none of them a socket or a name looked up", trace.calls)


def test_the_session_uses_every_detector(session: tuple[Trace, check.Rooms]) -> None:
    found = [json.loads(line) for line in session[0].output.splitlines()]
    assert [one["detector"] for one in found] == ["mediapipe", "blazeface", None]
    for one in found:
        if one["detector"] == "mediapipe" and refusal(installed_version()):
            assert "mediapipe" in one["refused"]
            continue
        assert [len(faces) for faces in one["faces"]] == [1]
        assert one["batch"] == one["faces"]
        assert [len(frame["faces"]) for frame in one["film"]] == [1, 1, 1]
        tried("detectors in a traced session")


def test_without_a_network_everything_is_the_same(
    session: tuple[Trace, check.Rooms], tmp_path: Path, example_photo: Path
) -> None:
    try:
        alone = check.session_without_network(_rooms(tmp_path), [example_photo])
    except TraceError as error:
        if "unshare" not in str(error):
            raise
        pytest.skip(f"no network namespace: {error}")
    assert alone == session[0].output
    tried("whole sessions in a network namespace without an interface")


def test_the_network_without_an_interface_has_none(tmp_path: Path) -> None:
    if shutil.which("ip") is None:
        pytest.skip("no iproute2")
    try:
        done = check.alone(["ip", "-brief", "link"], _rooms(tmp_path))
    except TraceError as error:
        pytest.skip(f"no network namespace: {error}")
    if done.returncode:
        pytest.skip(f"no network namespace: {done.stderr}")
    # The one that every namespace is born with, which nobody has switched on.
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["lo", "DOWN"]]


def test_the_command_line_leaks_nothing(tmp_path: Path, example_photo: Path) -> None:
    rooms = _rooms(tmp_path)
    saved = rooms.asked / "saved.png"
    arguments = ["predict", str(example_photo), "--json", "--save", str(saved)]
    trace = _traced([sys.executable, "-m", "fer_sdk", *arguments], rooms)
    assert trace.leaks == ()
    assert json.loads(trace.output)["faces"][0]["emotion"] == "happy"
    assert saved.exists()
    tried("system calls of the command line", trace.calls)


_AT = '1 openat(AT_FDCWD</home/me>, "{}", {}) = 3'


@pytest.mark.parametrize(
    ("line", "leak"),
    [
        ("1 socket(AF_INET6, SOCK_STREAM, IPPROTO_TCP) = 3", "the network"),
        ("socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE) = 3", "the network"),
        ('1 connect(3, {sa_family=AF_UNIX, sun_path="/run/nscd/socket"}, 110) = -1', "the network"),
        ("1 sendto(3</x>, <unfinished ...>", "the network"),
        ("1 io_uring_setup(8, {flags=0}) = 4", "the network"),
        (_AT.format("/etc/resolv.conf", "O_RDONLY|O_CLOEXEC"), "a name looked up"),
        (_AT.format("/lib/libnss_dns.so.2", "O_RDONLY"), "a name looked up"),
        (_AT.format("notes", "O_WRONLY|O_CREAT, 0666"), "written elsewhere"),
        (_AT.format("/asked/../notes", "O_RDWR"), "written elsewhere"),
        (_AT.format("/tmp", "O_RDWR|O_TMPFILE"), "written elsewhere"),
        ('1 rename("/asked/a", "/home/me/a") = 0', "written elsewhere"),
        ('1 renameat2(AT_FDCWD</x>, "a", 5</asked>, "b", 0) = 0', "written elsewhere"),
        (_AT.format(r"/asked\40too/x", "O_WRONLY"), "written elsewhere"),
        (_AT.format("/asked/face.png", "O_WRONLY|O_CREAT"), None),
        ('1 openat(5</asked>, "face.png", O_WRONLY) = 6', None),
        (_AT.format(r"/asked/\303\244\n.png", "O_WRONLY|O_CREAT"), None),
        (_AT.format("/dev/null", "O_RDWR"), None),
        (_AT.format("/etc/ld.so.cache", "O_RDONLY|O_CLOEXEC"), None),
        ("1 socketpair(AF_UNIX, SOCK_STREAM, 0, [3, 4]) = 0", None),
        ("1 <... openat resumed>) = 3", None),
        ("1 --- SIGCHLD {si_signo=SIGCHLD} ---", None),
        ("1 +++ exited with 0 +++", None),
    ],
)
def test_what_strace_writes_is_judged(line: str, leak: str | None) -> None:
    trace = judge([line], asked=Path("/asked"), folder=Path("/home/me"))
    assert [one.split(":")[0].split(",")[0] for one in trace.leaks] == ([leak] if leak else [])


def test_a_second_program_is_a_leak_and_a_search_for_one_is_not() -> None:
    missing = '1 execve("/bin/gcc", ["gcc"], 0x1 /* 3 vars */) = -1 ENOENT (No such file)'
    first = '1 execve("/bin/python", ["python"], 0x1 /* 3 vars */) = 0'
    for lines, leaks in (([first, missing, missing], 0), ([first, missing, first], 1)):
        assert len(judge(lines, asked=Path("/asked"), folder=Path("/")).leaks) == leaks


def test_what_is_written_where_asked_is_named() -> None:
    lines = [_AT.format(r"/asked/\303\244\n.png", "O_WRONLY|O_CREAT"), '1 unlink("/asked/a") = 0']
    trace = judge(lines, asked=Path("/asked"), folder=Path("/"))
    assert trace.written == ("/asked/ä\n.png", "/asked/a")


def _told(arguments: list[str]) -> tuple[int, str]:
    into = io.StringIO()
    status = command.main(arguments, Console(file=into, width=200))
    return status, into.getvalue()


def test_the_command_says_when_it_cannot_check(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert _told([str(tmp_path / "gone.jpg")])[0] == command.UNCHECKED
    monkeypatch.setenv("PATH", str(tmp_path))
    status, told = _told([])
    assert status == command.UNCHECKED
    assert "not checked: there is no strace here" in told


@pytest.mark.parametrize(
    ("missed", "leaks", "alone", "status"),
    [
        ([], (), "", command.KEPT),
        (["a socket"], (), "", command.BROKEN),
        ([], ("the network: socket(AF_INET)",), "", command.BROKEN),
        ([], (), "other faces", command.BROKEN),
    ],
)
def test_the_command_fails_when_a_promise_is_broken(
    monkeypatch: pytest.MonkeyPatch,
    missed: list[str],
    leaks: tuple[str, ...],
    alone: str,
    status: int,
) -> None:
    trace = Trace(7, 5, (), leaks, "")
    monkeypatch.setattr(check, "unseen", lambda *_: missed)
    monkeypatch.setattr(check, "traced_session", lambda *_: trace)
    monkeypatch.setattr(check, "session_without_network", lambda *_: alone)
    found, told = _told([])
    assert found == status
    assert ("BROKEN" in told) == (status == command.BROKEN)
    assert all(leak in told for leak in leaks)


def _python(code: str, **variables: str) -> str:
    cleared = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env=cleared | variables,
    )
    return done.stdout.strip()


def test_onnxruntime_is_told_to_send_nothing_before_it_is_imported() -> None:
    code = """
import os, sys
class Watch:
    def find_spec(self, name, *_):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Watch())
import fer_sdk.models.session
"""
    assert _python(code) == "1"
    assert _python(code, ORT_DISABLE_TELEMETRY="0") == "0"


def test_no_sound_system_is_opened() -> None:
    if refusal(installed_version()):
        pytest.skip("no mediapipe that is used here")
    code = """
import sys
from fer_sdk.detectors.mediapipe import MediaPipeDetector
MediaPipeDetector().close()
print("sounddevice" in sys.modules, "mediapipe" in sys.modules)
"""
    assert _python(code) == "False True"
