"""Pressure of the machine: shares of time in which somebody (some) or everybody (full) waited, as 0..1.

    cpu, memory, io: averages and the share of the period; irq: time that interrupts took from everybody

A kernel without PSI has none of the files, one without CONFIG_IRQ_TIME_ACCOUNTING not the last: unknown. Formulas:
neap.reporter.core.psi.
Source: kernel documentation, accounting/psi.
"""

from __future__ import annotations

from typing import Final

from neap.common.units import Seconds
from neap.reporter.core.collector import Collector, Fields, Scope, Values, always
from neap.reporter.core.psi import parse_irq_pressure, parse_pressure, parse_whole_pressure, stall

NAMES: Final = ("cpu_stall", "memory_stall", "io_stall", "irq_stall")
WANTS: Final = always(
    ("/proc/pressure/cpu", parse_pressure),
    ("/proc/pressure/memory", parse_whole_pressure),
    ("/proc/pressure/io", parse_whole_pressure),
    ("/proc/pressure/irq", parse_irq_pressure),
)


def rate(before: Values | None, now: Values, seconds: Seconds) -> Fields:
    """The averages as they are, and the period's own share."""
    earlier = before or (None,) * len(NAMES)
    return {name: stall(was, is_now, seconds) for name, was, is_now in zip(NAMES, earlier, now, strict=True)}


PLUGIN: Final = Collector(Scope.NODE, WANTS, rate)
