"""Exported files with another onnxruntime, and on CPUs that are not at hand, emulated by qemu-user.

Each CPU answers two questions: whether it adds up the integers of an int8 file exactly
(``integers.probe``, worked out here in 64 bits), and how far the outputs of the file for real faces
are from those that the SDK gives on this machine. ``export/emulated_cpus.sh`` fetches what the
emulated CPUs need.

qemu knows no AVX-512 and no AVX-VNNI (as of 7.2 to 10): x86 CPUs that have them are not here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnx

from fer_export import guest
from fer_export.cpu import this_cpu
from fer_export.integers import (
    MIDDLE,
    WeightBounds,
    integer_layers,
    probe,
    weight_bounds,
    worst_patches,
)
from fer_export.parity import GATES, Comparison, compare
from fer_sdk.errors import DataError, ModelError, ParityError
from fer_sdk.models import session as runtime
from fer_sdk.models.metadata import INPUT
from fer_sdk.models.session import Session

_BATCH = 8
_SECONDS = 4 * 3600
# Encodings of the Arm ARM: instruction, mask, value.
_ARM = (
    ("umull", 0xBFE0FC00, 0x2E20C000),
    ("umlal", 0xBFE0FC00, 0x2E208000),
    ("smull", 0xBFE0FC00, 0x0E20C000),
    ("smlal", 0xBFE0FC00, 0x0E208000),
    ("udot", 0xBFE0FC00, 0x2E809400),
    ("udot", 0xBFC0F400, 0x2F80E000),
    ("sdot", 0xBFE0FC00, 0x0E809400),
    ("sdot", 0xBFC0F400, 0x0F80E000),
    ("ummla", 0xFFE0FC00, 0x6E80A400),
    ("smmla", 0xFFE0FC00, 0x4E80A400),
)
# pmaddwd is what bytes go into where they are widened to 16 bits first.
_X86 = frozenset({"pmaddubsw", "vpmaddubsw", "pmaddwd", "vpmaddwd", "vpdpbusd"})


@dataclass(frozen=True, slots=True)
class EmulatedCpu:
    """A CPU for qemu-user.

    Attributes:
        model: qemu's name for it.
        machine: its architecture.
        stands_for: CPUs that people have with the same arithmetic.
        part: ARM's number of it; onnxruntime reads it, and the features, from ``/proc/cpuinfo``,
            where older qemu shows the CPU that it runs on.
        features: as Linux calls them.
    """

    model: str
    machine: str
    stands_for: str
    part: int = 0
    features: str = ""

    @property
    def name(self) -> str:
        """qemu's name without what is switched off."""
        return self.model.partition(",")[0]


_PLAIN = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
HERE = "native"
"""Name of this machine's own CPU, among the others."""

CPUS = (
    EmulatedCpu(HERE, "x86_64", "this machine"),
    EmulatedCpu(
        "cortex-a72", "aarch64", "ARMv8.0: Raspberry Pi 3 and 4, older phones", 0xD08, _PLAIN
    ),
    EmulatedCpu(
        "cortex-a76",
        "aarch64",
        "ARMv8.2 with dot products: Raspberry Pi 5, phones since 2018, Apple M1",
        0xD0B,
        f"{_PLAIN} atomics fphp asimdhp asimdrdm asimddp",
    ),
    EmulatedCpu(
        "max,sve=off,sme=off",
        "aarch64",
        "ARMv8.6 with 8-bit matrix products: Graviton 3, Apple M2, phones since 2022",
        0xD40,
        f"{_PLAIN} atomics fphp asimdhp asimdrdm asimddp i8mm",
    ),
    EmulatedCpu("Haswell", "x86_64", "AVX2 without VNNI: Intel to 2018, AMD Zen 1 to 3"),
    EmulatedCpu("Nehalem", "x86_64", "SSE4.2 without AVX: PCs of 2008, small Atoms and Celerons"),
)


@dataclass(frozen=True, slots=True)
class Job:
    """One file, and the faces that it gets.

    Attributes:
        path: the file.
        faces: uint8 ``[N, S, S]`` of its input size.
        name: what to call it; None takes its own name.
    """

    path: Path
    faces: npt.NDArray[np.uint8]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class CpuRun:
    """One file on one emulated CPU.

    Attributes:
        file: its name.
        sha256: its hash.
        cpu: qemu's name of the CPU; ``HERE`` for this machine's own.
        stands_for: see ``EmulatedCpu``.
        instructions: integer multiplications that onnxruntime's kernels used there, and in how
            many places; None on this machine, which does not tell.
        bounds: what the file's integer weights can add up to.
        sums: how many integer sums were compared with those in 64 bits.
        wrong_sums: how many were not equal.
        outputs: for real faces, against the SDK's on this machine.
    """

    file: str
    sha256: str
    cpu: str
    stands_for: str
    instructions: dict[str, int] | None
    bounds: WeightBounds
    sums: int
    wrong_sums: int
    outputs: Comparison

    @property
    def failed(self) -> list[str]:
        """One sentence for everything that is not as it must be."""
        gates, outputs = GATES["int8"], self.outputs
        found = []
        if self.wrong_sums:
            found.append(f"{self.wrong_sums} of {self.sums} integer sums are wrong")
        if outputs.agreement is not None and not outputs.agreement >= (gates.agreement or 0):
            found.append(f"top label agrees on {outputs.agreement:.2%} of the faces only")
        if outputs.drift is not None and not outputs.drift <= (gates.drift or 0):
            found.append(f"landmarks drift {outputs.drift:.5f} of the crop on average")
        return [f"{self.file} on {self.cpu}: {what}" for what in found]


class Emulators:
    """What ``export/emulated_cpus.sh`` put into a folder, for one version of onnxruntime.

    Attributes:
        version: of onnxruntime.
    """

    def __init__(self, folder: Path, version: str) -> None:
        """Look whether everything is there.

        Raises:
            DataError: not on Linux on x86-64, or something is missing; says what.
        """
        self.version = version
        self._sysroot = folder / "sysroot"
        self._packages = {
            machine: folder / f"{machine}-{version}" for machine in ("aarch64", "x86_64")
        }
        if this_cpu().machine != "x86_64" or not sys.platform.startswith("linux"):
            raise DataError("emulating other CPUs needs Linux on x86-64")
        for machine in self._packages:
            if shutil.which(f"qemu-{machine}") is None:
                raise DataError(
                    f"there is no qemu-{machine}: install qemu-user with your package manager"
                )
        for path in (self._sysroot, *self._packages.values()):
            if not path.is_dir():
                raise DataError(
                    f"{path}: not there; run export/emulated_cpus.sh {folder} {version}"
                )

    @classmethod
    def all_in(cls, folder: Path) -> list[Self]:
        """One for each onnxruntime that is there, the newest first.

        Raises:
            DataError: there is none, or something is missing; says what.
        """
        versions = [path.name.partition("-")[2] for path in folder.glob("x86_64-*")]
        if not versions:
            raise DataError(
                f"{folder}: no onnxruntime in it; run export/emulated_cpus.sh {folder} VERSION"
            )
        versions.sort(key=lambda one: [int(part) for part in re.findall(r"\d+", one)])
        return [cls(folder, version) for version in reversed(versions)]

    def on(self, cpu: EmulatedCpu, jobs: Path, log: Path | None = None) -> None:
        """Run jobs on a CPU.

        Args:
            cpu: which.
            jobs: see ``fer_export.guest``.
            log: write the code that was run there, as assembly; not on this machine's own.

        Raises:
            ModelError: it did not work; with what was said.
        """
        if cpu.model == HERE:
            self._run([sys.executable], cpu.machine, jobs)
            return
        command = [f"qemu-{cpu.machine}", "-cpu", cpu.model]
        if log is not None:
            command += ["-d", "in_asm", "-D", str(log)]
        if cpu.machine == "aarch64":
            self._describe(cpu)
            command += ["-L", str(self._sysroot), str(self._sysroot / "usr" / "bin" / "python3")]
        else:
            command.append(sys.executable)
        self._run(command, cpu.machine, jobs)

    def _run(self, command: list[str], machine: str, jobs: Path) -> None:
        done = subprocess.run(
            [*command, str(Path(guest.__file__).resolve()), str(jobs)],
            env=os.environ | {"PYTHONPATH": str(self._packages[machine].resolve())},
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
        if done.returncode != 0 or done.stdout.strip() != self.version:
            said = (done.stderr or done.stdout).strip()[-2000:]
            raise ModelError(f"{' '.join(command)}: onnxruntime {self.version} failed: {said}")

    def _describe(self, cpu: EmulatedCpu) -> None:
        # Files below -L hide those of this machine.
        lines = (
            "processor\t: {}",
            f"Features\t: {cpu.features}",
            "CPU implementer\t: 0x41",
            "CPU architecture: 8",
            "CPU variant\t: 0x0",
            f"CPU part\t: 0x{cpu.part:x}",
            "CPU revision\t: 0",
            "",
        )
        (self._sysroot / "proc").mkdir(exist_ok=True)
        processors = ("\n".join(lines).format(number) for number in range(os.cpu_count() or 1))
        (self._sysroot / "proc" / "cpuinfo").write_text("\n".join(processors) + "\n", "utf-8")


def emulate(
    emulators: Emulators,
    jobs: Sequence[Job],
    cpus: Sequence[EmulatedCpu] = CPUS,
    *,
    told: Callable[[str], None] = lambda _: None,
) -> list[CpuRun]:
    """Run files on CPUs and compare with the SDK on this machine and with integers in 64 bits.

    Raises:
        ModelError: a file cannot be read, or onnxruntime fails on a CPU.
    """
    runs = []
    with tempfile.TemporaryDirectory(prefix="fer-export-") as name:
        prepared = [_Prepared(job, Path(name) / str(at)) for at, job in enumerate(jobs)]
        for cpu in cpus:
            told(f"{cpu.name}, onnxruntime {emulators.version}")
            folder = Path(name) / cpu.name
            emulators.on(cpu, _write_jobs(prepared, folder))
            instructions = None
            if cpu.model != HERE:
                log = folder / "assembly.log"
                emulators.on(cpu, _write_jobs(prepared, folder / "short", probes_only=True), log)
                instructions = instructions_in(log, cpu.machine)
                log.unlink()
            runs += [part.compared(cpu, folder, instructions) for part in prepared]
    return runs


def verify(runs: Iterable[CpuRun]) -> None:
    """Hold runs against the gates of int8, and every sum against its true value.

    Raises:
        ParityError: with everything that is not as it must be.
    """
    failed = [what for run in runs for what in run.failed]
    if failed:
        raise ParityError("; ".join(failed))


def to_dict(runs: Sequence[CpuRun], version: str, split: str) -> dict[str, Any]:
    """Everything that was measured, with the conditions."""
    return {
        "onnxruntime": version,
        "emulator": emulator_version(),
        "compared_with": asdict(this_cpu()) | {"onnxruntime": runtime.version()},
        "split": split,
        "runs": [asdict(run) | {"failed": run.failed} for run in runs],
    }


def emulator_version() -> str | None:
    """What qemu calls itself; None where there is none."""
    if shutil.which("qemu-aarch64") is None:
        return None
    done = subprocess.run(
        ["qemu-aarch64", "--version"], capture_output=True, text=True, check=False
    )
    return done.stdout.partition("\n")[0].strip()


class _Prepared:
    """A job with its probes, written where an emulated CPU can read them."""

    def __init__(self, job: Job, folder: Path) -> None:
        folder.mkdir(parents=True)
        try:
            content = job.path.read_bytes()
            model = onnx.load_from_string(content)
        except Exception as error:
            # protobuf has errors of its own, in C.
            raise ModelError(f"{job.path}: cannot be read as ONNX: {error}") from error
        self.name = job.name or job.path.name
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.bounds = weight_bounds(model)
        self.faces = len(job.faces)
        starts = range(0, self.faces, _BATCH)
        np.savez(
            folder / "faces.npz",
            **{f"{start}/{INPUT}": job.faces[start : start + _BATCH] for start in starts},  # type: ignore[arg-type]
        )
        self.starts = [str(start) for start in starts]
        session = Session(content, source=self.name)
        self.expected = np.concatenate(
            [session.run(job.faces[start : start + _BATCH])[0] for start in starts]
        )
        self.main = (str(job.path.resolve()), str(folder / "faces.npz"))
        self.probes = []
        for at, (_, weight) in enumerate(integer_layers(model)):
            path, inputs = folder / f"{at}.onnx", folder / f"{at}.npz"
            graph, patches = probe(weight, worst_patches(weight))
            onnx.save(graph, path)
            np.savez(inputs, **{"all/patches": patches})  # type: ignore[arg-type]
            self.probes.append((str(path), str(inputs)))

    def compared(
        self, cpu: EmulatedCpu, folder: Path, instructions: dict[str, int] | None
    ) -> CpuRun:
        sums = wrong = 0
        for at in range(len(self.probes)):
            with np.load(folder / f"{self.sha256}.{at}.npz") as stored:
                for key in stored.files:
                    sums += stored[key].size
                    wrong += int((stored[key] != MIDDLE).sum())
        with np.load(folder / f"{self.sha256}.faces.npz") as stored:
            given = np.concatenate([stored[start] for start in self.starts])
        return CpuRun(
            file=self.name,
            sha256=self.sha256,
            cpu=cpu.name,
            stands_for=cpu.stands_for,
            instructions=instructions,
            bounds=self.bounds,
            sums=sums,
            wrong_sums=wrong,
            outputs=compare("real faces", self.expected, given),
        )


def _write_jobs(prepared: Iterable[_Prepared], folder: Path, *, probes_only: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    jobs = []
    for part in prepared:
        named = [(str(at), files) for at, files in enumerate(part.probes)]
        # One layer of each file is enough to see which instructions its kernels use.
        named = named[:1] if probes_only else [*named, ("faces", part.main)]
        jobs += [
            {
                "model": model,
                "inputs": inputs,
                "outputs": str(folder / f"{part.sha256}.{name}.npz"),
            }
            for name, (model, inputs) in named
        ]
    path = folder / "jobs.json"
    path.write_text(json.dumps(jobs), encoding="utf-8")
    return path


def instructions_in(log: Path, machine: str) -> dict[str, int]:
    """Integer multiplications in qemu's log of the code that it translated."""
    found: Counter[str] = Counter()
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if machine == "x86_64":
                words = line.split()
                found.update(word for word in words[1:12] if word in _X86)
            elif match := re.match(r"0x[0-9a-f]+:\s+([0-9a-f]{8})\s", line):
                word = int(match[1], 16)
                found.update(name for name, mask, value in _ARM if word & mask == value)
    return dict(sorted(found.items()))
