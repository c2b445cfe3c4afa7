"""How often the kernel killed something in a container for want of memory, since its cgroup exists.

    oom_kills = oom_kill        [kills, no unit]

Source: kernel documentation, admin-guide/cgroup-v2, memory.events.
"""

from __future__ import annotations

from typing import Final

from neap.common.units import Seconds
from neap.reporter.core.collector import CALM, Collector, Fields, Scope, Values, always
from neap.reporter.core.text import value_of


def parse_events(text: str) -> int:
    """The number of kills."""
    return value_of(text, "oom_kill ")


def rate(_before: Values | None, now: Values, _seconds: Seconds) -> Fields:
    """The number so far."""
    return {"oom_kills": now[0]}


PLUGIN: Final = Collector(Scope.CONTAINER, always(("memory.events", parse_events)), rate, every=CALM)
