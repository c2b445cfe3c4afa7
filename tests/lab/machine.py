"""The machine that QEMU is told to be: the truth which the scenarios compare the kernel and neap with.

package 0 ── die 0: NUMA 0, CPUs 0-1, one core      package 1 ── die 0: NUMA 2, CPUs 4-5
          └─ die 1: NUMA 1, CPUs 2-3                          └─ die 1: NUMA 3, CPUs 6-7

pci0000:00   (no NUMA node)   root port ─ disk (NVMe)
pci0000:40   (NUMA 1)         root port ─ switch ┬─ port ─ NIC (virtio)
                                                 └─ port ─ NIC (e1000e)
pci0000:80   (NUMA 2)         root port ─ NIC (virtio)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PACKAGES, DIES, CORES, THREADS = 2, 2, 1, 2  # of the machine, of a package, of a die, of a core
CPUS: Final = PACKAGES * DIES * CORES * THREADS
NODE_MIB: Final = 640  # memory of each NUMA node
DISK_MIB: Final = 2048  # sparse
SYSTEM_CPUS: Final = (0, 1)  # where the rooms and the tests run; loads run on the others
NUMA_CPUS: Final = ("0-1", "2-3", "4-5", "6-7")
DISTANCES: Final = ((10, 12, 21, 21), (12, 10, 21, 21), (21, 21, 10, 12), (21, 21, 12, 10))
CPU_MODEL: Final = "max,vendor=GenuineIntel"  # in emulation only Intel's way of telling threads apart works
VIRTIO: Final = "1af4"
INTEL: Final = "8086"


@dataclass(frozen=True)
class Nic:
    """One network card: who made it, where it hangs; `bridges` are those between the root complex and the card."""

    driver: str
    port: str  # where QEMU plugs it in
    vendor: str
    numa: int
    root: str  # of the bus tree it hangs from
    bridges: int


NICS: Final = (
    Nic("virtio-net-pci", "port-a", VIRTIO, 1, "pci0000:40", 3),
    Nic("e1000e", "port-b", INTEL, 1, "pci0000:40", 3),
    Nic("virtio-net-pci", "root-2", VIRTIO, 2, "pci0000:80", 1),
)
BRIDGES: Final = (
    "pxb-pcie,id=complex-1,bus=pcie.0,bus_nr=64,numa_node=1",
    "pxb-pcie,id=complex-2,bus=pcie.0,bus_nr=128,numa_node=2",
    "pcie-root-port,id=root-0,bus=pcie.0,chassis=1,slot=1",
    "pcie-root-port,id=root-1,bus=complex-1,chassis=2,slot=2",
    "pcie-root-port,id=root-2,bus=complex-2,chassis=3,slot=3",
    "x3130-upstream,id=switch,bus=root-1",
    "xio3130-downstream,id=port-a,bus=switch,chassis=4,slot=4",
    "xio3130-downstream,id=port-b,bus=switch,chassis=5,slot=5",
)


def hardware(disk: str) -> list[str]:
    """QEMU's options for this machine; `disk` is an image that is left as it is."""
    words = ["-M", "q35", "-cpu", CPU_MODEL, "-m", str(NODE_MIB * len(NUMA_CPUS))]
    words += ["-smp", f"{CPUS},sockets={PACKAGES},dies={DIES},cores={CORES},threads={THREADS}"]
    for node, cpus in enumerate(NUMA_CPUS):
        words += ["-object", f"memory-backend-ram,id=memory-{node},size={NODE_MIB}M"]
        words += ["-numa", f"node,nodeid={node},memdev=memory-{node},cpus={cpus}"]
    for source, row in enumerate(DISTANCES):
        for target, distance in enumerate(row[:source]):
            words += ["-numa", f"dist,src={source},dst={target},val={distance}"]
    for bridge in BRIDGES:
        words += ["-device", bridge]
    words += ["-drive", f"file={disk},format=raw,if=none,id=disk,cache=unsafe,snapshot=on"]
    words += ["-device", "nvme,drive=disk,serial=lab,bus=root-0"]
    for index, nic in enumerate(NICS):
        words += ["-netdev", f"user,id=net-{index},restrict=on"]
        words += ["-device", f"{nic.driver},netdev=net-{index},bus={nic.port},romfile="]
    return words
