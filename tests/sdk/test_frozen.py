"""An app that PyInstaller froze: it holds the models and finds faces."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from fer_sdk._pyinstaller import hook_dirs

ROOT = Path(__file__).resolve().parents[2]
_APP = """
import sys
from fer_sdk import FerPipeline
for detector in ("auto", "blazeface"):
    with FerPipeline(detector=detector, threads=1) as pipeline:
        print(pipeline.info.detector, *(face.emotion for face in pipeline.predict(sys.argv[1])))
"""
# Large packages that others import where they are installed. The app needs none of them.
_WITHOUT = ("torch", "torchvision", "ray", "pandas", "pyarrow", "matplotlib", "scipy", "sklearn")


def test_pyinstaller_finds_the_hook() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pyinstaller40"] == {
        "hook-dirs": f"{hook_dirs.__module__}:{hook_dirs.__name__}"
    }
    assert [path.name for path in Path(*hook_dirs()).glob("hook-*.py")] == ["hook-fer_sdk.py"]


@pytest.mark.skipif(not find_spec("PyInstaller"), reason="PyInstaller is not installed")
@pytest.mark.timeout(900)
def test_a_frozen_app_finds_a_face(tmp_path: Path, example_photo: Path) -> None:
    (tmp_path / "app.py").write_text(_APP)
    excluded = [word for name in _WITHOUT for word in ("--exclude-module", name)]
    hooks = ("--additional-hooks-dir", *hook_dirs())
    build = [sys.executable, "-m", "PyInstaller", "--log-level", "ERROR", *hooks, *excluded]
    subprocess.run([*build, "app.py"], cwd=tmp_path, check=True, capture_output=True)
    app = tmp_path / "dist" / "app" / "app"
    plain = [sys.executable, "app.py"]
    frozen, expected = (
        subprocess.run(
            [*map(str, command), str(example_photo)],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for command in ([app], plain)
    )
    assert frozen == expected
    assert frozen.count("happy") == 2
