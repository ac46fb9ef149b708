"""How many cores there are: affinity, and the CPU quota of a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fer_sdk import cpu_count
from fer_sdk.cpu_count import cpu_quota, usable_cores


def _machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A made up ``/proc/self/cgroup``, and files below ``/sys/fs/cgroup``."""
    for name, text in {"proc/self/cgroup": groups}.items() | {
        (f"sys/fs/cgroup/{name}", text) for name, text in files.items()
    }:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V1 = "12:memory:/docker/a\n4:cpu,cpuacct:/docker/a\n0::/\n"


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        # Kubernetes: the pod's limit is above the container's.
        ("0::/pod/box\n", {"pod/cpu.max": "200000 100000", "pod/box/cpu.max": "max 100000"}, 2),
        ("0::/pod/box\n", {"pod/cpu.max": "200000 100000", "pod/box/cpu.max": "50000 100000"}, 0.5),
        # A group outside of the container's own view.
        ("0::/../other\n", {"cpu.max": "300000 100000"}, 3),
        (
            V1,
            {
                "cpu,cpuacct/docker/a/cpu.cfs_quota_us": "400000\n",
                "cpu,cpuacct/docker/a/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        # What a container of cgroup v1 sees: the path of outside, the files of inside.
        (
            V1,
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        (
            V1,
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
    ],
)
def test_the_quota_of_a_container_is_read(
    groups: str, files: dict[str, str], quota: float | None, tmp_path: Path
) -> None:
    assert cpu_quota(_machine(tmp_path, groups, files)) == quota


def test_no_control_groups_are_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


@pytest.mark.parametrize(("quota", "cores"), [(None, 6), (1.5, 2), (0.2, 1), (6, 6), (64, 6)])
def test_the_smaller_of_affinity_and_quota_counts(
    quota: float | None, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(cpu_count, "cpu_quota", lambda: quota)
    assert usable_cores() == cores
