"""Pressure of a container: shares of time (0..1) its tasks waited for CPU and for memory.

Averages as the kernel keeps them, and the share of the period; formulas: neap.reporter.core.psi.
Source: kernel documentation, accounting/psi, "Cgroup2 interface".
"""

from __future__ import annotations

from typing import Final

from neap.common.units import Seconds
from neap.reporter.core.collector import Collector, Fields, Scope, Values, always
from neap.reporter.core.psi import parse_pressure, parse_whole_pressure, stall


def rate(before: Values | None, now: Values, seconds: Seconds) -> Fields:
    """The averages as they are, and the period's own share."""
    cpu, memory = before or (None, None)
    return {"cpu_stall": stall(cpu, now[0], seconds), "memory_stall": stall(memory, now[1], seconds)}


WANTS: Final = always(("cpu.pressure", parse_pressure), ("memory.pressure", parse_whole_pressure))
PLUGIN: Final = Collector(Scope.CONTAINER, WANTS, rate)
