"""Places kept for somebody until those who hold them have left: reserve, evict, bind.

    wanted     a pod found no node, and giving back could change that: a place is looked for, a few pods per tick
    nominated  guests are asked to leave (Preemption to the node's evictor, which has the last word); the place is
               charged for the pod, beside what the guests still hold, so nobody else gets any of it
    bound      every victim is off the ledger: the pod is decided again, and placed
    given up   not by then (`patience`), or the node would not take the pod any more even without the victims: the
               place is free again, the pod back in the queue, and it has nobody asked again before `cool_down`

A move is the same: the workload's next attempt is the one nominated, on another node, and its present run the one
asked to leave. No target, no eviction; no eviction in time, no move.

One nomination per pod, one per node, `most` at once, `per_tick` searches: no storm. Nominations are this process's
own: after a restart a pod is decided anew, and another scheduler may take the place (then the append is lost and the
pod decided again).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

import msgspec

from neap.common.contract.catalogue import PREEMPTIONS
from neap.common.model.lifecycle import Move, Preemption
from neap.common.model.protection import may_leave
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Count, Emit
from neap.common.units import Seconds, format_duration
from neap.scheduler.core.choice import preemption
from neap.scheduler.core.choice.cycle import Cycle, Decision
from neap.scheduler.core.choice.framework import Policy
from neap.scheduler.core.choice.trial import Trial, would_take
from neap.scheduler.core.flow.desk import Desk
from neap.scheduler.core.flow.settle import Settler
from neap.scheduler.core.nodes.leavers import LEAVERS
from neap.scheduler.core.nodes.table import READY, VERSION
from neap.scheduler.core.pods.pod import Pod
from neap.scheduler.core.why import tell

REMEMBERED: Final = 10_000  # pods that cool down
SOON: Final[Seconds] = 1.0  # until somebody is looked at again for whom a guest might leave that is still being placed


@dataclass(slots=True)
class Nomination:
    """A place on `node` that is kept for a pod until `victims` (attempt by uid) are off the ledger of `leaving`."""

    pod: Pod
    node: str
    leaving: str
    victims: dict[str, int]
    until: Seconds
    number: int  # of the pod's nominations
    seen: int = -1  # stamp of the node's row when it was last looked at

    @property
    def is_move(self) -> bool:
        """Whether it is the pod itself that leaves another node."""
        return self.pod.uid in self.victims


class Nominations:
    """See module docstring."""

    def __init__(self, desk: Desk, settler: Settler, cycle: Cycle, policies: Sequence[Policy]) -> None:
        self._desk, self._settler, self._cycle, self._policies = desk, settler, cycle, policies
        self._settings = settings = desk.settings.preemption
        self._search = preemption.Preemption(desk.table, cycle, policies, desk.ledgers, settings, self._is_under_way)
        self._open: dict[str, Nomination] = {}  # by uid
        self._wanted: dict[str, None] = {}
        self._cooling: OrderedDict[str, tuple[Seconds, int]] = OrderedDict()  # until when, how many so far
        self._later: list[tuple[Seconds, str]] = []

    def want(self, pod: Pod, decision: Decision, at: Seconds) -> None:
        """A pod found no node: look for a place soon, if guests could make one."""
        if not self._settings.on or decision.busy or not decision.wakes & preemption.GIVEN_BACK:
            return
        if not self._desk.table.columns[LEAVERS].any():
            return
        until, _ = self._cooling.get(pod.uid, (at, 0))
        if until > at:
            heappush(self._later, (until, pod.uid))
        else:
            self._wanted[pod.uid] = None

    def move(self, asked: Move, at: Seconds) -> bool:
        """Have a workload run elsewhere: a place first, then the eviction. False if there is no place, or no such run."""
        desk, uid = self._desk, asked.uid
        place = desk.ledgers.find(uid)
        record = desk.book.records.get(uid)
        if place is None or record is None or record.over(asked.attempt) or uid in self._open or not desk.is_mine(uid):
            return False
        workload = place[1].placement.workload
        if workload.attempt != asked.attempt or not self._may_leave(workload) or self._is_under_way(uid):
            return False
        if len(self._open) >= self._settings.most:
            return False
        following = msgspec.structs.replace(workload, attempt=workload.attempt + 1)
        pod = desk.profiles.pod(following, record.submitted_at)
        with self._closed(place[0]):
            decision = self._cycle.decide(pod, at)
        if decision.placement is None:
            return False
        why = f"a place on {decision.node} is kept for its next run: {asked.reason}"
        self._nominate(Nomination(pod, decision.node, place[0], {uid: asked.attempt}, 0.0, 0), why, at)
        return True

    def tick(self, at: Seconds) -> None:
        """Bind who can be bound, give up what is late."""
        for uid, nomination in list(self._open.items()):
            self._look(uid, nomination, at)

    def seek(self, at: Seconds) -> None:
        """Look for a few places more, for pods that still wait."""
        while self._later and self._later[0][0] <= at:
            self._wanted[heappop(self._later)[1]] = None
        searched = 0
        while self._wanted and searched < self._settings.per_tick and len(self._open) < self._settings.most:
            uid = next(iter(self._wanted))
            del self._wanted[uid]
            pod = self._desk.queue.pod(uid)
            if pod is not None and self._desk.queue.verdict(pod) is not None:
                searched += 1
                self._keep_place(pod, at)

    def validate(self) -> None:
        """What is kept for somebody is charged, and only that."""
        assert self._open.keys() >= self._desk.nominated.keys(), "a place is kept for nobody"
        for uid, (node, attempt) in self._desk.nominated.items():
            held = self._desk.table.charges(node).get(uid)
            assert held is not None, f"the place of {uid} on {node} is not kept"
            assert held.workload.attempt == attempt, f"the place of {uid} on {node} is another attempt's"

    # ----------------------------------------------------------------------------------------------------------------

    def _is_under_way(self, uid: str) -> bool:
        """Whether somebody asked for its eviction, or its placing or release is under way."""
        return self._desk.appends.of(uid) is not None or any(uid in one.victims for one in self._open.values())

    def _may_leave(self, workload: Workload) -> bool:
        return may_leave(workload, self._settings.protected_labels, self._settings.protected_owners)

    def _keep_place(self, pod: Pod, at: Seconds) -> None:
        """Look for a place for a pod that waits, and keep it."""
        desk = self._desk
        closed = {one.node for one in self._open.values()} | {one.leaving for one in self._open.values()}
        plan = self._search.plan(pod, closed)
        outcome = "none" if plan is None else "nominated"
        desk.out.append(Count("neap_scheduler_preemptions_total", labels={"outcome": outcome}))
        if plan is None:
            if self._search.is_early(pod):
                heappush(self._later, (at + SOON, pod.uid))
            return
        desk.queue.leave(pod.uid)
        desk.table.charge(plan.node, plan.placement, at)
        victims = {held.placement.workload.uid: held.attempt for held in plan.victims}
        names = ", ".join(
            f"{held.placement.workload.key} (priority {held.placement.workload.priority})" for held in plan.victims
        )
        kind = "guest" if pod.guest else "owner"
        why = (
            f"{kind} {pod.workload.key} (priority {pod.workload.priority}) fits nowhere, and on {plan.node} once "
            f"{names} left; none of these {len(victims)} could stay"
        )
        self._nominate(Nomination(pod, plan.node, plan.node, victims, 0.0, 0), why, at)
        desk.queue.rouse(pod.lane)

    def _nominate(self, nomination: Nomination, why: str, at: Seconds) -> None:
        """The place is charged; ask who holds it to leave."""
        desk, pod = self._desk, nomination.pod
        nomination.number = self._cooling.get(pod.uid, (0.0, 0))[1] + 1
        nomination.until = at + self._settings.patience
        self._cool(pod.uid, nomination.until + self._settings.cool_down, nomination.number)
        self._open[pod.uid] = nomination
        desk.nominated[pod.uid] = (nomination.node, pod.workload.attempt)
        asked = Preemption(
            at=at,
            source=tell.SOURCE,
            node=nomination.leaving,
            victims=tuple(nomination.victims),
            attempts=tuple(nomination.victims.values()),
            beneficiary=pod.uid,
            reason=why,
        )
        id_ = f"{pod.uid}.{pod.workload.attempt}.preempt.{int(at * 1000)}"
        desk.out.append(Emit(PREEMPTIONS.at(node=nomination.leaving), asked, id_))
        wait = format_duration(self._settings.patience)
        told = f"{why}; the place is kept for {wait}"
        desk.out.append(tell.preempting(pod.workload, nomination.node, told, at, nomination.number))

    def _look(self, uid: str, nomination: Nomination, at: Seconds) -> None:
        """What became of one nomination."""
        desk = self._desk
        if uid not in desk.nominated:  # it ended, or runs elsewhere: whoever settled it gave the place back
            self._close(uid, at)
        elif not any(self._holds(nomination.leaving, *victim) for victim in nomination.victims.items()):
            self._bind(uid, nomination, at)
        elif at >= nomination.until:
            late = [victim for victim in nomination.victims if self._holds(nomination.leaving, victim, 0)]
            waited = format_duration(self._settings.patience)
            self._give_up(uid, nomination, f"{', '.join(late)} did not leave within {waited}", at)
        elif not self._still_fits(nomination):
            self._give_up(uid, nomination, "the node would not take it any more", at)

    def _holds(self, node: str, uid: str, attempt: int) -> bool:
        held = self._desk.ledgers.of(node).held.get(uid)
        return held is not None and attempt in (0, held.attempt)

    def _still_fits(self, nomination: Nomination) -> bool:
        """Whether the node will take the pod once the victims are gone; asked when the node has changed."""
        table, node = self._desk.table, nomination.node
        row = table.row(node)
        if nomination.seen == int(table.columns[VERSION][row]):
            return True
        with Trial(table, node) as trial:
            for uid in (nomination.pod.uid, *nomination.victims):
                if uid in table.charges(node):
                    trial.lift(uid)
            fits = would_take(self._policies, table, nomination.pod, row) is not None
        nomination.seen = int(table.columns[VERSION][row])
        return fits

    def _bind(self, uid: str, nomination: Nomination, at: Seconds) -> None:
        """Its victims are gone: place it, on the best node there is now (a move: not where it came from)."""
        desk, table = self._desk, self._desk.table
        record = desk.book.records.get(uid)
        if record is None or record.attempt < nomination.pod.workload.attempt:
            return  # a move whose release was heard before the end of the run
        changes = set(table.changes)
        kept = table.charges(nomination.node)[uid]
        table.discharge(nomination.node, uid)
        with self._closed(nomination.leaving if nomination.is_move else ""):
            decision = self._cycle.decide(nomination.pod, at)
        table.changes.clear()
        table.changes |= changes
        if decision.placement is None and at < nomination.until:
            table.charge(nomination.node, kept, at)  # its ledger is busy, or it lacks something: not for long
            return
        del desk.nominated[uid]
        if decision.placement is None:
            self._told(nomination, "the place is free, but the node would not take it any more", at)
        else:
            self._settler.announce(record, nomination.pod.workload, at)
            self._settler.place(decision, at)
        self._close(uid, at)

    def _give_up(self, uid: str, nomination: Nomination, why: str, at: Seconds) -> None:
        self._desk.table.discharge(nomination.node, uid)
        del self._desk.nominated[uid]
        self._told(nomination, why, at)
        self._close(uid, at)

    def _told(self, nomination: Nomination, why: str, at: Seconds) -> None:
        told = f"the place on {nomination.node} is given back: {why}"
        self._desk.out.append(Count("neap_scheduler_preemptions_total", labels={"outcome": "given-up"}))
        number = nomination.number
        self._desk.out.append(
            tell.preempting(nomination.pod.workload, nomination.node, told, at, number, what="nomination-over")
        )

    def _close(self, uid: str, at: Seconds) -> None:
        nomination = self._open.pop(uid)
        self._cool(uid, at + self._settings.cool_down, nomination.number)
        self._settler.settle(uid, at)

    def _cool(self, uid: str, until: Seconds, number: int) -> None:
        self._cooling[uid] = until, number
        self._cooling.move_to_end(uid)
        while len(self._cooling) > REMEMBERED:
            self._cooling.popitem(last=False)

    @contextmanager
    def _closed(self, node: str) -> Iterator[None]:
        """One node takes nobody meanwhile, and nobody hears of it."""
        table = self._desk.table
        was_ready = bool(node) and bool(table.columns[READY][table.row(node)])
        changes = set(table.changes)
        if was_ready:
            table.set_ready(node, ready=False)
        try:
            yield
        finally:
            if was_ready:
                table.set_ready(node, ready=True)
            table.changes.clear()
            table.changes |= changes
