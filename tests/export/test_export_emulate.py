"""Files on emulated CPUs."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from export_networks import draw, train
from typer.testing import CliRunner

from fer_export.cli import app
from fer_export.emulate import (
    CPUS,
    CpuRun,
    Emulators,
    Job,
    emulate,
    instructions_in,
    verify,
)
from fer_export.graph import build_graph
from fer_export.integers import WeightBounds
from fer_export.parity import Comparison
from fer_export.quantise import Quantisation, calibrate, quantise
from fer_export.report import write_cpus
from fer_sdk.errors import DataError, ParityError

RUN = CpuRun(
    file="emotion.int8.onnx",
    sha256="0" * 64,
    cpu="cortex-a72",
    stands_for="ARMv8.0",
    instructions={"umull": 3},
    bounds=WeightBounds(21, 64, 32640, 1000),
    sums=100,
    wrong_sums=0,
    outputs=Comparison("real faces", 200, 0.01, 0.001, 0.99, None, None),
)


@pytest.fixture(scope="module")
def emulators() -> Emulators:
    folder = os.environ.get("FER_EMULATORS")
    if not folder:
        pytest.skip(
            "no emulated CPUs: run export/emulated_cpus.sh FOLDER VERSION and set FER_EMULATORS "
            "to FOLDER"
        )
    versions = [path.name.partition("-")[2] for path in Path(folder).glob("aarch64-*")]
    return Emulators(
        Path(folder), max(versions, key=lambda v: [int(part) for part in v.split(".")])
    )


def test_an_emulated_arm_gives_what_this_machine_gives(
    emulators: Emulators, tmp_path: Path
) -> None:
    """A network of the tests, quantised, without and with ARM's dot products."""
    graph, faces = build_graph(*train("emotion", draw(150, 1))), draw(8, 2).images
    settings = Quantisation(faces=30, bias_correction=False)
    ranges = calibrate(graph, draw(30, 3).images, settings)
    path = tmp_path / "drawn.int8.onnx"
    onnx.save(quantise(graph, ranges, faces, settings), path)
    cpus = [cpu for cpu in CPUS if cpu.name in ("native", "cortex-a72", "cortex-a76")]
    runs = emulate(emulators, [Job(path, faces)], cpus)
    verify(runs)
    assert [run.cpu for run in runs] == ["native", "cortex-a72", "cortex-a76"]
    native, plain, dots = runs
    assert native.outputs.largest < 1e-5
    for run in (plain, dots):
        assert run.wrong_sums == 0
        assert run.sums > 10_000
        assert run.outputs.largest < 0.01
        assert run.outputs.agreement == 1.0
    assert plain.instructions is not None
    assert dots.instructions is not None
    assert set(plain.instructions) == {"smull", "smlal"}
    assert set(dots.instructions) == {"sdot"}
    page = write_cpus(runs, emulators.version, "drawn", tmp_path)[1].read_text("utf-8")
    assert "Every integer sum is right" in page
    assert str(Path.home()) not in page


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"qemu|Linux|emulated_cpus\.sh .* 9\.9\.9"):
        Emulators(tmp_path, "9.9.9")
    with pytest.raises(DataError, match=r"no onnxruntime in it; run export/emulated_cpus\.sh"):
        Emulators.all_in(tmp_path)


def test_the_command_names_the_cpus_that_there_are(tmp_path: Path) -> None:
    arguments = ["cpus", str(tmp_path), "--onnxruntime", "1.32.0", "--cpu", "z80"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    # The message is in a box as wide as the terminal.
    words = done.output.replace("│", " ").split()
    assert [cpu.name for cpu in CPUS if f"{cpu.name}," not in words and cpu.name not in words] == []
    assert list(tmp_path.iterdir()) == []


def test_wrong_sums_and_lost_labels_fail() -> None:
    verify([RUN])
    lossy = replace(RUN, outputs=replace(RUN.outputs, agreement=0.98))
    drifting = replace(RUN, outputs=replace(RUN.outputs, agreement=None, drift=0.003))
    with pytest.raises(ParityError) as told:
        verify([RUN, replace(RUN, wrong_sums=2), lossy, drifting])
    assert str(told.value) == (
        "emotion.int8.onnx on cortex-a72: 2 of 100 integer sums are wrong; "
        "emotion.int8.onnx on cortex-a72: top label agrees on 98.00% of the faces only; "
        "emotion.int8.onnx on cortex-a72: landmarks drift 0.00300 of the crop on average"
    )


def test_the_page_shows_what_failed(tmp_path: Path) -> None:
    paths = write_cpus([replace(RUN, wrong_sums=2)], "1.2.3", "PublicTest", tmp_path)
    assert [path.name for path in paths] == [
        "cpus-onnxruntime-1.2.3.json",
        "cpus-onnxruntime-1.2.3.md",
    ]
    page = paths[1].read_text("utf-8")
    assert "**emotion.int8.onnx on cortex-a72: 2 of 100 integer sums are wrong**" in page
    assert "98 of 100" in page


@pytest.mark.parametrize(
    ("machine", "line", "found"),
    [
        ("aarch64", "0x40001000:  6e829420  udot  v0.4s, v1.16b, v2.16b", {"udot": 1}),
        ("aarch64", "0x40001000:  2e22c020  umull v0.8h, v1.8b, v2.8b", {"umull": 1}),
        ("aarch64", "0x40001000:  0e228020  smlal v0.8h, v1.8b, v2.8b", {"smlal": 1}),
        ("aarch64", "0x40001000:  6e82a420  .byte 0x20, 0xa4, 0x82, 0x6e", {"ummla": 1}),
        ("aarch64", "0x40001000:  8b020020  add   x0, x1, x2", {}),
        (
            "x86_64",
            "0x40001000:  c4 e2 75 04 c2  vpmaddubsw %ymm2, %ymm1, %ymm0",
            {"vpmaddubsw": 1},
        ),
        ("x86_64", "0x40001000:  66 0f f5 d4  pmaddwd  %xmm4, %xmm2", {"pmaddwd": 1}),
        ("x86_64", "IN: pmaddwd_of_some_symbol", {}),
    ],
)
def test_instructions_are_found_in_assembly(
    machine: str, line: str, found: dict[str, int], tmp_path: Path
) -> None:
    log = tmp_path / "assembly.log"
    log.write_text(f"----------------\nIN: \n{line}\n\n", "utf-8")
    assert instructions_in(log, machine) == found


def test_script_and_command_speak_of_the_same_folder() -> None:
    """The folders that the script makes are those that ``Emulators`` looks for."""
    script = Path(__file__).resolve().parents[2] / "export" / "emulated_cpus.sh"
    text = script.read_text("utf-8")
    assert re.search(r'--target "\$folder/\$1-\$version"', text)
    assert "$folder/sysroot/usr/bin/python3" in text
    assert {machine for machine in ("aarch64", "x86_64") if f"wheels {machine} " in text} == {
        cpu.machine for cpu in CPUS
    }
