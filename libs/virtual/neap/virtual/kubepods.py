"""The cgroups a kubelet makes, with the values it first writes (cgroupfs driver, cgroup v2).

/sys/fs/cgroup/kubepods/{,burstable/,besteffort/}pod<uid>/<container id>; guaranteed pods directly below kubepods.

    shares = max(2, milli · 1024 / 1000)       cpu.weight = 1 + (shares − 2) · 9999 / 262142
    cpu.max = milli limit · 100 us per 100 ms, at least 1000 us       memory.max = limit
    oom_score_adj = −997 guaranteed, 1000 best effort, 1000 − 1000 · memory request / memory, within 3..999, burstable

Source: kubernetes pkg/kubelet/cm/helpers_linux.go (MilliCPUToShares, MilliCPUToQuota, ResourceConfigForPod),
qos_container_manager_linux.go (class weights), pkg/kubelet/qos/policy.go; KEP-2254 (weight from shares).
"""

from __future__ import annotations

from typing import Final

from neap.common.model.qos import KubeQos
from neap.common.model.resource import CPU, MEMORY
from neap.common.units import Bytes, MilliCores
from neap.virtual.cgroup import PAGE, Cgroup, CgroupTree
from neap.virtual.pod import VirtualContainer, VirtualPod

LEAST_SHARES: Final = 2
MOST_SHARES: Final = 262_144
CLASS_NAMES: Final = {KubeQos.BURSTABLE: "burstable", KubeQos.BEST_EFFORT: "besteffort"}


def weight_of(milli: MilliCores) -> int:
    """cpu.weight of a CPU request."""
    shares = min(MOST_SHARES, max(LEAST_SHARES, milli * 1024 // 1000))
    return 1 + (shares - 2) * 9999 // 262_142


def quota_of(milli: MilliCores) -> int:
    """Quota in microseconds per 100 ms of a CPU limit."""
    return max(1000, milli * 100)


def oom_score_adj(qos: KubeQos, request: Bytes, memory: Bytes) -> int:
    """How readily the OOM killer takes a container."""
    if qos is KubeQos.GUARANTEED:
        return -997
    if qos is KubeQos.BEST_EFFORT:
        return 1000
    return min(999, max(3, 1000 - 1000 * request // memory))


class Kubepods:
    """The kubepods subtree of a host."""

    def __init__(self, tree: CgroupTree) -> None:
        self._tree = tree
        self.top = tree.add(tree.root, "kubepods")
        self.top.weight = weight_of(len(tree.machine.cpus) * 1000)
        self.top.limits["max"] = tree.machine.memory // PAGE * PAGE
        self.classes = {qos: tree.add(self.top, name) for qos, name in CLASS_NAMES.items()}
        self.classes[KubeQos.BEST_EFFORT].weight = weight_of(0)
        self.classes[KubeQos.BURSTABLE].weight = weight_of(0)
        self._burstable: dict[str, MilliCores] = {}
        for cgroup in (self.top, *self.classes.values()):
            cgroup.weigh()

    def add(self, pod: VirtualPod) -> Cgroup:
        """The pod's cgroup, without its containers."""
        cgroup = self._tree.add(self.classes.get(pod.qos, self.top), f"pod{pod.uid}")
        asks = [_cpu_request(container) for container in pod.containers]
        limits = [container.limits for container in pod.containers]
        cgroup.weight = weight_of(0 if pod.qos is KubeQos.BEST_EFFORT else sum(asks))
        if limits and all(limit.get(CPU) for limit in limits):
            cgroup.quota_us = quota_of(sum(limit[CPU] for limit in limits))
        if limits and all(limit.get(MEMORY) for limit in limits):
            cgroup.limits["max"] = sum(limit[MEMORY] for limit in limits) // PAGE * PAGE
        cgroup.weigh()
        if pod.qos is KubeQos.BURSTABLE:
            self._burstable[pod.uid] = sum(asks)
            self._weigh_burstable()
        return cgroup

    def add_container(self, pod: VirtualPod, above: Cgroup, container: VirtualContainer, pid: int) -> Cgroup:
        """A container's cgroup with its process."""
        cgroup = self._tree.add(above, container.id)
        cgroup.weight = weight_of(_cpu_request(container))
        if limit := container.limits.get(CPU):
            cgroup.quota_us = quota_of(limit)
        if memory := container.limits.get(MEMORY):
            cgroup.limits["max"] = memory // PAGE * PAGE
        cgroup.pids = [pid]
        cgroup.oom_score_adj = oom_score_adj(pod.qos, container.requests.get(MEMORY, 0), self._tree.machine.memory)
        cgroup.weigh()
        return cgroup

    def remove(self, pod: VirtualPod, cgroup: Cgroup) -> None:
        """Take a pod's cgroups away."""
        self._tree.remove(cgroup)
        if self._burstable.pop(pod.uid, None) is not None:
            self._weigh_burstable()

    def _weigh_burstable(self) -> None:
        """Kubelet writes the class's weight whenever its pods change, whatever anybody wrote there before."""
        burstable = self.classes[KubeQos.BURSTABLE]
        if not burstable.idle:  # the kernel would refuse
            burstable.weight = weight_of(sum(self._burstable.values()))
            burstable.weigh()


def _cpu_request(container: VirtualContainer) -> MilliCores:
    """A container with a limit and no request asks for its limit."""
    return container.requests.get(CPU) or container.limits.get(CPU, 0)
