"""A baseline in its process, from our side."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fer_bench.baselines.adapter import Image, UnavailableError
from fer_bench.measure.series import Series, StopRule, WarmUp

_WORKER = Path(__file__).with_name("worker.py")
_OPEN_SECONDS = 180.0
_MARGIN_SECONDS = 60.0
_CLASSIFY_SECONDS = 3600.0


class BaselineProcess:
    """A baseline that was opened, to be measured in rounds. Close it, or use it in ``with``."""

    def __init__(
        self,
        adapter: str,
        *,
        threads: int | None,
        image: Image | None = None,
        squares: Sequence[tuple[int, int, int]] = (),
        faces: Image | None = None,
        content: bytes | None = None,
        options: Mapping[str, str] | None = None,
        python: Path | None = None,
    ) -> None:
        """Start the process and open the baseline.

        Args:
            adapter: module of this package that knows the baseline.
            threads: how many it should use; None leaves it alone.
            image: BGR picture for a package.
            squares: the faces in it, as (x, y, side).
            faces: gray crops ``[N, S, S]`` for a runtime.
            content: of a model file, for a runtime.
            options: what else the adapter wants to know.
            python: interpreter that has the baseline; ours by default.

        Raises:
            UnavailableError: it cannot run here.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="fer-bench-")
        # Its messages go to a file: a pipe that nobody reads would stop it.
        self._errors = (Path(self._folder.name) / "stderr").open("w+b")
        try:
            # Without -P this folder's own file names would shadow packages.
            self._process = subprocess.Popen(
                [str(python or sys.executable), "-P", str(_WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                encoding="utf-8",
                env=_environment(threads),
            )
        except OSError as error:
            self._errors.close()
            self._folder.cleanup()
            raise UnavailableError(f"{python}: cannot be started: {error.strerror}") from error
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            opened = self._ask(
                _OPEN_SECONDS,
                do="open",
                adapter=adapter,
                threads=threads,
                image=self._store("image.npy", image),
                squares=[list(square) for square in squares],
                faces=self._store("faces.npy", faces),
                model=self._store("model.onnx", content),
                options=dict(options or {}),
            )
        except BaseException:
            self.close()
            raise
        self.version: str = opened["version"]
        self.faces_found: int | None = None

    def warm_up(self) -> WarmUp:
        """Run until it is stable; afterwards ``faces_found`` is known."""
        done = self._ask(_OPEN_SECONDS, do="warm-up")
        self.faces_found = done["faces"]
        return WarmUp(done["count"], done["first_ms"], done["stable"])

    def measure(self, rule: StopRule, *, settled: bool = False) -> Series:
        """Single runs, timed by the same loop as ours.

        Args:
            rule: when there are enough.
            settled: begin at once, because it ran just before: what has to begin together with
                other processes may not spend its own time on settling.
        """
        limit = rule.time_limit or _CLASSIFY_SECONDS
        done = self._ask(limit + _MARGIN_SECONDS, do="measure", rule=asdict(rule), settled=settled)
        return Series(done["taken"], done["wall"])

    def classify(self, faces: Image) -> list[str | None]:
        """The emotion of each gray crop ``[N, S, S]``."""
        done = self._ask(_CLASSIFY_SECONDS, do="classify", faces=self._store("labelled.npy", faces))
        return list(done["answers"])

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._errors.close()
        self._folder.cleanup()

    def __enter__(self) -> BaselineProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _store(self, name: str, content: Image | bytes | None) -> str | None:
        """Where the other process finds it."""
        path = Path(self._folder.name) / name
        if content is None:
            return None
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.save(path, content)
        return str(path)

    def _read(self) -> None:
        if self._process.stdout is not None:
            for line in self._process.stdout:
                self._answers.put(line)
        self._answers.put("")

    def _ask(self, seconds: float, **asked: object) -> dict[str, Any]:
        try:
            if self._process.stdin is None:
                raise UnavailableError("its process has no standard input")
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=seconds)
        except queue.Empty as error:
            raise UnavailableError(f"it gave no answer in {seconds:.0f} s") from error
        except (BrokenPipeError, OSError) as error:
            raise UnavailableError(self._last_words()) from error
        if not line:
            raise UnavailableError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "unavailable" in answer:
            raise UnavailableError(str(answer["unavailable"]))
        return answer

    def _last_words(self) -> str:
        code = self._process.wait(_MARGIN_SECONDS)
        how = f"with {code}" if code >= 0 else f"by signal {-code}"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"its process ended {how}: {lines[-1] if lines else 'without a message'}"


def _environment(threads: int | None) -> dict[str, str]:
    """Ours, with what the common libraries read for their number of threads."""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    if threads is not None:
        for name in (
            "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "MKL_NUM_THREADS",
            "TF_NUM_INTRAOP_THREADS",
        ):
            environment[name] = str(threads)
    return environment
