"""What of a container's memory is in use, and what of it had to be read again.

    working_set = max(0, memory.current − inactive_file)                             [bytes]
    file_cache  = file                                                               [bytes]
    refaults    = Δ(workingset_refault_anon + workingset_refault_file) / Δt          [pages per second]

Both files are read together, so that the difference is one of the same moment. Kernels before 5.9 count both kinds of
refault in one line, `workingset_refault`.
Source: kernel documentation, admin-guide/cgroup-v2, memory.stat; the working set as kubelet (cAdvisor) defines it.
"""

from __future__ import annotations

from typing import Final

from neap.common.units import Bytes, Seconds
from neap.reporter.core.collector import CALM, Collector, Fields, Scope, Values, always, per_second
from neap.reporter.core.text import count, value_if, value_of

Stat = tuple[Bytes, Bytes, int | None]  # file cache, the inactive part of it, pages refaulted


def parse_memory_stat(text: str) -> Stat:
    """See the module."""
    anon, file = value_if(text, "workingset_refault_anon "), value_if(text, "workingset_refault_file ")
    both = anon + file if anon is not None and file is not None else value_if(text, "workingset_refault ")
    return value_of(text, "file "), value_of(text, "inactive_file "), both


def rate(before: Values | None, now: Values, seconds: Seconds) -> Fields:
    """What is held now, and what came back since the reading before."""
    current: Bytes | None = now[0]
    stat: Stat | None = now[1]
    earlier: Stat | None = None if before is None else before[1]
    if stat is None:
        return {}
    return {
        "working_set": None if current is None else max(0, current - stat[1]),
        "file_cache": stat[0],
        "refaults": None if earlier is None else per_second(earlier[2], stat[2], seconds),
    }


WANTS: Final = always(("memory.current", count), ("memory.stat", parse_memory_stat))
PLUGIN: Final = Collector(Scope.CONTAINER, WANTS, rate, every=CALM)
