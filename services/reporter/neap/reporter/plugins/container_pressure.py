"""Pressure of a container: shares of time (0..1) its tasks waited for CPU and for memory.

    some10, full10: averages over 10 s as the kernel keeps them, in percent there, a ratio here

Source: kernel documentation, accounting/psi, "Cgroup2 interface".
"""

from __future__ import annotations

from typing import Final

from neap.common.units import Seconds
from neap.reporter.core.collector import Collector, Fields, Scope, Values, always
from neap.reporter.core.text import stall


def rate(_before: Values | None, now: Values, _seconds: Seconds) -> Fields:
    """The averages as they are."""
    return {"cpu_stall": now[0], "memory_stall": now[1]}


PLUGIN: Final = Collector(Scope.CONTAINER, always(("cpu.pressure", stall), ("memory.pressure", stall)), rate)
