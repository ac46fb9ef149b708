"""Facial expression recognition that runs on the device.

    from fer_sdk import FerPipeline

    with FerPipeline() as pipeline:
        for face in pipeline.predict("photo.jpg"):
            print(face.emotion, face.confidence, face.box)

Nothing is downloaded and nothing is sent. Importing the package loads nothing heavy: each name
below brings what it needs when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fer_sdk.detectors.base import Detection, Detector
    from fer_sdk.errors import (
        DataError,
        DetectorError,
        DeviceUnavailableError,
        FerError,
        ImageError,
        InstallationError,
        ModelError,
        ParityError,
        PipelineClosedError,
        SettingError,
        VideoError,
    )
    from fer_sdk.image.load import load_image
    from fer_sdk.output.draw import annotate
    from fer_sdk.output.interop import to_dataframe, to_supervision
    from fer_sdk.pipeline import FerPipeline, ModelInfo, PipelineInfo
    from fer_sdk.stream import Frame
    from fer_sdk.types import LANDMARKS, Box, Face, Point

__all__ = [
    "LANDMARKS",
    "Box",
    "DataError",
    "Detection",
    "Detector",
    "DetectorError",
    "DeviceUnavailableError",
    "Face",
    "FerError",
    "FerPipeline",
    "Frame",
    "ImageError",
    "InstallationError",
    "ModelError",
    "ModelInfo",
    "ParityError",
    "PipelineClosedError",
    "PipelineInfo",
    "Point",
    "SettingError",
    "VideoError",
    "__version__",
    "annotate",
    "load_image",
    "to_dataframe",
    "to_supervision",
]

_HOME = {
    "FerPipeline": "pipeline",
    "ModelInfo": "pipeline",
    "PipelineInfo": "pipeline",
    "Box": "types",
    "Face": "types",
    "Frame": "stream",
    "LANDMARKS": "types",
    "Point": "types",
    "Detection": "detectors.base",
    "Detector": "detectors.base",
    "annotate": "output.draw",
    "load_image": "image.load",
    "to_dataframe": "output.interop",
    "to_supervision": "output.interop",
} | {name: "errors" for name in __all__ if name.endswith("Error")}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value: object = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    except (ImportError, AttributeError) as error:
        from fer_sdk.diagnostics import incomplete
        from fer_sdk.errors import InstallationError

        if (reason := incomplete()) is not None:
            raise InstallationError(reason) from error
        raise
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
