"""memory.reclaim: ask the kernel to take pages back from a cgroup, until memory.current is at a level.

    write = min(current − level, largest step, current × ratio × calm), see core/offload.py       [bytes]

It is an act and not a state: nothing is there to be read back or given back, because a page that is needed again
comes back by itself, at the price of one fault. So there is no inverse, and the journal knows nothing of it.
EAGAIN means that less than asked could be taken; that is told, and ends the act until there is new advice.
Source: kernel documentation, admin-guide/cgroup-v2, "Memory Interface Files" (Linux ≥ 5.19).
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from neap.enforcer.core.knob import Knob, Reach, whole
from neap.enforcer.core.memory import format_protection

PLUGIN: Final = Knob(
    file="memory.reclaim",
    value=attrgetter("memory_down_to"),
    format=format_protection,
    parse=whole,
    reach=Reach.LEVEL,
    beside=("memory.current", "memory.pressure", "memory.stat"),
)
