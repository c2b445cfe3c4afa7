"""What a rule sees and what it answers: frozen values, nothing of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from neap.common.model.usage import NodeUsage
from neap.common.model.workload import Workload
from neap.common.units import Bytes, Cores, Ratio, Seconds


class Guest(NamedTuple):
    """One reclaimed pod of the node; measured values are None while unknown."""

    workload: Workload
    requests: Mapping[str, int]
    started: Seconds
    cpu: Cores | None = None
    working_set: Bytes | None = None
    stalled: Ratio | None = None  # share of the last 60 s in which some task of it waited for a CPU

    @property
    def uid(self) -> str:
        """Of the pod."""
        return self.workload.uid


@dataclass(frozen=True)
class View:
    """The node at one report. Who was told to leave counts as gone: `leaving` are not among `guests`."""

    at: Seconds
    usage: NodeUsage
    guests: tuple[Guest, ...]
    leaving: tuple[Guest, ...] = ()
    offer: Mapping[str, int] | None = None  # what the node lends, in whole units; None: unknown or too old


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


class Victim(NamedTuple):
    """A guest whose leaving would help, how much, and why it."""

    guest: Guest
    frees: int
    reason: str
