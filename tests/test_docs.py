"""The documentation builds without a warning, and its code runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from markdown_it import MarkdownIt

import videos

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _code(page: Path) -> list[str]:
    """Code blocks marked ``python``; blocks that need more than a photo are marked ``py``."""
    tokens = MarkdownIt().parse(page.read_text("utf-8"))
    return [token.content for token in tokens if token.type == "fence" and token.info == "python"]


@pytest.fixture
def folder(tmp_path: Path, example_photo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages use: a photo, and a video in which it moves."""
    shutil.copy(example_photo, tmp_path / "photo.jpg")
    photo = cv2.imread(str(example_photo))
    videos.write(tmp_path / "talk.mp4", (np.roll(photo, 4 * i, axis=1) for i in range(6)), fps=10)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "page", [page for page in PAGES if _code(page)], ids=lambda page: page.stem
)
def test_the_code_of_a_page_runs(page: Path, folder: Path) -> None:
    photo = cv2.imread(str(folder / "photo.jpg"))
    given = {"image": photo, "images": [photo], "__name__": page.stem}
    for code in _code(page):
        exec(compile(code, str(page), "exec"), given)


def test_the_pages_with_code_are_found() -> None:
    assert {"README", "index", "video", "devices"} <= {page.stem for page in PAGES if _code(page)}


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="needs the docs extra")
    pytest.importorskip("mkdocstrings", reason="needs the docs extra")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "site" / "reference" / "pipeline" / "index.html").read_text("utf-8")
    assert "predict_batch" in reference


def test_the_table_of_what_is_tested_has_a_row_for_all_that_is_tried() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+) \| [\d,]+ \|$", page, re.MULTILINE)
    tests = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py")]
    # Of an f-string, the part before the first placeholder.
    tried = {text for test in tests for text in re.findall(r'\btried\(\s*f?"([^"{]+)', test)}
    assert len(tried) > 40
    again = "run tests/checks.py --write docs/guarantees.md"
    assert not [text for text in tried if not any(row.startswith(text) for row in rows)], again
    assert not [row for row in rows if not any(row.startswith(text) for text in tried)], again
