"""Nothing leaves the device: system calls, a network that is not there, and what is switched off.

Where a check cannot be made it is skipped with the reason, never passed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from checks import tried
from fer_sdk import privacy_check
from fer_sdk.detectors.mediapipe import installed_version, refusal
from system_calls import LEAKS, Rooms, Trace, alone, judge, traced

pytestmark = pytest.mark.timeout(900)


def _session(rooms: Rooms, photo: Path) -> list[str]:
    module = ("-m", "fer_sdk.privacy_check", "--session")
    return [sys.executable, *module, str(rooms.asked), str(photo)]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, example_photo: Path) -> tuple[Trace, Rooms]:
    rooms = Rooms.below(tmp_path_factory.mktemp("session"))
    return traced(_session(rooms, example_photo), rooms), rooms


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_made_on_purpose_is_seen(tmp_path: Path, name: str) -> None:
    code, shown = LEAKS[name]
    trace = traced([sys.executable, "-c", code], Rooms.below(tmp_path))
    assert [leak for leak in trace.leaks if leak.startswith(shown)]
    tried("leaks made on purpose, to see that they are caught")


def test_a_program_that_does_nothing_has_no_leaks(tmp_path: Path) -> None:
    trace = traced([sys.executable, "-c", "print('done')"], Rooms.below(tmp_path))
    assert (trace.leaks, trace.written, trace.output) == ((), (), "done\n")


def test_a_whole_session_leaks_nothing(session: tuple[Trace, Rooms]) -> None:
    trace, rooms = session
    assert trace.leaks == ()
    # It did run: files were opened and the pictures that were asked for are there.
    assert trace.files > 100
    annotated = rooms.asked / "annotated-astronaut.jpg"
    assert annotated.stat().st_size > 10_000
    video = rooms.asked / "astronaut.mp4"
    assert video.stat().st_size > 10_000
    assert str(annotated) in trace.written
    assert sorted(rooms.asked.iterdir()) == [annotated, video]
    tried("system calls of whole sessions, none of them a socket or a name looked up", trace.calls)


def test_the_session_uses_every_detector(session: tuple[Trace, Rooms]) -> None:
    results = json.loads(session[0].output)
    assert [result["detector"] for result in results] == [*privacy_check.DETECTORS]
    for result in results:
        if result["detector"] == "mediapipe" and refusal(installed_version()):
            assert "mediapipe" in result["refused"]
            continue
        assert [len(faces) for faces in result["faces"]] == [1]
        assert result["batch"] == result["faces"]
        assert [len(frame["faces"]) for frame in result["frames"]] == [1, 1, 1]
        tried("detectors in a traced session")


def test_without_a_network_everything_is_the_same(
    session: tuple[Trace, Rooms], tmp_path: Path, example_photo: Path
) -> None:
    rooms = Rooms.below(tmp_path)
    assert alone(_session(rooms, example_photo), rooms) == session[0].output
    tried("whole sessions in a network namespace without an interface")


def test_the_network_without_an_interface_has_none(tmp_path: Path) -> None:
    if shutil.which("ip") is None:
        pytest.skip("no iproute2")
    output = alone(["ip", "-brief", "link"], Rooms.below(tmp_path))
    # The one that every namespace is born with, which nobody has switched on.
    assert [line.split()[:2] for line in output.splitlines()] == [["lo", "DOWN"]]


def test_the_command_line_leaks_nothing(tmp_path: Path, example_photo: Path) -> None:
    rooms = Rooms.below(tmp_path)
    saved = rooms.asked / "saved.png"
    arguments = ["predict", str(example_photo), "--json", "--save", str(saved)]
    trace = traced([sys.executable, "-m", "fer_sdk", *arguments], rooms)
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


def test_the_command_finds_nothing_and_says_so(
    example_photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Both tools work here, or this test is skipped.
    alone(["true"], Rooms.below(tmp_path))
    (tmp_path / "two").mkdir()
    traced(["true"], Rooms.below(tmp_path / "two"))
    command = [sys.executable, "-m", "fer_sdk.privacy_check", str(example_photo)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == privacy_check.KEPT, done.stdout
    assert "\n0 network calls\n" in done.stdout
    assert "without a network, the same faces are found" in done.stdout


def test_the_command_says_when_it_cannot_check(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert privacy_check.main([str(tmp_path / "gone.jpg")]) == privacy_check.NOT_CHECKED
    assert "gone.jpg" in capsys.readouterr().out
    monkeypatch.setenv("PATH", str(tmp_path))
    assert privacy_check.main([]) == privacy_check.NOT_CHECKED
    assert "Install strace" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("call", "faces", "status"),
    [
        ("", "[]", privacy_check.KEPT),
        ("7 socketpair(AF_UNIX, SOCK_STREAM, 0, [3, 4]) = 0", "[]", privacy_check.KEPT),
        ("7 socket(AF_INET, SOCK_DGRAM, 0) = 3", "[]", privacy_check.BROKEN),
        ("7 io_uring_setup(8, {flags=0}) = 4", "[]", privacy_check.BROKEN),
        ("", "other faces", privacy_check.BROKEN),
    ],
)
def test_the_command_fails_when_a_promise_is_broken(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    call: str,
    faces: str,
    status: int,
) -> None:
    def run(command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        whole = "--session" in command
        if "-o" in command:
            log = Path(command[command.index("-o") + 1])
            log.write_text(call if whole else "7 connect(3, {sa_family=AF_INET}) = -1")
        output = faces if whole and command[0] == "unshare" else "[]"
        return subprocess.CompletedProcess(command, 0, output, "Network is unreachable")

    monkeypatch.setattr(privacy_check, "_run", run)
    assert privacy_check.main([]) == status
    printed = capsys.readouterr().out
    assert ("OTHER" in printed) == (faces != "[]")
    assert call in printed or status == privacy_check.KEPT


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
