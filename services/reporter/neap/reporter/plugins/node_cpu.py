"""Cores busy, per CPU and in all, from /proc/stat.

    busy  = user + nice + system + irq + softirq + steal          [ticks]
    idle  = idle + iowait                                         [ticks]
    cores = Σ over CPUs of Δbusy / (Δbusy + Δidle)                [cores]

A CPU's share needs no clock, so a late report is not a wrong one. Guest time is contained in user. Stolen time counts
as busy: nobody here can use it. A CPU whose counters went backwards (iowait may) or stood still is unknown, and the
total with it.

Source: proc_stat(5); kernel documentation, filesystems/proc, 1.7.
"""

from __future__ import annotations

from typing import Final

from neap.common.units import MIB, Seconds
from neap.reporter.core.collector import CPU_OF, Collector, Fields, Scope, Values, always
from neap.reporter.core.text import LARGEST, count, counts

BUDGET: Final = 4 * MIB  # the line of interrupts grows with CPUs and devices
Ticks = dict[int, tuple[int, int]]  # CPU -> busy, idle


def parse_stat(text: str) -> Ticks:
    """Busy and idle ticks of every CPU listed."""
    end = text.find("\nintr")  # the rest is long, and not ours
    found: Ticks = {}
    for line in text[: end if end >= 0 else len(text)].split("\n"):
        if not line.startswith("cpu"):
            break
        if line[3] == " ":
            continue
        name, *words = line.split(None, 9)
        user, nice, system, idle, iowait, irq, softirq, steal = counts(words[:8])
        busy, rest = user + nice + system + irq + softirq + steal, idle + iowait
        if not (busy <= LARGEST and rest <= LARGEST):
            raise ValueError(f"ticks out of range: {line[:80]!r}")
        found[count(name[3:])] = (busy, rest)
    if not found:
        raise ValueError("no cpu line")
    return found


def rate(before: Values | None, now: Values, _seconds: Seconds) -> Fields:
    """Cores busy since the report before."""
    earlier: Ticks | None = before[0] if before is not None else None
    later: Ticks | None = now[0]
    if earlier is None or later is None:
        return {}
    busy_of: dict[int, float] = {}
    for cpu, (busy, idle) in later.items():
        was = earlier.get(cpu)
        if was is not None and busy >= was[0] and idle >= was[1] and busy + idle > was[0] + was[1]:
            busy_of[cpu] = (busy - was[0]) / (busy + idle - was[0] - was[1])
    total = sum(busy_of.values()) if len(busy_of) == len(later) else None
    return {"cpu": total, CPU_OF: busy_of}


PLUGIN: Final = Collector(Scope.NODE, always(("/proc/stat", parse_stat)), rate, budget=BUDGET)
