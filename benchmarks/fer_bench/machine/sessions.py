"""The one module here that imports onnxruntime itself, for what the SDK does not show.

That is kernels without a model of ours (the roofline) and IO binding (copies apart from compute).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

# Before onnxruntime: it is what turns onnxruntime's telemetry off.
from fer_sdk.models import session as runtime

import onnxruntime as ort  # isort: skip

_ERRORS_ONLY = 3

Array = npt.NDArray[Any]


def open_kernel(model: bytes, threads: int) -> Callable[[dict[str, Array]], object]:
    """Something that runs a model of the roofline on the CPU.

    Its threads spin: the peak is what the machine can do, not what is polite.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(feeds: dict[str, Array]) -> object:
        return session.run(None, feeds)

    return run


class BoundModel:
    """A model whose input and output stay on the device, so that copies can be timed apart.

    The input's shape is that of the first array. Not for several threads.
    """

    def __init__(self, session: runtime.Session, first: Array) -> None:
        """Bind a session on ``"cuda"``, or on ``"cpu"``, where a copy is one within memory.

        What is taken apart here is what the session's own ``run`` does with such an array.
        """
        self.provider: str = session.provider
        device = session.device
        self._session = session.native
        self._input: Any = ort.OrtValue.ortvalue_from_numpy(first, device, 0)
        self._binding: Any = self._session.io_binding()
        self._binding.bind_ortvalue_input(self._session.get_inputs()[0].name, self._input)
        # The output's shape is known after one run; the buffer of that run is kept for the rest.
        name = self._session.get_outputs()[0].name
        self._binding.bind_output(name, device, 0)
        self._session.run_with_iobinding(self._binding)
        self._output: Any = self._binding.get_outputs()[0]
        self._binding.bind_ortvalue_output(name, self._output)

    def copy_in(self, array: Array) -> None:
        """Bring an array of the first one's shape to the device; returns when it is there."""
        self._input.update_inplace(array)
        self._binding.synchronize_inputs()

    def compute(self) -> None:
        """Run the model; returns when the device has finished."""
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def copy_out(self) -> Array:
        """Bring the result back."""
        return np.asarray(self._output.numpy())
