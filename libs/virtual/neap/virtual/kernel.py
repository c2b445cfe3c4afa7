"""A virtual host: the files of a real machine, and a model of the kernel and of what runs on it.

Seen through HostFs it is a host like any other. Its owner starts and stops pods and lets time pass; nothing is
computed between two `advance` calls but what is read. Host time goes in ticks of 10 ms, as the kernel's clock.

One step (at most a minute): demands → cores (sharing) → time per CPU (flow) → counters and pressure (running,
stall) → memory (reclaim) → ends. Who presses (a noisy neighbour) slows the requests of online services by
1 + Σ press × cores in use / CPUs. What is left out: SMT siblings slowing each other, frequency, caches, I/O, network,
swap. Deterministic: same snapshot, pods, writes and times give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp
from typing import Final

from neap.common.errors import InputError
from neap.common.host.memory import Folder, Knob, MemoryHost
from neap.common.host.port import Refused, Texts
from neap.common.units import Cores, Seconds
from neap.virtual import reclaim
from neap.virtual.cgroup import Cgroup, CgroupTree
from neap.virtual.cgroupfs import folder
from neap.virtual.gpu import put_cards
from neap.virtual.kubepods import Kubepods
from neap.virtual.pod import (
    CardSpec,
    ContainerState,
    EndReason,
    Finished,
    Observation,
    ServiceModel,
    ServiceState,
    VirtualPod,
)
from neap.virtual.procfs import TICKS, Procfs, system_memory
from neap.virtual.queueing import LONGEST, p99_latency
from neap.virtual.running import DONE_WITHIN, Running, throttle
from neap.virtual.snapshot import Snapshot

LONGEST_STEP: Final = 60 * TICKS
FIRST_PID: Final = 1000
PODS_LIMIT: Final = 1000
CGROUPS: Final = "/sys/fs/cgroup"
STAT: Final = "/proc/stat"


class VirtualHost(MemoryHost):
    """See module docstring. `start`, `stop`, `advance`, `observe` are the owner's; the rest is HostFs."""

    def __init__(self, machine: Snapshot, *, node: str = "", at: Seconds = 0.0, cards: Sequence[CardSpec] = ()) -> None:
        super().__init__(shared=machine.tree)
        self.machine, self.node = machine, node
        self._boot = at
        self._ticks = 0
        self._tree = CgroupTree(machine, at)
        self._kubepods = Kubepods(self._tree)
        self._pods: dict[str, tuple[VirtualPod, Cgroup, tuple[Running, ...]]] = {}
        self._running: list[Running] = []
        self._next_pid = FIRST_PID
        self._stalling = False
        self._used: Cores = 0.0
        self._clock: Callable[[], Seconds] | None = None
        self._late: list[Finished] = []  # ended while somebody looked; told by the next `advance`
        self._proc = Procfs(self._tree, at)
        self._proc.put(self)
        put_cards(self, self._tree, node, cards)
        self.put(CGROUPS, folder(self._tree.root))
        for cgroup in (self._kubepods.top, *self._kubepods.classes.values()):
            self._show(cgroup)

    @property
    def now(self) -> Seconds:
        """The host's time."""
        return self._tree.now

    @property
    def pods(self) -> Sequence[str]:
        """Uids of the pods that are here, in order of their start."""
        return tuple(self._pods)

    # -- the owner's side --------------------------------------------------------------------------------------------

    def start(self, pod: VirtualPod, *, at: Seconds = 0.0) -> None:
        """Make the pod's cgroups and let it run from `at` on, or from now on if that is past.

        Work does nothing before `at`, which may lie within the next step; a service is asked for all of that step.

        Raises:
            InputError: it is here already, has a name no cgroup can have, or there are too many.
        """
        names = [pod.uid, *(container.id for container in pod.containers)]
        if pod.uid in self._pods or len(set(names)) < len(names):
            raise InputError(f"node {self.node}: pod {pod.uid} is here already, or a container id twice")
        if len(self._pods) >= PODS_LIMIT or any(not name or "/" in name or name.startswith(".") for name in names):
            raise InputError(
                f"node {self.node}: pod {pod.uid[:80]!r} cannot be started (name, or over {PODS_LIMIT} pods)"
            )
        cgroup = self._kubepods.add(pod)
        self._show(cgroup)
        started: list[Running] = []
        for container in pod.containers:
            pid, self._next_pid = self._next_pid, self._next_pid + 1
            inner = self._kubepods.add_container(pod, cgroup, container, pid)
            self._show(inner)
            self.put(f"/proc/{pid}", _process(inner))
            running = Running(pod.uid, container, inner, pid, max(at, self._tree.now))
            running.grow(self._tree.now, 0.0)
            started.append(running)
        self._tree.squeezed = True
        self._pods[pod.uid] = (pod, cgroup, tuple(started))
        self._running.extend(started)

    def stop(self, uid: str) -> None:
        """End the pod and take its cgroups away; a pod that is not here is fine."""
        found = self._pods.pop(uid, None)
        if found is None:
            return
        pod, cgroup, gone = found
        for running in gone:
            if running.ended is None:
                self.remove(f"/proc/{running.pid}")
        self._running = [running for running in self._running if running.uid != uid]
        self._kubepods.remove(pod, cgroup)
        self.remove(f"{CGROUPS}{cgroup.path}")

    def advance(self, to: Seconds) -> list[Finished]:
        """Let time pass until `to` (a time already past is fine); returns the containers that ended by themselves."""
        target = int((to - self._boot) * TICKS + 1e-3)  # seconds since 1970 are exact to a few 1e-7
        finished, self._late = self._late, []
        while self._ticks < target:
            ticks = min(LONGEST_STEP, target - self._ticks)
            finished += self._step(ticks)
        return finished

    def live_by(self, clock: Callable[[], Seconds]) -> None:
        """From now on whoever reads /proc/stat finds the host as it is at that moment.

        Without it time passes in `advance` only. With a real clock beside it readers come late or early, and would
        find one step more or less in a period than belongs there.
        """
        self._clock = clock

    def read_all(self, paths: Sequence[str]) -> Texts:
        """See HostFs."""
        if self._clock is not None and STAT in paths:
            self._late = self.advance(self._clock())
        return super().read_all(paths)

    def observe(self) -> Observation:
        """The truth about the last step, and who lived through it."""
        return Observation(
            at=self._tree.now,
            cpus=len(self.machine.cpus),
            used=self._used,
            containers=tuple(_container_state(running) for running in self._running),
            services=tuple(
                self._service_state(pod.service, cgroup, containers)
                for pod, cgroup, containers in self._pods.values()
                if pod.service is not None and containers and containers[0].started < self._tree.now
            ),
        )

    # -- one step ----------------------------------------------------------------------------------------------------

    def _step(self, ticks: int) -> list[Finished]:
        tree, start, step = self._tree, self._tree.now, ticks / TICKS
        tree.settle()
        layout = tree.layout
        pressed = sum([running.spec.press * running.used for running in self._running]) / len(self.machine.cpus)
        for running in self._running:
            running.want(start + step / 2, step, 1.0 + pressed)
        layout.share()
        for cpus, cores in layout.busy():
            each = cores / len(cpus) * step
            for cpu in cpus:
                self._proc.busy[cpu] += each
        self._used = sum([leaf.gets for leaf in layout.leaves])
        stalling = False
        for running in self._running:
            stalling |= running.account(start, step)
        _press(tree.groups, start, step, changed=stalling or self._stalling)
        self._stalling = stalling
        self._average_load(step)
        self._ticks += ticks
        tree.now = self._boot + self._ticks / TICKS
        return self._ends(self._remember(start, step))

    def _average_load(self, step: Seconds) -> None:
        runnable = sum([running.wanted for running in self._running])
        self._proc.runnable = runnable
        self._proc.load = [
            runnable + (average - runnable) * exp(-step / window)
            for average, window in zip(self._proc.load, (60.0, 300.0, 900.0), strict=True)
        ]

    def _remember(self, start: Seconds, step: Seconds) -> list[Cgroup]:
        """Memory: grow, reclaim, kill."""
        changed = self._tree.squeezed
        for running in self._running:
            changed |= running.grow(start, step)
        if not changed:
            return []
        self._tree.squeezed = False
        self._tree.numa_held = None
        total = self.machine.memory
        killed = reclaim.settle(self._tree.root, total - system_memory(total), total)
        for running in self._running:
            some = reclaim.stall(running.cgroup)
            running.cgroup.memory_stall.set(self._tree.now, some, some / 2)
            self._tree.squeezed |= some > 0.0
        for group in (self._tree.root, self._kubepods.top, *self._kubepods.classes.values(), *self._pod_cgroups()):
            some = max([leaf.memory_stall.some for leaf in group.leaves()], default=0.0)
            group.memory_stall.set(self._tree.now, some, some / 2)
        return killed

    def _pod_cgroups(self) -> list[Cgroup]:
        return [cgroup for _, cgroup, _ in self._pods.values()]

    def _ends(self, killed: Sequence[Cgroup]) -> list[Finished]:
        """Containers that were killed, or whose work is done."""
        finished: list[Finished] = []
        for running in self._running:
            if running.ended is None:
                if running.cgroup in killed:
                    finished.append(running.finish(self._tree.now, EndReason.OOM))
                elif running.left <= DONE_WITHIN:
                    finished.append(running.finish(self._tree.now, EndReason.DONE))
                else:
                    continue
                self.remove(f"/proc/{running.pid}")
        return finished

    def _show(self, cgroup: Cgroup) -> None:
        self.put(f"{CGROUPS}{cgroup.path}", folder(cgroup))

    def _service_state(self, service: ServiceModel, cgroup: Cgroup, containers: Sequence[Running]) -> ServiceState:
        offered = sum(running.offered for running in containers)
        used = sum(running.used for running in containers)
        quota = min(cgroup.share.quota, sum(running.cgroup.share.quota for running in containers))
        cores = min(quota, self._tree.layout.at_once(cgroup.share))
        cores *= 1.0 - max(running.cgroup.memory_stall.some for running in containers)
        backlog = sum(running.backlog for running in containers)
        dead = any(running.ended is EndReason.OOM for running in containers)
        return ServiceState(
            uid=containers[0].uid,
            offered=offered,
            used=used,
            cores=cores,
            p99=LONGEST
            if dead
            else p99_latency(offered, cores, service.mean * max(running.slowed for running in containers), backlog),
            objective=service.objective,
        )


def _press(groups: Sequence[Cgroup], at: Seconds, step: Seconds, *, changed: bool) -> None:
    """CPU pressure of the groups, inner ones first: somebody inside waits = 1 − Π (1 − some of a child)."""
    for group in groups:
        throttled = throttle(group, group.share.wants, step)
        if changed:
            calm = 1.0
            for child in group.below.values():
                calm *= 1.0 - child.cpu_stall.some
            group.cpu_stall.set(at, 1.0 - calm, throttled)


def _container_state(running: Running) -> ContainerState:
    cgroup = running.cgroup
    return ContainerState(
        uid=running.uid,
        container=running.spec.id,
        wanted=running.wanted,
        used=running.used,
        core_seconds=running.done,
        memory=cgroup.anon + cgroup.file,
        ended=running.ended,
    )


def _process(cgroup: Cgroup) -> Folder:
    """What /proc shows of a container's process."""

    def adjust(text: str) -> None:
        word = text.strip()
        if not word.lstrip("+-").isdecimal() or not -1000 <= int(word) <= 1000:
            raise Refused(f"write oom_score_adj of {cgroup.path}: {word[:80]!r} is outside -1000..1000 (EINVAL)")
        cgroup.oom_score_adj = int(word)

    return {
        "oom_score_adj": Knob(lambda: f"{cgroup.oom_score_adj}\n", adjust),
        "cgroup": f"0::{cgroup.path}\n",
        "comm": "virtual\n",
    }
