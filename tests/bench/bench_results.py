"""Results for the tests of fer-bench, made by hand: nothing in them was measured."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from fer_bench.results.percentiles import summarise
from fer_bench.results.result import (
    FORMAT,
    Accuracy,
    Camera,
    ColdStart,
    Conditions,
    Load,
    Machine,
    Model,
    Operations,
    Peak,
    Provenance,
    Result,
    Row,
    Scene,
    Skipped,
    Software,
)

CONDITIONS = Conditions(
    subject="fer-sdk",
    scenario="single-stream",
    stage="end to end",
    device="cpu",
    precision="int8",
    detector="mediapipe",
    threads=1,
    workers=1,
    batch=1,
    width=640,
    height=480,
    faces=1,
)


def row(conditions: Conditions, rounds: Sequence[Sequence[float]]) -> Row:
    """A row with these samples and everything else unknown."""
    parts = [list(part) for part in rounds]
    return Row(conditions, summarise([one for part in parts for one in part]), parts)


def cold(whole: float, memory: int | None = 180_000_000) -> ColdStart:
    """A fresh process that took so many ms to its first result, most of them to import."""
    return ColdStart(
        device="cpu",
        precision="int8",
        detector="mediapipe",
        threads=1,
        interpreter_ms=20.0,
        import_ms=whole - 250.0,
        open_ms=200.0,
        first_call_ms=30.0,
        second_call_ms=8.0,
        to_first_result_ms=whole,
        peak_rss_bytes=memory,
    )


def result(*rows: Row) -> Result:
    """A result with these rows."""
    return Result(
        format=FORMAT,
        provenance=Provenance(
            started="2026-01-02T03:04:05+00:00",
            seconds=12.5,
            command=["--quick"],
            machine=Machine(
                cpu="Some CPU",
                architecture="x86_64",
                cores=4,
                cpu_quota=None,
                instructions=["avx2"],
                governor=None,
                memory_bytes=8 * 2**30,
                memory_available_bytes=None,
                system="Linux",
                gpu=None,
                gpu_memory_bytes=None,
                gpu_driver=None,
                cuda=None,
            ),
            software=Software(
                python="CPython 3.12.1",
                fer_sdk="0.1.0",
                onnxruntime="1.30.0",
                onnxruntime_providers=["CPUExecutionProvider"],
                spinning=False,
                numpy="2.0.0",
                opencv=None,
                mediapipe=None,
                git_commit=None,
                git_dirty=None,
            ),
            load=Load(0.1, 0.9, 0.01, None, None),
        ),
        scenes=[Scene("bundled portrait", 640, 480, 1, {"mediapipe": 1}, "00" * 32)],
        models=[
            Model(
                name="emotion",
                file="emotion.int8.onnx",
                sha256="ab" * 32,
                precision="int8",
                input_size=48,
                version="1",
                metrics={"PublicTest": {"accuracy": 0.6}},
                operations=Operations(100_000_000, 1000, 11_000_000),
            )
        ],
        peaks=[Peak(1, 50.0, 100.0, {"1048576": 4e10, "268435456": 1e10})],
        cold_starts=[cold(550.0 + at) for at in range(5)],
        rows=list(rows),
        skipped=[Skipped("CUDA", "there is none")],
        notes=[],
    )


def full() -> Result:
    """One row of every kind."""
    steady = [[5.0 + 0.01 * (at % 7) for at in range(110)] for _ in range(3)]
    rows = [
        replace(
            row(CONDITIONS, steady),
            provider="CPUExecutionProvider",
            faces_found=1,
            images_per_second=199.0,
            faces_per_second=199.0,
            accuracy=Accuracy(0.6321, "PublicTest", None, "model metadata"),
        )
    ]
    for stage, share in (("decode", 0.2), ("detect", 0.3), ("end to end", 1.0)):
        one = replace(CONDITIONS, scenario="stages", stage=stage)
        rows.append(row(one, [[share * value for value in part] for part in steady]))
    for threads in (1, 2, 4):
        one = replace(CONDITIONS, scenario="multi-thread", workers=threads)
        rows.append(replace(row(one, steady), faces_per_second=190.0 * threads))
    camera = replace(CONDITIONS, scenario="camera", fps=30.0)
    rows.append(replace(row(camera, steady), camera=Camera(400, 330, 70), notes=["| odd | note"]))
    return result(*rows)
