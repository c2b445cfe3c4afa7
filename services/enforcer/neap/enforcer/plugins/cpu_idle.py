"""cpu.idle: a cgroup runs only where nobody else wants to.

    0 or 1; 1 is SCHED_IDLE for the whole cgroup       [flag]

It throws the cgroup's cpu.weight away, so the planner journals the weight with it.
Source: kernel documentation, admin-guide/cgroup-v2, "CPU Interface Files" (Linux ≥ 5.15).
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from neap.enforcer.core.knob import Knob, between, whole

PLUGIN: Final = Knob(file="cpu.idle", value=attrgetter("cpu_idle"), format=between(0, 1, "of idle"), parse=whole)
