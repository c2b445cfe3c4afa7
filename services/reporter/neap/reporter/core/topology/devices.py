"""Functions that matter for placement, as they are published.

    GPU       class 03 (display) or 12 (processing) of a vendor that makes accelerators (a board-management VGA is
              none), and NEC's vector engines, which are co-processors (0b40)
    RDMA      class 0207 (InfiniBand), or any function the kernel has an InfiniBand device of (RoCE, Omni-Path)
    NIC       any other of class 02 (network), or with a network interface
    STORAGE   class 0108 (NVMe)

Names are those in /sys/class/{net,infiniband,nvme,block,drm} that link below the function's directory, in that order.
At most LARGEST are published; what is left out are virtual functions first, then storage, then network cards.

Source: the PCI ID repository, lists of vendors and classes; PCI Code and ID Assignment Specification.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from neap.common.cpuset import format_cpuset
from neap.common.model.topology import Device, ZoneKind
from neap.reporter.core.topology.near import Near
from neap.reporter.core.topology.pci import Function, last_address
from neap.reporter.core.topology.snapshot import CLASS_DIRS, Snapshot

ACCELERATORS: Final[Mapping[str, str]] = {
    "10de": "NVIDIA",
    "1002": "AMD",
    "8086": "Intel",
    "1da3": "Habana",
    "1bcf": "NEC",
}
GPU_CLASSES: Final = ("03", "12")
VECTOR_ENGINE: Final = ("0b40", "1bcf")
LARGEST: Final = 512
NAMES: Final = 8  # of one device
LONGEST_NAME: Final = 64
WORTH: Final = (ZoneKind.GPU, ZoneKind.RDMA, ZoneKind.NIC, ZoneKind.STORAGE)
WORTH_NAMING: Final[Mapping[str, re.Pattern[str]]] = {  # not partitions, ram disks and connectors
    "block": re.compile(r"nvme\d+n\d+"),
    "drm": re.compile(r"card\d+"),
}
ANY: Final = re.compile(
    r"[!-~]+"
)  # an interface may be called anything but blank; what cannot be printed cannot be told


def devices(seen: Snapshot, found: list[Function], near: Mapping[str, Near], warnings: list[str]) -> tuple[Device, ...]:
    """GPUs, RDMA devices, network cards and NVMe, by address."""
    names = _names(seen)
    known = []
    for function in found:
        kind = _kind(function, names.get(function.address, {}))
        if kind is not None:
            known.append(_device(kind, function, names.get(function.address, {}), near[function.address]))
    known.sort(key=worth)
    if len(known) > LARGEST:
        warnings.append(f"{len(known) - LARGEST} of {len(known)} devices left out: more than {LARGEST}")
    return tuple(sorted(known[:LARGEST], key=lambda device: device.address))


def worth(device: Device) -> tuple[bool, int]:
    """What is kept when there are too many: a key that sorts the most worth first."""
    return bool(device.physical), WORTH.index(device.kind)


def maker(device: Device) -> str:
    """Who made an accelerator."""
    return ACCELERATORS.get(device.vendor, "")


def _names(seen: Snapshot) -> dict[str, dict[str, list[str]]]:
    """Address -> class -> names."""
    names: dict[str, dict[str, list[str]]] = {}
    for folder in CLASS_DIRS:
        word = folder.rpartition("/")[2]
        for name in sorted(seen.names.get(folder, ())):
            address = last_address(seen.links.get(f"{folder}/{name}", ""))
            if address and WORTH_NAMING.get(word, ANY).fullmatch(name):
                names.setdefault(address, {}).setdefault(word, []).append(name[:LONGEST_NAME])
    return names


def _kind(function: Function, names: Mapping[str, list[str]]) -> ZoneKind | None:
    pci_class = function.pci_class
    if pci_class.startswith(GPU_CLASSES):
        return ZoneKind.GPU if function.vendor in ACCELERATORS else None
    if (pci_class, function.vendor) == VECTOR_ENGINE:
        return ZoneKind.GPU
    if pci_class == "0207" or "infiniband" in names:
        return ZoneKind.RDMA
    if pci_class.startswith("02") or "net" in names:
        return ZoneKind.NIC
    return ZoneKind.STORAGE if pci_class == "0108" else None


def _device(kind: ZoneKind, function: Function, names: Mapping[str, list[str]], near: Near) -> Device:
    return Device(
        kind=kind,
        address=function.address,
        names=tuple(name for group in names.values() for name in group)[:NAMES],
        vendor=function.vendor,
        model=function.model,
        numa=near.numa,
        cpus=format_cpuset(near.cpus),
        path=function.path,
        physical=function.physical,
    )
