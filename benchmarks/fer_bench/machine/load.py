"""What else the machine did while the benchmark ran."""

from __future__ import annotations

import os
from typing import NamedTuple

import psutil

from fer_bench.machine import provenance
from fer_bench.results.result import Load, Machine

_BUSY_BEFORE = 0.25
_BUSY_OTHERS = 0.10
_STOLEN = 0.02
_GPU_BEFORE = 0.05


class _Ticks(NamedTuple):
    machine_busy: float
    own: float
    stolen: float
    machine_all: float


class LoadWatch:
    """Counts what other processes use from its making to ``finish``."""

    def __init__(self) -> None:
        self._average = psutil.getloadavg()[0]
        self._gpu = provenance.gpu_share()
        self._start = _ticks()

    def finish(self) -> Load:
        """What was seen."""
        end = _ticks()
        others = stolen = None
        passed = end.machine_all - self._start.machine_all
        if passed > 0:
            busy = end.machine_busy - self._start.machine_busy
            own = end.own - self._start.own
            others = min(max((busy - own) / passed, 0.0), 1.0)
            stolen = min(max((end.stolen - self._start.stolen) / passed, 0.0), 1.0)
        return Load(self._average, psutil.getloadavg()[0], others, stolen, self._gpu)


def busy(load: Load, machine: Machine, *, on_gpu: bool) -> list[str]:
    """Why the figures of a run under such a load cannot be trusted; empty when they can.

    Args:
        load: what was seen.
        machine: under it.
        on_gpu: whether anything was measured on the GPU.
    """
    found = []
    cores = machine.cores
    if machine.cpu_quota is not None and machine.cpu_quota < cores:
        found.append(
            f"THE CONTAINER IS HELD BACK: it gets {machine.cpu_quota:g} cores' worth of time on "
            f"{cores} cores, and all of its threads stand still once that is used up"
        )
    before = load.load_average_before
    if before is not None and before > _BUSY_BEFORE * cores:
        found.append(
            f"THE MACHINE WAS BUSY before the run: load average {before:.2f} on {cores} cores"
        )
    gpu = load.gpu_share_before
    if on_gpu and gpu is not None and gpu > _GPU_BEFORE:
        found.append(f"THE GPU WAS BUSY before the run: in use {100 * gpu:.0f} % of the time")
    if load.others_share is not None and load.others_share > _BUSY_OTHERS:
        found.append(
            f"THE MACHINE WAS BUSY: other processes used {100 * load.others_share:.0f} % of its "
            "CPU time during the run"
        )
    if load.stolen_share is not None and load.stolen_share > _STOLEN:
        found.append(
            f"THE HOST WAS BUSY: the hypervisor kept {100 * load.stolen_share:.0f} % of the CPU "
            "time for others"
        )
    return found


def _ticks() -> _Ticks:
    machine = psutil.cpu_times()
    total = sum(
        getattr(machine, name, 0.0)
        for name in ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    )
    stolen = float(getattr(machine, "steal", 0.0))
    idle = machine.idle + getattr(machine, "iowait", 0.0)
    # Children count once they have ended, which cold starts and baselines have by then.
    own = os.times()
    return _Ticks(
        total - idle - stolen,
        own.user + own.system + own.children_user + own.children_system,
        stolen,
        total,
    )
