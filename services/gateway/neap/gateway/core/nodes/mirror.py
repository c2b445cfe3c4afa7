"""What is written to nodes, and when: few writes, the ones that matter first, never more than the budget.

    changed(kind)   old and new differ by at least `least_change` of the old one, or one of them is nothing
    write           two calls where something changed (the Node's extended resources, the CustomNodeResource),
                    one where nothing did for `refresh` (the CustomNodeResource)
    order           who offers less than was written (others would place guests that do not fit), who changed, who is
                    due for a refresh; of one class the longest waiting, and whoever waited for `patience` goes before
                    all who came later
    budget          calls per tick ≤ `writes` · seconds since the last tick; what is not used is not saved up

With N nodes a change is written within patience + 2·N / writes, whatever else happens. The floor of N nodes is
N / refresh: 33 calls/s for 20,000. After a restart refreshes are spread by a hash of the node's name, and what nodes
offer is known from the API, so a restart writes nothing that was written before.
Source: requirements 000-17 (write only on a change of 5 % or after 10 min).
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from heapq import heappop, heappush
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from neap.common.model.resource import Resources
from neap.common.units import MINUTE, Ratio, Seconds


class MirrorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See module docstring."""

    writes: Annotated[float, Meta(gt=0, le=10_000)] = 45.0  # calls per second, at most
    least_change: Annotated[Ratio, Meta(gt=0, le=1)] = 0.05  # of what was written
    refresh: Annotated[Seconds, Meta(gt=0)] = 10 * MINUTE  # a mirror is written again after so long
    patience: Annotated[Seconds, Meta(gt=0)] = 2 * MINUTE  # a change that waited so long goes before fresh ones
    retry: Annotated[Seconds, Meta(gt=0)] = 30.0  # after a write that failed
    settle: Annotated[Seconds, Meta(ge=0)] = 10.0  # after a write, until what the API shows is believed again
    extended: bool = True  # extended resources on Node objects
    mirrors: bool = True  # CustomNodeResources


class Urgency(IntEnum):
    """In the order they are written."""

    LESS = 0
    CHANGED = 1
    REFRESH = 2
    NONE = 3


class Write(NamedTuple):
    """One node to write; `both`: its Node object too."""

    node: str
    both: bool


class _Kept:
    __slots__ = ("changed", "in_flight", "offered", "queued", "refresh_at", "since", "written", "written_at")

    def __init__(self, refresh_at: Seconds) -> None:
        self.offered: Resources = {}
        self.written: Resources = {}
        self.changed = self.in_flight = False  # something beside amounts changed
        self.since: Seconds | None = None  # when what is to be written changed first
        self.queued = Urgency.NONE
        self.refresh_at, self.written_at = refresh_at, float("-inf")


class Mirror:
    """See module docstring. Pure; O(log nodes) per change and write."""

    def __init__(self, settings: MirrorSettings) -> None:
        self._settings = settings
        self._nodes: dict[str, _Kept] = {}
        self._queues: tuple[list[tuple[Seconds, str]], ...] = ([], [], [])
        self._ticked: Seconds | None = None
        self._left = 0.0

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, node: str) -> bool:
        return node in self._nodes

    @property
    def waiting(self) -> int:
        """Nodes with a change that is not written."""
        return sum(kept.since is not None for kept in self._nodes.values())

    def offered(self, node: str) -> Resources:
        """What a node offers now."""
        return self._nodes[node].offered

    def see(self, node: str, shown: Resources, at: Seconds) -> None:
        """The API has this node, and shows these amounts."""
        kept = self._nodes.get(node)
        if kept is None:
            kept = self._nodes[node] = _Kept(at + self._settings.refresh * spread(node))
            heappush(self._queues[Urgency.REFRESH], (kept.refresh_at, node))
            kept.written = shown
            kept.changed = not shown and self._settings.mirrors  # perhaps there is no mirror yet
        elif self._settings.extended and not kept.in_flight and at >= kept.written_at + self._settings.settle:
            kept.written = shown
        self._judge(node, kept, at)

    def offer(self, node: str, amounts: Resources, at: Seconds) -> None:
        """What a node offers by now, of every kind."""
        kept = self._nodes.get(node)
        if kept is not None and kept.offered != amounts:
            kept.offered = amounts
            self._judge(node, kept, at)

    def change(self, node: str, at: Seconds) -> None:
        """Something that is shown beside amounts changed."""
        kept = self._nodes.get(node)
        if kept is not None:
            kept.changed = self._settings.mirrors
            self._judge(node, kept, at)

    def forget(self, node: str) -> None:
        """The API has it no more."""
        self._nodes.pop(node, None)

    def take(self, at: Seconds, longest: Seconds) -> list[Write]:
        """What to write now; `longest`: the time between two calls of this, as planned."""
        since = longest if self._ticked is None else min(longest, at - self._ticked)
        self._ticked = at
        part = self._left - int(self._left)  # a part of a call is kept, whole ones are not saved up
        self._left = part + self._settings.writes * max(0.0, since)
        found: list[Write] = []
        while (urgency := self._next(at)) is not None:
            both = urgency is not Urgency.REFRESH and self._settings.extended
            cost = 1 + (both and self._settings.mirrors)
            if self._left < cost:
                break
            self._left -= cost
            _, node = heappop(self._queues[urgency])
            self._start(node, urgency, at)
            found.append(Write(node, both))
        return found

    def answered(self, node: str, at: Seconds, *, well: bool) -> None:
        """A write of this node is over; one that failed is done again."""
        kept = self._nodes.get(node)
        if kept is None:
            return
        kept.in_flight, kept.written_at, kept.queued = False, at, Urgency.NONE
        if not well:
            kept.changed, kept.since = True, at + self._settings.retry
        self._judge(node, kept, at)

    def _start(self, node: str, urgency: Urgency, at: Seconds) -> None:
        kept = self._nodes[node]
        kept.in_flight, kept.queued = True, Urgency.NONE
        if urgency is not Urgency.REFRESH:
            kept.written, kept.changed, kept.since = kept.offered, False, None
        kept.refresh_at = at + self._settings.refresh
        if self._settings.mirrors:
            heappush(self._queues[Urgency.REFRESH], (kept.refresh_at, node))

    def _judge(self, node: str, kept: _Kept, at: Seconds) -> None:
        """Queue it if it should be written; a change that was taken back is none."""
        urgency = self._urgency(kept)
        if urgency is Urgency.NONE:
            kept.since, kept.queued = None, urgency
            return
        if kept.since is None:
            kept.since = at
        if urgency < kept.queued:
            kept.queued = urgency
            heappush(self._queues[urgency], (kept.since, node))

    def _urgency(self, kept: _Kept) -> Urgency:
        worst = Urgency.CHANGED if kept.changed else Urgency.NONE
        if not self._settings.extended and not self._settings.mirrors:
            return Urgency.NONE
        for kind in kept.offered.keys() | kept.written.keys():
            old, new = kept.written.get(kind), kept.offered.get(kind, 0)
            if is_change(old, new, self._settings.least_change):
                if new < (old or 0):
                    return Urgency.LESS
                worst = Urgency.CHANGED
        return worst

    def _next(self, at: Seconds) -> Urgency | None:
        """The queue whose head is to be written next."""
        less, changed = self._head(Urgency.LESS, at), self._head(Urgency.CHANGED, at)
        if changed is not None and (less is None or changed[0] < min(less[0], at - self._settings.patience)):
            return Urgency.CHANGED
        if less is not None:
            return Urgency.LESS
        return Urgency.REFRESH if self._head(Urgency.REFRESH, at) is not None else None

    def _head(self, urgency: Urgency, at: Seconds) -> tuple[Seconds, str] | None:
        """The first of a queue that is due; entries that hold no more are dropped on the way."""
        queue = self._queues[urgency]
        while queue:
            due, node = queue[0]
            kept = self._nodes.get(node)
            is_refresh = urgency is Urgency.REFRESH
            holds = kept is not None and (
                kept.refresh_at == due if is_refresh else kept.queued is urgency and kept.since == due
            )
            if holds and (is_refresh or (kept is not None and not kept.in_flight)):
                return queue[0] if due <= at else None
            heappop(queue)
        return None

    def validate(self) -> None:
        """Whoever should be written waits in the queue it belongs to."""
        for node, kept in self._nodes.items():
            if (urgency := self._urgency(kept)) < Urgency.REFRESH and not kept.in_flight:
                assert kept.queued <= urgency, f"{node} is {urgency.name} and queued as {kept.queued.name}"
                assert (kept.since, node) in self._queues[kept.queued], f"{node} waits in no queue"


def is_change(old: int | None, new: int, least: Ratio) -> bool:
    """See module docstring; exact in whole numbers but for the ratio."""
    if old is None:
        return new > 0
    return old != new and (old == 0 or abs(new - old) >= least * old)


def spread(node: str) -> Ratio:
    """A stable share in [0, 1) of a node: where in the interval between refreshes its own begins."""
    return int.from_bytes(hashlib.blake2b(node.encode(), digest_size=8).digest(), "big") / 2**64
