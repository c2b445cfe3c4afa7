"""resctrl: which group of cache and memory bandwidth a pod's tasks belong to.

    a task is in one group; "/" is the root group, and where tasks go whose group is taken away       [group name]

A task that is forked starts in its parent's group, one that is moved in from outside does not, so every look moves
the late ones. The text of a container is the group of its first task, followed by "tid:group" for each that differs,
so that what was found can be put back exactly.
Source: kernel documentation, arch/x86/resctrl, "Resource groups", "tasks".
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from neap.enforcer.core.knob import Knob, Reach
from neap.enforcer.core.processes import split_values
from neap.enforcer.core.rdt import format_group

PLUGIN: Final = Knob(
    file="resctrl", value=attrgetter("resctrl"), format=format_group, parse=split_values, reach=Reach.TASKS
)
