"""Pressure of the machine: shares of time in which somebody (some) or everybody (full) waited, as 0..1.

    some10, full10: averages over 10 s as the kernel keeps them, in percent there, a ratio here

The averages lag a sudden change by seconds. A kernel without PSI has none of the files: unknown.
Source: kernel documentation, accounting/psi.
"""

from __future__ import annotations

from typing import Final

from neap.common.units import Seconds
from neap.reporter.core.collector import Collector, Fields, Scope, Values, always
from neap.reporter.core.text import stall

WANTS: Final = always(
    ("/proc/pressure/cpu", stall),
    ("/proc/pressure/memory", stall),
    ("/proc/pressure/io", stall),
)


def rate(_before: Values | None, now: Values, _seconds: Seconds) -> Fields:
    """The averages as they are."""
    return {"cpu_stall": now[0], "memory_stall": now[1], "io_stall": now[2]}


PLUGIN: Final = Collector(Scope.NODE, WANTS, rate)
