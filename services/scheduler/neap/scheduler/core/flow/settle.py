"""Closing the gap between what is wanted and what is held, for one workload at a time.

    held, and that attempt is over           -> append Released to its node
    pending, held nowhere, nothing under way -> into the queue (after its back-off)
    pending on a node where others put it    -> append Placed to that node as it is, Released to any other
    held, and its node gave it another size  -> append Placed to that node with that size, whether it fits or not
    over, held nowhere                       -> forget it

Called whenever anything about a workload changed, in any order, any number of times: a restart at any moment, a
repeated event or a late one lead to the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from neap.common.model.placement import Placed, Placement, Released
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Count
from neap.common.units import Seconds
from neap.scheduler.core.choice.cycle import Decision
from neap.scheduler.core.flow.appends import Op, Outcome
from neap.scheduler.core.flow.book import Record
from neap.scheduler.core.flow.desk import Desk
from neap.scheduler.core.flow.ledger import Held
from neap.scheduler.core.pods.admission import OWN, refusal
from neap.scheduler.core.pods.pod import Pod
from neap.scheduler.core.why import tell


class Settler:
    """See module docstring."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.stored: Callable[[Workload, Seconds], None] = lambda _workload, _at: None  # told of every placement

    def settle(self, uid: str, at: Seconds) -> None:
        """See module docstring."""
        desk = self._desk
        record = desk.book.records.get(uid)
        if record is None or not desk.is_mine(uid):
            return
        op = desk.appends.of(uid)
        place = desk.ledgers.find(uid)
        if op is not None:
            in_vain = place is not None and place[0] != op.node and place[1].attempt >= op.attempt
            in_vain |= record.node not in ("", op.node) or (op.again and place is None)
            if not (record.over(op.attempt) or in_vain) or desk.appends.cancel(uid) is None:
                return
            if not op.again:
                desk.table.discharge(op.node, uid)
        if uid in desk.nominated and not self._keep_nominated(record, place):
            self._give_back(uid)
        if place is not None:
            desk.queue.leave(uid)
            if record.over(place[1].attempt) or record.node not in ("", place[0]):
                self._release(record, place[0], place[1].attempt, at)
            else:
                self._charge_anew(record, *place, at)
        elif record.ended is not None:
            desk.queue.leave(uid)
            desk.book.settle(uid)
        elif record.workload is not None and record.node:
            desk.queue.leave(uid)
            self._adopt(record, record.workload, at)
        elif record.workload is not None and uid not in desk.nominated:
            self._enqueue(record, record.workload, at)

    def outcomes(self, outcomes: Iterable[Outcome], at: Seconds) -> None:
        """Appends were decided: stored, or what they reserved is free again."""
        desk = self._desk
        for outcome in outcomes:
            op = outcome.op
            labels = {"entry": type(op.entry).__name__, "outcome": "stored" if outcome.stored else "not-stored"}
            desk.out.append(Count("neap_scheduler_appends_total", labels=labels))
            if isinstance(op.entry, Placed):
                if outcome.stored:
                    desk.out.append(tell.placed(op))
                    if not op.again:
                        self.stored(op.entry.placement.workload, at)
                elif op.uid not in desk.ledgers.of(op.node).held:
                    desk.table.discharge(op.node, op.uid)
            self.settle(op.uid, at)

    def place(self, decision: Decision, at: Seconds) -> None:
        """Write a decision to its node's ledger."""
        assert decision.placement is not None
        workload, node = decision.pod.workload, decision.node
        entry = Placed(
            at=at,
            source=tell.SOURCE,
            node=node,
            placement=decision.placement,
            reason=tell.placed_why(decision),
            score=decision.score,
        )
        op = Op(node, workload.uid, workload.attempt, entry, f"{workload.uid}.{workload.attempt}.placed", decision)
        self._desk.appends.add(op, at)

    def _adopt(self, record: Record, workload: Workload, at: Seconds) -> None:
        """Others placed it, so whether it fits is no question: what it holds is not free for anybody else."""
        if reason := refusal(workload, record.subject):
            return self._refuse(record, workload, reason, "invalid", at)
        placement = Placement(workload=workload, charged=workload.requests)
        entry = Placed(at=at, source=tell.SOURCE, node=record.node, placement=placement, reason=tell.ADOPTED)
        self._desk.table.charge(record.node, placement, at)
        id = f"{record.uid}.{workload.attempt}.placed.{record.node}"
        op = Op(record.node, record.uid, workload.attempt, entry, id)
        return self._desk.appends.add(op, at)

    def _charge_anew(self, record: Record, node: str, held: Held, at: Seconds) -> None:
        """The node gave it another size than it is charged for; the id names the entry that this one replaces."""
        before, given = held.placement.workload, record.given
        if given is None or given.attempt != held.attempt or given.size == before.size:
            return None
        after = before.sized(given.size)
        if refusal(after):  # no ledger would take it
            record.given = None
            return self._desk.out.append(Count("neap_scheduler_refused_total", labels={"why": "size"}))
        placement = resized(held.placement, after)
        why = tell.resized_why(held.reason, held.placement, placement)
        entry = Placed(at=at, source=tell.SOURCE, node=node, placement=placement, reason=why)
        id = f"{record.uid}.{held.attempt}.sized.{held.seq}"
        return self._desk.appends.add(Op(node, record.uid, held.attempt, entry, id, again=True), at)

    def announce(self, record: Record, workload: Workload, at: Seconds) -> None:
        """A further attempt is submitted, once."""
        if workload.attempt > 1 and record.announced < workload.attempt:
            record.announced = workload.attempt
            self._desk.out.append(tell.resubmitted(workload, at))

    def tell_waiting(self, pods: Iterable[Pod], decision: Decision, at: Seconds) -> None:
        """Once per attempt; not while it waits for ledgers alone."""
        for pod in pods if not decision.busy else ():
            record = self._desk.book.records[pod.uid]
            if record.told < pod.workload.attempt:
                record.told = pod.workload.attempt
                self._desk.out.append(tell.waiting(pod.workload, decision, at))

    def _keep_nominated(self, record: Record, place: tuple[str, Held] | None) -> bool:
        """Whether a place kept for a workload is still what it waits for."""
        _, attempt = self._desk.nominated[record.uid]
        return not record.node and not record.over(attempt) and (place is None or place[1].attempt < attempt)

    def _give_back(self, uid: str) -> None:
        """A kept place is free again, unless the workload holds it by now."""
        node, _ = self._desk.nominated.pop(uid)
        if uid not in self._desk.ledgers.of(node).held:
            self._desk.table.discharge(node, uid)

    def _release(self, record: Record, node: str, attempt: int, at: Seconds) -> None:
        reason = f"{record.ended or 'back to the queue'}{': ' * bool(record.detail)}{record.detail}"
        entry = Released(at=at, source=tell.SOURCE, node=node, uid=record.uid, reason=reason)
        id = f"{record.uid}.{attempt}.released" + (f".{node}" if record.node else "")  # perhaps not the only one
        self._desk.appends.add(Op(node, record.uid, attempt, entry, id), at)

    def _enqueue(self, record: Record, workload: Workload, at: Seconds) -> None:
        desk, queue = self._desk, self._desk.queue
        queued = queue.pod(record.uid)
        if queued is not None and queued.workload.attempt == workload.attempt:
            return
        queue.leave(record.uid)
        reason = refusal(workload, record.subject)
        if reason:
            self._refuse(record, workload, reason, "invalid", at)
            return
        self.announce(record, workload, at)
        pod = desk.profiles.pod(workload, record.submitted_at)
        too_many = queue.push(pod, ready_at=record.ready_at, at=at)
        if too_many is not None:
            out = desk.book.records[too_many.uid]
            limit = desk.settings.queue_limit
            reason = f"queue full: {limit} workloads wait, and this is the last of the lowest priority"
            self._refuse(out, too_many.workload, reason, "queue-full", at)
        verdict = queue.verdict(pod) if pod.uid in queue and record.ready_at <= at else None
        if verdict is not None:
            self.tell_waiting([pod], verdict, at)

    def _refuse(self, record: Record, workload: Workload, reason: str, why: str, at: Seconds) -> None:
        """It never could run: say so once, and forget it."""
        self._desk.out.append(Count("neap_scheduler_refused_total", labels={"why": why}))
        self._desk.say(tell.refused(record, workload, reason, at))
        self._desk.book.refuse(record.uid, reason)


def resized(placement: Placement, workload: Workload) -> Placement:
    """The same place with another size; NUMA nodes it has alone stay charged whole, and so does what it does not ask for."""
    asked, charged = workload.requests, placement.charged
    least = charged if placement.exclusive else {}
    now = {kind: max(asked.get(kind, 0), least.get(kind, 0)) for kind in OWN if kind in {**asked, **charged}}
    return msgspec.structs.replace(placement, workload=workload, charged=charged | now)
