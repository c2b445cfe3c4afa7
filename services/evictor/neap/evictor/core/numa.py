"""Levels of NUMA nodes, and which guests run on one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from neap.evictor.core.tried import cpus_of
from neap.evictor.core.view import Guest, Level, View

_PREFIX: Final = "numa"


def scope_of(index: int) -> str:
    """Of a level about this NUMA node."""
    return f"{_PREFIX}{index}"


def index_of(level: Level) -> int:
    """Which NUMA node a level is about."""
    return int(level.scope.removeprefix(_PREFIX))


def cpus_on(view: View, index: int) -> frozenset[int]:
    """CPUs of a NUMA node; empty where the topology does not say."""
    numa = view.topology.numa if view.topology is not None else ()
    return next((cpus_of(one.cpus) for one in numa if one.index == index), frozenset())


def on_numa(view: View, index: int, guests: Sequence[Guest]) -> list[Guest]:
    """Those bound to a NUMA node, or that may run there as far as is known."""
    cpus = cpus_on(view, index)
    return [guest for guest in guests if index in guest.numa or (not guest.numa and guest.cpus & cpus)]
