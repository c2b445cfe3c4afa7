"""How near two devices are on the bus, in the words of `nvidia-smi topo -m`.

    X      self             one and the same device
    PIX    same switch      at most one port on either side of what both share
    PXB    several switches the same root port, more ports than that
    PHB    host bridge      the same root complex, which the traffic crosses
    NODE   NUMA node        host bridges differ, the node is the same
    SYS    system           across NUMA nodes, or nothing better is known

A `Device.path` names the ports from the host bridge down. What two paths begin with alike is shared; a switch is two
ports in a row (one up, one down), so two devices of one switch share its upper port and have one lower port each.
Names of host bridges have no dot ("pci0000:00"), bus addresses have one ("0000:00:01.0"). Below a host bridge that
is itself a device (VMD) the inner host bridge counts.

Laws: symmetric; in a tree whose devices hang at the ends of ports, sharing more of the path is never farther.
Cost: O(length of the paths).
Source: NVML, nvmlGpuTopologyLevel_t (single, multiple, hostbridge, node, system).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from neap.common.model.topology import Device


class PathClass(StrEnum):
    """Nearest first; see module docstring."""

    SELF = "X"
    PIX = "PIX"
    PXB = "PXB"
    PHB = "PHB"
    NODE = "NODE"
    SYS = "SYS"

    @property
    def rank(self) -> int:
        """0 for the nearest; to sort by and to compare with."""
        return ORDER.index(self)


ORDER: Final = tuple(PathClass)


def path_class(a: Device, b: Device) -> PathClass:
    """How near two devices of one machine are."""
    if a.address == b.address:
        return PathClass.SELF
    shared = 0
    for left, right in zip(a.path, b.path, strict=False):
        if left != right:
            break
        shared += 1
    if not shared:
        return PathClass.NODE if a.numa == b.numa >= 0 else PathClass.SYS
    if "." not in a.path[shared - 1]:
        return PathClass.PHB
    return PathClass.PIX if max(len(a.path), len(b.path)) - shared <= 1 else PathClass.PXB
