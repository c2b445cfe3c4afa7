"""oom_score_adj: whom the kernel kills first when the node is out of memory.

    badness = pages used + oom_score_adj / 1000 × pages of the machine       [-1000 never .. 1000 first]

It belongs to processes, so it is written to every process of a pod's containers; a process started later inherits
it from its parent. The text of a container is the value of its first process, followed by "pid:value" for each
process that differs, so that what was found can be put back exactly: "-997 4711:1000".
Source: kernel documentation, filesystems/proc, "oom_score_adj"; mm/oom_kill.c, oom_badness (formula).
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from neap.enforcer.core.knob import Knob, Reach, between
from neap.enforcer.core.processes import parse_values

PLUGIN: Final = Knob(
    file="oom_score_adj",
    value=attrgetter("oom_score_adj"),
    format=between(-1000, 1000, "of oom_score_adj"),
    parse=parse_values,
    reach=Reach.PROCESSES,
)
