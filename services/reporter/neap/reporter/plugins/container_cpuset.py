"""The CPUs a container may run on now, as a Linux list: cpuset.cpus.effective, in the kernel's numbers (no unit).

Source: kernel documentation, admin-guide/cgroup-v2, "Cpuset".
"""

from __future__ import annotations

from typing import Final

from neap.common.cpuset import LARGEST_CPU
from neap.common.units import Seconds
from neap.reporter.core.collector import CALM, Collector, Fields, Scope, Values, always
from neap.reporter.core.text import count


def parse_effective(text: str) -> str:
    """The list as the kernel wrote it, once it is known to be one; CPUs are not expanded."""
    listed = text.strip()
    last = -1
    for part in listed.split(",") if listed else ():
        first, dash, high = part.partition("-")
        start = count(first)
        if start <= last:
            raise ValueError(f"no CPU list: {listed[:80]!r}")
        last = count(high) if dash else start
        if not start <= last < LARGEST_CPU:
            raise ValueError(f"no CPU list: {listed[:80]!r}")
    return listed


def rate(_before: Values | None, now: Values, _seconds: Seconds) -> Fields:
    """The list now."""
    return {"cpuset": now[0]}


PLUGIN: Final = Collector(Scope.CONTAINER, always(("cpuset.cpus.effective", parse_effective)), rate, every=CALM)
