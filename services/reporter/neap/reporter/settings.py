"""Settings of the reporter."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from neap.common.units import GIB, Bytes, Ratio, Seconds

Share: TypeAlias = Annotated[Ratio, Meta(ge=0, le=1)]
Rounds: TypeAlias = Annotated[int, Meta(ge=1, le=86400)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one node's reporter is told. A round is one report."""

    node: str = ""  # the node reported on; empty: this host's name
    period: Annotated[Seconds, Meta(gt=0)] = 1.0  # between two usage reports
    phase: Seconds = 0.0  # after the full period; lets a node's report follow what it reports on
    topology_every: Rounds = 300  # rounds between two looks at the topology; it is published only when it changed
    relist_every: Rounds = 5  # rounds between two looks for new containers in a pod already known
    off: tuple[str, ...] = ()  # collectors that are switched off, by name

    system_cpus: str = ""  # CPU list kept for the system's daemons and never lent; empty: chosen by count
    system_cpu_count: Annotated[int, Meta(ge=0, le=1024)] = (
        1  # CPUs kept if no list is given, rounded up to whole cores
    )
    system_memory: Annotated[Bytes, Meta(ge=0)] = GIB  # kept for the system's daemons; never more than a quarter
    labels: dict[str, str] = {}  # of the node, for node selectors

    cpu_stall_high: Share = 0.6  # PSI cpu some, last 10 s: above it CPU pressure has risen
    cpu_stall_low: Share = 0.4  # at or below it CPU pressure is over
    memory_stall_high: Share = 0.10  # PSI memory full, last 10 s: above it memory pressure has risen
    memory_stall_low: Share = 0.05  # at or below it memory pressure is over
    available_low: Share = 0.05  # of the node's memory: with less available, memory pressure has risen
    available_back: Share = 0.08  # of the node's memory: with at least so much available, it is over
