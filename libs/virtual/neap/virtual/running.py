"""One container at run time: what it wants in a step, what became of what it got."""

from __future__ import annotations

from math import ceil, inf

from neap.common.units import Bytes, Cores, Ratio, Seconds
from neap.virtual.cgroup import PAGE, Cgroup
from neap.virtual.demand import anonymous, offered
from neap.virtual.pod import Curve, EndReason, Finished, VirtualContainer, Work

PATIENCE: Seconds = 30.0  # requests older than this are given up, so a backlog is at most this much offered load
DONE_WITHIN = 1e-6  # core-seconds


class Running:
    """A started container and its counters."""

    __slots__ = (
        "backlog",
        "cache",
        "cgroup",
        "done",
        "ended",
        "left",
        "offered",
        "pid",
        "slowed",
        "spec",
        "started",
        "uid",
        "used",
        "wanted",
    )

    def __init__(self, uid: str, spec: VirtualContainer, cgroup: Cgroup, pid: int, at: Seconds) -> None:
        self.uid, self.spec, self.cgroup, self.pid, self.started = uid, spec, cgroup, pid, at
        self.left: float = spec.demand.core_seconds if isinstance(spec.demand, Work) else inf
        self.offered: Cores = 0.0
        self.wanted: Cores = 0.0
        self.slowed: Ratio = 1.0  # how much longer a request takes than alone
        self.used: Cores = 0.0
        self.backlog: float = 0.0  # core-seconds of requests not yet served
        self.done: float = 0.0  # core-seconds
        self.cache: float = 0.0  # page cache it would like, bytes
        self.ended: EndReason | None = None

    def want(self, at: Seconds, step: Seconds, slowed: Ratio = 1.0) -> None:
        """Decide how many cores it wants over a step around `at`; waiting for memory slows work down."""
        demand, self.slowed = self.spec.demand, slowed
        if self.ended is not None:
            self.wanted = 0.0
        elif isinstance(demand, Curve):
            self.offered = offered(demand, at) * slowed
            self.wanted = self.offered + self.backlog / step
        elif isinstance(demand, Work):
            there = min(1.0, max(0.0, (at + step / 2 - self.started) / step))  # share of the step
            self.wanted = min(demand.width * (1.0 - self.cgroup.memory_stall.some) * there, self.left / step)
        self.cgroup.share.wants = self.wanted

    def account(self, now: Seconds, step: Seconds) -> bool:
        """Book what it got over the step that began at `now`; true if it stalled on CPU."""
        cgroup, share = self.cgroup, self.cgroup.share
        got, wanted = share.gets, self.wanted
        used = got * step
        self.used = got
        cgroup.usage += used
        self.done += used
        self.left -= used
        if isinstance(self.spec.demand, Curve):
            backlog = self.backlog + self.offered * step - used
            self.backlog = min(max(0.0, backlog), PATIENCE * self.offered) if backlog > DONE_WITHIN else 0.0
        throttled = throttle(cgroup, wanted, step)
        some = stalled(wanted, got)
        cgroup.cpu_stall.set(now, some, throttled)
        return some > 0.0

    def grow(self, at: Seconds, step: Seconds) -> bool:
        """Decide how much memory it wants at the end of a step; true if that changed."""
        memory, cgroup = self.spec.memory, self.cgroup
        if self.ended is not None:
            return False
        anon: Bytes = cgroup.wants_anon
        if memory.per_second or not anon:
            anon = anonymous(memory, max(0.0, at + step - self.started)) // PAGE * PAGE
        if self.cache < memory.cache:
            self.cache = min(memory.cache, self.cache + memory.cache_per_core_second * cgroup.share.gets * step)
        file = int(self.cache) // PAGE * PAGE
        if anon == cgroup.wants_anon and file == cgroup.wants_file:
            return False
        cgroup.wants_anon, cgroup.wants_file = anon, file
        return True

    def finish(self, at: Seconds, reason: EndReason) -> Finished:
        """End it: no process, no memory; its cgroup stays until the pod is stopped."""
        self.ended = reason
        self.offered = self.backlog = 0.0
        cgroup = self.cgroup
        cgroup.pids = []
        cgroup.anon = cgroup.file = cgroup.wants_anon = cgroup.wants_file = 0
        cgroup.share.wants = cgroup.share.gets = 0.0
        cgroup.cpu_stall.set(at, 0.0, 0.0)
        cgroup.memory_stall.set(at, 0.0, 0.0)
        cgroup.tree.squeezed = True
        cgroup.tree.move()
        return Finished(at=at, uid=self.uid, container=self.spec.id, reason=reason, core_seconds=self.done)


def throttle(cgroup: Cgroup, wanted: Cores, step: Seconds) -> Ratio:
    """Count the periods of a quota; returns the share of time spent throttled, 1 − quota / wanted.

    A cgroup that wants more than its quota is stopped in every period, on each CPU it runs on: throttled_usec
    adds up over CPUs, as the kernel's does.
    """
    if cgroup.quota_us is None or wanted <= 0.0:
        return 0.0
    periods = step * 1e6 / cgroup.period_us
    cgroup.periods += periods
    quota = cgroup.quota_us / cgroup.period_us
    if wanted <= quota * (1 + 1e-9):
        return 0.0
    share = 1.0 - quota / wanted
    cgroup.throttles += periods
    cgroup.throttled += share * step * min(ceil(wanted), len(cgroup.cpus))
    return share


def stalled(wanted: Cores, got: Cores) -> Ratio:
    """PSI "some" of CPU: the share of time in which at least one of n = ⌈wanted⌉ threads waits, each independently.

    some = 1 − (got / wanted)ⁿ; for one thread just the share of time it waited.
    """
    if got >= wanted * (1 - 1e-9) or wanted <= 0.0:
        return 0.0
    return 1.0 - float((got / wanted) ** ceil(wanted))
