"""Where a container's anonymous memory lies: bytes on each NUMA node, in the order of the nodes in a report.

    memory_nodes[i] = anon of N<index of the i-th node>                              [bytes]

Only where sysfs has more than one node: else there is nothing to tell apart. Anonymous memory, because that is what
moves when a cgroup may no longer use a node; page cache that nobody has mapped stays where it is. A node of the
machine that the file does not name makes all of it unknown. Read rarely: the kernel adds up counters of all CPUs.
Source: kernel documentation, admin-guide/cgroup-v2, memory.numa_stat (since 5.8).
"""

from __future__ import annotations

from functools import partial
from typing import Final

from neap.common.units import Bytes, Seconds
from neap.reporter.core.collector import RARE, Collector, Fields, Scope, Surroundings, Values, Wants
from neap.reporter.core.text import count

KEY: Final = "anon "


def parse_numa_stat(nodes: tuple[int, ...], text: str) -> tuple[Bytes, ...]:
    """Anonymous bytes on these nodes: a line like "anon N0=8192 N1=0"."""
    line = next((line for line in text.splitlines() if line.startswith(KEY)), None)
    if line is None:
        raise ValueError("no anon line")
    held = dict(word.split("=", 1) for word in line.split()[1:])
    try:
        return tuple(count(held[f"N{node}"]) for node in nodes)
    except KeyError as missing:
        raise ValueError(f"no NUMA node {missing}") from None


def wants(around: Surroundings) -> Wants:
    """The file of a container, where there is more than one node."""
    return (("memory.numa_stat", partial(parse_numa_stat, around.numa)),) if len(around.numa) > 1 else ()


def rate(_before: Values | None, now: Values, _seconds: Seconds) -> Fields:
    """What lies where now."""
    return {"memory_nodes": now[0]} if now else {}


PLUGIN: Final = Collector(Scope.CONTAINER, wants, rate, every=RARE)
