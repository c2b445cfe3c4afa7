"""Which NUMA nodes a pod's tasks and pages are bound to, and which nodes somebody has alone.

The ledger says where a pod is bound (Placement.numa); its annotations say whether it wants to be, and alone. What
cannot be kept is not kept in part: the pod runs as if it had not asked, and is told why.

    CPUs of a bound pod ⊆ its nodes        mems of a bound pod = its nodes that have memory
    mems of anybody else = nodes with CPUs and memory − nodes held alone; said only once somebody holds one

Memory nodes without CPUs are given only to a pod whose placement names them. Nodes held alone are not lent.
Source: katalyst-core qrm-plugins cpu and memory dynamicpolicy (numa_binding, numa_exclusive, one node for shared
cores; reference §1.2, §3.3); kernel Documentation/admin-guide/cgroup-v2.rst (cpuset.mems).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from neap.advisor.core.layout import Layout
from neap.advisor.core.pod import DEDICATED, RECLAIMED, SYSTEM, Pod
from neap.common.cpuset import format_cpuset

Nodes = frozenset[int]


@dataclass(frozen=True)
class Binding:
    """See module docstring; all by uid but `exclusive`."""

    nodes: dict[str, Nodes] = field(default_factory=dict)  # bound pods: nodes that have CPUs
    memory: dict[str, Nodes] = field(default_factory=dict)  # bound pods: nodes that have memory
    exclusive: dict[int, str] = field(default_factory=dict)  # NUMA node -> who has it alone
    notes: dict[str, str] = field(default_factory=dict)  # what a pod asked for and did not get

    def drop(self, uid: str, why: str) -> None:
        """Let a pod run as if it were not bound; it is told why. One that was not bound is none the wiser."""
        if self.nodes.pop(uid, None) is not None:
            del self.memory[uid]
            self.notes[uid] = why
            for node in [node for node, owner in self.exclusive.items() if owner == uid]:
                del self.exclusive[node]

    def mems(self, uid: str, layout: Layout, *, narrowed: bool, moved: Nodes | None = None) -> str | None:
        """cpuset.mems of a pod, or of the class of guests (uid ""); None leaves it alone.

        Args:
            uid: of the pod.
            layout: the machine.
            narrowed: mems were advised before, so who may have all nodes again must be told.
            moved: to where its memory was moved, if it was; a bound pod's is not.
        """
        if self.memory.get(uid):
            return format_cpuset(self.memory[uid])
        if moved is not None and (left := moved & layout.all_memory - self.exclusive.keys()):
            return format_cpuset(left)
        if self.exclusive:
            return format_cpuset(layout.memory_nodes - self.exclusive.keys()) or None
        return (format_cpuset(layout.all_memory) or None) if narrowed else None


def bind(pods: Sequence[Pod], layout: Layout) -> Binding:
    """Read it from ledger and annotations. Cost: O(pods)."""
    binding, owners = Binding(), [pod for pod in pods if pod.is_owner and pod.pool != SYSTEM]
    for pod in pods:
        if pod.refused:
            binding.notes[pod.uid] = pod.refused
        elif pod.numa:
            _bind(pod, layout, binding)
        elif pod.wish.numa_binding:
            binding.notes[pod.uid] = "not bound: numa_binding is asked for, but its placement names no NUMA node"
    for pod in pods:
        if pod.wish.numa_exclusive and pod.uid in binding.nodes:
            _claim(pod, owners, layout, binding)
    return binding


def _bind(pod: Pod, layout: Layout, binding: Binding) -> None:
    named = frozenset(node for node in pod.numa if node >= 0)
    nodes = frozenset(node for node in named if layout.numa_size.get(node))
    where = format_cpuset(named)
    if pod.pool == SYSTEM:
        binding.notes[pod.uid] = f"not bound to NUMA node {where}: its CPUs are the system's"
    elif not nodes:
        binding.notes[pod.uid] = f"not bound to NUMA node {where}: no CPU there to give"
    elif pod.pool not in (DEDICATED, RECLAIMED) and len(nodes) > 1:
        binding.notes[pod.uid] = f"not bound to NUMA nodes {where}: a pod of a shared pool is bound to exactly one"
    else:
        binding.nodes[pod.uid] = nodes
        binding.memory[pod.uid] = named & layout.all_memory
        if lacking := named - nodes - binding.memory[pod.uid]:
            binding.notes[pod.uid] = f"NUMA nodes {format_cpuset(lacking)} of its placement have nothing to give"


def _claim(pod: Pod, owners: Sequence[Pod], layout: Layout, binding: Binding) -> None:
    """Alone on its nodes, if nobody else is bound there and somewhere is left for all others."""
    mine = binding.nodes[pod.uid]
    others = [other.uid for other in owners if other is not pod and mine & binding.nodes.get(other.uid, frozenset())]
    taken = mine | binding.exclusive.keys()
    left = sum(count for node, count in layout.numa_size.items() if node not in taken)
    asked = sum(other.whole for other in owners if other.uid not in {pod.uid, *binding.exclusive.values()})
    where = format_cpuset(mine)
    if others:
        binding.notes[pod.uid] = f"not alone on NUMA node {where}: {others[0]} is bound there as well"
    elif not left or asked > left:
        binding.notes[pod.uid] = f"not alone on NUMA node {where}: other owners ask for {asked} CPUs, {left} are left"
    else:
        binding.exclusive.update(dict.fromkeys(sorted(mine), pod.uid))
        for uid in sorted(uid for uid, nodes in binding.nodes.items() if uid != pod.uid and nodes & mine):
            binding.drop(uid, f"not bound to NUMA node {where}: an owner has it alone")


def pool_of(pod: Pod, binding: Binding) -> str:
    """The pool a pod is in: bound pods of a shared pool have one of their own on their node."""
    if pod.pool in (DEDICATED, RECLAIMED, SYSTEM) or pod.uid not in binding.nodes:
        return pod.pool
    return f"{pod.pool}@numa{min(binding.nodes[pod.uid])}"


def node_of(pool: str) -> int | None:
    """The NUMA node a pool is bound to."""
    _, mark, node = pool.rpartition("@numa")
    return int(node) if mark and node.isdecimal() else None
