"""cpuset.cpus: the CPUs a cgroup's tasks may run on.

    effective = cpus ∩ effective(parent), and effective(parent) where that is empty       [CPU numbers]

An empty set therefore means "whatever the parent has": advice may never ask for it, and the planner never lets a
set drift outside its parent's (core/order.py).
Source: kernel documentation, admin-guide/cgroup-v2, "Cpuset Interface Files".
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from neap.common.cpuset import format_cpuset, parse_cpuset
from neap.common.errors import InputError
from neap.enforcer.core.knob import Knob, Reach


def format_cpus(text: str) -> str:
    """The list in the kernel's own spelling.

    Raises:
        InputError: empty or malformed.
    """
    cpus = parse_cpuset(text)
    if not cpus:
        raise InputError("an empty CPU list would lend every CPU of the parent")
    return format_cpuset(cpus)


PLUGIN: Final = Knob(
    file="cpuset.cpus",
    value=attrgetter("cpus"),
    format=format_cpus,
    parse=parse_cpuset,
    reach=Reach.NESTED,
)
