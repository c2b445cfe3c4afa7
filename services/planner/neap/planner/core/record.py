"""What was used, as far as the planner saw it: the reading side of the history, which every desk plans from.

Units: cores and bytes. Means are over time, per STEP or per hour; what was not seen is NaN, never zero. A series
begins with the first and ends with the last value that is known, so its end tells how old it is. Windows under way are
not part of it. Amounts are within 0.02 %, which is what two bytes can hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from neap.common.units import Seconds
from neap.foresight.histogram import Histogram
from neap.foresight.series import Series
from neap.foresight.sizing import Kill

STEP: Final[Seconds] = 300.0  # of the series of totals
How: TypeAlias = Literal["avg", "max"]


@dataclass(frozen=True)
class Used:
    """One resource of one container of a service; every replica's samples are counted, each by itself."""

    histogram: Histogram  # of samples, older ones count less
    hours_avg: Series  # step one hour: mean over the replicas
    hours_max: Series  # step one hour: highest sample of any replica
    startup: float  # highest sample in the first minutes of a replica, not part of the rest; NaN: none seen
    worst: str = ""  # uid of the replica with the highest sample of the last day


@dataclass(frozen=True)
class ContainerRecord:
    """One container of a service, over all its replicas."""

    container: str
    first: Seconds  # when it was seen first and last
    last: Seconds
    samples: int
    cpu: Used
    memory: Used
    ooms: Sequence[Kill] = ()


class Record(Protocol):
    """See module docstring. Keys are profile keys: namespace/Kind/name."""

    def total(self, key: str, resource: str) -> Series | None:
        """All replicas of a service together, mean per STEP; the last day at least, weeks where it is tracked."""
        ...

    def replicas(self, key: str) -> Series | None:
        """How many replicas were seen, mean per STEP, of the same steps as `total`."""
        ...

    def track(self, key: str) -> None:
        """Keep weeks of a service's totals from now on (capped: beyond that it stays at a day, and that is counted)."""
        ...

    def node(self, node: str, resource: str, how: How = "avg") -> Series | None:
        """What owners (not lent) used on a node together, per STEP, two weeks."""
        ...

    def nodes(self) -> Sequence[str]:
        """All nodes that were seen, sorted."""
        ...

    def container(self, key: str, container: str) -> ContainerRecord | None:
        """One container of a service."""
        ...

    def containers(self, key: str) -> Sequence[str]:
        """The names of a service's containers that were seen."""
        ...

    def keys(self) -> Sequence[str]:
        """All services that were seen, sorted."""
        ...
