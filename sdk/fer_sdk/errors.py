"""Every error that the SDK raises on purpose. Each is also the built-in that it refines."""

from __future__ import annotations


class FerError(Exception):
    """Base of all errors of fer-sdk."""


class SettingError(FerError, ValueError):
    """A setting is not one of those that there are."""


class InstallationError(FerError, ImportError):
    """A package that the SDK needs is missing, or lacks its files."""


class ImageError(FerError, ValueError):
    """An image cannot be read or is not something that holds a picture."""


class VideoError(FerError, ValueError):
    """A video cannot be read, or what was made of it cannot be written."""


class ModelError(FerError, ValueError):
    """A model file is missing, damaged, or does not keep the model contract."""


class DetectorError(FerError, RuntimeError):
    """A face detector cannot be used here, or gave something that is not a list of detections."""


class DeviceUnavailableError(FerError, RuntimeError):
    """The device that was asked for by name is not what would run."""


class PipelineClosedError(FerError, RuntimeError):
    """The pipeline was used after ``close()``."""


class DataError(FerError, ValueError):
    """A data set cannot be read or does not hold what is needed."""


class ParityError(FerError, ValueError):
    """An exported model does not give what the model that it was made from gives."""
