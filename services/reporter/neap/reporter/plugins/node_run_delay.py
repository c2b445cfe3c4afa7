"""How long tasks stood runnable without a CPU, summed over CPUs, from /proc/schedstat.

    run_delay = Σ over CPUs of Δwait_time / Δt        [seconds per second, no unit]

Seven waiting tasks make seven seconds per second, so it says how much CPU is short, where PSI only says that it is.
A CPU that came or whose counters were reset makes the sum unknown for one reading. Kernels before 2.6.38 (version 15)
are not read: their columns differ. Kernels without CONFIG_SCHEDSTATS have no such file.
Per container the kernel keeps no run delay: ContainerUsage.run_delay stays unknown, its cpu_stall.some is the share
of time in which at least one of its tasks waited.
Source: kernel documentation, scheduler/sched-stats (columns 7 to 9 of a cpu line).
"""

from __future__ import annotations

from typing import Final

from neap.common.units import MIB, Seconds
from neap.reporter.core.collector import CALM, Collector, Fields, Scope, Values, always, growth, known_sum
from neap.reporter.core.text import count, counts, value_of

NANOSECONDS: Final = 1e9
OLDEST: Final = 15
BUDGET: Final = 4 * MIB  # a line per CPU and scheduling domain

Delays = dict[int, tuple[int, int, int]]  # CPU -> run time, wait time (ns), timeslices


def parse_schedstat(text: str) -> Delays:
    """The three last columns of every CPU."""
    if value_of(text, "version ") < OLDEST:
        raise ValueError("a version whose columns are not known")
    found: Delays = {}
    at = text.find("\ncpu")
    while at >= 0:
        end = text.find("\n", at + 1)
        name, *words = text[at + 1 : end if end >= 0 else len(text)].split()
        run, wait, slices = counts(words[6:9])
        found[count(name[3:])] = (run, wait, slices)
        at = text.find("\ncpu", at + 1)
    if not found:
        raise ValueError("no cpu line")
    return found


def rate(before: Values | None, now: Values, seconds: Seconds) -> Fields:
    """What was waited since the reading before."""
    earlier: Delays | None = before[0] if before is not None else None
    later: Delays | None = now[0]
    if earlier is None or later is None:
        return {}
    grown = [growth(earlier[cpu][1] if cpu in earlier else None, wait) for cpu, (_, wait, _) in later.items()]
    waited = known_sum(grown)
    return {"run_delay": None if waited is None else waited / NANOSECONDS / seconds}


PLUGIN: Final = Collector(Scope.NODE, always(("/proc/schedstat", parse_schedstat)), rate, every=CALM, budget=BUDGET)
