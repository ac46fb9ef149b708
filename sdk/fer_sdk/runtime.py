"""The one module that imports onnxruntime: sessions, devices, threads."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Literal, get_args

# From 1.29 on onnxruntime's pip builds report usage over the network unless told not to before the
# first import. Whoever set the variable themselves keeps their choice.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from fer_sdk.errors import DeviceUnavailableError, ModelError, SettingError

Device = Literal["auto", "cpu", "cuda"]

_log = logging.getLogger(__name__)
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_ERRORS_ONLY = 3


def usable_cores() -> int:
    """Cores that this process may run on, which in a container is fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_cuda() -> bool:
    """Whether the installed onnxruntime is built for CUDA; whether CUDA opens is another matter."""
    return _PROVIDERS["cuda"] in ort.get_available_providers()


def providers() -> list[str]:
    """What the installed onnxruntime is built for."""
    return list(ort.get_available_providers())


def version() -> str:
    """Version of the installed onnxruntime."""
    return str(ort.__version__)


class Session:
    """An open model with one input and one or more outputs. Safe to run from many threads.

    Attributes:
        provider: the onnxruntime provider that really runs it.
        device: ``"cpu"`` or ``"cuda"``.
        threads: threads that one run uses.
        metadata: the file's ``metadata_props``.
    """

    def __init__(
        self, model: bytes, *, source: str, device: Device = "cpu", threads: int | None = None
    ) -> None:
        """Open a model.

        Args:
            model: the content of an ONNX file.
            source: what to call the file in an error.
            device: where to run; ``"auto"`` takes CUDA where it opens, else the CPU.
            threads: onnxruntime's intra-op threads; None takes ``usable_cores()``.

        Raises:
            ModelError: onnxruntime refuses the file.
            DeviceUnavailableError: the named device is not where the session would run.
            SettingError: no such device, or fewer than one thread.
        """
        if device not in get_args(Device):
            names = ", ".join(f'"{name}"' for name in get_args(Device))
            raise SettingError(f"there is no device {device!r}: use one of {names}")
        if threads is not None and threads < 1:
            raise SettingError(f"threads must be at least 1, or None for a default, not {threads}")
        self.threads = usable_cores() if threads is None else threads
        self._source = source
        wanted = device
        if wanted == "auto":
            wanted = "cuda" if has_cuda() else "cpu"
        elif wanted == "cuda" and not has_cuda():
            raise DeviceUnavailableError(
                'device="cuda" was asked for, but the installed onnxruntime has only '
                f"{', '.join(providers())}: install onnxruntime-gpu in place of "
                'onnxruntime, or use device="cpu"'
            )
        self._session = self._open(model, source, wanted)
        self.provider: str = self._session.get_providers()[0]
        if device == "cuda" and self.provider != _PROVIDERS["cuda"]:
            raise DeviceUnavailableError(
                f'device="cuda" was asked for, but {source} would run on {self.provider}: check '
                "the NVIDIA driver and the CUDA libraries that onnxruntime-gpu needs, or use "
                'device="cpu"'
            )
        if device == "auto" and wanted == "cuda" and self.provider != _PROVIDERS["cuda"]:
            _log.warning("CUDA did not open for %s; it runs on %s", source, self.provider)
        self.device = "cuda" if self.provider == _PROVIDERS["cuda"] else "cpu"
        meta = self._session.get_modelmeta()
        self.metadata: dict[str, str] = dict(meta.custom_metadata_map)

    def _open(self, model: bytes, source: str, device: str) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Several sessions run in series; threads that spin after one steal the cores of the next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        order = [_PROVIDERS["cpu"]] if device == "cpu" else [_PROVIDERS[device], _PROVIDERS["cpu"]]
        try:
            return ort.InferenceSession(model, options, providers=order)
        except Exception as error:
            # onnxruntime raises bare RuntimeErrors and errors of its own that it does not export.
            raise ModelError(f"{source}: onnxruntime cannot open it: {error}") from error

    @property
    def inputs(self) -> list[tuple[str, str, list[int | str | None]]]:
        """Name, onnxruntime type and shape of each input."""
        return [(node.name, node.type, list(node.shape)) for node in self._session.get_inputs()]

    @property
    def outputs(self) -> list[tuple[str, str, list[int | str | None]]]:
        """Name, onnxruntime type and shape of each output."""
        return [(node.name, node.type, list(node.shape)) for node in self._session.get_outputs()]

    def run(self, array: npt.NDArray[Any]) -> list[npt.NDArray[np.float32]]:
        """Every output for one array given as the only input.

        Raises:
            ModelError: onnxruntime fails, for one because the device has no memory left.
        """
        name = self._session.get_inputs()[0].name
        try:
            outputs = self._session.run(None, {name: array})
        except Exception as error:
            raise ModelError(
                f"{self._source}: onnxruntime cannot run it on {array.dtype} {list(array.shape)}: "
                f"{error}"
            ) from error
        return [np.asarray(value) for value in outputs]


def read_model(path: Path) -> bytes:
    """The content of a model file.

    Raises:
        ModelError: it is not there or cannot be read; names the file.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
