"""Run a whole session on your photos, and check that it makes no network call. Linux only.

    python -m fer_sdk.privacy_check [PHOTO...]

``strace`` records the network calls of all threads and child processes, failed ones too. Then the
session runs again in a network namespace without any interface (``unshare -rn``), and must find the
same faces. Exit status: 0 no network call, 1 there was one or the faces differ, 2 not checked.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
from rich.console import Console

from fer_sdk import DetectorError, FerPipeline, __version__, annotate, load_image
from fer_sdk.detectors import DetectorName
from fer_sdk.output.atomic import save_image
from fer_sdk.video.write import open_video

KEPT, BROKEN, NOT_CHECKED = 0, 1, 2
DETECTORS: tuple[DetectorName | None, ...] = (*get_args(DetectorName), None)
# io_uring could use the network without any of the calls that are named for it.
_STRACE = ("strace", "-f", "-qq", "-e", "trace=%network,?io_uring_setup")
_ALONE = ("unshare", "-rn")
_CONNECT = "import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
_LIMIT = 600.0
_open_at_exit: list[FerPipeline] = []


def run_session(folder: Path, photos: Sequence[Path]) -> list[dict[str, object]]:
    """Use all of the SDK: each detector, images, batches, frames, and files written and read.

    A pipeline stays open, so that what happens when the interpreter ends is seen too.

    Args:
        folder: all files are written here.
        photos: without any, a noise image is used.

    Returns:
        The faces that each detector found, ready for ``json.dumps``.
    """
    if not photos:
        photos = [folder / "noise.png"]
        noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
        save_image(noise, photos[0])
    results: list[dict[str, object]] = []
    for detector in DETECTORS:
        try:
            pipeline = FerPipeline(detector=detector)
        except DetectorError as error:
            results.append({"detector": detector, "refused": str(error)})
            continue
        with pipeline:
            batch = pipeline.predict_batch(photos, on_error="raise")
            faces = [pipeline.predict(photo) for photo in photos]
            for photo, found in zip(photos, faces, strict=True):
                drawn = annotate(load_image(photo), found, color="rgb")
                save_image(drawn, folder / f"annotated-{photo.stem}.jpg")
            pixels, video = load_image(photos[0]), folder / f"{photos[0].stem}.mp4"
            with open_video(video, 25) as write:
                for frame in pipeline.stream([pixels] * 3, color="rgb", fps=25):
                    write(frame.time, annotate(pixels, frame.faces, color="rgb")[..., ::-1])
            frames = [frame.to_dict() for frame in pipeline.stream(video)]
        one, many = ([[face.to_dict() for face in of] for of in each] for each in (faces, batch))
        results.append({"detector": detector, "faces": one, "batch": many, "frames": frames})
    _open_at_exit.append(FerPipeline())
    _open_at_exit[0].predict(photos[0])
    return results


def main(arguments: Sequence[str]) -> int:
    """Run both checks, print what was seen, and return the exit status."""
    say = partial(Console().print, markup=False, highlight=False, soft_wrap=True)
    connect = (sys.executable, "-c", _CONNECT)
    session = (sys.executable, "-m", "fer_sdk.privacy_check", "--session")
    try:
        with tempfile.TemporaryDirectory() as name:
            log = Path(name, "strace.log")
            # Both checks must be able to fail.
            _run((*_STRACE, "-o", str(log), *connect))
            seen = "connect(" in log.read_text(errors="replace")
            unreachable = "Network is unreachable" in _run((*_ALONE, *connect)).stderr
            if not (seen and unreachable):
                say("not checked: strace or network namespaces are not allowed here")
                return NOT_CHECKED
            watched = _run((*_STRACE, "-o", str(log), *session, name, *arguments))
            calls = [line for line in log.read_text(errors="replace").splitlines() if "(" in line]
            alone = _run((*_ALONE, *session, name, *arguments))
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"not checked: {error}. Install strace and util-linux (Linux only)")
        return NOT_CHECKED
    if watched.returncode or alone.returncode:
        say(f"not checked: the session failed: {(watched.stderr + alone.stderr)[-800:]}")
        return NOT_CHECKED
    # A pair of sockets joins two threads of one process.
    calls = [line for line in calls if "socketpair(" not in line]
    names = [str(detector or "no detector") for detector in DETECTORS]
    say(f"fer-sdk {__version__}, a session with {', '.join(names)}:")
    say(f"{len(calls)} network calls", *calls, sep="\n  ")
    same = watched.stdout == alone.stdout
    say(f"without a network, {'the same' if same else 'OTHER'} faces are found")
    return BROKEN if calls or not same else KEPT


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT, check=False)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--session"]:
        results = run_session(Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
        sys.stdout.write(json.dumps(results))
    else:
        sys.exit(main(sys.argv[1:]))
