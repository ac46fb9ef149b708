"""The one module that imports onnxruntime: sessions, devices, threads."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import logging
import os
import stat
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

# From 1.29 on onnxruntime's pip builds report usage over the network unless told not to before the
# first import. Whoever set the variable themselves keeps their choice.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from fer_sdk.cpu_count import usable_cores
from fer_sdk.errors import DeviceUnavailableError, ModelError, SettingError
from fer_sdk.models.matrix_tiles import has_matrix_tiles, prefer_matrix_tiles
from fer_sdk.models.onnx_file import check_self_contained

Device = Literal["auto", "cpu", "cuda", "openvino", "coreml", "directml", "tensorrt", "xnnpack"]

SPINNING = False
"""Whether the threads of a session spin while they wait. Several sessions run in series: threads
that spin after one steal the cores of the next."""

MAX_MODEL_BYTES = 512 * 2**20
"""The largest model file that is read unless told otherwise: many times the largest of ours."""

MAX_BATCH = 64
"""The largest batch that a model is given, and the largest that a session is kept for."""

_Sessions = dict[int | None, Any]
"""Sessions of onnxruntime by the size of batch that each is for; None for one that takes any."""

_log = logging.getLogger(__name__)


class _Provider(NamedTuple):
    """A way to run models.

    Attributes:
        name: onnxruntime's.
        advice: what to do where the installed onnxruntime does not have it.
        needs: what to check where it has it and it does not open.
        whole: it can run every operation of our models, so that one left to the CPU breaks the
            promise of a named device. The others run the heavy ones and leave the rest by design.
        options: provider options that we set; the caller's own come on top. ``{threads}`` stands
            for the number of threads.
        batches: sizes of batches that a session each is kept for, in ascending order; a batch of
            another size is filled up to the next one. Empty: one session takes any size. Only for
            what runs every operation on the device.
    """

    name: str
    advice: str = ""
    needs: str = ""
    whole: bool = True
    options: Mapping[str, str] = {}
    batches: tuple[int, ...] = ()


_PROVIDERS = {
    "cpu": _Provider("CPUExecutionProvider"),
    "cuda": _Provider(
        "CUDAExecutionProvider",
        advice="install onnxruntime-gpu in place of onnxruntime",
        needs="the NVIDIA driver (nvidia-smi), and CUDA and cuDNN, which pip install "
        "'onnxruntime-gpu[cuda,cudnn]' brings",
        options={
            # Left to itself it rounds the numbers of float32 products to 10 bits where the GPU can,
            # and fp32 would not be the reference any more.
            "use_tf32": "0",
            # How long cuDNN ponders on each convolution: by default half a second a model.
            "cudnn_conv_algo_search": "HEURISTIC",
        },
        # It ponders anew whenever a batch has another size than the last one, as when people come
        # and go: a tenth of a second for what takes a millisecond to run, filled up or not.
        batches=(1, 4, 16, MAX_BATCH),
    ),
    "openvino": _Provider(
        "OpenVINOExecutionProvider",
        advice="install onnxruntime-openvino in place of onnxruntime",
        needs="that the OpenVINO device is there (CPU unless provider_options say otherwise)",
        # Without it OpenVINO takes 8 threads on any machine.
        options={"num_of_threads": "{threads}"},
    ),
    "coreml": _Provider(
        "CoreMLExecutionProvider",
        advice="onnxruntime has it on macOS",
        needs="that this is macOS 12 or later",
        whole=False,
        # The older format of the two knows fewer operations.
        options={"ModelFormat": "MLProgram"},
    ),
    "directml": _Provider(
        "DmlExecutionProvider",
        advice="install onnxruntime-directml in place of onnxruntime, on Windows",
        needs="that there is a GPU with DirectX 12",
    ),
    "tensorrt": _Provider(
        "TensorrtExecutionProvider",
        advice="install onnxruntime-gpu in place of onnxruntime",
        needs="the NVIDIA driver, CUDA and the TensorRT libraries that onnxruntime-gpu needs",
    ),
    "xnnpack": _Provider(
        "XnnpackExecutionProvider",
        advice="use an onnxruntime that was built with it",
        needs="how this onnxruntime was built",
        whole=False,
        # It has threads of its own beside those of onnxruntime.
        options={"intra_op_num_threads": "{threads}"},
    ),
}
_ENDING = "ExecutionProvider"
# Since 1.24 onnxruntime tells which provider runs which operation.
_TELLS_NODES = hasattr(ort.InferenceSession, "get_provider_graph_assignment_info")
_ERRORS_ONLY, _NOTHING = 3, 4
_NVIDIA = ("cuda", "tensorrt")
_NUMPY = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}
# It moves quantisation before the max-pool of an int8 ResNet: the same values, but onnxruntime's
# max-pool of bytes takes ten times as long as that of floats, a sixth of the whole model.
_SLOWER_ON_CPU = ["QDQPropagationTransformer"]


def has_cuda() -> bool:
    """Whether the installed onnxruntime is built for CUDA; whether CUDA opens is another matter."""
    return _PROVIDERS["cuda"].name in ort.get_available_providers()


def providers() -> list[str]:
    """What the installed onnxruntime is built for."""
    return list(ort.get_available_providers())


def devices() -> list[str]:
    """The names for ``device`` that the installed onnxruntime is built for."""
    built = ort.get_available_providers()
    return [device for device, provider in _PROVIDERS.items() if provider.name in built]


def known_device(name: str) -> str:
    """The name of a device, for its own name or onnxruntime's of its provider.

    Providers without a name of ours keep onnxruntime's, such as ``"QNNExecutionProvider"``.

    Raises:
        SettingError: it is neither.
    """
    if name in get_args(Device):
        return name
    if isinstance(name, str) and name.endswith(_ENDING):
        ours = (device for device, provider in _PROVIDERS.items() if provider.name == name)
        return next(ours, name)
    names = ", ".join(f'"{one}"' for one in get_args(Device))
    raise SettingError(
        f"there is no device {name!r}: use one of {names}, or onnxruntime's name of a provider, "
        f'such as "QNN{_ENDING}"'
    )


def _provider(device: str) -> _Provider:
    """How to open a device. What a provider that we do not know leaves to the CPU is counted."""
    unknown = _Provider(
        device,
        advice="use an onnxruntime that was built with it",
        needs="what onnxruntime's documentation says that it needs",
        whole=False,
    )
    return _PROVIDERS.get(device, unknown)


def version() -> str:
    """Version of the installed onnxruntime."""
    return str(ort.__version__)


@functools.cache
def _load_nvidias_libraries() -> str:
    """Load CUDA and cuDNN out of NVIDIA's pip packages, where no loader looks by itself.

    Returns:
        What could not be loaded, in onnxruntime's words; empty when nothing was missed.
    """
    if not hasattr(ort, "preload_dlls"):
        # Before 1.21 whoever has them only from pip imports torch first.
        return ""
    with contextlib.redirect_stdout(io.StringIO()) as told:
        try:
            ort.preload_dlls()
        except (OSError, RuntimeError) as error:
            return str(error)
    return "; ".join(line for line in told.getvalue().splitlines() if line.startswith("Failed"))


class Session:
    """An open model with one input and one or more outputs. Safe to run from many threads.

    Attributes:
        provider: the onnxruntime provider that really runs it.
        device: the name of that: ``"cpu"``, ``"cuda"``, ``"openvino"`` and so on.
        nodes: operations of the model; None where this onnxruntime, before 1.24, does not tell.
        cpu_nodes: those of them that run on the CPU; None where it is not known.
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
                opens, else the CPU. A device that is named is used or refused.
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
        check_self_contained(model, source)
        self.device = device
        if device == "auto":
            self._sessions, self.device = self._open_best(model, source)
        else:
            self._sessions = self._open_named(model, source, device)
        first = _first(self._sessions)
        self.provider: str = first.get_providers()[0]
        self.nodes, self.cpu_nodes = _placed(first)
        try:
            meta = first.get_modelmeta()
            self.metadata: dict[str, str] = dict(meta.custom_metadata_map)
            self.inputs = [_signature(node) for node in first.get_inputs()]
            self.outputs = [_signature(node) for node in first.get_outputs()]
        except UnicodeDecodeError as error:
            raise ModelError(f"{source}: damaged: a name in it is not text: {error}") from error
        self._forked = False
        _open_sessions.add(self)

    def _open_best(self, model: bytes, source: str) -> tuple[_Sessions, str]:
        if has_cuda():
            try:
                sessions = self._open(model, source, "cuda")
            except ModelError as error:
                reason = str(error)
            else:
                if _first(sessions).get_providers()[0] == _PROVIDERS["cuda"].name:
                    return sessions, "cuda"
                reason = _load_nvidias_libraries() or "the log of onnxruntime says why"
            _log.warning("CUDA did not open for %s, which runs on the CPU: %s", source, reason)
        return self._open(model, source, "cpu"), "cpu"

    def _open_named(self, model: bytes, source: str, device: str) -> _Sessions:
        provider = _provider(device)
        asked = f'device="{device}" was asked for, but '
        if provider.name not in ort.get_available_providers():
            raise DeviceUnavailableError(
                f"{asked}the installed onnxruntime has only {', '.join(providers())}: "
                f'{provider.advice}, or use device="cpu"'
            )
        try:
            sessions = self._open(model, source, device)
        except ModelError as error:
            if device == "cpu":
                raise
            # Either the file is no good, which the CPU finds too, or the device is not.
            self._open(model, source, "cpu")
            options = f" with provider_options={self._options}" if self._options else ""
            raise DeviceUnavailableError(f"{asked}it does not open{options}: {error}") from error
        first = _first(sessions)
        opened = first.get_providers()[0]
        if opened != provider.name:
            missed = _load_nvidias_libraries() if device in _NVIDIA else ""
            raise DeviceUnavailableError(
                f"{asked}{source} would run on {opened}: check {provider.needs}; onnxruntime says "
                f'{missed or "on standard error what it misses"}. Or use device="cpu"'
            )
        nodes, on_cpu = _placed(first)
        if device != "cpu" and on_cpu and (provider.whole or on_cpu == nodes):
            raise DeviceUnavailableError(
                f"{asked}{on_cpu} of the {nodes} operations of {source} would run on the CPU: use "
                'another precision, or device="cpu"'
            )
        return sessions

    def _open(self, model: bytes, source: str, device: str) -> _Sessions:
        """A session for each size of batch that the device wants one for and has room for.

        Where the provider did not open there is one, on the CPU.
        """
        provider = _provider(device)
        first = self._open_one(model, source, device, *provider.batches[:1])
        opened = first.get_providers()[0] == provider.name
        if not provider.batches or not opened or not _takes_any_batch(first):
            return {None: first}
        sessions: _Sessions = {provider.batches[0]: first}
        for size in provider.batches[1:]:
            try:
                session = self._open_one(model, source, device, size)
                there, reason = session.get_providers()[0] == provider.name, "it opens elsewhere"
            except ModelError as error:
                there, reason = False, str(error)
            if not there:
                # Memory may be short: more then go through the largest in several runs.
                _log.warning("no session for %d at once on %s: %s", size, device, reason)
                break
            sessions[size] = session
        return sessions

    def _open_one(self, model: bytes, source: str, device: str, batch: int = 1) -> Any:
        provider = _provider(device)
        options = ort.SessionOptions()
        # Where there are several nothing of them runs on the CPU, and each would have threads.
        options.intra_op_num_threads = 1 if provider.batches else self.threads
        options.inter_op_num_threads = 1
        # On the CPU whatever goes wrong is raised; why a device did not open only the log tells.
        options.log_severity_level = _NOTHING if device == "cpu" else _ERRORS_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(SPINNING)))
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if device != "cpu" and provider.whole and not _TELLS_NODES:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        settings = {
            name: value.format(threads=self.threads) for name, value in provider.options.items()
        }
        order = [(provider.name, settings | (self._options if device != "cpu" else {}))]
        if device == "cpu" and self.threads == 1 and has_matrix_tiles():
            model = prefer_matrix_tiles(model)
        if device in _NVIDIA:
            _load_nvidias_libraries()
        try:
            # onnxruntime's own fallback prints to stdout and goes on, on the CPU, with whatever
            # failed elsewhere, while it runs too.
            session = ort.InferenceSession(
                model,
                options,
                providers=order,
                enable_fallback=0,
                disabled_optimizers=_SLOWER_ON_CPU if device == "cpu" else None,
            )
            if device != "cpu" and session.get_providers()[0] == provider.name:
                if device in _NVIDIA:
                    # At the first run of each batch size the log of all sessions calls it an error
                    # that cuDNN has no fused form of some convolutions, which then run unfused.
                    ort.set_default_logger_severity(_NOTHING)
                # cuDNN is optional to onnxruntime, and code for a GPU is looked up by kernel: what
                # is missing of either may show at the first run only.
                _run_once(session, batch)
        except Exception as error:
            # onnxruntime raises bare RuntimeErrors and errors of its own that it does not export.
            reason = str(error).strip()
            raise ModelError(f"{source}: onnxruntime cannot open it: {reason}") from error
        return session

    def run(self, array: npt.NDArray[Any]) -> list[npt.NDArray[np.float32]]:
        """Every output for one array given as the only input.

        More than the largest batch that there is a session for goes through it in several runs.

        Raises:
            ModelError: onnxruntime fails, for one because the device has no memory left, what it
                gives is not a batch as long as the array, or the process was forked after the
                session was opened.
        """
        if self._forked:
            raise ModelError(
                f"{self._source}: opened before this process was forked, which onnxruntime does "
                "not survive: open it in each process"
            )
        most = next(reversed(self._sessions))
        if most is not None and array.ndim and len(array) > most:
            parts = [self.run(array[at : at + most]) for at in range(0, len(array), most)]
            return [np.concatenate(values) for values in zip(*parts, strict=True)]
        name = self.inputs[0][0]
        session, batch = self.native_run(array)
        try:
            outputs = session.run(None, {name: batch})
        except Exception as error:
            raise ModelError(
                f"{self._source}: onnxruntime cannot run it on {array.dtype} {list(array.shape)}: "
                f"{error}"
            ) from error
        values = [np.asarray(value) for value in outputs]
        if batch is array:
            return values
        if any(not value.ndim or len(value) != len(batch) for value in values):
            raise ModelError(
                f"{self._source}: for a batch of {len(batch)} it gives "
                f"{', '.join(str(list(value.shape)) for value in values)}"
            )
        return [value[: len(array)] for value in values]

    def native_run(self, array: npt.NDArray[Any]) -> tuple[Any, npt.NDArray[Any]]:
        """What ``run`` has onnxruntime do, for what this class does not, such as IO binding.

        Returns:
            onnxruntime's own session, and the batch that it is given: the array itself, or the
            array with zeros behind it where the device has sessions for batches of some sizes.

        Raises:
            ModelError: more than any session is for, which takes several runs.
        """
        for size, session in self._sessions.items():
            if size is None or not array.ndim or size == len(array):
                return session, array
            if size > len(array):
                return session, _filled_up(array, size)
        raise ModelError(f"{self._source}: {len(array)} are more than one run takes")


_open_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _after_fork() -> None:
    # The threads of a session do not come along, and its destructor would wait for them for ever:
    # it must never run, not even when the interpreter ends.
    for session in list(_open_sessions):
        for native in session._sessions.values():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(native))
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


def _signature(node: Any) -> tuple[str, str, list[int | str | None]]:
    return node.name, node.type, list(node.shape)


def _first(sessions: _Sessions) -> Any:
    return next(iter(sessions.values()))


def _takes_any_batch(session: Any) -> bool:
    """Whether the first dimension of every input and output is of any size."""
    nodes = [*session.get_inputs(), *session.get_outputs()]
    try:
        return all(node.shape and not isinstance(node.shape[0], int) for node in nodes)
    except UnicodeDecodeError:
        # Its name is not text, which whoever reads the names of all dimensions says.
        return False


def _filled_up(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """A batch with zeros behind it, ``size`` long."""
    filled = np.zeros((size, *array.shape[1:]), array.dtype)
    filled[: len(array)] = array
    return filled


def _run_once(session: Any, batch: int = 1) -> None:
    """Run a session on a batch of zeros, one long in each other dimension of any size."""
    inputs = {node.name: (_NUMPY.get(node.type), node.shape) for node in session.get_inputs()}
    if any(kind is None for kind, _ in inputs.values()):
        return
    feeds = {}
    for name, (kind, shape) in inputs.items():
        sizes = [size if isinstance(size, int) else 1 for size in shape]
        if shape and not isinstance(shape[0], int):
            sizes[0] = batch
        feeds[name] = np.zeros(sizes, kind)
    session.run(None, feeds)


def _placed(session: Any) -> tuple[int | None, int | None]:
    """How many operations an open session has, and how many of them run on the CPU."""
    if not _TELLS_NODES:
        return None, None
    parts = session.get_provider_graph_assignment_info()
    cpu = _PROVIDERS["cpu"].name
    nodes = [(part.ep_name, len(part.get_nodes())) for part in parts]
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
