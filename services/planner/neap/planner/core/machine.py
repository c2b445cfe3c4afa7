"""The planner's machine: what was told is folded once, then every desk hears of it; ticks are a desk's own.

event ─► wishes (policy) ─► cluster (who runs where) ─► history (what was used) ─► desks it is news to
tick "sizing" ─► the desk of that name plans
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from neap.common.contract.channel import Channel
from neap.common.runtime.machine import Arrived, Event, Instruction, Synced, Tick
from neap.planner.core.cluster import Cluster
from neap.planner.core.desk import Desk
from neap.planner.core.wishes import Wishes

Hear: TypeAlias = Callable[[Event], Sequence[Instruction] | None]


class PlannerMachine:
    """See module docstring. `stored`: the channels that have to be read before anything is planned."""

    def __init__(
        self, wishes: Wishes, cluster: Cluster, desks: Mapping[str, Desk], stored: Sequence[Channel[Any]]
    ) -> None:
        self._wishes, self._cluster, self._desks = wishes, cluster, desks
        self._unread = list(stored)
        self._listening: dict[type | None, tuple[Hear, ...]] = {}  # by type of message; None: any other event

    @property
    def is_synced(self) -> bool:
        """Whether all that is stored is known."""
        return not self._unread

    def handle(self, event: Event) -> Sequence[Instruction]:
        """See Machine."""
        if isinstance(event, Tick):
            return self._desks[event.name].plan(event.at) if self.is_synced and event.name in self._desks else ()
        if isinstance(event, Synced) and event.channel in self._unread:
            self._unread.remove(event.channel)
        said = [*self._wishes.hear(event)]
        for hear in self._concerned(event):
            said += hear(event) or ()
        return said

    def _concerned(self, event: Event) -> Sequence[Hear]:
        kind = type(event.message) if isinstance(event, Arrived) else None
        concerned = self._listening.get(kind)
        if concerned is None:
            first = (self._cluster.hear,) if kind is None or kind in Cluster.news else ()
            desks = (desk.hear for desk in self._desks.values() if kind is None or kind in desk.news)
            concerned = self._listening[kind] = (*first, *desks)
        return concerned

    def validate(self) -> None:
        """See Machine."""
        self._cluster.validate()
        for desk in self._desks.values():
            desk.validate()
