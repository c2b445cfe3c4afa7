"""Memory of a container, now.

    memory      = memory.current                              [bytes]
    working_set = max(0, memory.current − inactive_file)      [bytes]
    file_cache  = file                                        [bytes]

Source: kernel documentation, admin-guide/cgroup-v2, memory.stat; the working set as kubelet (cAdvisor) defines it.
"""

from __future__ import annotations

from typing import Final

from neap.common.units import Bytes, Seconds
from neap.reporter.core.collector import Collector, Fields, Scope, Values, always
from neap.reporter.core.text import count, value_of


def parse_memory_stat(text: str) -> tuple[Bytes, Bytes]:
    """Bytes of file cache, and of those the inactive ones."""
    return value_of(text, "file "), value_of(text, "inactive_file ")


def rate(_before: Values | None, now: Values, _seconds: Seconds) -> Fields:
    """What is held now."""
    current, stat = now
    return {
        "memory": current,
        "working_set": None if current is None or stat is None else max(0, current - stat[1]),
        "file_cache": None if stat is None else stat[0],
    }


PLUGIN: Final = Collector(Scope.CONTAINER, always(("memory.current", count), ("memory.stat", parse_memory_stat)), rate)
