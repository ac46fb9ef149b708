"""Which machine and which software the figures come from. What cannot be found out is None."""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import fer_sdk
from fer_bench.results.result import Machine, Software
from fer_sdk.cpu_count import usable_cores
from fer_sdk.models import session as runtime

_TIMEOUT = 10.0
# What decides how fast int8 and fp32 products can be, by the names of /proc/cpuinfo.
_INSTRUCTIONS = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)


def machine() -> Machine:
    """The hardware under this process."""
    gpu = _nvidia("name,memory.total,driver_version")
    total, available = _memory()
    return Machine(
        cpu=_cpu(),
        architecture=platform.machine(),
        cores=usable_cores(),
        cpu_quota=_cpu_quota(),
        instructions=_instructions(),
        governor=_governor(),
        memory_bytes=total,
        memory_available_bytes=available,
        system=platform.platform(),
        gpu=gpu[0] if gpu else None,
        gpu_memory_bytes=int(gpu[1]) * 2**20 if gpu and gpu[1].isdigit() else None,
        gpu_driver=gpu[2] if gpu else None,
        cuda=_cuda(),
    )


def software(spinning: bool | None) -> Software:
    """The packages that ran.

    Args:
        spinning: whether the threads of the sessions that ran spin; None where that is not known.
    """
    commit, dirty = _git()
    return Software(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        fer_sdk=fer_sdk.__version__,
        onnxruntime=runtime.version(),
        onnxruntime_providers=runtime.providers(),
        spinning=spinning,
        numpy=_version("numpy"),
        opencv=_module_version("cv2"),
        mediapipe=_version("mediapipe"),
        git_commit=commit,
        git_dirty=dirty,
    )


def _cpu() -> str | None:
    for line in _lines(Path("/proc/cpuinfo")):
        name, _, value = line.partition(":")
        if name.strip().lower() in {"model name", "hardware"} and value.strip():
            return value.strip()
    if platform.system() == "Darwin":
        return _output(["sysctl", "-n", "machdep.cpu.brand_string"])
    return platform.processor() or None


def _instructions() -> list[str]:
    for line in _lines(Path("/proc/cpuinfo")):
        name, _, value = line.partition(":")
        if name.strip().lower() in {"flags", "features"}:
            present = set(value.split())
            return [one for one in _INSTRUCTIONS if one in present]
    return []


def _governor() -> str | None:
    cpus = Path("/sys/devices/system/cpu")
    found = {
        line
        for path in cpus.glob("cpu[0-9]*/cpufreq/scaling_governor")
        for line in _lines(path)[:1]
    }
    return ", ".join(sorted(found)) or None


def _cpu_quota() -> float | None:
    """What the control group of this process, as a container has one, allows."""
    quota, _, period = next(iter(_lines(Path("/sys/fs/cgroup/cpu.max"))), "").partition(" ")
    if not quota:
        group = Path("/sys/fs/cgroup/cpu")
        quota, period = (
            next(iter(_lines(group / name)), "")
            for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        )
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def gpu_share() -> float | None:
    """Share of the last moment in which the GPU was in use, 0..1."""
    found = _nvidia("utilization.gpu")
    return int(found[0]) / 100 if found and found[0].isdigit() else None


def free_memory() -> int | None:
    """Bytes that processes can still take without others being swapped out."""
    return _memory()[1]


def _memory() -> tuple[int | None, int | None]:
    try:
        psutil = importlib.import_module("psutil")
    except ImportError:
        return _memory_of_linux()
    memory = psutil.virtual_memory()
    return int(memory.total), int(memory.available)


def _memory_of_linux() -> tuple[int | None, int | None]:
    kilobytes = {
        name: int(value.split()[0])
        for name, _, value in (line.partition(":") for line in _lines(Path("/proc/meminfo")))
        if value.split()
    }

    def found(name: str) -> int | None:
        return kilobytes[name] * 1024 if name in kilobytes else None

    return found("MemTotal"), found("MemAvailable")


def _nvidia(query: str) -> list[str] | None:
    text = _output(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"])
    return [part.strip() for part in text.splitlines()[0].split(",")] if text else None


def _cuda() -> str | None:
    text = _output(["nvidia-smi"]) or ""
    _, found, rest = text.partition("CUDA Version:")
    return rest.split()[0] if found and rest.split() else None


def _git() -> tuple[str | None, bool | None]:
    here = str(Path(__file__).resolve().parent)
    # An installed wheel may lie in a virtual environment inside somebody else's repository.
    if "site-packages" in here:
        return None, None
    commit = _output(["git", "-C", here, "rev-parse", "HEAD"])
    if commit is None:
        return None, None
    # Without the option it refreshes the index, which somebody else may be writing.
    asked = ["git", "--no-optional-locks", "-C", here, "status", "--porcelain"]
    changes = _output([*asked, "--untracked-files=no"], True)
    return commit, None if changes is None else bool(changes)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _module_version(name: str) -> str | None:
    try:
        return str(importlib.import_module(name).__version__)
    except (ImportError, AttributeError):
        return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _output(command: Sequence[str], empty: bool = False) -> str | None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
            env=os.environ | {"LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = done.stdout.strip()
    return text if done.returncode == 0 and (text or empty) else None
