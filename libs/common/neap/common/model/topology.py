"""What a machine is: a tree of zones with CPUs, memory and devices."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from neap.common.model.resource import Resources


class ZoneKind(StrEnum):
    """Levels of the tree, outermost first; a machine need not have all of them."""

    MACHINE = "machine"
    PACKAGE = "package"
    DIE = "die"
    NUMA = "numa"
    L3 = "l3"
    CORE = "core"
    BRIDGE = "bridge"
    GPU = "gpu"
    NIC = "nic"
    STORAGE = "storage"


class Zone(msgspec.Struct, frozen=True, kw_only=True):
    """One place in the machine. `cpus` is the Linux list of *usable* CPUs below it."""

    kind: ZoneKind
    index: int
    cpus: str = ""
    capacity: Resources = {}
    allocatable: Resources = {}
    attributes: dict[str, str] = {}
    children: tuple[Zone, ...] = ()


class NumaNode(msgspec.Struct, frozen=True, kw_only=True):
    """One NUMA node: its usable CPUs (may be none), memory in bytes, distances by NUMA index."""

    index: int
    cpus: str
    memory: int
    distances: dict[int, int] = {}


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU. Compute is always 100 percent; `memory_mib` is what the device reports."""

    index: int
    uuid: str
    model: str
    memory_mib: int
    numa: int = -1
    pci: str = ""


class NodeTopology(msgspec.Struct, frozen=True, kw_only=True):
    """The machine as the reporter found it; published once and on change."""

    at: float
    source: str
    node: str
    machine: Zone
    numa: tuple[NumaNode, ...]
    cards: tuple[Card, ...] = ()
    capacity: Resources = {}
    allocatable: Resources = {}
    system_cpus: str = ""  # reserved for daemons; never lent
    siblings: dict[int, str] = {}  # CPU -> list of the threads of its core
    labels: dict[str, str] = {}
    warnings: tuple[str, ...] = ()  # what contradicted itself in sysfs, by name
