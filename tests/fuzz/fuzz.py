"""Coverage-guided fuzzing of one target, with atheris.

    python -m venv venv-fuzz && venv-fuzz/bin/pip install . atheris
    venv-fuzz/bin/python tests/fuzz/fuzz.py decode -max_total_time=1200

The targets are those of ``targets.py``; what follows the name goes to libFuzzer. It starts from the
files in ``cases/NAME`` and keeps what it learns in ``corpus/NAME``, which is not committed. What
breaks a target is written to ``crash-...`` in the current folder: once fixed, make it as small as
it gets (``-minimize_crash=1``) and add it to ``cases/NAME``, where ``test_fuzz_cases.py`` finds it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris
import cv2

with atheris.instrument_imports(include=["fer_sdk"]):
    import targets

_HERE = Path(__file__).resolve().parent


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in targets.TARGETS:
        sys.exit(f"usage: fuzz.py {{{','.join(targets.TARGETS)}}} [libFuzzer's options]")
    name, options = sys.argv[1], sys.argv[2:]
    cv2.setNumThreads(1)
    corpus = _HERE / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    cases = _HERE / "cases" / name
    atheris.Setup(
        [sys.argv[0], "-timeout=30", *options, str(corpus), str(cases)], targets.TARGETS[name]
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
