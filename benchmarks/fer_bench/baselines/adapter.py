"""What a baseline must offer to be measured."""

from __future__ import annotations

import contextlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


class UnavailableError(Exception):
    """The baseline cannot run here; says why, and what would help where anything does."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a baseline is asked to do.

    Attributes:
        threads: how many it should use; None leaves it alone.
        image: BGR ``[H, W, 3]`` for a package.
        squares: the faces of ``image`` as (x, y, side), for packages that find none themselves.
        faces: uint8 gray ``[N, S, S]`` for a runtime.
        model: the model file for a runtime.
        options: what else the catalogue says.
    """

    threads: int | None
    image: Image | None = None
    squares: Sequence[tuple[int, int, int]] = ()
    faces: Image | None = None
    model: Path | None = None
    options: Mapping[str, str] = field(default_factory=dict)


class Baseline(ABC):
    """A package or runtime that is open and has its task.

    Each module's ``Adapter`` is one; opening it raises ``UnavailableError`` where it cannot run.

    Attributes:
        version: its own version, and what else tells its speed.
    """

    version: str

    @abstractmethod
    def run(self) -> object:
        """Do the task once: this is what is timed."""

    @abstractmethod
    def classify(self, faces: Image) -> list[str | None]:
        """The emotion of gray face crops ``[N, S, S]``, in FER2013's words.

        None where it gives no answer; any other word counts as wrong.
        """

    def faces_in(self, answer: object) -> int | None:
        """How many faces an answer of ``run`` is about; None where that is not known."""
        return len(answer) if isinstance(answer, list) else None


def require(module: str, install: str) -> Any:
    """Import a baseline's module.

    Raises:
        UnavailableError: it is not installed, or fails when it is imported.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module.partition(".")[0]:
            raise UnavailableError(f"not installed (pip install {install})") from error
        raise UnavailableError(f"{module} needs {error.name}, which is not installed") from error
    except Exception as error:
        raise UnavailableError(f"{module} cannot be imported: {error}") from error


def require_weights(folder: Path, pattern: str) -> Path:
    """Find weights that a package would otherwise download.

    Raises:
        UnavailableError: they are not there.
    """
    found = sorted(folder.expanduser().glob(pattern))
    if not found:
        raise UnavailableError(
            f"its weights are not here and it may not download them: put {pattern} into {folder}"
        )
    return found[0]


def torch_before_tensorflow() -> None:
    """Import torchvision where it is installed: after TensorFlow it may crash the process."""
    with contextlib.suppress(UnavailableError):
        require("torchvision", "torchvision")


def limit_onnxruntime(threads: int | None) -> None:
    """Make every session that is opened from now on use so many threads; None leaves it alone.

    The packages offer no setting for it, and onnxruntime reads none from the environment.
    """
    if threads is None:
        return
    ort = require("onnxruntime", "onnxruntime")
    session: Any = ort.InferenceSession

    class Limited(session):  # type: ignore[misc]
        def __init__(
            self, model: object, sess_options: Any = None, *others: Any, **named: Any
        ) -> None:
            options = sess_options or ort.SessionOptions()
            options.intra_op_num_threads = threads
            super().__init__(model, options, *others, **named)

    ort.InferenceSession = Limited


FER2013_WORDS: Mapping[str, str] = {
    "anger": "angry",
    "angry": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "happiness": "happy",
    "happy": "happy",
    "sadness": "sad",
    "sad": "sad",
    "surprise": "surprise",
    "neutral": "neutral",
}
"""Other people's words for FER2013's emotions."""


def cut(image: Image, squares: Sequence[tuple[int, int, int]]) -> list[Image]:
    """The parts of an image inside squares; what lies beyond the image is left out."""
    return [
        np.ascontiguousarray(image[max(y, 0) : y + side, max(x, 0) : x + side])
        for x, y, side in squares
    ]


def as_colour(gray: Image) -> Image:
    """A gray face ``[S, S]`` as three equal channels ``[S, S, 3]``."""
    return np.ascontiguousarray(np.repeat(gray[..., None], 3, axis=2))
