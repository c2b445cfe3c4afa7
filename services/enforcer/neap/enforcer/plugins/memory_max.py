"""memory.max: the hard limit; what cannot be reclaimed below it ends in an OOM kill inside the cgroup.

    bytes in whole pages; "max" lifts it       [bytes]

Source: kernel documentation, admin-guide/cgroup-v2, "Memory Interface Files".
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from neap.enforcer.core.knob import Knob
from neap.enforcer.core.memory import agree, format_limit, parse_limit

PLUGIN: Final = Knob(
    file="memory.max", value=attrgetter("memory_max"), format=format_limit, parse=parse_limit, agree=agree
)
