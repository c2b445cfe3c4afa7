"""cpuset.mems: the NUMA nodes a cgroup's memory may come from; pages move when it changes.

    effective = mems ∩ effective(parent), and effective(parent) where that is empty       [NUMA node numbers]

Source: kernel documentation, admin-guide/cgroup-v2, "Cpuset Interface Files" (page migration included).
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from neap.common.cpuset import format_cpuset, parse_cpuset
from neap.common.errors import InputError
from neap.enforcer.core.knob import Knob, Reach


def format_mems(text: str) -> str:
    """The list in the kernel's own spelling.

    Raises:
        InputError: empty or malformed.
    """
    nodes = parse_cpuset(text)
    if not nodes:
        raise InputError("an empty list of memory nodes would allow every node of the parent")
    return format_cpuset(nodes)


PLUGIN: Final = Knob(
    file="cpuset.mems",
    value=attrgetter("mems"),
    format=format_mems,
    parse=parse_cpuset,
    reach=Reach.NESTED,
)
