"""Coverage-guided fuzzing of one target, with atheris.

    python -m venv venv-fuzz && venv-fuzz/bin/pip install . atheris
    venv-fuzz/bin/python tests/fuzz/fuzz.py decode -max_total_time=1200

The targets are those of ``targets.py``; what follows the name goes to libFuzzer. It starts from the
files in ``cases/NAME`` and those that earlier runs kept in ``learned/NAME.zip``, and writes what it
learns into ``corpus/NAME``, which is not committed:

    venv-fuzz/bin/python tests/fuzz/fuzz.py decode keep

brings that down to the fewest files that reach the same lines, and keeps them. What breaks a target
is written to ``crash-...`` in the current folder: once fixed, make it as small as it gets
(``-minimize_crash=1``) and add it to ``cases/NAME``. ``test_fuzz_cases.py`` runs all of these.

Under atheris each run of ``blazeface`` keeps seven kilobytes, which it does not without: after a
quarter of a million libFuzzer ends it as out of memory. ``-rss_limit_mb=0`` lets it go on.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import atheris
import cv2

with atheris.instrument_imports(include=["fer_sdk"]):
    import targets

_HERE = Path(__file__).resolve().parent


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in targets.TARGETS:
        sys.exit(f"usage: fuzz.py {{{','.join(targets.TARGETS)}}} [keep | libFuzzer's options]")
    name, options = sys.argv[1], sys.argv[2:]
    corpus, cases = _HERE / "corpus" / name, _HERE / "cases" / name
    learned = _HERE / "learned" / f"{name}.zip"
    corpus.mkdir(parents=True, exist_ok=True)
    if learned.exists():
        with ZipFile(learned) as files:
            files.extractall(corpus)
    if options == ["keep"]:
        _keep(name, cases, learned)
        return
    cv2.setNumThreads(1)
    # libFuzzer starts itself again by its first argument, which it hands to a shell.
    again = shlex.join([sys.executable, __file__, name])
    atheris.Setup([again, "-timeout=30", *options, str(corpus), str(cases)], targets.TARGETS[name])
    atheris.Fuzz()


def _keep(name: str, cases: Path, learned: Path) -> None:
    with tempfile.TemporaryDirectory() as fewest:
        # libFuzzer ends the process when it has merged.
        merge = [sys.executable, __file__, name, "-merge=1", fewest]
        subprocess.run(merge, check=True)
        known = {case.read_bytes() for case in cases.iterdir()}
        kept = [
            content
            for path in Path(fewest).iterdir()
            if (content := path.read_bytes()) not in known
        ]
    learned.parent.mkdir(exist_ok=True)
    with ZipFile(learned, "w", ZIP_DEFLATED) as files:
        for number, content in enumerate(sorted(kept)):
            # Without the date, so that the same files make the same archive.
            files.writestr(ZipInfo(f"{number:03}"), content, ZIP_DEFLATED)
    sys.stdout.write(f"{learned}: {len(kept)} files of {sum(map(len, kept))} bytes\n")


if __name__ == "__main__":
    main()
