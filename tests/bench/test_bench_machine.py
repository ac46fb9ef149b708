"""What is known of the machine and of a model's work, and what is not."""

from __future__ import annotations

import re
from pathlib import Path

import bench_results
import cv2
import numpy as np
import onnx
import pytest
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper

import tiny_models
from fer_bench.machine import load, provenance, roofline
from fer_bench.machine.load import LoadWatch, busy
from fer_bench.machine.operations import count_operations
from fer_bench.machine.sessions import BoundModel
from fer_bench.measure.build import bound_job
from fer_bench.measure.inference import three_calls
from fer_bench.measure.jobs import Job
from fer_bench.measure.plan import Plan
from fer_bench.measure.scenarios import changing_batch
from fer_bench.measure.series import StopRule, SystemClock
from fer_bench.measure.subjects import open_subjects
from fer_bench.quality.scenes import bundled_portrait, compose, photograph
from fer_bench.results.result import Layer, Load, Operations, Peak
from fer_sdk.cpu_count import usable_cores
from fer_sdk.detectors import Detection
from fer_sdk.errors import ImageError, ModelError
from fer_sdk.models import session as runtime
from fer_sdk.models.session import Session
from fer_sdk.types import Box


def model(
    nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: list[int | str]
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def test_multiply_adds_of_a_convolution_and_a_product_by_hand() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1], group=2),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("Gemm", ["f", "h", "b"], ["y"], transB=1),
    ]
    weights = {
        "w": np.zeros((8, 2, 3, 3), np.float32),
        "h": np.zeros((5, 8 * 6 * 6), np.float32),
        "b": np.zeros(5, np.float32),
    }
    found = count_operations(model(nodes, weights, ["N", 4, 12, 12]), "by hand")
    # 8 x 6 x 6 outputs of 2 x 3 x 3 inputs each (two groups), then 5 sums over 288.
    assert found.float_macs == 8 * 6 * 6 * 2 * 3 * 3 + 5 * 288
    assert found.int8_macs == 0
    assert found.weight_bytes == 4 * (8 * 2 * 9 + 5 * 288 + 5)
    assert found.layers == [
        Layer(0, 8 * 6 * 6 * 2 * 3 * 3, 4 * 8 * 2 * 9),
        Layer(0, 5 * 288, 4 * 5 * 288),
    ]


def test_a_product_between_dequantised_int8_counts_as_int8() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "s"], ["dw"]),
        helper.make_node("MatMul", ["d", "dw"], ["m"]),
        helper.make_node("MatMul", ["m", "v"], ["y"]),
    ]
    weights = {
        "s": np.float32(0.1),
        "z": np.uint8(0),
        "w": np.zeros((16, 32), np.int8),
        "v": np.zeros((32, 3), np.float32),
    }
    weights = {name: np.asarray(value) for name, value in weights.items()}
    found = count_operations(model(nodes, weights, ["N", 16]), "by hand")
    assert (found.int8_macs, found.float_macs) == (16 * 32, 32 * 3)
    # Of the first the weights are int8, behind their DequantizeLinear.
    assert found.layers == [Layer(16 * 32, 0, 16 * 32), Layer(0, 32 * 3, 4 * 32 * 3)]


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(ModelError, match="not-a-model"):
        count_operations(b"\x00\x01 nothing", "not-a-model")


PEAK = Peak(1, fp32_gmacs=50.0, int8_gmacs=100.0, bandwidth={"1000000": 40e9, "64000000": 10e9})


def test_floor_is_the_larger_of_compute_and_memory() -> None:
    # 100 million int8 at 100e9 a second are 1 ms, 50 million fp32 at 50e9 another.
    work = Operations(100_000_000, 50_000_000, 500_000)
    assert roofline.floor([(work, 1)], PEAK) == pytest.approx((2.0, "compute"))
    assert roofline.floor([(work, 4)], PEAK) == pytest.approx((8.0, "compute"))
    # 11 MB do not fit the megabyte that is fast: 1.1 ms at 10e9.
    heavy = Operations(1_000_000, 0, 11_000_000)
    assert roofline.floor([(heavy, 1)], PEAK) == pytest.approx((1.1, "memory"))
    # Half a megabyte does: 0.0125 ms at 40e9, against 0.01 ms of compute.
    light = Operations(1_000_000, 0, 500_000)
    assert roofline.floor([(light, 1)], PEAK) == pytest.approx((0.0125, "memory"))
    # One after the other they take the sum, of which most is compute.
    assert roofline.floor([(work, 1), (heavy, 1)], PEAK) == pytest.approx((3.1, "compute"))


def test_floor_of_layers_is_the_sum_of_theirs() -> None:
    """A layer that waits for its weights cannot compute what the next one needs meanwhile."""
    # 1 ms of compute and 0.1 ms of weights; then 0.1 ms and 1 ms.
    layers = [Layer(100_000_000, 0, 1_000_000), Layer(10_000_000, 0, 10_000_000)]
    work = Operations(110_000_000, 0, 11_000_000, layers)
    assert roofline.floor([(work, 1)], PEAK) == pytest.approx((2.0, "compute"))
    # Ten faces read the weights once.
    assert roofline.floor([(work, 10)], PEAK) == pytest.approx((11.0, "compute"))
    whole = replace(work, layers=[])
    assert roofline.floor([(whole, 1)], PEAK) == pytest.approx((1.1, "compute"))


def test_floor_is_unknown_without_the_peak() -> None:
    blind = Peak(1, fp32_gmacs=None, int8_gmacs=100.0, bandwidth={})
    assert roofline.floor([(Operations(0, 5, 5), 1)], blind) is None
    assert roofline.floor([(Operations(5, 0, 5), 1)], blind) is None
    known = Operations(1_000_000, 0, 500_000)
    assert roofline.floor([(known, 1)], PEAK) is not None
    assert (
        roofline.floor([(known, 1), (Operations(0, 5, 5), 1)], replace(PEAK, fp32_gmacs=None))
        is None
    )


def test_peaks_are_measured() -> None:
    peak = roofline.measure_peak(1, SystemClock(), StopRule(0.0, 2))
    # No machine that runs this is slower than that, or faster.
    assert peak.fp32_gmacs is not None
    assert 0.05 < peak.fp32_gmacs < 5000
    assert peak.int8_gmacs is not None
    assert 0.05 < peak.int8_gmacs < 50000
    assert len(peak.bandwidth) >= 4
    assert all(1e7 < value < 1e13 for value in peak.bandwidth.values())


def test_what_cannot_be_found_out_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(provenance, "_text", lambda _: "")
    monkeypatch.setattr(provenance.cpuinfo, "get_cpu_info", dict)
    machine = provenance.machine()
    assert machine.cpu is None
    assert machine.governor is None
    assert machine.instructions == []
    assert (machine.gpu, machine.gpu_memory_bytes, machine.gpu_driver, machine.cuda) == (None,) * 4
    assert machine.cores == usable_cores()
    software = provenance.software(None)
    assert (software.git_commit, software.git_dirty) == (None, None)
    assert software.spinning is None


def test_a_gpu_is_read_from_nvidias_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\n"
        'if [ -n "$1" ]; then echo "NVIDIA H100 80GB HBM3, 81559, 550.54.15"\n'
        'else echo "| NVIDIA-SMI 550.54.15    CUDA Version: 12.4     |"; fi\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    machine = provenance.machine()
    assert machine.gpu == "NVIDIA H100 80GB HBM3"
    assert machine.gpu_memory_bytes == 81559 * 2**20
    assert (machine.gpu_driver, machine.cuda) == ("550.54.15", "12.4")


def test_software_is_what_is_installed() -> None:
    import numpy

    software = provenance.software(spinning=False)
    assert software.onnxruntime == runtime.version()
    assert software.numpy == numpy.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", software.fer_sdk or "")
    assert software.git_commit is None or re.fullmatch(r"[0-9a-f]{40}", software.git_commit)


def test_a_busy_machine_is_said_loudly() -> None:
    machine = bench_results.result().provenance.machine
    assert machine.cores == 4
    assert busy(Load(0.2, 1.0, 0.02, 0.0, 0.0), machine, on_gpu=True) == []
    assert busy(Load(None, None, None, None, None), machine, on_gpu=True) == []
    found = "\n".join(busy(Load(3.0, 5.0, 0.4, 0.1, 0.6), machine, on_gpu=True))
    assert "THE MACHINE WAS BUSY before the run: load average 3.00 on 4 cores" in found
    assert "other processes used 40 %" in found
    assert "the hypervisor kept 10 %" in found
    assert "THE GPU WAS BUSY before the run: in use 60 %" in found
    # What the GPU does is nothing to a run on the CPU.
    assert busy(Load(0.2, 1.0, 0.02, 0.0, 0.6), machine, on_gpu=False) == []
    held = replace(machine, cpu_quota=1.5)
    (limited,) = busy(Load(0.2, 1.0, 0.02, 0.0, 0.0), held, on_gpu=False)
    assert "THE CONTAINER IS HELD BACK: it gets 1.5 cores" in limited


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"}, 0.5),
        ({"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_the_limit_of_a_container_is_read(
    files: dict[str, str], quota: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "_text", lambda path: files.get(path.name, ""))
    assert provenance.machine().cpu_quota == quota


def test_the_share_of_others_leaves_out_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([load._Ticks(100.0, 10.0, 0.0, 1000.0), load._Ticks(130.0, 20.0, 4.0, 1100.0)])
    monkeypatch.setattr(load, "_ticks", lambda: next(ticks))
    seen = LoadWatch().finish()
    # Of 100 seconds of CPU time 30 were busy, 10 of them ours; the hypervisor kept 4.
    assert seen.others_share == pytest.approx(0.2)
    assert seen.stolen_share == pytest.approx(0.04)


@pytest.mark.parametrize("faces", [0, 1, 2, 3, 7, 16])
@pytest.mark.parametrize(("width", "height"), [(640, 480), (320, 640), (65, 33)])
def test_every_face_is_drawn_whole_and_apart(faces: int, width: int, height: int) -> None:
    white = np.full((50, 40, 3), 255, np.uint8)
    picture = compose(white, width, height, faces, "white")
    assert picture.rgb.shape == (height, width, 3)
    drawn = int((picture.rgb[..., 0] == 255).sum())
    one = int((compose(white, width, height, 1, "white").rgb[..., 0] == 255).sum())
    # Faces that overlap or are cut off would cover no multiple of one face's area.
    assert drawn % max(faces, 1) == 0
    assert drawn <= faces * one
    assert (drawn > 0) == (faces > 0)


class Corner:
    """A detector that finds a face of 20 pixels in the lower right corner of anything."""

    name = "corner"

    def detect(self, image: np.ndarray) -> list[Detection]:
        height, width = image.shape[:2]
        return [Detection(Box(width - 22.0, height - 22.0, 20.0, 20.0), 0.9)]

    def close(self) -> None:
        """Nothing to close."""


class Blind(Corner):
    def detect(self, image: np.ndarray) -> list[Detection]:
        return []


@pytest.mark.parametrize(("width", "height"), [(160, 80), (80, 160), (100, 100), (640, 480)])
def test_a_photograph_is_cut_around_its_face_and_not_squeezed(width: int, height: int) -> None:
    photo = np.zeros((120, 200, 3), np.uint8)
    photo[98:118, 178:198] = 255
    picture = photograph(photo, width, height, Corner(), "mine.jpg")
    assert picture.rgb.shape == (height, width, 3)
    assert (picture.faces, picture.source) == (1, "mine.jpg")
    # The white square is still there, and still a square.
    white = picture.rgb[..., 0] > 127
    scale = max(width / 200, height / 120)
    assert int(white.any(axis=0).sum()) == pytest.approx(20 * scale, abs=2)
    assert int(white.any(axis=1).sum()) == pytest.approx(20 * scale, abs=2)


def test_a_photograph_without_a_face_is_refused_by_its_name() -> None:
    with pytest.raises(ImageError, match=r"mine\.jpg: corner finds no face"):
        photograph(np.zeros((50, 50, 3), np.uint8), 640, 480, Blind(), "mine.jpg")


def test_a_picture_as_file_is_the_same_picture() -> None:
    from fer_sdk.image.load import load_image

    picture = compose(bundled_portrait(), 640, 480, 1, "portrait")
    difference = np.abs(load_image(picture.jpeg).astype(int) - picture.rgb)
    assert difference.mean() < 2.0
    assert np.array_equal(picture.bgr[..., ::-1], picture.rgb)


def test_bound_model_gives_what_a_session_gives() -> None:
    faces = np.random.default_rng(0).integers(0, 256, (3, 16, 16), np.uint8)
    other = np.random.default_rng(1).integers(0, 256, (3, 16, 16), np.uint8)
    bound = BoundModel(Session(tiny_models.emotion_model(), source="tiny"), faces)
    for batch in (faces, other, faces):
        bound.copy_in(batch)
        bound.compute()
        assert bound.copy_out() == pytest.approx(tiny_models.expected_scores(batch), abs=1e-5)


def test_the_copies_of_a_bound_model_are_rows_of_their_own() -> None:
    faces = np.zeros((2, 16, 16), np.uint8)
    conditions = replace(
        bench_results.CONDITIONS,
        scenario="cuda-model",
        stage="landmarks",
        batch=2,
        width=None,
        height=None,
        faces=None,
    )
    bound = BoundModel(Session(tiny_models.landmarks_model(), source="tiny"), faces)
    job = bound_job(conditions, SystemClock(), bound, faces)
    job.warm_up()
    job.take_round(StopRule(0.0, 6))
    rows = {row.conditions.stage: row for row in job.rows()}
    *parts, whole = rows
    assert parts == ["landmarks, copy in", "landmarks, compute", "landmarks, copy out"]
    assert whole == "landmarks, end to end"
    added = np.sum([rows[part].rounds_ms[0] for part in parts], axis=0)
    assert added == pytest.approx(rows[whole].rounds_ms[0], abs=1e-5)
    assert len(added) == 6


@pytest.mark.parametrize(
    ("batch", "numbers"), [(3, [1, 2, 3]), (64, [1, 10, 19, 28, 37, 46, 55, 64])]
)
def test_a_dynamic_batch_has_another_size_each_time(batch: int, numbers: list[int]) -> None:
    faces = np.arange(batch, dtype=np.uint8)[:, None, None].repeat(2, axis=1).repeat(2, axis=2)
    conditions = replace(
        bench_results.CONDITIONS,
        scenario="dynamic-batch",
        stage="emotion",
        batch=batch,
        width=None,
        height=None,
        faces=None,
    )
    seen: list[int] = []

    def run(some: np.ndarray) -> None:
        np.testing.assert_array_equal(some, faces[: len(some)])
        seen.append(len(some))

    clock = SystemClock()
    job = Job(conditions, clock, *changing_batch(run, faces, clock))
    job.warm_up()
    # A warm-up is made of whole turns.
    assert seen == len(seen) // len(numbers) * numbers
    seen.clear()
    for _ in range(2):
        # In the middle of a turn a series may end, but none begins there.
        job.take_round(StopRule(0.0, len(numbers) + 2))
    (row,) = job.rows()
    assert row.latency.count == 2 * (len(numbers) + 2)
    timed = [*numbers, *numbers[:2]]
    assert seen[-len(timed) :] == timed
    calls_per_second = 1000 / row.latency.mean
    assert row.faces_per_second == pytest.approx(calls_per_second * np.mean(timed), rel=1e-3)
    assert (row.images_per_second, row.warm_up_calls, row.first_call_ms) == (None, None, None)


def test_opencv_gets_as_many_threads_as_the_models() -> None:
    seen = []
    before = cv2.getNumThreads()
    for threads in (1, 2, None):
        conditions = replace(bench_results.CONDITIONS, threads=threads)
        job = Job(conditions, SystemClock(), lambda: seen.append(cv2.getNumThreads()))
        job.warm_up()
        job.take_round(StopRule(0.0, 3))
    cv2.setNumThreads(before)
    assert set(seen) == {1, 2}
    assert seen == sorted(seen)


def test_three_calls_run_three_networks_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emotion, landmarks = tiny_models.write_models(tmp_path)
    plan = Plan(
        devices=("cpu",), detectors=("blazeface",), emotion_model=emotion, landmarks_model=landmarks
    )
    (subject,), skipped = open_subjects(plan)
    assert skipped == []
    picture = compose(bundled_portrait(), 640, 480, 3, "portrait")
    shapes = []
    run = runtime.Session.run

    def counted(self: runtime.Session, array: np.ndarray) -> list[np.ndarray]:
        shapes.append(array.shape)
        return run(self, array)

    monkeypatch.setattr(runtime.Session, "run", counted)
    calls = three_calls(subject, picture)
    shapes.clear()
    calls()
    subject.pipeline.close()
    assert shapes == [(1, 128, 128, 3), (3, 16, 16), (3, 16, 16)]


@pytest.mark.cuda
@pytest.mark.skipif(not runtime.has_cuda(), reason="this onnxruntime has no CUDA")
def test_bound_model_on_cuda() -> None:
    faces = np.random.default_rng(0).integers(0, 256, (3, 16, 16), np.uint8)
    session = Session(tiny_models.emotion_model(), source="tiny", device="cuda")
    bound = BoundModel(session, np.zeros_like(faces))
    assert bound.provider == "CUDAExecutionProvider"
    bound.copy_in(faces)
    bound.compute()
    assert bound.copy_out() == pytest.approx(tiny_models.expected_scores(faces), abs=1e-4)
