"""What this machine can do at most, measured, and how long a model must take at the least.

The peaks are those of onnxruntime's own kernels in a product large enough to reach them: a model
that runs at the peak leaves nothing for a better schedule, only for better kernels.
See Williams, Waterman and Patterson, "Roofline", 2009.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from fer_bench import sessions
from fer_bench.clock import Clock
from fer_bench.measure import StopRule, collect, timed
from fer_bench.result import Operations, Peak

_SIDE = 1024
_COPIED = tuple(2**power for power in (20, 22, 24, 26, 28))
_OPSET = 17
_IR_VERSION = 8


class Floor(NamedTuple):
    """The least time that a model needs."""

    milliseconds: float
    bound_by: Literal["compute", "memory"]


def measure_peak(threads: int, clock: Clock, rule: StopRule) -> Peak:
    """The peaks with so many threads: the best of each series, since noise only takes away."""
    random = np.random.default_rng(0)
    values = random.integers(0, 128, (_SIDE, _SIDE), np.uint8)
    signed = random.integers(-63, 64, (_SIDE, _SIDE), np.int8)
    single = random.standard_normal((_SIDE, _SIDE), np.float32)
    fp32 = sessions.open_kernel(_product(TensorProto.FLOAT, single), threads)
    # Signed and unsigned activations take different kernels; the machine's peak is the better one.
    int8 = [
        (sessions.open_kernel(_product(TensorProto.UINT8, signed), threads), values),
        (sessions.open_kernel(_product(TensorProto.INT8, signed), threads), values.view(np.int8)),
    ]
    return Peak(
        threads=threads,
        fp32_gmacs=_gmacs(lambda: fp32({"a": single}), clock, rule),
        int8_gmacs=max(
            _gmacs(lambda run=run, a=a: run({"a": a}), clock, rule)  # type: ignore[misc]
            for run, a in int8
        ),
        bandwidth={str(size): _copying(size, threads, clock, rule) for size in _COPIED},
    )


def _product(kind: int, weight: npt.NDArray[np.float32] | npt.NDArray[np.int8]) -> bytes:
    """A model ``a @ weight``; a constant weight is packed once, as a convolution's is."""
    quantised = kind != TensorProto.FLOAT
    node = helper.make_node("MatMulInteger" if quantised else "MatMul", ["a", "b"], ["c"])
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("a", kind, weight.shape)],
        [
            helper.make_tensor_value_info(
                "c", TensorProto.INT32 if quantised else TensorProto.FLOAT, weight.shape
            )
        ],
        [numpy_helper.from_array(weight, "b")],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _gmacs(call: Callable[[], object], clock: Clock, rule: StopRule) -> float:
    call()
    best = min(collect(timed(call, clock), rule, clock))
    return float(_SIDE**3) / best


def _copying(size: int, threads: int, clock: Clock, rule: StopRule) -> float:
    """Bytes read and written a second, each thread copying its share of ``size``."""
    share = max(size // 2 // threads, 1)
    # Writing once makes the pages real: untouched memory is one shared page of zeros.
    pairs = [(np.ones(share, np.uint8), np.ones(share, np.uint8)) for _ in range(threads)]
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:

        def copy() -> None:
            if threads == 1:
                np.copyto(pairs[0][1], pairs[0][0])
            else:
                list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs))

        copy()
        best = min(collect(timed(copy, clock), rule, clock))
    return 2 * share * threads / best * 1e9


def floor(operations: Operations, peak: Peak, batch: int) -> Floor | None:
    """The least time for a batch: its operations at the peak, or its weights at the bandwidth.

    The weights are read once per run, at the bandwidth measured over a working set that is at
    least as large: a model that fits the cache is not held to the memory's speed.
    """
    compute = 0.0
    for macs, rate in (
        (operations.int8_macs, peak.int8_gmacs),
        (operations.float_macs, peak.fp32_gmacs),
    ):
        if macs and rate is None:
            return None
        compute += macs * batch / (rate or 1.0) / 1e6
    sizes = sorted(int(size) for size in peak.bandwidth)
    if not sizes:
        return None
    fitting = next((size for size in sizes if size >= operations.weight_bytes), sizes[-1])
    memory = operations.weight_bytes / peak.bandwidth[str(fitting)] * 1e3
    if max(compute, memory) <= 0:
        return None
    return Floor(compute, "compute") if compute >= memory else Floor(memory, "memory")
