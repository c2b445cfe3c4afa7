"""memory.swap.max: how much of a cgroup's anonymous memory may lie in swap.

    bytes in whole pages; 0 keeps it out of swap, "max" lifts it       [bytes]

Lowering it moves nothing back from swap; it only stops more from going there. Without swap accounting
(swapaccount=0) or without CONFIG_SWAP the file is missing.
Source: kernel documentation, admin-guide/cgroup-v2, "Memory Interface Files".
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from neap.enforcer.core.knob import Knob
from neap.enforcer.core.memory import agree, format_swap, parse_limit

PLUGIN: Final = Knob(
    file="memory.swap.max", value=attrgetter("swap_max"), format=format_swap, parse=parse_limit, agree=agree
)
