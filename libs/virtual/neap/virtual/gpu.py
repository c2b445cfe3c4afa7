"""Cards in a virtual host: the files the PCI bus and the NVIDIA driver show of them.

/sys/bus/pci/devices/<address> (class 0x030200, vendor 0x10de, numa_node, local_cpulist) and
/proc/driver/nvidia/gpus/<address>/information. Memory is in neither; reader and model share `model.cards`.
Cards are spread over the NUMA nodes that have CPUs, in equal runs, as in two-socket GPU servers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from neap.common.cpuset import format_cpuset
from neap.common.errors import InputError
from neap.common.host.memory import Link, MemoryHost
from neap.common.model.cards import PRODUCT, memory_mib
from neap.virtual.cgroup import CgroupTree
from neap.virtual.pod import CardSpec

FIRST_BUS: Final = 0xC1  # above what the captured machines use
CARDS_LIMIT: Final = 16
DRIVER_VERSION: Final = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15\n"
# PCI device ids of the public models (pci-ids.ucw.cz); G2 and G3 are undisclosed.
DEVICE_IDS: Final = {
    "A10": 0x2236,
    "A100-40G": 0x20B0,
    "A100-80G": 0x20B2,
    "H100": 0x2330,
    "H200": 0x2335,
    "P100": 0x15F8,
    "T4": 0x1EB8,
    "V100M16": 0x1DB1,
    "V100M32": 0x1DB5,
}


def put_cards(host: MemoryHost, tree: CgroupTree, node: str, cards: Sequence[CardSpec]) -> None:
    """Show the cards on a host.

    Raises:
        InputError: more than a machine holds, or memory that contradicts the table readers use.
    """
    host.put("/sys/bus/pci/devices", {})
    models = [spec.model for spec in cards for _ in range(spec.count)]
    if not models:
        return
    if len(models) > CARDS_LIMIT:
        raise InputError(f"node {node}: {len(models)} cards, a machine holds at most {CARDS_LIMIT}")
    for spec in cards:
        known = memory_mib(spec.model)
        if known == 0 or spec.memory_mib not in (0, known):
            raise InputError(f"node {node}: card {spec.model} of {spec.memory_mib} MiB, model.cards says {known}")
    places = [(index, share.cpus) for index, share in tree.numa.items() if share.cpus] or [(-1, tree.machine.cpus)]
    host.put("/proc/driver/nvidia/version", DRIVER_VERSION)
    for minor, model in enumerate(models):
        numa, cpus = places[minor * len(places) // len(models)]
        _put_card(host, node, minor, model, numa, cpus)


def _put_card(host: MemoryHost, node: str, minor: int, model: str, numa: int, cpus: frozenset[int]) -> None:
    address = f"0000:{FIRST_BUS + minor:02x}:00.0"
    folder = f"/sys/devices/pci0000:{FIRST_BUS - 1:02x}/{address}"
    files = {
        "class": "0x030200\n",
        "vendor": "0x10de\n",
        "device": f"0x{DEVICE_IDS.get(model, 0):04x}\n",
        "numa_node": f"{numa}\n",
        "local_cpulist": format_cpuset(cpus) + "\n",
        "enable": "1\n",
    }
    for name, text in files.items():
        host.put(f"{folder}/{name}", text)
    host.put(f"{folder}/driver", Link("../../../bus/pci/drivers/nvidia"))
    host.put(f"/sys/bus/pci/devices/{address}", Link(f"../../..{folder.removeprefix('/sys')}"))
    host.put(f"/sys/bus/pci/drivers/nvidia/{address}", Link(f"../../../..{folder.removeprefix('/sys')}"))
    digest = hashlib.sha256(f"{node}/{minor}/{model}".encode()).hexdigest()
    uuid = f"GPU-{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"
    host.put(
        f"/proc/driver/nvidia/gpus/{address}/information",
        f"Model: \t\t {PRODUCT[model]}\nIRQ:   \t\t {64 + minor}\nGPU UUID: \t {uuid}\nVideo BIOS: \t ??.??.??.??.??\n"
        f"Bus Type: \t PCIe\nDMA Size: \t 47 bits\nDMA Mask: \t 0x7fffffffffff\nBus Location: \t {address}\n"
        f"Device Minor: \t {minor}\nGPU Excluded:\t No\n",
    )
