"""Which files describe a machine, and their text at one moment.

The shell lists LISTED, reads FIRST, lists what `listed_next` asks for, and reads what `wanted` names in one call:
few steps, however large the machine. Everything after that is a pure function of the Snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from neap.reporter.core.topology.text import numbered

CPU_DIR: Final = "/sys/devices/system/cpu"
NODE_DIR: Final = "/sys/devices/system/node"
PCI_DIR: Final = "/sys/bus/pci/devices"
NVIDIA_DIR: Final = "/proc/driver/nvidia/gpus"
LISTED: Final = (CPU_DIR, NODE_DIR, PCI_DIR, NVIDIA_DIR)
FIRST: Final = ("/proc/self/cpuset",)
CPUSET_DIR: Final = "/dev/cpuset"  # where batch systems mount the legacy (v1) cpuset hierarchy
ONCE: Final = (
    f"{CPU_DIR}/online",
    f"{CPU_DIR}/offline",
    f"{CPU_DIR}/isolated",
    f"{NODE_DIR}/online",
    f"{NODE_DIR}/possible",
    "/proc/meminfo",
)
OF_A_CPU: Final = (
    "online",
    "topology/physical_package_id",
    "topology/die_id",
    "topology/core_id",
    "topology/core_siblings",
    "topology/core_siblings_list",
    "topology/package_cpus",
    "topology/thread_siblings",
    "topology/thread_siblings_list",
    "topology/core_cpus",
)
CACHE_INDEXES: Final = range(5)
OF_A_CACHE: Final = ("level", "type", "shared_cpu_map", "shared_cpu_list", "size")
OF_A_NODE: Final = ("cpumap", "cpulist", "meminfo", "distance")
OF_A_DEVICE: Final = ("class", "vendor", "device", "numa_node")
INITIATORS: Final = ("access0/initiators", "access1/initiators")  # listed; names the nodes a memory node is near

CPU_LIMIT: Final = 8192
NODE_LIMIT: Final = 1024
DEVICE_LIMIT: Final = 2048
CARD_LIMIT: Final = 64


@dataclass(frozen=True)
class Snapshot:
    """Text by path, and names by listed directory; what could not be read is absent."""

    files: Mapping[str, str]
    names: Mapping[str, tuple[str, ...]]

    def cpu_numbers(self) -> list[int]:
        """CPUs that have a directory."""
        return numbered(self.names.get(CPU_DIR, ()), "cpu", CPU_LIMIT)

    def node_numbers(self) -> list[int]:
        """NUMA nodes that have a directory."""
        return numbered(self.names.get(NODE_DIR, ()), "node", NODE_LIMIT)

    def cpuset_dir(self) -> str:
        """The legacy cpuset of this process; its files exist only where that hierarchy is mounted."""
        below = self.files.get(FIRST[0], "/").strip()
        return CPUSET_DIR + (below.rstrip("/") if below.startswith("/") and ".." not in below else "")

    def of_cpu(self, cpu: int, name: str) -> str | None:
        """A file of a CPU's directory."""
        return self.files.get(f"{CPU_DIR}/cpu{cpu}/{name}")

    def of_node(self, node: int, name: str) -> str | None:
        """A file of a NUMA node's directory."""
        return self.files.get(f"{NODE_DIR}/node{node}/{name}")


def listed_next(names: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Directories worth listing, given the first listings."""
    return [f"{NODE_DIR}/node{node}/{name}" for node in Snapshot({}, names).node_numbers() for name in INITIATORS]


def wanted(names: Mapping[str, tuple[str, ...]], first: Mapping[str, str]) -> list[str]:
    """Every path worth reading, given the listings and the text of FIRST."""
    seen = Snapshot(first, names)
    cache = [f"cache/index{i}/{name}" for i in CACHE_INDEXES for name in OF_A_CACHE]
    paths = [*ONCE, *(f"{seen.cpuset_dir()}/{name}" for name in ("cpus", "mems"))]
    paths += [f"{CPU_DIR}/cpu{cpu}/{name}" for cpu in seen.cpu_numbers() for name in (*OF_A_CPU, *cache)]
    paths += [f"{NODE_DIR}/node{node}/{name}" for node in seen.node_numbers() for name in OF_A_NODE]
    paths += [
        f"{PCI_DIR}/{address}/{name}" for address in names.get(PCI_DIR, ())[:DEVICE_LIMIT] for name in OF_A_DEVICE
    ]
    paths += [f"{NVIDIA_DIR}/{address}/information" for address in names.get(NVIDIA_DIR, ())[:CARD_LIMIT]]
    return paths
