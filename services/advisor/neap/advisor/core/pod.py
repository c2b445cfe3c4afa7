"""What the advisor remembers of one pod: what it asked for, and what it was seen using."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from neap.advisor.core.indicators import signals, stalled
from neap.advisor.core.policy import PodView
from neap.common.errors import InputError
from neap.common.model.enhancement import Enhancement, enhancement
from neap.common.model.manifest import kube_qos
from neap.common.model.placement import Placement
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, LARGEST, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.trail import ObjectRef
from neap.common.model.usage import ContainerUsage
from neap.common.model.workload import Workload
from neap.common.units import Bytes, Cores, Ratio

DEDICATED: Final = "dedicated"
RECLAIMED: Final = "reclaimed"
SHARE: Final = "share"
SYSTEM: Final = "system"
ISOLATED: Final = "isolated-"  # + uid: the pool of an owner that was too loud for its neighbours
_OWN: Final = {QosClass.DEDICATED: DEDICATED, QosClass.RECLAIMED: RECLAIMED, QosClass.SYSTEM: SYSTEM}
PLAIN: Final = Enhancement()


@dataclass(frozen=True)
class Pod:
    """One ledger entry. A shared pod may name its pool, but none of those that others own: classes, NUMA nodes, the loud."""

    uid: str
    about: ObjectRef
    workload: Workload
    pool: str
    request: Cores
    limit: Cores | None  # None: some container has no quota
    memory: Bytes
    numa: tuple[int, ...]
    cards: tuple[int, ...]
    home: str = "guaranteed"  # Kubernetes' class, as it names the cgroup
    wish: Enhancement = PLAIN
    refused: str = ""  # why its annotations do not hold

    @property
    def is_owner(self) -> bool:
        """Whether guests live on what it leaves over."""
        return self.pool != RECLAIMED

    @property
    def whole(self) -> int:
        """CPUs a dedicated pod gets."""
        return max(1, math.ceil(self.request - 1e-9))

    @classmethod
    def of(cls, placement: Placement) -> Pod:
        """Read it from the ledger."""
        workload = placement.workload
        guest = workload.qos is QosClass.RECLAIMED
        requests = workload.requests
        limits = [container.limits.get(CPU) for container in workload.containers]
        quotas = [limit for limit in limits if limit is not None]
        own = workload.pool in {*_OWN.values(), ""} or "@" in workload.pool or workload.pool.startswith(ISOLATED)
        wish, refused = _enhancement(workload)
        return cls(
            uid=workload.uid,
            about=ObjectRef(namespace=workload.namespace, name=workload.name, uid=workload.uid),
            workload=workload,
            pool=_OWN.get(workload.qos, SHARE if own else workload.pool),
            request=requests.get(RECLAIMED_CPU if guest else CPU, 0) / 1000,
            limit=sum(quotas) / 1000 if quotas and len(quotas) == len(limits) else None,
            memory=requests.get(RECLAIMED_MEMORY if guest else MEMORY, 0),
            numa=placement.numa,
            cards=tuple(sorted({share.card for share in placement.gpus})),
            home=kube_qos(workload.containers).lower(),
            wish=wish,
            refused=refused,
        )


def _enhancement(workload: Workload) -> tuple[Enhancement, str]:
    try:
        return enhancement(workload.annotations, workload.qos), ""
    except InputError as error:
        return Enhancement(), str(error)


class Foretold(NamedTuple):
    """What a profile says of a pod for now and a while: see core/foreseeing."""

    version: str
    swing: Ratio  # how far it goes above its level at most
    most: Cores  # the most it ever used at this time of the day


@dataclass(slots=True)
class Track:
    """Recent usage of one pod; `now` and `stall` are of the newest report, None if it was not in it."""

    window: int
    margin: Ratio = 0.0  # on top of what it is seen using, for what is coming
    lends: bool = False  # guests may run behind it on NUMA nodes it has alone
    foretold: Foretold | None = None  # by its profile; set before a report, judged with the next one
    right: int = 0  # reports on end in which it used no more than that
    believed: bool = False  # its profile was right for long enough
    reports: int = 0
    now: Cores | None = None
    stall: Ratio | None = None
    load: Cores | None = None  # in use and waited for, on average; None: unknown
    smooth: Cores | None = None
    signals: Mapping[str, float] = field(default_factory=dict)
    cpu: deque[Cores] = field(init=False)
    memory: deque[Bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.cpu, self.memory = deque(maxlen=self.window), deque(maxlen=self.window)

    def observe(
        self, containers: Sequence[ContainerUsage], smoothing: Ratio, most: Cores, memory: Bytes = LARGEST
    ) -> None:
        """Fold one report's containers of this pod; `most` and `memory` are what the machine has, more is not believed."""
        self.look(containers, most)
        self._judge()
        if self.now is not None:
            self.reports += 1
            self.smooth = self.now if self.smooth is None else self.smooth + smoothing * (self.now - self.smooth)
            self.cpu.append(self.now)
        memories = [usage.memory if usage.working_set is None else usage.working_set for usage in containers]
        seen = [held for held in memories if held is not None and 0 <= held <= memory]
        if seen and len(seen) == len(memories):
            self.memory.append(sum(seen))

    def look(self, containers: Sequence[ContainerUsage], most: Cores) -> None:
        """What is so right now, by one report.

        A little more CPU than the machine has is a report that came late; far more is a report of nothing.
        """
        cpus = [usage.cpu for usage in containers if usage.cpu is not None and 0 <= usage.cpu < 2 * most]
        stalls = [stall for usage in containers if (stall := stalled(usage.cpu_stall)) is not None]
        self.now = min(sum(cpus), most) if cpus and len(cpus) == len(containers) else None
        self.stall, self.signals = max(stalls, default=None), signals(containers)
        waits = [_waited(usage) for usage in containers]
        waited = [wait for wait in waits if wait is not None]
        self.load = self.now + sum(waited) if self.now is not None and len(waited) == len(waits) else None

    @property
    def level(self) -> Cores | None:
        """Recent peak, or smoothed use where that is higher."""
        return None if self.smooth is None else max((self.smooth, *self.cpu))

    def _judge(self) -> None:
        """Whether its profile was right once more; a report without it says nothing."""
        told, level = self.foretold, self.level
        if told is None or self.now is None:
            return
        is_right = level is not None and self.now <= min(told.most, level * told.swing)
        self.right = self.right + 1 if is_right else 0

    @property
    def likely(self) -> Cores:
        """What it uses as far as anybody can tell; a pod never seen uses nothing."""
        return self.now if self.now is not None else self.smooth or 0.0

    def resize(self, window: int) -> None:
        """Remember more or fewer reports from now on."""
        self.window, self.cpu, self.memory = window, deque(self.cpu, window), deque(self.memory, window)

    def view(self, pod: Pod, settle: int, *, stale: bool) -> PodView:
        """What a provision policy may know; in stale rounds the newest report counts as missing."""
        told = self.foretold if self.believed and not stale else None
        return PodView(
            uid=pod.uid,
            request=pod.request,
            limit=pod.limit,
            now=None if stale else self.now,
            smooth=None if self.smooth is None else self.smooth * (1 + self.margin),
            peak=max(self.cpu) * (1 + self.margin) if self.cpu else None,
            stall=None if stale else self.stall,
            settled=self.reports >= settle,
            signals={} if stale else self.signals,
            level=None if self.level is None else self.level * (1 + self.margin),
            swing=None if told is None else told.swing,
            profile="" if told is None else told.version,
        )


def _waited(usage: ContainerUsage) -> Cores | None:
    """Tasks that waited for a CPU, on average; the share of time in which one did is the least there can have been."""
    wait = stalled(usage.cpu_stall) if usage.run_delay is None else usage.run_delay
    return wait if wait is not None and 0 <= wait < math.inf else None
