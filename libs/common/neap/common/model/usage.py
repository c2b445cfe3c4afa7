"""What a node does right now: usage and pressure per container, NUMA node and machine.

`None` means *unknown*, never zero.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Stall(msgspec.Struct, frozen=True, kw_only=True):
    """PSI of one resource: shares of time (0..1) over the last 10 s, over 60 s, and since the reading before.

    The averages lag a sudden change by seconds; `some` and `full`, where known, do not.
    """

    some10: float = 0.0
    some60: float = 0.0
    full10: float = 0.0
    full60: float = 0.0
    some: float | None = None
    full: float | None = None


class ContainerUsage(msgspec.Struct, frozen=True, kw_only=True):
    """One container. CPU in cores over the last period; memory in bytes now."""

    uid: str  # of the workload
    container: str  # id of the runtime, from the cgroup path
    cgroup: str  # path below the cgroup root
    cpu: float | None = None
    throttled: float | None = None  # share of the period spent throttled, 0..1
    memory: int | None = None  # memory.current
    working_set: int | None = None  # memory.current - inactive_file
    file_cache: int | None = None
    cpu_stall: Stall | None = None
    memory_stall: Stall | None = None
    cpuset: str | None = None  # cpuset.cpus.effective
    run_delay: float | None = None  # seconds its tasks waited for a CPU, per second
    io_stall: Stall | None = None
    io_read: float | None = None  # bytes/s from block devices
    io_write: float | None = None  # bytes/s to block devices
    refaults: float | None = None  # pages/s that had been reclaimed and were needed again
    oom_kills: int | None = None  # since the cgroup exists
    bandwidth: float | None = None  # memory bytes/s, by resctrl
    cache: int | None = None  # bytes it holds in L3 caches, by resctrl
    cpi: float | None = None  # cycles per instruction, where the kernel counts them
    gpu: float | None = None  # cards' worth of compute, summed over its cards
    memory_nodes: tuple[int, ...] | None = None  # anonymous bytes on each NUMA node, in the order of the report's


class NumaUsage(msgspec.Struct, frozen=True, kw_only=True):
    """One NUMA node: cores busy, bytes free."""

    index: int
    cpu: float | None = None
    memory_free: int | None = None
    memory_total: int | None = None
    reclaimed: float | None = None  # pages/s taken back by kswapd and by allocating tasks
    refaults: float | None = None  # pages/s that had been taken back and were needed again
    bandwidth: float | None = None  # memory bytes/s, by resctrl
    cache: int | None = None  # bytes of L3 in use, by resctrl
    watermark_low: int | None = None  # bytes free at which kswapd wakes, summed over the node's zones
    latency: float | None = None  # nanoseconds a read of its memory takes; no kernel file says it


class DeviceUsage(msgspec.Struct, frozen=True, kw_only=True):
    """One device's traffic: a network link, an RDMA port or a disk, by the system's name for it."""

    name: str
    read: float | None = None  # bytes/s received or read
    write: float | None = None  # bytes/s sent or written
    busy: float | None = None  # share of the period with work under way, 0..1
    errors: float | None = None  # errors and drops per second
    speed: float | None = None  # bytes/s it can do in one direction, as it says itself
    memory: int | None = None  # bytes in use on a card


class FilesystemUsage(msgspec.Struct, frozen=True, kw_only=True):
    """A file system that pods share, by a path in it; bytes and inodes that anybody but root can use."""

    path: str
    size: int | None = None
    free: int | None = None
    inodes: int | None = None  # None as well where it makes them as it needs them
    inodes_free: int | None = None


class NodeUsage(msgspec.Struct, frozen=True, kw_only=True):
    """One report of one node."""

    at: float
    source: str
    node: str
    seq: int
    period: float  # seconds the rates cover
    cpu: float | None = None
    memory_available: int | None = None
    cpu_stall: Stall | None = None
    memory_stall: Stall | None = None
    io_stall: Stall | None = None
    irq_stall: Stall | None = None
    run_delay: float | None = None  # seconds tasks waited for a CPU, per second, summed over CPUs
    power: float | None = None  # watts, by RAPL, summed over packages
    reclaimed: float | None = None  # pages/s taken back by kswapd and by allocating tasks
    refaults: float | None = None  # pages/s that had been taken back and were needed again
    numa: tuple[NumaUsage, ...] = ()
    links: tuple[DeviceUsage, ...] = ()
    rdma: tuple[DeviceUsage, ...] = ()
    disks: tuple[DeviceUsage, ...] = ()
    filesystems: tuple[FilesystemUsage, ...] = ()
    cards: tuple[DeviceUsage, ...] = ()  # busy: share of the period the card computed
    containers: tuple[ContainerUsage, ...] = ()
    since: int = 0  # 0: all containers are listed; else only those that changed since the report of this seq
    unknown: tuple[str, ...] = ()  # sources that were missing or vanished, by name


def completed(report: NodeUsage, full: NodeUsage | None) -> NodeUsage | None:
    """A report with all its containers: itself if it lists all, else on top of the full report it refers to.

    None if that full report is not the one given: then the reader waits for the next full one. A container that is
    gone makes the reporter send a full report, so a container missing from a short one has not changed.
    """
    if not report.since:
        return report
    if full is None or full.seq != report.since or full.source != report.source:
        return None
    changed = {container.cgroup: container for container in report.containers}
    merged = tuple(changed.get(container.cgroup, container) for container in full.containers)
    return msgspec.structs.replace(report, containers=merged, since=0)


def overtakes(newer: NodeUsage, older: NodeUsage) -> bool:
    """Whether the older report need not be read any more: short ones say all that moved since their full one."""
    return not newer.since or newer.since == older.since


class ReportsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What did you report after that?"""

    after: int  # seq of the last report that was heard


class Reports(msgspec.Struct, frozen=True, kw_only=True):
    """Reports as they were sent, oldest first. `complete`: none that was sent after the one asked for is missing.

    `more`: there are later ones, to be asked for after the last of these.
    """

    reports: tuple[NodeUsage, ...] = ()
    complete: bool = False
    more: bool = False


class PressureKind(StrEnum):
    """What is short."""

    CPU = "cpu"
    MEMORY = "memory"
    IO = "io"


class Pressure(msgspec.Struct, frozen=True, kw_only=True):
    """An event: a node's resource crossed a threshold (risen) or came back (not risen)."""

    at: float
    source: str
    node: str
    kind: PressureKind
    metric: str
    value: float
    threshold: float
    risen: bool
