"""Devices as zones, below the bridges they share.

A host bridge is a zone if a device hangs below it, a port only where ways part: a chain of ports says nothing about
who shares what (Device.path has all of it). So there are never more bridge zones than host bridges and devices. A
virtual function is no zone; the zone of its physical function counts them.

The whole root complex hangs where its devices are near: in their NUMA node, else in the smallest package, die or
node that holds all their CPUs, else in the machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from neap.common.cpuset import parse_cpuset
from neap.common.model.topology import Device, ZoneKind
from neap.reporter.core.topology.devices import maker, worth
from neap.reporter.core.topology.pci import Function
from neap.reporter.core.topology.tree import Branch

ZONES: Final = 128  # devices drawn as zones; the list of devices has more
HOMES: Final = (ZoneKind.PACKAGE, ZoneKind.DIE, ZoneKind.NUMA)


def hang(
    devices: Sequence[Device], found: Iterable[Function], branches: Iterable[Branch], root: Branch, warnings: list[str]
) -> None:
    """Put the zones of devices and of the bridges above them into the branches they are near."""
    physical = sorted((device for device in devices if not device.physical), key=worth)
    if len(physical) > ZONES:
        warnings.append(f"{len(physical) - ZONES} of {len(physical)} devices are in the list but not in the tree")
    drawing = _Drawing(_buses(found), Counter(device.physical for device in devices))
    homes = [branch for branch in branches if branch.kind in HOMES]
    drawn = sorted(physical[:ZONES], key=lambda device: (device.path, device.address))
    for _, members in groupby(drawn, key=lambda device: device.path[:1] or (device.address,)):
        group = list(members)
        _home(group, homes, root).children.extend(drawing.zones(group, 0))


@dataclass
class _Drawing:
    """What the zones of one machine have in common: what to write on them, and how far each kind is counted."""

    buses: Mapping[str, str]
    virtual: Mapping[str, int]
    count: Counter[ZoneKind] = field(default_factory=Counter)

    def zones(self, devices: list[Device], depth: int) -> list[Branch]:
        """Zones of devices, sorted by path, that share the first `depth` steps."""
        found: list[Branch] = []
        for step, members in groupby(devices, key=lambda device: device.path[depth : depth + 1]):
            group = list(members)
            if not step:
                found.extend(self._device(device) for device in group)
            elif depth and not _forks(group, depth + 1):
                found.extend(self.zones(group, depth + 1))
            else:
                bridge = self._branch(ZoneKind.BRIDGE, pci=step[0], buses=self.buses.get(step[0], ""))
                bridge.children.extend(self.zones(group, depth + 1))
                found.append(bridge)
        return found

    def _device(self, device: Device) -> Branch:
        return self._branch(
            device.kind,
            pci=device.address,
            vendor=device.vendor,
            model=device.model,
            maker=maker(device) if device.kind is ZoneKind.GPU else "",
            names=" ".join(device.names),
            virtual=str(self.virtual.get(device.address, "")),
        )

    def _branch(self, kind: ZoneKind, **attributes: str) -> Branch:
        told = {name: text for name, text in attributes.items() if text}
        branch = Branch(kind, self.count[kind], frozenset(), attributes=told)
        self.count[kind] += 1
        return branch


def _forks(devices: list[Device], depth: int) -> bool:
    """Whether devices that share `depth` steps part there."""
    steps = {device.path[depth : depth + 1] for device in devices}
    return len(steps) > 1 or (steps == {()} and len(devices) > 1)


def _buses(found: Iterable[Function]) -> dict[str, str]:
    """Bus numbers in use below each host bridge: "pci0000:17" -> "17-1e"."""
    last: dict[str, int] = {}
    for function in found:
        host = function.path[0] if function.path else ""
        if host.startswith(f"pci{function.domain}:"):
            last[host] = max(last.get(host, 0), function.last_bus)
    return {host: f"{host.rpartition(':')[2]}-{bus:02x}" for host, bus in last.items()}


def _home(devices: list[Device], homes: list[Branch], root: Branch) -> Branch:
    """The branch that devices of one root complex are near; see module docstring."""
    numa = {device.numa for device in devices}
    for branch in homes:
        if branch.kind is ZoneKind.NUMA and numa == {branch.index}:
            return branch
    parts = [parse_cpuset(device.cpus) for device in devices]
    cpus = frozenset[int]().union(*parts)
    around = [branch for branch in homes if all(parts) and cpus <= branch.cpus]
    return min(around, key=lambda branch: len(branch.cpus), default=root)
