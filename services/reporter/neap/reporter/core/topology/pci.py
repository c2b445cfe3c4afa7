"""PCI devices that matter for placement: accelerators and network cards, with their NUMA node.

A device is an accelerator if its class is 03 (display) or 12 (processing) and its vendor makes accelerators (a
board-management VGA is none); a network card if its class is 0200 (Ethernet) or 0207 (InfiniBand).
Source: the PCI ID repository, lists of vendors and classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from neap.common.model.topology import ZoneKind
from neap.reporter.core.topology.snapshot import DEVICE_LIMIT, PCI_DIR, Snapshot
from neap.reporter.core.topology.text import PADDING, integer

ACCELERATORS: Final[Mapping[str, str]] = {"10de": "NVIDIA", "1002": "AMD", "8086": "Intel", "1da3": "Habana"}
GPU_CLASSES: Final = ("03", "12")
NIC_CLASSES: Final = ("0200", "0207")


@dataclass(frozen=True)
class Device:
    """One function on the bus; `numa` is -1 when the firmware does not say."""

    kind: ZoneKind
    address: str
    pci_class: str
    vendor: str
    device: str
    numa: int


def devices(seen: Snapshot) -> list[Device]:
    """Accelerators and network cards by address."""
    found = []
    for address in sorted(seen.names.get(PCI_DIR, ()))[:DEVICE_LIMIT]:
        pci_class, vendor, device = (_hex(seen, address, name) for name in ("class", "vendor", "device"))
        kind = _kind(pci_class, vendor)
        if kind is not None:
            numa = integer(seen.files.get(f"{PCI_DIR}/{address}/numa_node"))
            found.append(Device(kind, address, pci_class[:4], vendor, device, -1 if numa is None else numa))
    return found


def _kind(pci_class: str, vendor: str) -> ZoneKind | None:
    if pci_class[:2] in GPU_CLASSES and vendor in ACCELERATORS:
        return ZoneKind.GPU
    return ZoneKind.NIC if pci_class[:4] in NIC_CLASSES else None


def _hex(seen: Snapshot, address: str, name: str) -> str:
    text = seen.files.get(f"{PCI_DIR}/{address}/{name}", "").strip(PADDING).lower()
    return text.removeprefix("0x")[:6]
