"""Which files describe a machine, and their text at one moment.

The shell lists LISTED, reads FIRST, then asks once for each of `listed_next`, `linked`, `wanted` and `wanted_next`:
six calls, however large the machine. Everything after that is a pure function of the Snapshot.

Whose cpuset limits the machine: a node agent in a small cpuset of its own (a DaemonSet's pod, a pinned system service)
still speaks for the whole node, so its own cgroup says nothing. Only an allocation does: a user's session or a batch
job in cgroup v2, and the legacy (v1) cpuset that batch systems mount at /dev/cpuset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from neap.reporter.core.topology.text import ADDRESS, Cpus, cpu_list, cpu_mask, integer, numbered

CPU_DIR: Final = "/sys/devices/system/cpu"
NODE_DIR: Final = "/sys/devices/system/node"
PCI_DIR: Final = "/sys/bus/pci/devices"
NVIDIA_DIR: Final = "/proc/driver/nvidia/gpus"
CLASS_DIRS: Final = tuple(f"/sys/class/{name}" for name in ("net", "infiniband", "nvme", "block", "drm"))
LISTED: Final = (CPU_DIR, NODE_DIR, PCI_DIR, NVIDIA_DIR, *CLASS_DIRS)
FIRST: Final = ("/proc/self/cpuset", "/proc/self/cgroup")
CGROUP_DIR: Final = "/sys/fs/cgroup"
ALLOCATIONS: Final = ("/user.slice/", "/system.slice/slurmstepd.scope/")  # cgroups whose limit is meant as a machine
CPUSET_DIR: Final = "/dev/cpuset"  # where batch systems mount the legacy (v1) cpuset hierarchy
HYBRID: Final = ("lowpower", "atom", "core")  # kinds of core that perf names on a hybrid machine, smallest first
ONCE: Final = (
    f"{CPU_DIR}/online",
    f"{CPU_DIR}/offline",
    f"{CPU_DIR}/isolated",
    f"{NODE_DIR}/online",
    f"{NODE_DIR}/possible",
    "/proc/meminfo",
    *(f"/sys/devices/cpu_{kind}/cpus" for kind in HYBRID),
)
OF_A_CPU: Final = (
    "online",
    "topology/physical_package_id",
    "topology/die_id",
    "topology/core_id",
    "topology/cluster_id",
    "topology/core_siblings",
    "topology/core_siblings_list",
    "topology/package_cpus",
    "topology/thread_siblings",
    "topology/thread_siblings_list",
    "topology/core_cpus",
    "cpu_capacity",
    "cpufreq/cpuinfo_max_freq",
    "cpufreq/base_frequency",
)
OTHER_NAMES: Final[Mapping[str, tuple[str, ...]]] = {  # of the same set, where the first is missing or broken
    "topology/core_siblings": ("topology/package_cpus", "topology/core_siblings_list"),
    "topology/thread_siblings": ("topology/core_cpus", "topology/thread_siblings_list"),
}
CACHE_INDEXES: Final = range(5)
OF_AN_L3: Final = ("type", "shared_cpu_map", "shared_cpu_list", "size")
OF_A_NODE: Final = ("cpumap", "cpulist", "meminfo", "distance")
OF_A_DEVICE: Final = (
    "class",
    "vendor",
    "device",
    "numa_node",
    "local_cpus",
    "local_cpulist",
    "subordinate_bus_number",
)
INITIATORS: Final = ("access0/initiators", "access1/initiators")  # listed; names the nodes a memory node is near

CPU_LIMIT: Final = 8192
NODE_LIMIT: Final = 1024
DEVICE_LIMIT: Final = 2048
CLASS_LIMIT: Final = 4096
CARD_LIMIT: Final = 64


@dataclass(frozen=True)
class Snapshot:
    """Text by path, names by listed directory, targets by link; what could not be read is absent."""

    files: Mapping[str, str]
    names: Mapping[str, tuple[str, ...]]
    links: Mapping[str, str] = field(default_factory=dict)

    def cpu_numbers(self) -> list[int]:
        """CPUs that have a directory."""
        return numbered(self.names.get(CPU_DIR, ()), "cpu", CPU_LIMIT)

    def node_numbers(self) -> list[int]:
        """NUMA nodes that have a directory."""
        return numbered(self.names.get(NODE_DIR, ()), "node", NODE_LIMIT)

    def limits(self, what: str) -> list[str]:
        """Files that may limit this machine's `what` ("cpus" or "mems"); see module docstring."""
        paths = [f"{CPUSET_DIR}{_cgroup(self.files.get(FIRST[0], ''))}/{what}"]
        lines = self.files.get(FIRST[1], "").splitlines()
        own = _cgroup(next((line.removeprefix("0::") for line in lines if line.startswith("0::")), ""))
        return [*paths, f"{CGROUP_DIR}{own}/cpuset.{what}.effective"] if own.startswith(ALLOCATIONS) else paths

    def allowed(self, what: str, everything: Cpus, warnings: list[str]) -> Cpus:
        """Those of `everything` that no limit excludes; a limit that would leave nothing is none."""
        left = everything
        for path in self.limits(what):
            limit = cpu_list(self.files.get(path))
            if limit and not limit & left:
                warnings.append(f"{path} allows none of what is there: ignored")
            left = limit & left or left if limit else left
        return left

    def functions(self) -> list[str]:
        """Addresses of the functions on the PCI bus, in order, as many as are looked at."""
        return sorted(filter(ADDRESS.fullmatch, self.names.get(PCI_DIR, ())))[:DEVICE_LIMIT]

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
    others = {other for names_of_a_set in OTHER_NAMES.values() for other in names_of_a_set}
    of_a_cpu = [name for name in OF_A_CPU if name not in others]
    of_a_cpu += [f"cache/index{index}/level" for index in CACHE_INDEXES]
    paths = [*ONCE, *seen.limits("cpus"), *seen.limits("mems")]
    paths += [f"{CPU_DIR}/cpu{cpu}/{name}" for cpu in seen.cpu_numbers() for name in of_a_cpu]
    paths += [f"{NODE_DIR}/node{node}/{name}" for node in seen.node_numbers() for name in OF_A_NODE]
    paths += [f"{PCI_DIR}/{address}/{name}" for address in seen.functions() for name in OF_A_DEVICE]
    paths += [f"{NVIDIA_DIR}/{address}/information" for address in names.get(NVIDIA_DIR, ())[:CARD_LIMIT]]
    return paths


def wanted_next(names: Mapping[str, tuple[str, ...]], texts: Mapping[str, str]) -> list[str]:
    """What is worth reading given the text of `wanted`: the caches of level 3, and other names of sets that are broken."""
    seen, paths = Snapshot(texts, names), []
    for cpu in seen.cpu_numbers():
        at = f"{CPU_DIR}/cpu{cpu}"
        for name, others in OTHER_NAMES.items():
            if cpu not in (cpu_mask(seen.of_cpu(cpu, name)) or ()):
                paths += [f"{at}/{other}" for other in others]
        for index in CACHE_INDEXES:
            if integer(seen.of_cpu(cpu, f"cache/index{index}/level")) == 3:
                paths += [f"{at}/cache/index{index}/{name}" for name in OF_AN_L3]
    return paths


def linked(names: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Every link worth resolving, given the listings: where functions lie, whose virtual ones they are, who is named."""
    functions = Snapshot({}, names).functions()
    paths = [f"{PCI_DIR}/{address}{below}" for address in functions for below in ("", "/physfn")]
    return paths + [f"{folder}/{name}" for folder in CLASS_DIRS for name in names.get(folder, ())[:CLASS_LIMIT]]


def _cgroup(text: str) -> str:
    """A cgroup's path without its last slash; empty for the root, for a pod's and for what is no plain path."""
    path = text.strip().rstrip("/")
    plain = path.startswith("/") and ".." not in path and path.isprintable()
    return path if plain and "kubepods" not in path else ""
