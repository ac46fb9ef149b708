"""The process in which a baseline runs. Started as a file, by an interpreter that may not be ours.

It reads one JSON object a line from standard input and answers each with one line:
``open`` (adapter and task), ``warm-up``, ``measure`` (a stop rule), ``classify`` (a file of faces).
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn, TextIO

_AT_ONCE = 64
_PACKAGE = Path(__file__).resolve().parent.parent


def _offline(*_: object) -> NoReturn:
    raise OSError("fer-bench runs everything offline")


def _import_fer_bench() -> None:
    """Make this ``fer_bench`` importable, whatever the interpreter has installed."""
    spec = importlib.util.spec_from_file_location(
        "fer_bench", _PACKAGE / "__init__.py", submodule_search_locations=[str(_PACKAGE)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{_PACKAGE} is not a package")
    module = importlib.util.module_from_spec(spec)
    sys.modules["fer_bench"] = module
    spec.loader.exec_module(module)


class _Worker:
    def __init__(self) -> None:
        from fer_bench.measure.series import SystemClock

        self._clock = SystemClock()
        self._baseline: Any = None

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Do what a line asks."""
        if asked["do"] == "open":
            return self._open(asked)
        if asked["do"] == "warm-up":
            return self._warm_up()
        if asked["do"] == "measure":
            return self._measure(asked["rule"], asked["settled"])
        return self._classify(asked["faces"])

    def _open(self, asked: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        from fer_bench.baselines.adapter import Task

        def array(name: str) -> Any:
            return np.load(asked[name]) if asked.get(name) else None

        task = Task(
            threads=asked.get("threads"),
            image=array("image"),
            squares=[(x, y, side) for x, y, side in asked.get("squares", ())],
            faces=array("faces"),
            model=Path(asked["model"]) if asked.get("model") else None,
            options=asked.get("options", {}),
        )
        module = importlib.import_module(f"fer_bench.baselines.{asked['adapter']}")
        self._baseline = module.Adapter(task)
        return {"version": self._baseline.version}

    def _warm_up(self) -> dict[str, Any]:
        from fer_bench.measure.series import warm_up

        faces = self._baseline.faces_in(self._baseline.run())
        done = warm_up(self._baseline.run, self._clock)
        return {
            "faces": faces,
            "count": done.count,
            "first_ms": done.first_ms,
            "stable": done.stable,
        }

    def _measure(self, rule: dict[str, Any], settled: bool) -> dict[str, Any]:
        from fer_bench.measure.series import StopRule, collect, settle, timed

        if not settled:
            settle(self._baseline.run)
        start = self._clock.now_ns()
        taken = collect(timed(self._baseline.run, self._clock), StopRule(**rule), self._clock)
        return {"taken": taken, "wall": self._clock.now_ns() - start}

    def _classify(self, path: str) -> dict[str, Any]:
        import numpy as np

        faces = np.load(path)
        answers: list[str | None] = []
        for at in range(0, len(faces), _AT_ONCE):
            answers += self._baseline.classify(faces[at : at + _AT_ONCE])
        return {"answers": answers}


def _reply(out: TextIO, reply: dict[str, Any]) -> None:
    out.write(json.dumps(reply) + "\n")
    out.flush()


def main() -> None:
    """Answer until standard input ends."""
    # What a baseline prints must not get between the answers.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    socket.socket.connect = _offline  # type: ignore[method-assign]
    socket.socket.connect_ex = _offline  # type: ignore[method-assign]
    _import_fer_bench()
    from fer_bench.baselines.adapter import UnavailableError

    worker = _Worker()
    for line in sys.stdin:
        try:
            _reply(out, worker.answer(json.loads(line)))
        except UnavailableError as error:
            _reply(out, {"unavailable": str(error)})
        # A baseline may fail in any way; the run goes on without it.
        except Exception as error:  # noqa: BLE001
            _reply(out, {"unavailable": f"it failed: {type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
