"""Memory a container holds, in every report.

    memory = memory.current                              [bytes]

Its working set is read less often (container_working_set): memory.stat makes the kernel add up counters of all CPUs.
Source: kernel documentation, admin-guide/cgroup-v2, "Memory Interface Files".
"""

from __future__ import annotations

from typing import Final

from neap.common.units import Seconds
from neap.reporter.core.collector import Collector, Fields, Scope, Values, always
from neap.reporter.core.text import count


def rate(_before: Values | None, now: Values, _seconds: Seconds) -> Fields:
    """What is held now."""
    return {"memory": now[0]}


PLUGIN: Final = Collector(Scope.CONTAINER, always(("memory.current", count)), rate)
