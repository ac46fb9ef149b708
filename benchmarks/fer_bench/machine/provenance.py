"""Which machine and which software the figures come from. What cannot be found out is None."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import cpuinfo
import cv2
import psutil

import fer_sdk
from fer_bench.results.result import Machine, Software
from fer_sdk.cpu_count import usable_cores
from fer_sdk.models import session as runtime

_TIMEOUT = 10.0
# What decides how fast int8 and fp32 products can be.
_INSTRUCTIONS = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni"),
    *("avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "sve"),
)


def machine() -> Machine:
    """The hardware under this process."""
    cpu = cpuinfo.get_cpu_info()
    flags = set(cpu.get("flags", ()))
    memory = psutil.virtual_memory()
    name, gpu_memory, driver = _nvidia("name,memory.total,driver_version") or (None, None, None)
    return Machine(
        cpu=cpu.get("brand_raw") or cpu.get("hardware_raw"),
        architecture=platform.machine(),
        cores=usable_cores(),
        cpu_quota=_cpu_quota(),
        instructions=[name for name in _INSTRUCTIONS if name in flags],
        governor=_governor(),
        memory_bytes=memory.total,
        memory_available_bytes=memory.available,
        system=platform.platform(),
        gpu=name,
        gpu_memory_bytes=int(gpu_memory) * 2**20 if gpu_memory and gpu_memory.isdigit() else None,
        gpu_driver=driver,
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
        opencv=cv2.__version__,
        mediapipe=_version("mediapipe"),
        git_commit=commit,
        git_dirty=dirty,
    )


def gpu_share() -> float | None:
    """Share of the last moment in which the GPU was in use, 0..1."""
    found = _nvidia("utilization.gpu")
    return int(found[0]) / 100 if found and found[0].isdigit() else None


def why_no_cuda() -> str | None:
    """Why nothing can run on CUDA; None when the installed onnxruntime offers it."""
    if runtime.has_cuda():
        return None
    return (
        f"onnxruntime {runtime.version()} here is built for {', '.join(runtime.providers())} only; "
        "install onnxruntime-gpu in place of onnxruntime to measure a GPU"
    )


def _governor() -> str | None:
    cpus = Path("/sys/devices/system/cpu")
    found = {_text(path) for path in cpus.glob("cpu[0-9]*/cpufreq/scaling_governor")} - {""}
    return ", ".join(sorted(found)) or None


def _cpu_quota() -> float | None:
    """What the control group of this process, as a container has one, allows."""
    groups = Path("/sys/fs/cgroup")
    quota, _, period = _text(groups / "cpu.max").partition(" ")
    if not quota:
        quota, period = (_text(groups / f"cpu/cpu.cfs_{name}_us") for name in ("quota", "period"))
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _nvidia(query: str) -> list[str] | None:
    text = _output("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits")
    return [part.strip() for part in text.splitlines()[0].split(",")] if text else None


def _cuda() -> str | None:
    _, _, rest = (_output("nvidia-smi") or "").partition("CUDA Version:")
    return next(iter(rest.split()), None)


def _git() -> tuple[str | None, bool | None]:
    here = str(Path(__file__).resolve().parent)
    # An installed wheel may lie in a virtual environment inside somebody else's repository.
    if "site-packages" in here:
        return None, None
    commit = _output("git", "-C", here, "rev-parse", "HEAD")
    # Without the option it refreshes the index, which somebody else may be writing.
    asked = ("git", "--no-optional-locks", "-C", here, "status", "--porcelain")
    changes = _output(*asked, "--untracked-files=no")
    return commit, None if commit is None or changes is None else bool(changes)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=True,
            env=os.environ | {"LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
