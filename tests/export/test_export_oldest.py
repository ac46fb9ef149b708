"""The shipped files with the oldest onnxruntime that the package allows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from fer_sdk.models import packaged as bundle
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.landmarks import LandmarksModel

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
import numpy as np
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.landmarks import LandmarksModel
from fer_sdk.models.session import version
faces, folder = np.load(sys.argv[1]), sys.argv[2]
for name in sys.argv[3:]:
    if name.startswith("emotion"):
        given = EmotionModel.from_file(f"{folder}/{name}", device="cpu").scores(faces)
    else:
        given = LandmarksModel.from_file(f"{folder}/{name}", device="cpu").landmarks(faces)
    np.save(f"{sys.argv[1]}.{name}.npy", given)
print(version())
"""


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The oldest version that pyproject.toml allows, and a folder with it alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (bound,) = (
        match[1]
        for line in project["dependencies"]
        if (match := re.match(r"onnxruntime>=([0-9.]+)", line))
    )
    folder = tmp_path_factory.mktemp("oldest")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    done = subprocess.run(
        [*command, str(folder), "--only-binary=:all:", f"onnxruntime=={bound}.*"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode != 0:
        pytest.skip(f"onnxruntime {bound} cannot be installed here: {done.stderr.strip()[-300:]}")
    return bound, folder


def test_bundled_files_give_the_same(oldest: tuple[str, Path], tmp_path: Path) -> None:
    bound, folder = oldest
    models = Path(str(bundle.bundled()))
    names = sorted(file.name for file in models.glob("*.*.onnx"))
    if not names:
        pytest.skip("no model is bundled yet")
    faces = np.random.default_rng(0).integers(0, 256, (12, 48, 48), np.uint8)
    faces[0], faces[1] = 0, 255
    np.save(tmp_path / "faces.npy", faces)
    paths = [str(folder), *(path for path in sys.path if path)]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "faces.npy"), str(models), *names],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(f"{bound}.")
    for name in names:
        path = models / name
        now = (
            EmotionModel.from_file(path, device="cpu").scores(faces)
            if name.startswith("emotion")
            else LandmarksModel.from_file(path, device="cpu").landmarks(faces)
        )
        then = np.load(tmp_path / f"faces.npy.{name}.npy")
        # Integers are the same in all versions; float layers may be summed in another order.
        np.testing.assert_allclose(then, now, atol=1e-4, err_msg=name)
        assert np.ptp(now, axis=0).max() > 0.01
