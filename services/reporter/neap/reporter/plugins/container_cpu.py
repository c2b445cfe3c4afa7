"""Cores a container used, and the share of time its quota held it back.

    cpu       = Δusage_usec / Δt                      [cores]
    throttled = min(1, Δthrottled_usec / Δt)          [ratio 0..1]

throttled_usec adds up over the CPUs that were held back, so it can outrun the clock; 1 means "all the time".
Source: kernel documentation, admin-guide/cgroup-v2, cpu.stat.
"""

from __future__ import annotations

from typing import Final

from neap.common.units import Seconds
from neap.reporter.core.collector import Collector, Fields, Scope, Values, always, growth
from neap.reporter.core.text import value_if, value_of

MICROSECONDS: Final = 1e6


def parse_cpu_stat(text: str) -> tuple[int, int | None]:
    """Used and throttled microseconds; without the cpu controller there is no throttling to tell."""
    return value_of(text, "usage_usec "), value_if(text, "throttled_usec ")


def rate(before: Values | None, now: Values, seconds: Seconds) -> Fields:
    """Use over the period."""
    if before is None or before[0] is None or now[0] is None:
        return {}
    used, held = growth(before[0][0], now[0][0]), growth(before[0][1], now[0][1])
    return {
        "cpu": None if used is None else used / MICROSECONDS / seconds,
        "throttled": None if held is None else min(1.0, held / MICROSECONDS / seconds),
    }


PLUGIN: Final = Collector(Scope.CONTAINER, always(("cpu.stat", parse_cpu_stat)), rate)
