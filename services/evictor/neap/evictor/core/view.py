"""What a rule sees and what it answers: frozen values, nothing of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from neap.common.model.advice import Noisy
from neap.common.model.resource import LARGEST, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.tide import TideNode
from neap.common.model.topology import NodeTopology
from neap.common.model.usage import NodeUsage
from neap.common.model.workload import Workload
from neap.common.units import Bytes, Cores, Ratio, Seconds


def sane(value: float | None, most: float = LARGEST) -> float | None:
    """A measured amount, or None where it cannot be one: below zero, or beyond any machine."""
    return value if value is not None and 0 <= value <= most else None


class Guest(NamedTuple):
    """One reclaimed pod of the node; measured values are None while unknown."""

    workload: Workload
    requests: Mapping[str, int]
    started: Seconds
    cpu: Cores | None = None
    working_set: Bytes | None = None
    stalled: Ratio | None = None  # share of the last 60 s in which some task of it waited for a CPU
    numa: tuple[int, ...] = ()  # NUMA nodes it is bound to; empty: not bound
    cpus: frozenset[int] = frozenset()  # it may run on; empty: not known
    io: float | None = None  # bytes/s from and to block devices
    written: float | None = None  # bytes/s to block devices
    bandwidth: float | None = None  # memory bytes/s
    start_cost: Seconds | None = None  # from its placement until it ran
    anon: Mapping[int, Bytes] | None = None  # anonymous memory by NUMA node
    surplus: bool = False  # of a gang that has more members here than it needs
    in_vain: bool = False  # it was asked to leave again and again, and is still here

    @property
    def uid(self) -> str:
        """Of the pod."""
        return self.workload.uid

    @property
    def overuse(self) -> Ratio:
        """Used over asked, the larger of CPU and memory; 0 where neither is known."""
        cpu, memory = self.requests.get(RECLAIMED_CPU, 0) / 1000, self.memory_asked
        return max(
            self.cpu / cpu if cpu and self.cpu is not None else 0.0,
            self.working_set / memory if memory and self.working_set is not None else 0.0,
        )

    @property
    def memory_asked(self) -> Bytes:
        """Its memory request, of lent memory, else of memory, or of either container by container; 0: it has none."""
        asked = (one.requests.get(RECLAIMED_MEMORY) or one.requests.get(MEMORY, 0) for one in self.workload.containers)
        return max(self.requests.get(RECLAIMED_MEMORY) or self.requests.get(MEMORY, 0), sum(asked))


class Pool(NamedTuple):
    """A pool of CPUs as the newest advice has it, and what its members do."""

    name: str
    cpus: frozenset[int]
    load: float | None  # tasks that ran or waited for a CPU, on average over the report; None: not known of all


@dataclass(frozen=True)
class View:
    """The node at one report. Who was told to leave counts as gone: `leaving` are not among `guests`."""

    at: Seconds
    usage: NodeUsage
    guests: tuple[Guest, ...]
    leaving: tuple[Guest, ...] = ()
    offer: Mapping[str, int] | None = None  # what the node lends, in whole units; None: unknown or too old
    topology: NodeTopology | None = None
    pools: tuple[Pool, ...] = ()  # of owners; empty: no advice that is valid
    noisy: tuple[Noisy, ...] = ()  # guests that the newest advice says disturb an owner; empty: none that is valid
    evicted: Mapping[str, tuple[Seconds, ...]] | None = None  # by family: when members of it left this node
    returns: TideNode | None = None  # it goes back to online services; None: it does not


class Level(NamedTuple):
    """Where a metric stands against its threshold. `need` is what must be freed, in the unit of Victim.frees."""

    metric: str
    value: float
    threshold: float
    need: int  # above 0: beyond the threshold
    calm: bool  # so far from the threshold that the pressure is over
    why: str  # the comparison, as a person would say it
    scope: str = ""  # several levels of one rule; a guest's uid where only that guest is meant
    unit: str = ""  # of need and frees: "milli-cores", "bytes", "" for all or nothing
    hard: bool = False  # act at the first report
    crowded: bool = False  # beyond the soft threshold: nobody leaves for it, and no guest comes


class Victim(NamedTuple):
    """A guest whose leaving would help, how much, and why it."""

    guest: Guest
    frees: int
    reason: str
    score: float = 0.0  # the rule's own: higher leaves first
