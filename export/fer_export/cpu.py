"""Which integer arithmetic the CPU at hand has: what int8 figures depend on."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_X86_DOT = ("avx512_vnni", "avx_vnni", "avx_vnni_int8")
_ARM_DOT = ("asimddp", "i8mm")


@dataclass(frozen=True, slots=True)
class Cpu:
    """A CPU, as far as it matters to int8.

    Attributes:
        name: as the system calls it.
        machine: its architecture, e.g. ``x86_64``.
        dot_products: its 8-bit dot product instructions (VNNI, ARM's dotprod and i8mm); empty
            where it has none, None where the system does not say.
    """

    name: str
    machine: str
    dot_products: tuple[str, ...] | None

    def __str__(self) -> str:
        if self.dot_products is None:
            return f"{self.name} ({self.machine})"
        has = ", ".join(self.dot_products) or "no 8-bit dot products"
        return f"{self.name} ({self.machine}, {has})"


def this_cpu() -> Cpu:
    """The CPU that this process runs on."""
    machine = platform.machine()
    fields: dict[str, str] = {}
    if _CPUINFO.is_file():
        for line in _CPUINFO.read_text("utf-8", "replace").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip().lower(), value.strip())
    flags = fields.get("flags", fields.get("features"))
    known = _X86_DOT + _ARM_DOT
    return Cpu(
        name=fields.get("model name") or platform.processor() or "unknown CPU",
        machine=machine,
        dot_products=None if flags is None else tuple(f for f in flags.split() if f in known),
    )
