"""The one module that imports onnxruntime: opens models and runs them."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import logging
import os
import stat
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# From 1.29 on onnxruntime's pip builds report usage over the network unless told not to before the
# first import. Whoever set the variable themselves keeps their choice.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from fer_sdk.cpu_count import usable_cores
from fer_sdk.errors import DeviceUnavailableError, ModelError, SettingError
from fer_sdk.models.providers import NVIDIA, PROVIDERS, Device, known_device, provider_of

if not hasattr(ort, "InferenceSession"):
    # Removing one of two builds leaves a folder without code, which Python imports all the same.
    raise ImportError("onnxruntime is installed without its files: install it again")

SPINNING = False
"""Whether the threads of a session spin while they wait. Several sessions run in series: threads
that spin after one steal the cores of the next."""

MAX_MODEL_BYTES = 512 * 2**20
"""The largest model file that is read unless told otherwise: many times the largest of ours."""

# onnxruntime reads tensors that lie outside of the file from this folder only. It cannot exist.
_NOWHERE = str(Path(__file__) / "nowhere")
_WARNINGS, _NOTHING = 2, 4
_NUMPY = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}
# It moves quantisation before the max-pool of an int8 ResNet: the same values, but onnxruntime's
# max-pool of bytes takes ten times as long as that of floats, a sixth of the whole model.
_SLOWER_ON_CPU = ["QDQPropagationTransformer"]

_log = logging.getLogger(__name__)


def version() -> str:
    """Version of the installed onnxruntime."""
    return str(ort.__version__)


def providers() -> list[str]:
    """The providers that the installed onnxruntime is built for, by onnxruntime's names."""
    return list(ort.get_available_providers())


def devices() -> list[str]:
    """The names for ``device`` that the installed onnxruntime is built for."""
    built = providers()
    return [device for device, provider in PROVIDERS.items() if provider.name in built]


def has_cuda() -> bool:
    """Whether the installed onnxruntime is built for CUDA; whether CUDA opens is another matter."""
    return "cuda" in devices()


class Session:
    """An open model with one input and one or more outputs. Safe to run from many threads.

    Attributes:
        native: onnxruntime's own session, for what this class does not do, such as IO binding.
        provider: the onnxruntime provider that really runs it.
        device: the name of that: ``"cpu"``, ``"cuda"``, ``"openvino"`` and so on.
        nodes: operations of the model.
        cpu_nodes: those of them that run on the CPU.
        threads: threads that one run uses as far as it runs on the CPU.
        metadata: the file's ``metadata_props``.
        inputs: name, onnxruntime type and shape of each input.
        outputs: the same of each output.
    """

    def __init__(
        self,
        model: bytes,
        *,
        source: str,
        device: Device | str = "cpu",
        threads: int | None = None,
        provider_options: Mapping[str, str] | None = None,
    ) -> None:
        """Open a model.

        Args:
            model: the content of an ONNX file.
            source: what to call the file in an error.
            device: where to run, as ``known_device`` takes it; ``"auto"`` takes CUDA where it
                opens, else the CPU. If you name a device, it is used or an error is raised.
            threads: onnxruntime's intra-op threads; None takes ``usable_cores()``.
            provider_options: onnxruntime's options for the provider of the named device.

        Raises:
            ModelError: the file is damaged, refers to other files, or onnxruntime refuses it.
            DeviceUnavailableError: the named device is not where the session would run.
            SettingError: no such device, fewer than one thread, or options for no named device.
        """
        device = known_device(device)
        if threads is not None and threads < 1:
            raise SettingError(f"threads must be at least 1, or None for a default, not {threads}")
        _check_options(provider_options, device)
        self.threads = usable_cores() if threads is None else threads
        self._source = source
        self._options = dict(provider_options or {})
        if device == "auto":
            self.native, self.device = self._open_best(model)
        else:
            asked = f'device="{device}" was asked for, but '
            self.native, self.device = self._open_named(model, device, asked), device
        self.provider: str = self.native.get_providers()[0]
        self.nodes, self.cpu_nodes = _count_nodes(self.native)
        try:
            meta = self.native.get_modelmeta()
            self.metadata: dict[str, str] = dict(meta.custom_metadata_map)
            self.inputs = [_signature(node) for node in self.native.get_inputs()]
            self.outputs = [_signature(node) for node in self.native.get_outputs()]
        except UnicodeDecodeError as error:
            raise ModelError(f"{source}: damaged: a name in it is not text: {error}") from error
        self._forked = False
        _open_sessions.add(self)

    def _open_best(self, model: bytes) -> tuple[Any, str]:
        if has_cuda():
            try:
                return self._open_named(model, "cuda", asked=""), "cuda"
            except DeviceUnavailableError as error:
                _log.warning("CUDA did not open, the CPU is used: %s", error)
        return self._open(model, "cpu"), "cpu"

    def _open_named(self, model: bytes, device: str, asked: str) -> Any:
        provider = provider_of(device)
        if provider.name not in providers():
            raise DeviceUnavailableError(
                f"{asked}the installed onnxruntime has only {', '.join(providers())}: "
                f'{provider.advice}, or use device="cpu"'
            )
        try:
            native = self._open(model, device)
        except ModelError as error:
            if device == "cpu":
                raise
            # Either the file is no good, which the CPU finds too, or the device is not.
            self._open(model, "cpu")
            options = f" with provider_options={self._options}" if self._options else ""
            raise DeviceUnavailableError(f"{asked}it does not open{options}: {error}") from error
        opened = native.get_providers()[0]
        if opened != provider.name:
            missing = _load_nvidia_libraries() if device in NVIDIA else ""
            raise DeviceUnavailableError(
                f"{asked}{self._source} would run on {opened}: check {provider.needs}"
                f'{f" ({missing})" if missing else ""}. Or use device="cpu"'
            )
        nodes, on_cpu = _count_nodes(native)
        if device != "cpu" and on_cpu and (provider.whole or on_cpu == nodes):
            raise DeviceUnavailableError(
                f"{asked}{on_cpu} of the {nodes} operations of {self._source} would run on the "
                'CPU: use another precision, or device="cpu"'
            )
        return native

    def _open(self, model: bytes, device: str) -> Any:
        """A session of onnxruntime; on the CPU where the provider does not open."""
        provider = provider_of(device)
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        # Whatever goes wrong is raised.
        options.log_severity_level = _NOTHING
        for name, value in (
            ("session.intra_op.allow_spinning", str(int(SPINNING))),
            ("session.record_ep_graph_assignment_info", "1"),
            ("session.model_external_initializers_file_folder_path", _NOWHERE),
        ):
            options.add_session_config_entry(name, value)
        settings = {
            name: value.format(threads=self.threads) for name, value in provider.options.items()
        }
        if device != "cpu":
            settings |= self._options
        if device in NVIDIA:
            _load_nvidia_libraries()
        try:
            with contextlib.nullcontext() if device == "cpu" else _quiet(device):
                # onnxruntime's own fallback prints to stdout and goes on, on the CPU, with whatever
                # failed elsewhere, while it runs too.
                native = ort.InferenceSession(
                    model,
                    options,
                    providers=[(provider.name, settings)],
                    enable_fallback=0,
                    disabled_optimizers=_SLOWER_ON_CPU if device == "cpu" else None,
                )
                if device != "cpu" and native.get_providers()[0] == provider.name:
                    # cuDNN is optional to onnxruntime, and code for a GPU is looked up by kernel:
                    # what is missing of either may show at the first run only.
                    _run_once(native)
        except Exception as error:
            # onnxruntime raises bare RuntimeErrors and errors of its own that it does not export.
            reason = str(error).strip()
            raise ModelError(f"{self._source}: onnxruntime cannot open it: {reason}") from error
        return native

    def run(self, array: npt.NDArray[Any]) -> list[npt.NDArray[np.float32]]:
        """Every output for one array given as the only input.

        Raises:
            ModelError: onnxruntime fails, for one because the device has no memory left, or the
                process was forked after the session was opened.
        """
        if self._forked:
            raise ModelError(
                f"{self._source}: opened before this process was forked, which onnxruntime does "
                "not survive: open it in each process"
            )
        try:
            outputs = self.native.run(None, {self.inputs[0][0]: array})
        except Exception as error:
            raise ModelError(
                f"{self._source}: onnxruntime cannot run it on {array.dtype} {list(array.shape)}: "
                f"{error}"
            ) from error
        return [np.asarray(value) for value in outputs]


_open_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _after_fork() -> None:
    # The threads of a session do not come along, and its destructor would wait for them for ever:
    # it must never run, not even when the interpreter ends.
    for session in list(_open_sessions):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session.native))
        session._forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def read_model(path: Path, *, max_bytes: int = MAX_MODEL_BYTES) -> bytes:
    """The content of a model file.

    Args:
        path: of the file.
        max_bytes: a larger file is refused before it is read.

    Raises:
        ModelError: it is not there, not a file, too large or cannot be read; names the file.
    """
    try:
        # Looked at before it is opened, because opening a named pipe waits for a writer. What the
        # kernel makes up has no size, and reading some of it waits too.
        found = path.stat()
        if stat.S_ISREG(found.st_mode) and 0 < found.st_size <= max_bytes:
            with path.open("rb") as file:
                return file.read(max_bytes)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ModelError(f"{path}: cannot be read: {reason}") from error
    if not stat.S_ISREG(found.st_mode):
        raise ModelError(f"{path}: not a file")
    if not found.st_size:
        raise ModelError(f"{path}: empty")
    raise ModelError(f"{path}: {found.st_size} bytes are more than the {max_bytes} that are read")


@functools.cache
def _load_nvidia_libraries() -> str:
    """Load CUDA and cuDNN out of NVIDIA's pip packages, where no loader looks by itself.

    Returns:
        What could not be loaded, in onnxruntime's words; empty when nothing was missed.
    """
    with contextlib.redirect_stdout(io.StringIO()) as told:
        try:
            ort.preload_dlls()
        except (OSError, RuntimeError) as error:
            return str(error)
    return "; ".join(line for line in told.getvalue().splitlines() if line.startswith("Failed"))


@contextlib.contextmanager
def _quiet(device: str) -> Iterator[None]:
    """Keep what all sessions share of onnxruntime's log quiet while a device is opened.

    It calls it an error when a provider does not open, which our own error says. It does so, too,
    at the first run on CUDA of each batch size, for convolutions that cuDNN has no fused form of
    and runs unfused: there it stays quiet.
    """
    level = _WARNINGS
    ort.set_default_logger_severity(_NOTHING)
    try:
        yield
        level = _NOTHING if device in NVIDIA else _WARNINGS
    finally:
        ort.set_default_logger_severity(level)


def _signature(node: Any) -> tuple[str, str, list[int | str | None]]:
    return node.name, node.type, list(node.shape)


def _run_once(session: Any) -> None:
    """Run a session on zeros, one long in each dimension of any size."""
    inputs = {node.name: (_NUMPY.get(node.type), node.shape) for node in session.get_inputs()}
    if any(kind is None for kind, _ in inputs.values()):
        return
    feeds = {
        name: np.zeros([size if isinstance(size, int) else 1 for size in shape], kind)
        for name, (kind, shape) in inputs.items()
    }
    session.run(None, feeds)


def _count_nodes(session: Any) -> tuple[int, int]:
    """How many operations an open session has, and how many of them run on the CPU."""
    parts = session.get_provider_graph_assignment_info()
    nodes = [(part.ep_name, len(part.get_nodes())) for part in parts]
    cpu = PROVIDERS["cpu"].name
    return sum(count for _, count in nodes), sum(count for name, count in nodes if name == cpu)


def _check_options(options: Mapping[str, str] | None, device: str) -> None:
    if not options:
        return
    if device in ("auto", "cpu"):
        raise SettingError(
            f'provider_options are for a device that is named and not the CPU, not for "{device}"'
        )
    for name, value in options.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise SettingError(
                "provider_options must be texts, as onnxruntime takes them, not "
                f"{name!r}: {value!r}"
            )
