"""The scheduler: what is wanted (book), what is held (ledgers), what is under way (appends), who waits (queue).

The first two are folds of stored channels; `_settle` closes the gap between them for one workload at a time, and is
called whenever anything about it changed, in any order, any number of times:

    held, and that attempt is over          -> append Released to its node
    pending, held nowhere, nothing under way -> into the queue (after its back-off)
    over, held nowhere                       -> forget it

So a restart at any moment, a repeated event or a late one lead to the same place. Until workloads, ledgers and
topology have been read to their end, nothing is decided.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

from neap.common.contract.catalogue import (
    DEVICES,
    HEADROOM,
    NODES,
    PLACEMENTS,
    TOPOLOGY,
    WORKLOAD,
    ExplainRequest,
    Explanation,
)
from neap.common.contract.channel import Channel
from neap.common.model.advice import Headroom
from neap.common.model.device import DeviceState
from neap.common.model.lifecycle import Ended, Started, Submitted
from neap.common.model.node import NodeObject
from neap.common.model.placement import Checkpoint, LedgerEntry, Placed, Released
from neap.common.model.topology import NodeTopology
from neap.common.model.usage import NodeUsage
from neap.common.model.workload import Workload
from neap.common.runtime.machine import (
    Append,
    Arrived,
    Count,
    Done,
    Event,
    Failed,
    Gone,
    Instruction,
    Synced,
    Tick,
)
from neap.common.units import Seconds
from neap.scheduler.core import tell
from neap.scheduler.core.admission import refusal
from neap.scheduler.core.appends import Appends, Op, Outcome
from neap.scheduler.core.book import Book, Record
from neap.scheduler.core.change import NodeChanged
from neap.scheduler.core.cycle import Cycle, Decision
from neap.scheduler.core.framework import Policy
from neap.scheduler.core.ledger import Ledgers
from neap.scheduler.core.pod import Pod, pod_of
from neap.scheduler.core.queue import Queue
from neap.scheduler.core.table import NodeTable
from neap.scheduler.settings import Settings

UNTOLD: Final[Seconds] = 600.0  # well inside the trail's window for repeated ids


class SchedulerMachine:
    """See module docstring."""

    def __init__(self, settings: Settings, policies: Sequence[Policy], *, seed: int = 0) -> None:
        self._settings = settings
        self._table = NodeTable(order_seed=seed, guess=settings.guess, staleness=settings.stale)
        self._cycle = Cycle(
            self._table,
            policies,
            quantum=settings.quantum,
            shapes=settings.shapes,
            worth_waiting=settings.worth_waiting,
        )
        self._queue = Queue(limit=settings.queue_limit)
        self._book = Book(settings.backoff, remember=settings.remember)
        self._ledgers = Ledgers(self._table)
        self._appends = Appends(self._ledgers, self._table, settings.append)
        self._devices: dict[str, DeviceState] = {}
        self._unsynced: list[Channel[Any]] = [WORKLOAD, PLACEMENTS, TOPOLOGY]
        self._flushed_at: Seconds | None = None
        self._told_waiting = 0
        self._out: list[Instruction] = []

    @property
    def ready(self) -> bool:
        """Everything stored has been read."""
        return not self._unsynced

    def handle(self, event: Event) -> Sequence[Instruction]:
        """Fold, settle what changed, decide."""
        self._out = []
        match event:
            case Arrived(message=NodeUsage() as usage):
                self._table.measure(usage, event.at)
            case Arrived(message=Headroom() as headroom):
                self._table.offer(headroom, event.at)
            case Arrived(message=NodeTopology() as topology):
                self._table.describe(topology)
            case Arrived(message=NodeObject() as node):
                self._table.register(node)
            case Arrived(message=DeviceState() as state):
                self._device_state(state, event.at)
            case Arrived(message=Submitted() | Started() | Ended() as told):
                self._lifecycle(told, event.subject, event.at)
            case Arrived(message=Placed() | Released() | Checkpoint() as entry):
                self._ledger_entry(entry, event.seq, event.at)
            case Gone(channel=channel, subject=subject):
                self._gone(channel, subject, event.at)
            case Synced(channel=channel):
                self._synced(channel, event.seq, event.at)
            case Done(instruction=Append() as append, outcome=outcome):
                self._outcomes(self._appends.answered(append, outcome, event.at), event.at)
                self._advance(event.at)
            case Failed(instruction=Append() as append, may_retry=may_retry):
                self._outcomes(self._appends.failed(append, event.at, may_retry=may_retry), event.at)
                self._advance(event.at)
            case Tick(name="cycle"):
                self._tick(event.at)
        return self._out

    def validate(self) -> None:
        """Every invariant of the parts, and that nobody both waits and runs."""
        self._table.validate()
        self._ledgers.validate()
        self._appends.validate()
        self._queue.validate()
        for node in self._table.names:
            for uid in self._table.charges(node):
                op = self._appends.of(uid)
                reserved = op is not None and op.node == node and isinstance(op.entry, Placed)
                assert reserved or uid in self._ledgers.of(node).held, f"{uid} is charged on {node} for nothing"
        for uid, record in self._book.records.items():
            states = (uid in self._queue, self._appends.of(uid) is not None, self._ledgers.find(uid) is not None)
            assert not (states[0] and (states[1] or states[2])), f"{uid} waits and runs: {states}"
            if self.ready and record.pending and self._mine(uid):
                assert any(states), f"{uid} attempt {record.attempt} is lost"

    def explain(self, request: ExplainRequest) -> Explanation:
        """Why a workload is where it is, or nowhere."""
        record = self._book.named(request.namespace, request.name)
        if record is None:
            return Explanation(found=False, state="unknown", reason="no workload of this name was heard of")
        place, op, pod = self._ledgers.find(record.uid), self._appends.of(record.uid), self._queue.pod(record.uid)
        if place is not None:
            return Explanation(found=True, state="placed", node=place[0], reason=place[1].reason)
        if op is not None:
            return Explanation(found=True, state="queued", node=op.node, reason=f"append {op.id} is {op.fate}")
        if pod is None:
            why = f"{record.ended}: {record.detail}" if record.ended else "another scheduler's, or not yet read"
            return Explanation(found=True, state="ended" if record.ended else "queued", reason=why)
        verdict = self._cycle.explain(pod)
        fit = f"{verdict.feasible} nodes fit; waits for its turn, at the earliest at {record.ready_at:.0f}"
        return Explanation(
            found=True,
            state="queued",
            reason=fit if verdict.feasible else tell.waiting_why(verdict),
            rejected=verdict.rejected,
            wakes_on=tuple(sorted(verdict.wakes)),
        )

    # -- what was heard ----------------------------------------------------------------------------------------------

    def _lifecycle(self, event: Submitted | Started | Ended, subject: str, at: Seconds) -> None:
        record = self._book.fold(event, subject)
        if record is None or not self.ready:
            return
        if isinstance(event, Ended) and record.ended is None and self._mine(record.uid):
            self._out.append(Count("neap_scheduler_requeued_total", labels={"reason": event.reason}))
            place = self._ledgers.find(record.uid)
            workload = record.workload or (place[1].placement.workload if place else None)
            if workload is not None:
                self._out.append(tell.requeued(workload, event, at, record.ready_at))
        self._settle(record.uid, at)
        self._advance(at)

    def _ledger_entry(self, entry: LedgerEntry, seq: int, at: Seconds) -> None:
        uids = self._ledgers.fold(entry, seq)
        self._ledgers.followed = max(self._ledgers.followed, seq)
        for uid in uids or ():
            place = self._ledgers.find(uid)
            if place is not None:
                self._book.know(place[1].placement.workload)
        if not self.ready:
            return
        if uids is not None:
            self._outcomes(self._appends.heard(entry.node, uids, at), at)
        self._outcomes(self._appends.followed(at), at)
        for uid in uids or ():
            self._settle(uid, at)
        self._advance(at)

    def _device_state(self, state: DeviceState, at: Seconds) -> None:
        self._devices[state.node] = state
        if self.ready:
            self._device_refusals(state, at)

    def _device_refusals(self, state: DeviceState, at: Seconds) -> None:
        """A node's devices will not take what its ledger holds: that attempt is over."""
        held = self._ledgers.of(state.node).held
        for uid, reason in state.refused.items():
            record = self._book.records.get(uid)
            if uid in held and state.ledger_seq >= held[uid].seq and record is not None and self._mine(uid):
                workload = held[uid].placement.workload
                if not record.over(workload.attempt):
                    self._out.append(tell.refused_by_device(workload, state.node, reason, at))

    def _gone(self, channel: Channel[Any], subject: str, at: Seconds) -> None:
        node = channel.tokens_of(subject).get("node", "")
        if channel == TOPOLOGY:
            self._table.forget(node)
        elif channel == NODES:
            self._table.register(NodeObject(at=at, source=tell.SOURCE, node=node))
        elif channel == HEADROOM:
            self._table.offer(Headroom(at=at, source=tell.SOURCE, node=node, offer={}, arithmetic={}), at)
        elif channel == DEVICES:
            self._devices.pop(node, None)

    def _synced(self, channel: Channel[Any], seq: int, at: Seconds) -> None:
        if channel == PLACEMENTS:
            self._ledgers.followed = max(self._ledgers.followed, seq)
            self._outcomes(self._appends.followed(at), at)
        if channel not in self._unsynced:
            return
        self._unsynced.remove(channel)
        if not self._unsynced:
            for uid in list(self._book.records):
                self._settle(uid, at)
            for state in self._devices.values():
                self._device_refusals(state, at)
            self._tell_untold(at)
            self._tick(at)

    def _tell_untold(self, at: Seconds) -> None:
        """The placements of the last minutes may lack their line; the trail takes each id once."""
        for uid in self._ledgers.uids():
            node, held = self._ledgers.find(uid) or ("", None)
            if held is not None and held.reason and at - held.at < UNTOLD and self._mine(uid):
                self._out.append(tell.placed_again(node, held))

    # -- closing the gap ---------------------------------------------------------------------------------------------

    def _mine(self, uid: str) -> bool:
        shards = self._settings.shards
        if shards == 1:
            return True
        digest = hashlib.blake2b(uid.encode(), digest_size=8).digest()
        return int.from_bytes(digest) % shards == self._settings.shard

    def _settle(self, uid: str, at: Seconds) -> None:
        """See module docstring."""
        record = self._book.records.get(uid)
        if record is None or not self._mine(uid):
            return
        op = self._appends.of(uid)
        if op is not None:
            if not record.over(op.attempt) or self._appends.cancel(uid) is None:
                return
            self._table.discharge(op.node, uid)
        place = self._ledgers.find(uid)
        if place is not None:
            self._queue.leave(uid)
            if record.over(place[1].attempt):
                self._release(record, place[0], place[1].attempt, at)
        elif record.ended is not None:
            self._queue.leave(uid)
            self._book.settle(uid)
        elif record.workload is not None:
            self._enqueue(record, record.workload, at)

    def _release(self, record: Record, node: str, attempt: int, at: Seconds) -> None:
        reason = f"{record.ended or 'back to the queue'}{': ' * bool(record.detail)}{record.detail}"
        entry = Released(at=at, source=tell.SOURCE, node=node, uid=record.uid, reason=reason)
        self._appends.add(Op(node, record.uid, attempt, entry, f"{record.uid}.{attempt}.released"), at)

    def _enqueue(self, record: Record, workload: Workload, at: Seconds) -> None:
        queued = self._queue.pod(record.uid)
        if queued is not None and queued.workload.attempt == workload.attempt:
            return
        self._queue.leave(record.uid)
        reason = refusal(workload, record.subject)
        if reason:
            self._refuse(record, workload, reason, "invalid", at)
            return
        if workload.attempt > 1 and record.announced < workload.attempt:
            record.announced = workload.attempt
            self._out.append(tell.resubmitted(workload, at))
        pod = pod_of(workload, record.submitted_at, self._settings.guess)
        too_many = self._queue.push(pod, ready_at=record.ready_at, at=at)
        if too_many is not None:
            out = self._book.records[too_many.uid]
            reason = (
                f"queue full: {self._settings.queue_limit} workloads wait, and this is the last of the lowest priority"
            )
            self._refuse(out, too_many.workload, reason, "queue-full", at)
        verdict = self._queue.verdict(pod) if pod.uid in self._queue and record.ready_at <= at else None
        if verdict is not None:
            self._tell_waiting([pod], verdict, at)

    def _refuse(self, record: Record, workload: Workload, reason: str, why: str, at: Seconds) -> None:
        """It never could run: say so once, and forget it."""
        self._out.append(Count("neap_scheduler_refused_total", labels={"why": why}))
        self._out += tell.refused(record, workload, reason, at)
        self._book.refuse(record.uid, reason)

    def _outcomes(self, outcomes: Iterable[Outcome], at: Seconds) -> None:
        """Appends were decided: stored, or what they reserved is free again."""
        for outcome in outcomes:
            op = outcome.op
            labels = {"entry": type(op.entry).__name__, "outcome": "stored" if outcome.stored else "not-stored"}
            self._out.append(Count("neap_scheduler_appends_total", labels=labels))
            if isinstance(op.entry, Placed):
                if outcome.stored:
                    self._out.append(tell.placed(op))
                elif op.uid not in self._ledgers.of(op.node).held:
                    self._table.discharge(op.node, op.uid)
            self._settle(op.uid, at)

    # -- deciding ----------------------------------------------------------------------------------------------------

    def _tick(self, at: Seconds) -> None:
        if not self.ready:
            return
        self._table.expire(at)
        self._queue.wake(self._table.changes)
        self._table.changes.clear()
        if self._flushed_at is None or at - self._flushed_at >= self._settings.flush:
            self._flushed_at = at
            self._queue.flush()
        self._appends.tick()
        self._advance(at)
        if len(self._queue) != self._told_waiting:
            self._out.append(Count("neap_scheduler_waiting_count", by=float(len(self._queue) - self._told_waiting)))
            self._told_waiting = len(self._queue)

    def _advance(self, at: Seconds) -> None:
        """Decide for up to a batch of workloads, and send what can be sent."""
        if not self.ready:
            return
        self._out += self._appends.pump(at)
        if NodeChanged.READY in self._table.changes:  # our own doing, and bounded; the rest waits for the tick
            self._table.changes.discard(NodeChanged.READY)
            self._queue.wake((NodeChanged.READY,))
        self._queue.ripen(at)
        for _ in range(self._settings.batch):
            pod = self._queue.pop()
            if pod is None:
                break
            decision = self._cycle.decide(pod, at)
            outcome = "waiting" if decision.placement is None else "reserved"
            self._out.append(Count("neap_scheduler_decisions_total", labels={"outcome": outcome}))
            if decision.placement is None:
                self._tell_waiting(self._queue.sleep(pod, decision), decision, at)
            else:
                self._append(decision, at)
        self._out += self._appends.pump(at)

    def _append(self, decision: Decision, at: Seconds) -> None:
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
        self._appends.add(op, at)

    def _tell_waiting(self, pods: Iterable[Pod], decision: Decision, at: Seconds) -> None:
        """Once per attempt; not while it waits for ledgers alone."""
        for pod in pods if not decision.busy else ():
            record = self._book.records[pod.uid]
            if record.told < pod.workload.attempt:
                record.told = pod.workload.attempt
                self._out.append(tell.waiting(pod.workload, decision, at))
