"""Counts what the tests try in order to break the SDK's two promises, and how many times.

    python tests/checks.py                            prints a table
    python tests/checks.py --write docs/guarantees.md   and puts it between that page's markers

Tests say what they tried with ``tried``. The exit status is pytest's: 0 where everything held.
"""

from __future__ import annotations

import platform
import sys
from collections import Counter
from pathlib import Path

import pytest

_HERE = Path(__file__).resolve().parent / "sdk"
_FILES = (
    "test_privacy.py",
    "test_odd_inputs.py",
    "test_odd_models.py",
    "test_lifecycle.py",
    "test_fuzz_cases.py",
    "test_image.py",
    "test_model.py",
    "test_stream.py",
    "test_cli_video.py",
)
_START, _END = "<!-- table -->", "<!-- end of table -->"

_tried: Counter[str] = Counter()
_outcomes: Counter[str] = Counter()
_reasons: Counter[str] = Counter()


def tried(what: str, count: int = 1) -> None:
    """Count something that was tried; to be called once it held."""
    _tried[what] += count


def table() -> str:
    """What was tried so far, as Markdown."""
    rows = [f"| {what} | {count:,} |" for what, count in sorted(_tried.items())]
    return "\n".join(["| Tried, and held | Times |", "|---|---:|", *rows])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        _outcomes[report.outcome] += 1
        if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
            _reasons[report.longrepr[2].removeprefix("Skipped: ")] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("what was tried")
    terminalreporter.write_line(table())


def main(arguments: list[str]) -> int:
    page = Path(arguments[1]) if arguments[:1] == ["--write"] and len(arguments) == 2 else None
    if arguments and page is None:
        sys.exit(__doc__)
    files = [str(_HERE / name) for name in _FILES]
    # As the tests import this module, so that there is one of it.
    import checks

    status = int(pytest.main([*files, "-q", "-p", "no:cacheprovider"], plugins=[checks]))
    if page is not None and status == 0:
        _write(page, checks)
    return status


def _write(page: Path, counted: object) -> None:
    outcomes: Counter[str] = counted._outcomes  # type: ignore[attr-defined]
    skipped = [f"- {count} skipped: {why}" for why, count in sorted(counted._reasons.items())]  # type: ignore[attr-defined]
    lines = [
        f"{outcomes['passed']} tests passed, {outcomes['skipped']} were skipped, on Python "
        f"{platform.python_version()} and {platform.system()} {platform.machine()}.",
        "",
        counted.table(),  # type: ignore[attr-defined]
        *(["", *skipped] if skipped else []),
    ]
    before, _, rest = page.read_text(encoding="utf-8").partition(_START)
    after = rest.partition(_END)[2]
    text = "\n".join([before + _START, "", *lines, "", _END + after])
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
