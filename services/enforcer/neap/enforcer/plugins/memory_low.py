"""memory.low: memory that is reclaimed only when nothing unprotected is left to reclaim.

    protected = min(usage, low, what every ancestor's memory.low leaves)       [bytes in whole pages; 0 protects nothing]

Best effort, so it cannot cause an OOM kill; like memory.min it reaches as far as the cgroups above protect.
Source: kernel documentation, admin-guide/cgroup-v2, "Memory Interface Files", "Memory Protections".
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from neap.enforcer.core.knob import Knob
from neap.enforcer.core.memory import agree, format_protection, parse_limit

PLUGIN: Final = Knob(
    file="memory.low", value=attrgetter("memory_low"), format=format_protection, parse=parse_limit, agree=agree
)
