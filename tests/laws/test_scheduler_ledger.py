"""No interleaving of crashes, lost answers, late appends and other writers loses, doubles or overcommits a workload.

The bus is a model of a few lines (tests/unit/scheduler_world.Streams). Appends travel: one may be stored long after
its sender was told that it failed, or after the sender died.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from neap.common.contract.catalogue import PLACEMENTS, WORKLOAD
from neap.common.model.gpu import empty_rooms
from neap.common.model.lifecycle import Ended, EndReason, LifecycleEvent, Started, Submitted
from neap.common.model.placement import Placed, Released
from neap.common.model.topology import NodeTopology
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Append, Arrived, Done, Emit, Event, Failed, Synced, Tick
from neap.scheduler.core.flow.appends import AppendSettings
from neap.scheduler.core.flow.machine import SchedulerMachine
from neap.scheduler.core.pods.pod import Pod
from neap.scheduler.settings import Settings
from tests.unit.scheduler_world import Streams, a_node, an_owner, known, policies

NODES = [a_node("n1", cores=4, cards=1), a_node("n2", cores=4, cards=2), a_node("n3", cores=6)]
LOOKS = 10  # of the scheduler, until whatever waits was looked at
SETTINGS = Settings(append=AppendSettings(checkpoint_every=8, waiting=3))
ENDS = st.sampled_from([EndReason.FINISHED, EndReason.EVICTED, EndReason.DELETED, EndReason.REFUSED])


class LedgerRace(RuleBasedStateMachine):
    """One scheduler with its crashes, another writer, and a network that keeps what it was given."""

    nodes: Sequence[NodeTopology] = NODES
    configured = SETTINGS

    def __init__(self) -> None:
        super().__init__()
        self.streams, self.at = Streams(), 0.0
        self.submitted: dict[str, Workload] = {}
        self.travelling: list[Append] = []
        self.orphans: list[Append] = []
        self.answers: list[Event] = []
        self.emits: list[Emit] = []
        self.checked = 0
        self.start()

    def start(self) -> None:
        self.machine = SchedulerMachine(self.configured, policies(), seed=3)
        self.heard_workloads = self.heard_ledger = 0
        self.stored = (len(self.streams.workloads), len(self.streams.ledger))
        self.synced = [False, False]
        for node in self.nodes:
            self.tell(Arrived(self.at, node))
        for event in known(self.at):
            self.tell(event)

    def tell(self, event: Event) -> None:
        for instruction in self.machine.handle(event):
            if isinstance(instruction, Append):
                self.travelling.append(instruction)
            elif isinstance(instruction, Emit):
                self.emits.append(instruction)
        self.machine.validate()

    # -- what people and kubelets do ---------------------------------------------------------------------------------

    @initialize(count=st.integers(1, 4))
    def begin(self, count: int) -> None:
        for _ in range(count):
            self.submit(1.0, None)

    @rule(cores=st.sampled_from([1.0, 2.0, 3.5]), gpu=st.sampled_from([None, (50, 4000), (100, 0), (60, 9000)]))
    @precondition(lambda self: len(self.submitted) < 12)
    def submit(self, cores: float, gpu: Any) -> None:
        workload = an_owner(f"u{len(self.submitted)}", cores=cores, gpu=gpu)
        self.submitted[workload.uid] = workload
        self.say(Submitted(at=self.at, source="t", workload=workload), workload, "submitted")

    @rule(data=st.data(), reason=ENDS, late=st.booleans())
    @precondition(lambda self: any(self.streams.held.values()))
    def end(self, data: st.DataObject, reason: EndReason, late: bool) -> None:
        held = sorted((uid, node) for node, placements in self.streams.held.items() for uid in placements)
        uid, node = data.draw(st.sampled_from(held))
        workload = self.streams.held[node][uid].workload
        attempt = max(1, workload.attempt - late)
        ended = Ended(at=self.at, source="t", uid=uid, node=node, attempt=attempt, reason=reason)
        self.say(ended, workload, f"{attempt}.{reason}")

    def say(self, event: LifecycleEvent, workload: Workload, what: str) -> None:
        subject = WORKLOAD.at(namespace=workload.namespace, name=workload.name).subject
        self.streams.emit(subject, event, f"{workload.uid}.{what}")

    # -- what the bus does -------------------------------------------------------------------------------------------

    def unheard_workload(self) -> bool:
        return self.heard_workloads < len(self.streams.workloads) or not self.synced[0]

    def unheard_ledger(self) -> bool:
        return self.heard_ledger < len(self.streams.ledger) or not self.synced[1]

    @rule()
    @precondition(unheard_workload)
    def hear_workload(self) -> None:
        if self.heard_workloads < len(self.streams.workloads):
            subject, event = self.streams.workloads[self.heard_workloads]
            self.heard_workloads += 1
            self.tell(Arrived(self.at, event, subject, self.heard_workloads))
        if self.heard_workloads >= self.stored[0] and not self.synced[0]:
            self.synced[0] = True
            self.tell(Synced(self.at, WORKLOAD))

    @rule()
    @precondition(unheard_ledger)
    def hear_ledger(self) -> None:
        if self.heard_ledger < len(self.streams.ledger):
            entry = self.streams.ledger[self.heard_ledger]
            self.heard_ledger += 1
            self.tell(Arrived(self.at, entry, PLACEMENTS.at(node=entry.node).subject, self.heard_ledger))
        if self.heard_ledger >= self.stored[1] and not self.synced[1]:
            self.synced[1] = True
            self.tell(Synced(self.at, PLACEMENTS, self.stored[1]))

    @rule(which=st.integers(0, 9), race_first=st.booleans())
    @precondition(lambda self: self.travelling)
    def store_and_answer(self, which: int, race_first: bool) -> None:
        append = self.travelling.pop(which % len(self.travelling))
        outcome = self.streams.append(append, race_first=race_first)
        self.answers.append(Done(self.at, append, outcome))

    @rule(which=st.integers(0, 9), stored=st.booleans())
    @precondition(lambda self: self.travelling)
    def time_out(self, which: int, stored: bool) -> None:
        """The sender is told nothing good; the append was stored, or is still on its way."""
        append = self.travelling.pop(which % len(self.travelling))
        if stored:
            self.streams.append(append)
        else:
            self.orphans.append(append)
        self.answers.append(Failed(self.at, append, "no answer", may_retry=True))

    @rule(which=st.integers(0, 9))
    @precondition(lambda self: self.travelling)
    def deny(self, which: int) -> None:
        append = self.travelling.pop(which % len(self.travelling))
        self.answers.append(Failed(self.at, append, "denied", may_retry=False))

    @rule()
    @precondition(lambda self: self.answers)
    def answer(self) -> None:
        self.tell(self.answers.pop(0))

    @rule()
    @precondition(lambda self: self.emits)
    def send_emit(self) -> None:
        emit = self.emits.pop(0)
        self.streams.emit(emit.to.subject, emit.message, emit.id)

    @rule(seconds=st.sampled_from([0.3, 6.0, 400.0]))
    def pass_time(self, seconds: float) -> None:
        self.at += seconds
        self.tell(Tick(self.at, "cycle"))

    @rule(node=st.sampled_from(["n1", "n2", "n3"]))
    def another_writer(self, node: str) -> None:
        """A second scheduler, with workloads of its own, is faster."""
        seen, count = self.streams.last.get(node, 0), len(self.streams.ledger)
        entry = Released(at=self.at, source="other", node=node, uid="other", reason="")
        self.streams.append(Append(PLACEMENTS.at(node=node), entry, seen=seen, id=f"other.{count}"))

    @rule()
    def nodes_confirm(self) -> None:
        """Kubelets say what they run; nothing is stored twice."""
        for node, placements in self.streams.held.items():
            for uid, placement in placements.items():
                workload = placement.workload
                started = Started(at=self.at, source="t", uid=uid, node=node, attempt=workload.attempt)
                self.say(started, workload, f"{workload.attempt}.started")

    @rule()
    def bus_works(self) -> None:
        """For a moment everything goes well."""
        rounds = 0
        while self.travelling or self.answers or self.emits or self.unheard_workload() or self.unheard_ledger():
            assert (rounds := rounds + 1) < 100, "it never comes to rest"
            while self.travelling:
                append = self.travelling.pop(0)
                self.answers.append(Done(self.at, append, self.streams.append(append)))
            while self.answers:
                self.answer()
            while self.emits:
                self.send_emit()
            self.nodes_confirm()
            while self.unheard_workload():
                self.hear_workload()
            while self.unheard_ledger():
                self.hear_ledger()

    @rule()
    @precondition(lambda self: self.heard_workloads)
    def crash(self) -> None:
        """What was in memory is gone; what travels may still arrive."""
        self.orphans += self.travelling
        self.travelling = []
        self.answers.clear()
        self.emits.clear()
        self.start()

    @rule(which=st.integers(0, 9))
    @precondition(lambda self: self.orphans)
    def store_an_orphan(self, which: int) -> None:
        """An append that nobody waits for any more arrives."""
        self.streams.append(self.orphans.pop(which % len(self.orphans)))

    @rule()
    @precondition(lambda self: not self.orphans and not self.unheard_ledger())
    def ids_expire(self) -> None:
        """The stream forgets ids after its window; nothing travels that long, and it takes nobody so long to hear."""
        self.streams.forget_ids()

    # -- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def every_new_entry_keeps_the_ledger_laws(self) -> None:
        for entry in self.streams.ledger[self.checked :]:
            if isinstance(entry, Placed):
                self.check_capacity(entry.node)
        self.checked = len(self.streams.ledger)
        uids = [uid for held in self.streams.held.values() for uid in held]
        assert len(uids) == len(set(uids)), f"placed twice: {self.streams.held}"

    def check_capacity(self, node: str) -> None:
        topology = next(t for t in self.nodes if t.node == node)
        held = self.streams.held[node].values()
        for kind, amount in topology.allocatable.items():
            assert sum(p.charged.get(kind, 0) for p in held) <= amount
        rooms = {room.index: room for room in empty_rooms(topology.cards)}
        for share in (share for p in held for share in p.gpus):
            rooms[share.card] = rooms[share.card].take(share)
        assert all(room.core_free >= 0 and room.memory_free_mib >= 0 for room in rooms.values())

    def teardown(self) -> None:
        """Once the bus works again, everything wanted that fits runs, once, and nothing else does."""
        for orphan in self.orphans:
            self.streams.append(orphan)
        rounds = quiet = 0
        while quiet < 3:
            assert (rounds := rounds + 1) < 100, "it never comes to rest"
            before = len(self.streams.ledger)
            self.bus_works()
            self.every_new_entry_keeps_the_ledger_laws()
            self.pass_time(400.0)
            for _ in range(LOOKS):
                self.pass_time(0.3)
            is_quiet = len(self.streams.ledger) == before and not self.machine._desk.nominated
            quiet = quiet + 1 if is_quiet else 0
        assert not self.machine._appends._flights, "something is still under way"
        held = {uid: p.workload.attempt for placements in self.streams.held.values() for uid, p in placements.items()}
        wanted = self.wanted()
        assert not set(held) - set(wanted), "something runs that should not"
        assert all(held[uid] == wanted[uid] for uid in held), (held, wanted)
        for uid in set(wanted) - set(held):
            pod = self.machine._queue.pod(uid)
            assert pod is not None, f"{uid} is lost"
            self.check_waits_for_a_reason(pod)

    def check_waits_for_a_reason(self, pod: Pod) -> None:
        assert not self.machine._cycle.explain(pod).feasible, f"{pod.uid} is starved"

    def wanted(self) -> dict[str, int]:
        attempts: dict[str, int] = {}
        over: set[str] = set()
        for _, event in self.streams.workloads:
            match event:
                case Submitted(workload=workload):
                    attempts[workload.uid] = max(workload.attempt, attempts.get(workload.uid, 0))
                case Ended(uid=uid, attempt=attempt, reason=EndReason.EVICTED | EndReason.REFUSED):
                    attempts[uid] = max(attempts[uid], attempt + 1)
                case Ended(uid=uid, attempt=attempt, reason=reason):
                    if attempt == attempts[uid] or reason is EndReason.DELETED:
                        over.add(uid)
        return {uid: attempt for uid, attempt in attempts.items() if uid not in over}


LedgerRace.TestCase.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)
test_nothing_is_lost_doubled_or_overcommitted = LedgerRace.TestCase
