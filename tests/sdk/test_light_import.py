"""``import fer_sdk`` and ``fer --help`` load nothing heavy; each name brings what it needs."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys

import pytest

import fer_sdk

HEAVY = ("numpy", "cv2", "mediapipe", "onnxruntime", "torch", "PIL", "rich", "typer")


def _loaded(code: str) -> set[str]:
    """Which heavy packages a new interpreter has loaded after running some code."""
    told = f"{code}\nimport json, sys\nprint(json.dumps([n for n in {HEAVY} if n in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stderr == ""
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import fer_sdk",
        "import fer_sdk; fer_sdk.__version__; dir(fer_sdk)",
        "from fer_sdk import Box, Face, FerError, ImageError, LANDMARKS, Point",
    ],
)
def test_importing_the_package_loads_nothing_heavy(code: str) -> None:
    assert _loaded(code) == set()


def test_images_need_neither_models_nor_detectors() -> None:
    assert _loaded("from fer_sdk import annotate, load_image") == {"numpy", "cv2"}


def test_pillow_is_loaded_only_for_the_files_that_it_decodes() -> None:
    told = (
        "import cv2, numpy as np; from fer_sdk import load_image"
        "\narray = np.zeros((64, 64, 3), 'uint8')"
        "\nfor image in (array, *(cv2.imencode(s, array)[1].tobytes() for s in {})):"
        "\n    load_image(image)"
    )
    fast = ("'.jpg'", "'.png'", "'.webp'", "'.jp2'")
    assert _loaded(told.format(f"[{', '.join(fast)}]")) == {"numpy", "cv2"}
    assert _loaded(told.format("['.bmp']")) == {"numpy", "cv2", "PIL"}


def test_the_pipeline_loads_no_detector_before_it_is_opened() -> None:
    assert _loaded("from fer_sdk import FerPipeline") == {"numpy", "cv2", "onnxruntime"}


def test_the_command_loads_nothing_heavy_before_it_works() -> None:
    for arguments in ("['fer', '--help']", "['fer', 'predict', '--help']", "['fer', '--version']"):
        code = (
            f"import sys\nsys.argv = {arguments}\nfrom fer_sdk.cli import main\n"
            "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
        )
        assert not _loaded(code) & {"numpy", "cv2", "mediapipe", "onnxruntime", "torch"}


def test_every_public_name_is_there() -> None:
    for name in fer_sdk.__all__:
        assert getattr(fer_sdk, name) is not None
        assert name in dir(fer_sdk)
    with pytest.raises(AttributeError, match="module 'fer_sdk' has no attribute 'nothing'"):
        fer_sdk.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_the_version_is_that_of_the_package() -> None:
    try:
        installed = importlib.metadata.version("fer-sdk")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("fer-sdk is run from its sources, not installed")
    assert installed == fer_sdk.__version__
