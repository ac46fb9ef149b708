"""How much of the machine this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_V1, _V2 = "cpu", ""


def usable_cores() -> int:
    """Cores that this process may use: those it may run on, or a container's CPU quota if less.

    A quota of one and a half cores counts as two.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The CFS quota of this process's control group (``docker run --cpus``), in cores.

    Args:
        root: where ``proc`` and ``sys`` are.

    Returns:
        The smallest of the group and those around it, of cgroup v1 or v2; None without a limit.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return None
    quotas = []
    for group in groups:
        _, controllers, path = group.split(":", 2)
        for kind in {_V1, _V2} & set(controllers.split(",")):
            quotas += [
                quota
                for folder in _folders(root / "sys/fs/cgroup", controllers, path)
                if (quota := _quota_of(folder, kind)) is not None
            ]
    return min(quotas, default=None)


def _folders(mounted: Path, controllers: str, path: str) -> Iterator[Path]:
    """The group's folder and those around it; inside a container its own may be the first there."""
    around = PurePosixPath(path.lstrip("/"))
    for place in (around, *around.parents):
        if ".." not in place.parts:
            yield mounted / controllers / place


def _quota_of(folder: Path, kind: str) -> float | None:
    try:
        if kind == _V2:
            quota, period = (folder / "cpu.max").read_text("utf-8").split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text("utf-8") for name in ("quota", "period")
            )
        cores = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        # "max" is no number: there is no limit.
        return None
    return cores if cores > 0 else None
