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
    CLUSTER = "cluster"
    NUMA = "numa"
    L3 = "l3"
    CORE = "core"
    BRIDGE = "bridge"
    GPU = "gpu"
    NIC = "nic"
    RDMA = "rdma"
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


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One PCI function that matters for placement, and where it hangs.

    `path` names what lies between the root complex and the device, outermost first: the host bridge
    ("pci0000:00"), then every bridge by address ("0000:00:01.0"); empty where the bus tree is unknown.
    """

    kind: ZoneKind  # GPU, NIC, RDMA or STORAGE
    address: str  # "0000:3b:00.0"
    names: tuple[str, ...] = ()  # what the system calls it: "eth0", "mlx5_0", "nvme0n1"
    vendor: str = ""  # four hexadecimal digits, as PCI gives them
    model: str = ""  # four hexadecimal digits
    numa: int = -1  # -1: the firmware does not say
    cpus: str = ""  # CPUs near it; empty where unknown
    path: tuple[str, ...] = ()
    physical: str = ""  # of a virtual function: the address of its physical function


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """NVLinks between two GPUs, by their addresses, `a` the smaller one; switches in between count as nothing."""

    a: str
    b: str
    lanes: int


class NodeTopology(msgspec.Struct, frozen=True, kw_only=True):
    """The machine as the reporter found it; published once and on change."""

    at: float
    source: str
    node: str
    machine: Zone
    numa: tuple[NumaNode, ...]
    cards: tuple[Card, ...] = ()
    devices: tuple[Device, ...] = ()  # by address
    links: tuple[Link, ...] | None = None  # by addresses; None: nobody says whether there are any
    capacity: Resources = {}
    allocatable: Resources = {}
    system_cpus: str = ""  # reserved for daemons; never lent
    siblings: dict[int, str] = {}  # CPU -> list of the threads of its core
    labels: dict[str, str] = {}
    warnings: tuple[str, ...] = ()  # what contradicted itself in sysfs, by name
