"""Laws of preemption: minimal, lawful, without a trace until it is decided; and no history over-allocates or loses."""

from __future__ import annotations

from math import inf
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from neap.common.model.lifecycle import Ended, EndReason, Move, Preemption, Submitted
from neap.common.model.placement import Placed
from neap.common.model.protection import MINIMUM, family, may_leave, minimum
from neap.common.model.resource import GPU_CORE, GPU_MEMORY, RECLAIMED_CPU
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Arrived, Tick
from neap.scheduler.core.choice.cycle import Cycle
from neap.scheduler.core.choice.preemption import Preemption as Search
from neap.scheduler.core.choice.preemption import PreemptionSettings
from neap.scheduler.core.choice.trial import Trial, would_take
from neap.scheduler.core.flow.appends import AppendSettings
from neap.scheduler.core.flow.ledger import Ledgers
from neap.scheduler.core.nodes.table import VERSION, NodeTable
from neap.scheduler.core.pods.pod import Pod, pod_of
from neap.scheduler.settings import Settings
from tests.laws.test_scheduler_ledger import LedgerRace
from tests.unit.scheduler_world import a_guest, a_node, an_offer, an_owner, policies

GPU = st.sampled_from([None, (30, 1000), (60, 5000), (90, 9000)])


def guest(uid: str, milli: int, gpu: tuple[int, int] | None, **more: Any) -> Workload:
    requests = {RECLAIMED_CPU: milli} | ({GPU_CORE: gpu[0], GPU_MEMORY: gpu[1]} if gpu else {})
    return a_guest(uid, containers=(Container(name="main", requests=requests),), **more)


@st.composite
def guests(draw: st.DrawFn, uid: str) -> Workload:
    labels = draw(st.sampled_from([{}, {}, {}, {"neap.io/protected": "true"}]))
    family = draw(st.sampled_from(["", "", "Job/a", "Job/b"]))
    if family:
        labels = labels | {MINIMUM: {"Job/a": "1", "Job/b": "2"}[family]}
    milli, priority = draw(st.sampled_from([500, 1000, 2000])), draw(st.integers(0, 2))
    return guest(uid, milli, draw(GPU), priority=priority, labels=labels, owner=family)


@st.composite
def clusters(draw: st.DrawFn) -> tuple[NodeTable, Ledgers]:
    """Nodes with guests and owners, all on the ledgers."""
    table = NodeTable()
    ledgers = Ledgers(table)
    for i in range(draw(st.integers(1, 4))):
        table.describe(a_node(f"n{i}", cores=8, cards=draw(st.integers(0, 2))))
        table.offer(an_offer(f"n{i}", cores=4), 0.0)
    cycle = Cycle(table, policies())
    for i in range(draw(st.integers(0, 14))):
        at = float(draw(st.integers(0, 9)))
        workload = an_owner(f"o{i}", cores=1, gpu=draw(GPU)) if draw(st.integers(0, 3)) == 0 else draw(guests(f"g{i}"))
        decision = cycle.decide(pod_of(workload), at)
        if decision.placement is not None:
            entry = Placed(at=at, source="t", node=decision.node, placement=decision.placement, reason="x")
            ledgers.fold(entry, i + 1)
    return table, ledgers


def bytes_of(table: NodeTable) -> dict[str, bytes]:
    return {name: table.columns[name].tobytes() for name in table.columns.names if name != VERSION}


def fits_without(table: NodeTable, pod: Pod, node: str, uids: set[str]) -> bool:
    with Trial(table, node) as trial:
        for uid in sorted(uids):
            trial.lift(uid)
        return would_take(policies(), table, pod, table.row(node)) is not None


@given(clusters(), st.booleans(), GPU, st.data())
def test_victims_are_lawful_and_minimal_and_looking_leaves_no_trace(
    cluster: tuple[NodeTable, Ledgers], is_guest: bool, gpu: tuple[int, int] | None, data: st.DataObject
) -> None:
    table, ledgers = cluster
    pod = pod_of(guest("new", 3000, gpu, priority=1) if is_guest else an_owner("new", gpu=gpu or (60, 5000)))
    table.ask(pod)
    table.changes.clear()
    before, charged = bytes_of(table), {node: list(table.charges(node)) for node in table.names}
    cycle = Cycle(table, policies(), worth_waiting=inf)
    plan = Search(table, cycle, policies(), ledgers, PreemptionSettings(), lambda _: False).plan(pod)
    after = bytes_of(table)
    assert {name: after[name] for name in before} == before
    assert {node: sorted(table.charges(node)) for node in table.names} == {n: sorted(u) for n, u in charged.items()}
    assert not table.changes
    ledgers.validate()
    if plan is None:
        for node in table.names:
            able = {
                uid
                for uid, held in ledgers.of(node).held.items()
                if may_leave(held.placement.workload)
                and not minimum(held.placement.workload)
                and (not is_guest or held.placement.workload.priority < pod.workload.priority)
            }
            helped = fits_without(table, pod, node, able) and not fits_without(table, pod, node, set())
            assert not helped, f"{node} would do once {able} left"
        return
    victims = {held.placement.workload.uid for held in plan.victims}
    for held in plan.victims:
        assert may_leave(held.placement.workload)
        assert not is_guest or held.placement.workload.priority < pod.workload.priority
    everybody = [ledgers.find(uid)[1].placement.workload for uid in ledgers.uids()]  # type: ignore[index]
    for workload in everybody:
        stay = [one for one in everybody if family(one) == family(workload) and one.uid not in victims]
        assert workload.uid not in victims or len(stay) >= minimum(workload), f"too few of {family(workload)} stay"
    assert fits_without(table, pod, plan.node, victims)
    for uid in victims:
        assert not fits_without(table, pod, plan.node, victims - {uid}), f"{uid} could stay"
    order = [(held.placement.workload.priority, -held.at) for held in plan.victims]
    assert order == sorted(order)


class PreemptionRace(LedgerRace):
    """The same faults, with guests and owners who need each other's cards, and an evictor that is slow or deaf."""

    nodes = (a_node("n1", cores=8, cards=1), a_node("n2", cores=8, cards=2), a_node("n3", cores=8))
    configured = Settings(
        append=AppendSettings(checkpoint_every=8, waiting=3),
        preemption=PreemptionSettings(patience=30.0, cool_down=10.0, most=2),
    )

    def __init__(self) -> None:
        self.asked: list[Preemption] = []
        super().__init__()

    def start(self) -> None:
        super().start()
        self.lend()

    def lend(self) -> None:
        for node in self.nodes:
            self.tell(Arrived(self.at, an_offer(node.node, at=self.at, cores=4)))

    @initialize(
        sizes=st.lists(st.tuples(GPU, st.integers(0, 2)), min_size=3, max_size=6), asks=st.lists(GPU, max_size=3)
    )
    def begin(self, sizes: list[Any], asks: list[Any]) -> None:
        """Guests have the cards; then owners come."""
        for gpu, priority in sizes:
            self.submit(1.0, gpu, lent=True, priority=priority)
        self.bus_works()
        for gpu in asks:
            self.submit(1.0, gpu or (60, 1000), lent=False)
        self.bus_hears()

    def bus_hears(self) -> None:
        while self.unheard_workload():
            self.hear_workload()
        while self.unheard_ledger():
            self.hear_ledger()
        self.pass_time(0.3)

    @rule(
        cores=st.sampled_from([1.0, 2.0]),
        gpu=st.sampled_from([None, (50, 4000), (90, 0), (60, 9000)]),
        lent=st.booleans(),
        priority=st.integers(0, 2),
    )
    def submit(self, cores: float, gpu: Any, lent: bool = True, priority: int = 0) -> None:
        if len(self.submitted) >= 14:
            return
        uid = f"u{len(self.submitted)}"
        if gpu is not None and not gpu[1]:
            gpu = (gpu[0], 1000)
        workload = (
            guest(uid, int(1000 * cores), gpu, priority=priority) if lent else an_owner(uid, cores=cores, gpu=gpu)
        )
        self.submitted[workload.uid] = workload
        self.say(Submitted(at=self.at, source="t", workload=workload), workload, "submitted")

    @rule()
    @precondition(lambda self: self.emits)
    def send_emit(self) -> None:
        emit = self.emits.pop(0)
        if isinstance(emit.message, Preemption):
            self.asked.append(emit.message)
        else:
            self.streams.emit(emit.to.subject, emit.message, emit.id)

    @rule(which=st.integers(0, 9), deaf=st.booleans())
    @precondition(lambda self: self.asked)
    def evict(self, which: int, deaf: bool) -> None:
        asked = self.asked.pop(which % len(self.asked))
        for uid, attempt in zip(asked.victims, asked.attempts, strict=True):
            workload = self.submitted[uid]
            assert may_leave(workload), f"{uid} must not be asked to leave"
            if not deaf:
                ended = Ended(
                    at=self.at, source="t", uid=uid, node=asked.node, attempt=attempt, reason=EndReason.EVICTED
                )
                self.say(ended, workload, f"{attempt}.{EndReason.EVICTED}")

    @rule(data=st.data())
    @precondition(lambda self: self.machine.ready and any(self.streams.held.values()))
    def ask_for_a_move(self, data: st.DataObject) -> None:
        held = sorted((uid, p.workload.attempt) for there in self.streams.held.values() for uid, p in there.items())
        uid, attempt = data.draw(st.sampled_from(held))
        self.tell(Arrived(self.at, Move(at=self.at, source="t", uid=uid, attempt=attempt, reason="hot")))

    @rule(seconds=st.sampled_from([0.3, 6.0, 31.0, 400.0]))
    def pass_time(self, seconds: float) -> None:
        self.at += seconds
        self.lend()
        self.tell(Tick(self.at, "cycle"))

    @rule()
    def bus_works(self) -> None:
        super().bus_works()
        while self.asked:
            self.evict(0, deaf=False)
        super().bus_works()

    def check_capacity(self, node: str) -> None:
        super().check_capacity(node)
        lent = sum(p.charged.get(RECLAIMED_CPU, 0) for p in self.streams.held[node].values())
        assert lent <= 4000

    def check_waits_for_a_reason(self, pod: Pod) -> None:
        super().check_waits_for_a_reason(pod)
        assert self.machine._nominations._search.plan(pod) is None, f"{pod.uid} waits, and guests could leave"

    def teardown(self) -> None:
        for _ in range(3):
            self.bus_works()
            self.pass_time(31.0)
        super().teardown()
        assert not self.machine._nominations._open


PreemptionRace.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
test_no_history_of_evictions_loses_doubles_or_overcommits = PreemptionRace.TestCase
