"""Settings of the reporter."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from neap.common.units import GIB, MIB, Bytes, Cores, Ratio, Seconds

Share: TypeAlias = Annotated[Ratio, Meta(ge=0, le=1)]
Rounds: TypeAlias = Annotated[int, Meta(ge=1, le=86400)]
CgroupRoot: TypeAlias = Annotated[str, Meta(pattern=r"^/sys/fs/cgroup(/[^/]+)+$", max_length=1024)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one node's reporter is told. A round is one report."""

    node: str = ""  # the node reported on; empty: this host's name
    period: Annotated[Seconds, Meta(gt=0)] = 1.0  # between two usage reports
    phase: Seconds = 0.0  # after the full period; lets a node's report follow what it reports on
    spread: Share = 0.9  # of the period over which a cluster's nodes report, each at its own moment; 0: all at once
    topology_every: Rounds = 300  # rounds between two looks at the topology; it is published only when it changed
    topology_file: str = (
        ""  # NCCL topology file (absolute path on the host) where a vendor ships one; it wins over the bus
    )
    relist_every: Rounds = 5  # rounds between two looks for new containers in a pod already known
    devices_every: Rounds = (
        30  # rounds between two looks for disks, links, ports, resctrl groups; sooner if one is gone
    )
    off: tuple[str, ...] = ()  # collectors that are switched off, by name
    every: dict[str, Annotated[Seconds, Meta(ge=0)]] = {}  # collector -> seconds between two readings, if not its own
    cgroup_roots: Annotated[tuple[CgroupRoot, ...], Meta(min_length=1, max_length=16)] = (
        "/sys/fs/cgroup/kubepods.slice",
        "/sys/fs/cgroup/kubepods",
        "/sys/fs/cgroup/kubelet.slice/kubelet-kubepods.slice",
        "/sys/fs/cgroup/kubelet/kubepods",
    )  # where pods live, with either driver of the kubelet, and inside a node that is a container itself

    full_every: Rounds = 10  # reports of which one lists all containers, and the others those that moved
    skip_at_most: Annotated[int, Meta(ge=0, le=3600)] = 0  # reports left out in a row while nothing moves
    moved_ratio: Share = 0.01  # of the value last told: less is no news
    moved_cores: Annotated[Cores, Meta(ge=0)] = 0.01  # nor is less than so many cores, or so much of a share of time
    moved_bytes: Annotated[Bytes, Meta(ge=0)] = MIB  # or of memory, or of traffic per second
    moved_pages: Annotated[float, Meta(ge=0)] = 10.0  # or of pages, or errors, per second
    moved_watts: Annotated[float, Meta(ge=0)] = 1.0  # or of power

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
