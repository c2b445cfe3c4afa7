"""memory.high: above it a cgroup is slowed down and its pages are reclaimed; it is never killed for it.

    bytes in whole pages; "max" lifts it       [bytes]

Source: kernel documentation, admin-guide/cgroup-v2, "Memory Interface Files".
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from neap.enforcer.core.knob import Knob
from neap.enforcer.core.memory import agree, format_limit, parse_limit

PLUGIN: Final = Knob(
    file="memory.high", value=attrgetter("memory_high"), format=format_limit, parse=parse_limit, agree=agree
)
