"""Which pods with cards usually come to this cluster, learned from those that came.

The last WINDOW different pods with cards that were placed here or found no node, each counted once; asked again
EVERY seconds at the earliest, and taken over if there are LEAST of them and their mix differs from the one in use by
CHANGE (half the sum of |p − q| over shapes, the total variation). Those in no run any more leave as others come, so an
old mix is forgotten. Pods that wait count too: the shape nobody has room for is the one to keep room for.

The fact TYPICAL is the mix in use, None until there is one: then openb's is taken (plugins/fgd.py). A new mix is a new
answer of `ask`, so everything is weighed anew once, and evaluations are kept until the next one. A scheduler that
starts anew counts what runs and what waits: it need not agree with the one before, for scores are no promise.

Cost: a dictionary per pod with cards, nothing for others. Bounded by WINDOW pods and MOST shapes.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from typing import Final

from neap.common.model.placement import Placement
from neap.common.model.topology import NodeTopology
from neap.common.model.workload import Workload
from neap.common.units import MINUTE, Seconds
from neap.scheduler.core.choice.fragments import Mix
from neap.scheduler.core.nodes.columns import Columns
from neap.scheduler.core.nodes.keeper import Keeper
from neap.scheduler.core.pods.pod import Pod
from neap.scheduler.core.pods.typical import Typical, shape_of, typical_pods

TYPICAL: Final = "pods/typical"
SEEN: Final = "cards/seen"  # whether a node ever had a card
WINDOW: Final = 4096  # pods
LEAST: Final = 200  # pods
MOST: Final = 128  # shapes, the most frequent ones
EVERY: Final[Seconds] = 10 * MINUTE
CHANGE: Final = 0.05


class Census(Keeper):
    """Keeps the fact above."""

    remembers = True

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._seen: OrderedDict[str, Typical] = OrderedDict()  # by uid, in the order they came
        self._counts: Counter[Typical] = Counter()
        self._in_use: Mapping[Typical, float] = {}
        self._new, self._epoch, self._asked_at = 0, 0, float("-inf")
        columns.facts |= {TYPICAL: None, SEEN: False}

    def describe(self, row: int, topology: NodeTopology, held: Iterable[Placement]) -> Iterable[int]:  # noqa: ARG002
        """The first card makes cards a matter."""
        if topology.cards and not self._columns.facts[SEEN]:
            self._columns.facts[SEEN] = True
            self._epoch += 1
        return ()

    def charge(self, row: int, placement: Placement, sign: int) -> Iterable[int]:  # noqa: ARG002
        """A pod with cards runs."""
        if sign > 0 and placement.gpus and placement.workload.uid not in self._seen:
            self._count(placement.workload)
        return ()

    def turn_away(self, pod: Pod) -> None:
        """A pod with cards waits."""
        if pod.asks and pod.uid not in self._seen:
            self._count(pod.workload)

    def expire(self, at: Seconds) -> Iterable[int]:
        """Take the mix over if it is time, and if it is another one."""
        if self._new and len(self._seen) >= LEAST and at - self._asked_at >= EVERY:
            self._asked_at, self._new = at, 0
            shares = {shape: count / len(self._seen) for shape, count in self._counts.items()}
            moved = sum(abs(shares.get(s, 0.0) - self._in_use.get(s, 0.0)) for s in sorted({*shares, *self._in_use}))
            if moved / 2 >= CHANGE:
                self._take_over(shares)
        return ()

    def ask(self, pod: Pod) -> Hashable:
        """Which mix is in use; nothing to guests."""
        return None if pod.guest else self._epoch

    def _count(self, workload: Workload) -> None:
        shape = shape_of(workload)
        if shape is None:
            return
        self._seen[workload.uid] = shape
        self._counts[shape] += 1
        self._new += 1
        if len(self._seen) > WINDOW:
            _, old = self._seen.popitem(last=False)
            self._counts[old] -= 1
            if not self._counts[old]:
                del self._counts[old]

    def _take_over(self, shares: Mapping[Typical, float]) -> None:
        frequent = typical_pods((shape._replace(pods=count) for shape, count in self._counts.items()), 1.0)[:MOST]
        self._columns.facts[TYPICAL], self._in_use = Mix(frequent), shares
        self._epoch += 1
