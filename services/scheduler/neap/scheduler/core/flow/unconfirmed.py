"""Placements that no node ever confirmed: given back after a while, and the workload decided again.

    late = nobody said that this attempt started, `confirm` after its entry was written to the ledger

Only attempts whose submission was heard are watched: what is told later about them is then heard too, so a restart
takes nobody for lost whose start is merely older than what the stream remembers. An entry known from a checkpoint only
has no time, and is left alone; so is who was placed by somebody else.
"""

from __future__ import annotations

from heapq import heappop, heappush

from neap.common.model.placement import Placed
from neap.common.runtime.machine import Count
from neap.common.units import Seconds, format_duration
from neap.scheduler.core.flow.desk import Desk
from neap.scheduler.core.why import tell


class Unconfirmed:
    """See module docstring. `confirm` of 0: nobody is watched."""

    def __init__(self, desk: Desk, confirm: Seconds) -> None:
        self._desk, self._confirm = desk, confirm
        self._due: list[tuple[Seconds, str, int]] = []  # when, uid, attempt

    def watch(self, entry: Placed) -> None:
        """A placement was heard of."""
        if self._confirm > 0:
            workload = entry.placement.workload
            heappush(self._due, (entry.at + self._confirm, workload.uid, workload.attempt))

    def tick(self, at: Seconds) -> None:
        """End the runs that never began."""
        desk = self._desk
        while self._due and self._due[0][0] <= at:
            _, uid, attempt = heappop(self._due)
            record, place = desk.book.records.get(uid), desk.ledgers.find(uid)
            if record is None or place is None or place[1].attempt != attempt or not desk.is_mine(uid):
                continue
            if record.over(attempt) or record.started >= attempt or record.announced < attempt or record.node:
                continue
            why = f"nobody confirmed that it started within {format_duration(self._confirm)} of its placement"
            desk.out.append(Count("neap_scheduler_unconfirmed_total"))
            desk.out.append(tell.given_back(place[1].placement.workload, place[0], why, at, "unconfirmed"))
