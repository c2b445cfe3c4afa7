"""What a node does right now: usage and pressure per container, NUMA node and machine.

`None` means *unknown*, never zero.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Stall(msgspec.Struct, frozen=True, kw_only=True):
    """PSI of one resource: shares of time (0..1) over the last 10 s, and over 60 s."""

    some10: float = 0.0
    some60: float = 0.0
    full10: float = 0.0
    full60: float = 0.0


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
    gpu: float | None = None  # cards' worth of compute, summed over its cards


class NumaUsage(msgspec.Struct, frozen=True, kw_only=True):
    """One NUMA node: cores busy, bytes free."""

    index: int
    cpu: float | None = None
    memory_free: int | None = None


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
    numa: tuple[NumaUsage, ...] = ()
    containers: tuple[ContainerUsage, ...] = ()
    unknown: tuple[str, ...] = ()  # sources that were missing or vanished, by name


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
