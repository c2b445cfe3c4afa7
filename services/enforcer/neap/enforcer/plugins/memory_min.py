"""memory.min: memory that is never reclaimed, whatever happens; too much of it ends in an OOM kill elsewhere.

    protected = min(usage, min, what every ancestor's memory.min leaves)       [bytes in whole pages; 0 protects nothing]

It protects only as far as each cgroup above protects as well, so advice for a pod needs one for its class.
Source: kernel documentation, admin-guide/cgroup-v2, "Memory Interface Files", "Memory Protections".
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from neap.enforcer.core.knob import Knob
from neap.enforcer.core.memory import agree, format_protection, parse_limit

PLUGIN: Final = Knob(
    file="memory.min", value=attrgetter("memory_min"), format=format_protection, parse=parse_limit, agree=agree
)
