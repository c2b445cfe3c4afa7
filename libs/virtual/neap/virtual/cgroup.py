"""The cgroup v2 hierarchy of a virtual host: knobs, counters, and what follows from them.

Plain state; what may be written is in knobs.py, what is shown in cgroupfs.py, how CPU and memory are given out in
sharing.py and reclaim.py. Container cgroups are the leaves; counters of a group are its leaves' plus what leaves
that are gone have used, so they never go backwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import Final

from neap.common.units import Bytes, Seconds
from neap.virtual.sharing import Layout, Share
from neap.virtual.snapshot import NumaShare, Snapshot
from neap.virtual.stall import Stall

PAGE: Final[Bytes] = 4096
IDLE_WEIGHT: Final = 3 / 10.24  # WEIGHT_IDLEPRIO = 3 where weight 100 is 1024 (kernel/sched/sched.h)
WEIGHT: Final = 100
PERIOD_US: Final = 100_000
EVENTS: Final = ("low", "high", "max", "oom", "oom_kill", "oom_group_kill")


class Cgroup:
    """One directory below /sys/fs/cgroup."""

    __slots__ = (
        "above",
        "anon",
        "below",
        "burst_us",
        "cpu_stall",
        "cpus",
        "cpus_asked",
        "events",
        "file",
        "idle",
        "limits",
        "memory_stall",
        "mems",
        "mems_asked",
        "name",
        "oom_score_adj",
        "path",
        "period_us",
        "periods",
        "pids",
        "quota_us",
        "reclaimed",
        "share",
        "throttled",
        "throttles",
        "tree",
        "usage",
        "wants_anon",
        "wants_file",
        "weight",
    )

    def __init__(self, tree: CgroupTree, name: str, above: Cgroup | None) -> None:
        self.tree, self.name, self.above = tree, name, above
        self.path: str = "" if above is None else f"{above.path}/{name}"
        self.below: dict[str, Cgroup] = {}
        self.share = Share()
        self.weight, self.idle = WEIGHT, False
        self.quota_us: int | None = None
        self.period_us, self.burst_us = PERIOD_US, 0
        self.cpus_asked: frozenset[int] = frozenset()
        self.mems_asked: frozenset[int] = frozenset()
        self.cpus: frozenset[int] = frozenset()  # effective
        self.mems: frozenset[int] = frozenset()  # effective
        self.limits: dict[str, Bytes | None] = {"min": 0, "low": 0, "high": None, "max": None, "swap.max": None}
        self.events = dict.fromkeys(EVENTS, 0)
        self.usage: Seconds = 0.0  # CPU time, own and of cgroups that are gone
        self.periods = self.throttles = 0.0
        self.throttled: Seconds = 0.0
        self.cpu_stall, self.memory_stall = Stall(tree.now), Stall(tree.now)
        self.anon: Bytes = 0
        self.file: Bytes = 0
        self.wants_anon: Bytes = 0
        self.wants_file: Bytes = 0
        self.reclaimed: Bytes = 0  # page cache taken away, ever
        self.pids: list[int] = []
        self.oom_score_adj = 0

    def leaves(self) -> Iterator[Cgroup]:
        """The leaves below, or itself."""
        if not self.below:
            yield self
        for child in self.below.values():
            yield from child.leaves()

    @property
    def is_populated(self) -> bool:
        """Whether a process is here or below."""
        return any(leaf.pids for leaf in self.leaves())

    def cpu_time(self) -> Seconds:
        """CPU time of everything that ever ran here."""
        return self.usage + sum([child.cpu_time() for child in self.below.values()])

    def memory(self) -> tuple[Bytes, Bytes]:
        """Anonymous memory and page cache held here and below."""
        anon, file = self.anon, self.file
        for child in self.below.values():
            child_anon, child_file = child.memory()
            anon += child_anon
            file += child_file
        return anon, file

    def count(self, event: str) -> None:
        """Count a memory event here and above, as memory.events does."""
        cgroup: Cgroup | None = self
        while cgroup is not None:
            cgroup.events[event] += 1
            cgroup = cgroup.above

    def weigh(self) -> None:
        """Bring the weight tree up to date with the CPU knobs."""
        self.share.weight = IDLE_WEIGHT if self.idle else float(self.weight)
        self.share.quota = inf if self.quota_us is None else self.quota_us / self.period_us
        self.tree.stale = True


class CgroupTree:
    """All cgroups of a host. `settle` brings effective cpusets and the sharing layout up to date."""

    def __init__(self, machine: Snapshot, now: Seconds) -> None:
        self.now = now
        self.machine = machine
        self.numa: Mapping[int, NumaShare] = machine.numa or {0: NumaShare(machine.cpus, machine.memory)}
        self.stale = True  # cpusets, weights or quotas changed
        self.squeezed = True  # memory limits or page cache changed
        self.numa_held: dict[int, tuple[Bytes, Bytes]] | None = None  # a reading of procfs, kept while it holds
        self.root = Cgroup(self, "", None)
        self.groups: list[Cgroup] = []  # with something below, inner ones first
        self.layout = Layout(self.root.share)

    def add(self, above: Cgroup, name: str) -> Cgroup:
        """Make a directory."""
        child = Cgroup(self, name, above)
        above.below[name] = child
        above.share.children.append(child.share)
        self.move()
        return child

    def remove(self, cgroup: Cgroup) -> None:
        """Remove a directory and those below; what they used stays counted above."""
        above = cgroup.above
        if above is None:
            return
        above.usage += cgroup.cpu_time()
        del above.below[cgroup.name]
        above.share.children.remove(cgroup.share)
        self.squeezed = True
        self.move()

    def move(self) -> None:
        """Containers came, went, or may run elsewhere."""
        self.stale = True
        self.numa_held = None

    def settle(self) -> None:
        """Derive effective cpusets top-down, then the layout; O(1) when nothing changed."""
        if self.stale:
            self.stale = False
            self.groups = []
            self._descend(self.root, self.machine.cpus, frozenset(self.numa))
            self.layout = Layout(self.root.share)

    def _descend(self, cgroup: Cgroup, cpus: frozenset[int], mems: frozenset[int]) -> None:
        """Effective = asked ∩ the parent's, or the parent's where that would be nothing (cgroup-v2.rst, cpuset)."""
        cgroup.cpus = (cgroup.cpus_asked & cpus) or cpus
        cgroup.mems = (cgroup.mems_asked & mems) or mems
        cgroup.share.cpus = cgroup.cpus if cgroup.pids else frozenset()
        for child in cgroup.below.values():
            self._descend(child, cgroup.cpus, cgroup.mems)
        if cgroup.below:
            self.groups.append(cgroup)
