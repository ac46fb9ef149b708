"""What many tests share: where the data is, and a reason to skip where it is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fer_training.faces import FaceSet, read_faces

ROOT = Path(__file__).resolve().parent.parent


def _found(variable: str, beside: str, what: str) -> Path:
    path = Path(os.environ.get(variable) or ROOT.parent / "shared" / beside)
    if not path.exists():
        pytest.skip(f"{what} is not here: set {variable} to where it is")
    return path


@pytest.fixture(scope="session")
def fer2013_path() -> Path:
    """``fer2013.csv.gz``; use together with the marker ``data``."""
    path = _found("FER_DATA", "data/fer2013", "FER2013") / "fer2013.csv.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here: FER_DATA must name the folder that holds it")
    return path


@pytest.fixture(scope="session")
def fer2013(fer2013_path: Path) -> FaceSet:
    """All of FER2013, read once."""
    return read_faces(fer2013_path)


@pytest.fixture(scope="session")
def landmarker_bundle() -> Path:
    """``face_landmarker.task``; use together with the marker ``landmarker``."""
    return _found("FER_LANDMARKER", "models/face_landmarker.task", "MediaPipe's landmarker bundle")


@pytest.fixture(scope="session")
def example_photo() -> Path:
    """A public domain portrait with one face."""
    return ROOT / "examples" / "astronaut.jpg"
