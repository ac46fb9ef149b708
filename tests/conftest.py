"""What many tests share: where the data is, and a reason to skip where it is not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fer_training.data.faces import FaceSet

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
    read_faces = pytest.importorskip("fer_training.data.faces").read_faces
    faces: FaceSet = read_faces(fer2013_path)
    return faces


@pytest.fixture(scope="session")
def photos() -> Path:
    """``bbx_gt.txt`` and ``images``; use together with the marker ``photos``."""
    folder = _found("FER_PHOTOS", "data/photos", "the folder of annotated photos")
    if not (folder / "bbx_gt.txt").is_file():
        pytest.skip(
            f"{folder}/bbx_gt.txt is not here: FER_PHOTOS must name the folder that holds it"
        )
    return folder


@pytest.fixture(scope="session")
def landmarker_bundle() -> Path:
    """``face_landmarker.task``; use together with the marker ``landmarker``."""
    return _found("FER_LANDMARKER", "models/face_landmarker.task", "MediaPipe's landmarker bundle")


@pytest.fixture(scope="session")
def example_photo() -> Path:
    """A public domain portrait with one face."""
    return ROOT / "examples" / "astronaut.jpg"
