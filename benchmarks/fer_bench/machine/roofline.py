"""What this machine can do at most, measured, and how long a model must take at the least.

The peaks are those of onnxruntime's own kernels in products that suit them best: a model that runs
at the peak leaves nothing for a better schedule, only for better kernels. On a CPU with AVX-512
VNNI they come to over nine tenths of what its dot-product and FMA instructions do in a bare loop.
On one with AMX the int8 peak is that of its tiles, two to three times as much, although
onnxruntime's convolutions of signed weights without a zero point do not use them.
See Williams, Waterman and Patterson, "Roofline", 2009.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from fer_bench.machine import sessions
from fer_bench.measure.series import Clock, StopRule, collect, timed
from fer_bench.results.result import Layer, Operations, Peak

# Small ones end before anything disturbs them and stay in the cache, large ones feed more threads.
_SIDES = (256, 512, 1024)
_COPIED = tuple(2**power for power in (20, 22, 24, 26, 28))
_OPSET = 17
_IR_VERSION = 8


class Floor(NamedTuple):
    """The least time that a model needs."""

    milliseconds: float
    bound_by: Literal["compute", "memory"]


class Products(NamedTuple):
    """10^9 multiply-adds a second in large products."""

    fp32: float
    int8: float


def measure_peak(threads: int, clock: Clock, rule: StopRule) -> Peak:
    """The peaks with so many threads: the best of each series, since noise only takes away."""
    products = measure_products(threads, clock, rule)
    return Peak(
        threads=threads,
        fp32_gmacs=products.fp32,
        int8_gmacs=products.int8,
        bandwidth={str(size): _copying(size, threads, clock, rule) for size in _COPIED},
    )


def measure_products(threads: int, clock: Clock, rule: StopRule) -> Products:
    """The part of ``measure_peak`` that tells how fast the machine itself is at the moment."""
    random = np.random.default_rng(0)

    def fp32(side: int) -> float:
        values = random.standard_normal((side, side), np.float32)
        return _gmacs(TensorProto.FLOAT, values, values, threads, clock, rule)

    def int8(side: int, kind: int) -> float:
        values = random.integers(0, 128, (side, side), np.uint8)
        signed = random.integers(-63, 64, (side, side), np.int8)
        given = values if kind == TensorProto.UINT8 else values.view(np.int8)
        return _gmacs(kind, given, signed, threads, clock, rule)

    # Signed and unsigned activations take different kernels, of which one may be ten times slower.
    first = {kind: int8(_SIDES[0], kind) for kind in (TensorProto.UINT8, TensorProto.INT8)}
    kind = max(first, key=first.__getitem__)
    return Products(
        fp32=max(fp32(side) for side in _SIDES),
        int8=max(first[kind], *(int8(side, kind) for side in _SIDES[1:])),
    )


def _product(kind: int, weight: npt.NDArray[Any]) -> bytes:
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


def _gmacs(
    kind: int,
    activations: npt.NDArray[Any],
    weight: npt.NDArray[Any],
    threads: int,
    clock: Clock,
    rule: StopRule,
) -> float:
    run = sessions.open_kernel(_product(kind, weight), threads)
    feeds = {"a": activations}
    run(feeds)
    fastest = min(collect(timed(lambda: run(feeds), clock), rule, clock))
    return float(len(weight) ** 3) / fastest


def _copying(size: int, threads: int, clock: Clock, rule: StopRule) -> float:
    """Bytes read and written a second, by one thread or by all, whichever is faster."""
    return max(_copied_by(count, size, clock, rule) for count in {1, threads})


def _copied_by(threads: int, size: int, clock: Clock, rule: StopRule) -> float:
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
        fastest = min(collect(timed(copy, clock), rule, clock))
    return 2 * share * threads / fastest * 1e9


def floor(parts: Sequence[tuple[Operations, int]], peak: Peak) -> Floor | None:
    """The least time for some models, one after the other; None where a peak is not known.

    Each of their layers, which wait for one another, takes its operations at the peak, or its
    weights at the bandwidth, whichever is longer. The weights are read once per run, at the
    bandwidth measured over a working set that is at least as large as those of the whole model: one
    that fits the cache is not held to the memory's speed.

    Args:
        parts: each model's operations for one face (the detector's: for one image), and how many
            faces go through it.
        peak: of this machine.
    """
    compute = memory = 0.0
    for operations, batch in parts:
        bandwidth = _bandwidth(operations.weight_bytes, peak)
        if bandwidth is None:
            return None
        whole = Layer(operations.int8_macs, operations.float_macs, operations.weight_bytes)
        for layer in operations.layers or [whole]:
            computed = _compute(layer, peak, batch)
            if computed is None:
                return None
            moved = layer.weight_bytes / bandwidth * 1e3
            if computed >= moved:
                compute += computed
            else:
                memory += moved
    if compute + memory <= 0:
        return None
    return Floor(compute + memory, "compute" if compute >= memory else "memory")


def _compute(layer: Layer, peak: Peak, batch: int) -> float | None:
    """Milliseconds of a layer's operations at the peak."""
    found = 0.0
    for macs, rate in ((layer.int8_macs, peak.int8_gmacs), (layer.float_macs, peak.fp32_gmacs)):
        if macs and rate is None:
            return None
        found += macs * batch / (rate or 1.0) / 1e6
    return found


def _bandwidth(weight_bytes: int, peak: Peak) -> float | None:
    """Bytes a second over a working set that holds so many."""
    sizes = sorted(int(size) for size in peak.bandwidth)
    if not sizes:
        return None
    fitting = next((size for size in sizes if size >= weight_bytes), sizes[-1])
    return peak.bandwidth[str(fitting)]
