"""A node as plain text for people: what it is, and what it does right now.

`describe_tree` draws the zones like a compact lstopo; cores are counted, not listed. `describe_usage` draws bars.
Unknown is written "unknown", never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from neap.common.cpuset import parse_cpuset
from neap.common.model.pcie import path_class
from neap.common.model.topology import Card, Device, NodeTopology, NumaNode, Zone, ZoneKind
from neap.common.model.usage import ContainerUsage, NodeUsage, Stall
from neap.common.units import MIB, format_bytes, format_duration

UNKNOWN: Final = "unknown"
BAR: Final = 20  # characters
EIGHTHS: Final = " ▏▎▍▌▋▊▉"
ZONE_WORDS: Final = {
    ZoneKind.MACHINE: "Machine",
    ZoneKind.PACKAGE: "Package",
    ZoneKind.DIE: "Die",
    ZoneKind.CLUSTER: "Cluster",
    ZoneKind.NUMA: "NUMA node",
    ZoneKind.L3: "L3",
    ZoneKind.BRIDGE: "Bridge",
    ZoneKind.GPU: "GPU",
    ZoneKind.NIC: "NIC",
    ZoneKind.RDMA: "RDMA",
    ZoneKind.STORAGE: "Storage",
}
PATH_KINDS: Final = (ZoneKind.GPU, ZoneKind.RDMA, ZoneKind.NIC)
PATHS: Final = 20  # rows and columns
SIZE_UNITS: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
CONTAINER_ROWS: Final = 40
ID_LENGTH: Final = 12


def describe_tree(topology: NodeTopology) -> str:
    """The machine's zones as a tree, then distances, cards, what is reserved, and warnings."""
    lines = [headline(topology), *_branches(topology.machine.children, "")]
    lines += _section("Distances", _distances(topology.numa))
    lines += _section("Paths", _paths(topology.devices))
    lines += _section("Cards", [_card(card) for card in topology.cards])
    lines += _section("Kept for the system", _reserve(topology))
    lines += _section("Warnings", [f"! {warning}" for warning in topology.warnings])
    return "\n".join(lines)


def describe_usage(usage: NodeUsage, topology: NodeTopology | None = None) -> str:
    """One report; with the topology, shares of the machine as bars."""
    capacity = topology.capacity if topology else {}
    cores, memory = capacity.get("cpu", 0) / 1000, capacity.get("memory", 0)
    used = memory - usage.memory_available if memory and usage.memory_available is not None else None
    free = UNKNOWN if usage.memory_available is None else f"{format_bytes(usage.memory_available)} available"
    lines = [
        f"{usage.node}  over the last {format_duration(usage.period)}",
        f"  cpu     {_bar(_part(usage.cpu, cores))}  {_cores(usage.cpu)}" + (f" of {cores:g}" if cores else ""),
        f"  memory  {_bar(_part(used, memory))}  {free}" + (f" of {format_bytes(memory)}" if memory else ""),
    ]
    stalls = (("cpu", usage.cpu_stall), ("memory", usage.memory_stall), ("io", usage.io_stall))
    lines += _section("Pressure (share of the last 10 s somebody / everybody waited)", [_stall(*row) for row in stalls])
    numa_cores = {node.index: len(parse_cpuset(node.cpus)) for node in topology.numa} if topology else {}
    lines += _section(
        "NUMA nodes",
        [
            f"{node.index:>3}  {_bar(_part(node.cpu, numa_cores.get(node.index, 0)))}  {_cores(node.cpu):>13}  "
            f"{UNKNOWN if node.memory_free is None else format_bytes(node.memory_free)} free"
            for node in usage.numa
        ],
    )
    lines += _section(f"Containers ({len(usage.containers)})", _containers(usage.containers))
    lines += _section("Not known", [f"? {source}" for source in usage.unknown])
    return "\n".join(lines)


# -- the tree --------------------------------------------------------------------------------------------------------


def headline(topology: NodeTopology) -> str:
    """The machine in one line: how many CPUs, cores, NUMA nodes and cards, how much memory."""
    machine, numa = topology.machine, len(topology.numa)
    memory = topology.capacity.get("memory")
    parts = [
        f"{len(parse_cpuset(machine.cpus))} CPUs",
        f"{_cores_below(machine)} cores",
        f"{numa} NUMA node{'s' * (numa != 1)}",
        UNKNOWN + " memory" if memory is None else format_bytes(memory),
    ]
    if topology.cards:
        parts.append(f"{len(topology.cards)} card{'s' * (len(topology.cards) != 1)}")
    return f"{topology.node or 'machine'}  ({', '.join(parts)})"


def _branches(zones: Sequence[Zone], indent: str) -> Iterable[str]:
    shown = [zone for zone in zones if zone.kind is not ZoneKind.CORE]
    for position, zone in enumerate(shown):
        last = position + 1 == len(shown)
        yield f"{indent}{'└─ ' if last else '├─ '}{zone_label(zone)}"
        yield from _branches(zone.children, indent + ("   " if last else "│  "))


def zone_label(zone: Zone, *, with_cpus: bool = True) -> str:
    """What a zone is, in a few words; cores are counted."""
    words = [f"{ZONE_WORDS.get(zone.kind, zone.kind)} {zone.index}"]
    if zone.cpus:
        words += [f"CPUs {zone.cpus}"] * with_cpus
    elif zone.kind is ZoneKind.NUMA:
        words.append("no CPUs" + f", near {zone.attributes.get('locality') or UNKNOWN}" * with_cpus)
    if zone.kind is ZoneKind.NUMA:
        memory = zone.capacity.get("memory")
        words.append(UNKNOWN + " memory" if memory is None else format_bytes(memory))
    if size := zone.attributes.get("size"):
        words.append(_size(size))
    if cores := sum(child.kind is ZoneKind.CORE for child in zone.children):
        words.append(f"{cores} core{'s' * (cores != 1)}")
    if "pci" in zone.attributes:
        words += _device_words(zone)
    return "  ".join(words)


def _device_words(zone: Zone) -> list[str]:
    told = zone.attributes
    vendor = told.get("maker") or told.get("vendor", "")
    words = [told.get("names", ""), " ".join(filter(None, (vendor, told["pci"])))]
    if buses := told.get("buses"):
        words.append(f"buses {buses}")
    if virtual := told.get("virtual"):
        words.append(f"{virtual} virtual functions")
    return [word for word in words if word]


def _size(text: str) -> str:
    """Sysfs writes "32768K"."""
    unit = SIZE_UNITS.get(text[-1:].upper())
    return format_bytes(int(text[:-1]) * unit) if unit and text[:-1].isdecimal() else text


def _cores_below(zone: Zone) -> int:
    return (zone.kind is ZoneKind.CORE) + sum(_cores_below(child) for child in zone.children)


def _distances(numa: Sequence[NumaNode]) -> list[str]:
    if len(numa) < 2 or not any(node.distances for node in numa):
        return []
    indexes = [node.index for node in numa]
    return ["from \\ to " + "".join(f"{index:>5}" for index in indexes)] + [
        f"{node.index:>9} " + "".join(f"{node.distances.get(index, '?'):>5}" for index in indexes) for node in numa
    ]


def _paths(devices: Sequence[Device]) -> list[str]:
    """How near any two accelerators and network cards are; see model.pcie for the words."""
    shown = [device for device in devices if device.kind in PATH_KINDS and not device.physical]
    if len(shown) < 2:
        return []
    shown.sort(key=lambda device: (PATH_KINDS.index(device.kind), device.address))
    more = [f"and {len(shown) - PATHS} more"] if len(shown) > PATHS else []
    shown = shown[:PATHS]
    names = [
        f"{row:>2} {ZONE_WORDS[device.kind]} {device.address.removeprefix('0000:')}" for row, device in enumerate(shown)
    ]
    width = max(len(name) for name in names)
    head = " " * width + "".join(f"{column:>6}" for column in range(len(shown)))
    rows = [
        f"{name:<{width}}" + "".join(f"{path_class(device, other):>6}" for other in shown)
        for name, device in zip(names, shown, strict=True)
    ]
    return [head, *rows, *more]


def _card(card: Card) -> str:
    where = f"NUMA {card.numa}" if card.numa >= 0 else "NUMA " + UNKNOWN
    memory = format_bytes(card.memory_mib * MIB) if card.memory_mib else UNKNOWN + " memory"
    return "  ".join(filter(None, (f"{card.index:>2}", card.model, memory, where, card.pci, card.uuid)))


def _reserve(topology: NodeTopology) -> list[str]:
    capacity, lent = topology.capacity, topology.allocatable
    isolated = topology.machine.attributes.get("isolated")
    among = f", of them isolated by the kernel {isolated}" if isolated else ""
    lines = [f"system CPUs  {topology.system_cpus or 'none'}{among}"]
    if "cpu" in lent:
        lines.append(f"cpu          {lent['cpu'] / 1000:g} of {capacity.get('cpu', 0) / 1000:g} cores allocatable")
    if "memory" in lent:
        total = format_bytes(capacity.get("memory", 0))
        lines.append(f"memory       {format_bytes(lent['memory'])} of {total} allocatable")
    return lines


# -- usage -----------------------------------------------------------------------------------------------------------


def _containers(containers: Sequence[ContainerUsage]) -> list[str]:
    if not containers:
        return ["none"]
    busiest = sorted(containers, key=lambda c: (-(c.cpu or 0.0), -(c.memory or 0), c.cgroup))
    rows = [f"{'container':<{ID_LENGTH}}  {'cpu':>13}  {'working set':>11}  {'cpu wait':>8}  {'throttled':>9}  CPUs"]
    rows += [
        f"{container.container[:ID_LENGTH]:<{ID_LENGTH}}  {_cores(container.cpu):>13}  "
        f"{UNKNOWN if container.working_set is None else format_bytes(container.working_set):>11}  "
        f"{_percent(container.cpu_stall.some10 if container.cpu_stall else None):>8}  "
        f"{_percent(container.throttled):>9}  {UNKNOWN if container.cpuset is None else container.cpuset}"
        for container in busiest[:CONTAINER_ROWS]
    ]
    more = len(containers) - CONTAINER_ROWS
    return rows if more <= 0 else [*rows, f"and {more} more"]


def _stall(name: str, stall: Stall | None) -> str:
    if stall is None:
        return f"{name:<6}  {_bar(None)}  {UNKNOWN}"
    return f"{name:<6}  {_bar(stall.some10)}  {_percent(stall.some10)} / {_percent(stall.full10)}"


def _part(value: float | None, whole: float) -> float | None:
    return value / whole if value is not None and whole else None


def _bar(share: float | None) -> str:
    """A bar of BAR characters, an eighth of a character fine; dots when nobody knows."""
    if share is None:
        return "·" * BAR
    eighths = round(min(1.0, max(0.0, share)) * BAR * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(BAR, "░")


def _cores(cores: float | None) -> str:
    return UNKNOWN if cores is None else f"{cores:.2f} cores"


def _percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{share * 100:.1f} %"


def _section(title: str, lines: Iterable[str]) -> list[str]:
    body = [f"  {line}" for line in lines]
    return ["", title, *body] if body else []
