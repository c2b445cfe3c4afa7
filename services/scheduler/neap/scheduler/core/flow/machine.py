"""The scheduler: what is wanted (book), what is held (ledgers), what is under way (appends), who waits (queue).

The first two are folds of stored channels; settle.py closes the gap between them. Until workloads, ledgers and
topology have been read to their end, nothing is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any, Final

from neap.common.contract.catalogue import (
    APART,
    DEVICES,
    EVICTING,
    HEADROOM,
    NODES,
    PLACEMENTS,
    PROFILES,
    RATIOS,
    TIDES,
    TOPOLOGY,
    WORKLOAD,
)
from neap.common.contract.channel import Channel
from neap.common.errors import Unavailable
from neap.common.model.advice import Headroom
from neap.common.model.apart import Apart
from neap.common.model.device import DeviceState
from neap.common.model.evicting import Evicting
from neap.common.model.explanation import DryRun, DryRunAnswer, ExplainRequest, Explanation
from neap.common.model.lifecycle import Ended, EndReason, Move, Started, Submitted
from neap.common.model.node import NodeObject
from neap.common.model.placement import Checkpoint, LedgerEntry, Placed, Released
from neap.common.model.profile import KINDS, MachineType, MachineTypes, ServiceProfile
from neap.common.model.ratios import NodeRatios
from neap.common.model.tide import TidePool
from neap.common.model.topology import NodeTopology
from neap.common.model.usage import NodeUsage
from neap.common.model.weighing import Weighing, WeighRequest
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
from neap.scheduler.core.choice.cycle import Cycle
from neap.scheduler.core.choice.framework import Policy
from neap.scheduler.core.flow.appends import Appends
from neap.scheduler.core.flow.book import Book
from neap.scheduler.core.flow.desk import Desk
from neap.scheduler.core.flow.ledger import Ledgers
from neap.scheduler.core.flow.nominations import Nominations
from neap.scheduler.core.flow.queue import Queue
from neap.scheduler.core.flow.rounds import Rounds
from neap.scheduler.core.flow.settle import Settler
from neap.scheduler.core.flow.unconfirmed import Unconfirmed
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.pods.profiles import Profiles, key_of
from neap.scheduler.core.why import tell
from neap.scheduler.core.why.answer import Answers
from neap.scheduler.settings import Settings

UNTOLD: Final[Seconds] = 600.0  # well inside the trail's window for repeated ids
GANG_SHAPES: Final = 32  # evaluations kept for members that look at one domain each

FIRST: Final = (TOPOLOGY, NODES, PROFILES, TIDES, WORKLOAD, PLACEMENTS)  # read to their end before anything is decided


class SchedulerMachine:
    """See module docstring."""

    def __init__(self, settings: Settings, policies: Sequence[Policy], *, seed: int = 0) -> None:
        self._settings = settings
        self._out: list[Instruction] = []
        kinds = {**KINDS, **{kind.name: kind for kind in settings.kinds.values()}}
        machines = {name: MachineType(name=name, speeds=speeds) for name, speeds in settings.machines.items()}
        self._table = NodeTable(order_seed=seed, guess=settings.guess, staleness=settings.stale, kinds=kinds)
        self._profiles = Profiles(self._table, settings.guess, kinds, machines, limit=settings.profiles)
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
        self._desk = Desk(
            settings,
            self._table,
            self._cycle,
            self._queue,
            self._book,
            self._ledgers,
            self._appends,
            self._profiles,
            self._out,
        )
        self._settler = Settler(self._desk)
        eager = Cycle(self._table, policies, quantum=settings.quantum, shapes=GANG_SHAPES, worth_waiting=inf)
        self._rounds = Rounds(self._desk, self._settler, eager, settings.gang)
        self._settler.stored = self._rounds.heard
        self._nominations = Nominations(self._desk, self._settler, eager, policies)
        self._unconfirmed = Unconfirmed(self._desk, settings.confirm)
        self._answers = Answers(self._desk, policies)
        self._devices: dict[str, DeviceState] = {}
        self._unsynced: list[Channel[Any]] = list(FIRST)
        self._flushed_at: Seconds | None = None
        self._told_waiting = 0

    @property
    def ready(self) -> bool:
        """Everything stored has been read."""
        return not self._unsynced

    def handle(self, event: Event) -> Sequence[Instruction]:
        """Fold, settle what changed, decide."""
        self._out = self._desk.out = []
        if isinstance(event, Arrived) and self._refuses(event.message):
            return self._out
        match event:
            case Done(instruction=Append() as append, outcome=outcome):
                self._settler.outcomes(self._appends.answered(append, outcome, event.at), event.at)
                self._advance(event.at)
            case Arrived(message=Submitted() | Started() | Ended() as told):
                self._lifecycle(told, event.subject, event.at)
            case Arrived(message=Placed() | Released() | Checkpoint() as entry):
                self._ledger_entry(entry, event.seq, event.at)
            case Arrived(message=NodeUsage() as usage):
                self._table.measure(usage, event.at)
            case Arrived(message=Headroom() as headroom):
                self._table.offer(headroom, event.at)
            case Arrived(message=(Evicting() | Apart() | NodeRatios() | TidePool()) as said):
                self._table.heed(said, event.at)
            case Arrived(message=NodeTopology() as topology):
                self._table.describe(topology)
            case Arrived(message=NodeObject() as node):
                self._table.register(node)
            case Arrived(message=(ServiceProfile() | MachineTypes()) as told):
                self._profiles.learn(told)
            case Arrived(message=DeviceState() as state):
                self._device_state(state, event.at)
            case Arrived(message=Move() as move) if self.ready:
                self._nominations.move(move, event.at)
            case Gone(channel=channel, subject=subject):
                self._gone(channel, subject, event.at)
            case Synced(channel=channel):
                self._synced(channel, event.seq, event.at)
            case Failed(instruction=Append() as append, may_retry=may_retry):
                self._settler.outcomes(self._appends.failed(append, event.at, may_retry=may_retry), event.at)
                self._advance(event.at)
            case Tick(name="cycle"):
                self._tick(event.at)
        return self._out

    def _refuses(self, message: object) -> bool:
        wrong = self._desk.refusals.judge(message)
        if wrong is not None:
            labels = {"message": type(message).__name__, "field": wrong.field, "why": wrong.why}
            self._out.append(Count("neap_scheduler_refused_input_total", labels=labels))
        return wrong is not None

    def validate(self) -> None:
        """Every invariant of the parts, and that nobody both waits and runs."""
        self._table.validate()
        self._ledgers.validate()
        self._appends.validate()
        self._queue.validate()
        if self.ready:
            self._rounds.validate()
            self._nominations.validate()
        for node in self._table.names:
            for uid in self._table.charges(node):
                op = self._appends.of(uid)
                reserved = op is not None and op.node == node and isinstance(op.entry, Placed)
                reserved |= self._desk.nominated.get(uid, ("", 0))[0] == node
                assert reserved or uid in self._ledgers.of(node).held, f"{uid} is charged on {node} for nothing"
        for uid, record in self._book.records.items():
            states = (uid in self._queue, self._appends.of(uid) is not None, self._ledgers.find(uid) is not None)
            kept = uid in self._desk.nominated
            assert not (states[0] and (states[1] or states[2] or kept)), f"{uid} waits and runs: {states}, {kept}"
            if self.ready and record.pending and self._desk.is_mine(uid):
                assert any(states) or kept, f"{uid} attempt {record.attempt} is lost"

    def explain(self, request: ExplainRequest) -> Explanation:
        """Why a workload is where it is, or nowhere."""
        return self._answers.explain(request)

    def dry_run(self, request: DryRun) -> DryRunAnswer:
        """Where these workloads would go if they were submitted now; nothing is placed."""
        return self._answers.dry_run(request)

    def weigh(self, request: WeighRequest) -> Weighing:
        """What nodes are to a workload now; nothing is placed.

        Raises:
            Unavailable: what is stored has not been read to its end, and verdicts would be wrong.
        """
        if not self.ready:
            raise Unavailable("the scheduler still reads what is stored")
        return self._answers.weigh(request)

    # -- what was heard ----------------------------------------------------------------------------------------------

    def _lifecycle(self, event: Submitted | Started | Ended, subject: str, at: Seconds) -> None:
        record = self._book.fold(event, subject)
        if record is not None and record.ended is EndReason.FINISHED and record.workload and record.workload.gang:
            self._rounds.finished(record.workload)
        if record is None or not self.ready:
            return
        if isinstance(event, Ended) and record.ended is None and self._desk.is_mine(record.uid):
            self._out.append(Count("neap_scheduler_requeued_total", labels={"reason": event.reason}))
            place = self._ledgers.find(record.uid)
            workload = record.workload or (place[1].placement.workload if place else None)
            if workload is not None:
                self._out.append(tell.requeued(workload, event, at, record.ready_at))
        self._settler.settle(record.uid, at)
        self._advance(at)

    def _ledger_entry(self, entry: LedgerEntry, seq: int, at: Seconds) -> None:
        uids = self._ledgers.fold(entry, seq, at)
        self._ledgers.followed = max(self._ledgers.followed, seq)
        for uid in uids or ():
            place = self._ledgers.find(uid)
            if place is not None:
                self._book.know(place[1].placement.workload)
        if isinstance(entry, Placed):
            self._unconfirmed.watch(entry)
        if not self.ready:
            return
        if uids is not None:
            freed = isinstance(entry, Released)
            self._settler.outcomes(self._appends.heard(entry.node, uids, at, freed=freed), at)
        self._settler.outcomes(self._appends.followed(at), at)
        for uid in uids or ():
            self._settler.settle(uid, at)
            place = self._ledgers.find(uid)
            if place is not None:
                self._rounds.heard(place[1].placement.workload, at)
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
            if uid in held and state.ledger_seq >= held[uid].seq and record is not None and self._desk.is_mine(uid):
                workload = held[uid].placement.workload
                if not (record.over(workload.attempt) or record.node):  # nor is who runs there whatever we say
                    self._out.append(tell.refused_by_device(workload, state.node, reason, at))

    def _gone(self, channel: Channel[Any], subject: str, at: Seconds) -> None:
        node = channel.tokens_of(subject).get("node", "")
        if channel == TIDES:
            self._table.heed(TidePool(at=at, source=tell.SOURCE, pool=channel.tokens_of(subject)["pool"]), at)
        elif channel == TOPOLOGY:
            self._table.forget(node)
        elif channel == PROFILES:
            self._profiles.forget(key_of(**channel.tokens_of(subject)))
        elif channel == NODES:
            self._table.register(NodeObject(at=at, source=tell.SOURCE, node=node))
        elif channel == HEADROOM:
            self._table.offer(Headroom(at=at, source=tell.SOURCE, node=node, offer={}, arithmetic={}), at)
        elif channel == DEVICES:
            self._devices.pop(node, None)
        elif channel == APART:
            self._table.heed(Apart(at=at, source=tell.SOURCE, node=node), at)
        elif channel == RATIOS:
            self._table.heed(NodeRatios(at=at, source=tell.SOURCE, node=node), at)
        elif channel == EVICTING:
            self._table.heed(Evicting(at=at, source=tell.SOURCE, node=node), at)

    def _synced(self, channel: Channel[Any], seq: int, at: Seconds) -> None:
        if channel == PLACEMENTS:
            self._ledgers.followed = max(self._ledgers.followed, seq)
            self._settler.outcomes(self._appends.followed(at), at)
        if channel not in self._unsynced:
            return
        self._unsynced.remove(channel)
        if not self._unsynced:
            for uid in list(self._book.records):
                self._settler.settle(uid, at)
            for flock in list(self._ledgers.flocks.values()):
                workload = self._desk.workload(next(iter(flock.held)))
                if workload is not None:
                    self._rounds.heard(workload, at)
            for state in self._devices.values():
                self._device_refusals(state, at)
            self._tell_untold(at)
            self._tick(at)

    def _tell_untold(self, at: Seconds) -> None:
        """The placements of the last minutes may lack their line; the trail takes each id once."""
        for uid in self._ledgers.uids():
            node, held = self._ledgers.find(uid) or ("", None)
            if held is not None and held.reason and at - held.at < UNTOLD and self._desk.is_mine(uid):
                self._out.append(tell.placed_again(node, held))

    # -- deciding ----------------------------------------------------------------------------------------------------

    def _tick(self, at: Seconds) -> None:
        if not self.ready:
            return
        self._table.expire(at)
        self._profiles.renew(self._queue)
        self._queue.wake(self._table.changes)
        self._table.changes.clear()
        if self._flushed_at is None or at - self._flushed_at >= self._settings.flush:
            self._flushed_at = at
            self._queue.flush()
        self._appends.tick()
        self._unconfirmed.tick(at)
        self._rounds.tick(at)
        self._nominations.tick(at)
        self._advance(at)
        self._nominations.seek(at)
        if len(self._queue) != self._told_waiting:
            self._out.append(Count("neap_scheduler_waiting_count", by=float(len(self._queue) - self._told_waiting)))
            self._told_waiting = len(self._queue)

    def _advance(self, at: Seconds) -> None:
        """Decide for up to a batch of workloads, and send what can be sent."""
        if not self.ready:
            return
        if self._appends.is_due:
            self._out += self._appends.pump(at)
        if NodeChanged.READY in self._table.changes:  # our own doing, and bounded; the rest waits for the tick
            self._table.changes.discard(NodeChanged.READY)
            self._queue.wake((NodeChanged.READY,))
        self._queue.ripen(at)
        decided = 0
        while decided < self._settings.batch and (pod := self._queue.pop()) is not None:
            if pod.workload.gang is not None:
                decided += self._rounds.decide(pod, at)
                continue
            decided += 1
            decision = self._cycle.decide(pod, at)
            outcome = "waiting" if decision.placement is None else "reserved"
            self._out.append(Count("neap_scheduler_decisions_total", labels={"outcome": outcome}))
            if decision.placement is None:
                self._settler.tell_waiting(self._queue.sleep(pod, decision), decision, at)
                self._nominations.want(pod, decision, at)
            else:
                self._settler.place(decision, at)
        if self._appends.is_due:
            self._out += self._appends.pump(at)
