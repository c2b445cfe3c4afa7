"""Laws of gangs: a refusal leaves no trace, a gang is in one domain, and no history leaves one held in part for ever."""

from __future__ import annotations

from math import inf
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from neap.common.model.lifecycle import Ended, EndReason, Submitted
from neap.common.model.placement import fold
from neap.common.model.scheduling import Gang
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Done, Failed
from neap.scheduler.core.choice.cycle import Cycle, Decision
from neap.scheduler.core.choice.gang import GangSettings, Search
from neap.scheduler.core.flow.appends import AppendSettings
from neap.scheduler.core.flow.queue import Queue
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.table import VERSION, NodeTable
from neap.scheduler.core.pods.pod import Pod, pod_of
from neap.scheduler.settings import Settings
from tests.laws.test_scheduler_ledger import LedgerRace
from tests.unit.scheduler_world import a_node, an_owner, policies

RACK = "rack"
RACKS = st.sampled_from(["r1", "r2", "r3", ""])


def racked(name: str, rack: str, cores: float, cards: int = 0) -> Any:
    labels: dict[str, Any] = {RACK: rack} if rack else {}
    return a_node(name, cores=cores, cards=cards, **labels)


def rack_of(table: NodeTable, node: str) -> str:
    return table.label(node, RACK)


@st.composite
def tables(draw: st.DrawFn) -> NodeTable:
    table = NodeTable(order_seed=draw(st.integers(0, 3)))
    for i in range(draw(st.integers(1, 7))):
        table.describe(racked(f"n{i}", draw(RACKS), draw(st.sampled_from([2, 4, 8])), draw(st.integers(0, 2))))
    cycle = Cycle(table, policies())
    for i in range(draw(st.integers(0, 6))):
        cycle.decide(pod_of(an_owner(f"before{i}", cores=draw(st.sampled_from([1, 2, 3])))))
    return table


@st.composite
def gangs(draw: st.DrawFn) -> list[Pod]:
    count = draw(st.integers(1, 8))
    domain = draw(st.sampled_from(["", RACK, RACK]))
    gang = Gang(name="g", least=draw(st.integers(1, count)), domain=domain, hard=draw(st.booleans()))
    sizes = draw(st.sampled_from([[2], [1, 3], [2, 4]]))
    gpu = draw(st.sampled_from([None, None, (50, 4000)]))
    return [
        pod_of(an_owner(f"m{i}", cores=sizes[i % len(sizes)], gpu=gpu if i % 2 else None, gang=gang))
        for i in range(count)
    ]


def bytes_of(table: NodeTable) -> dict[str, bytes]:
    return {name: table.columns[name].tobytes() for name in table.columns.names if name != VERSION}


@given(tables(), gangs())
def test_a_gang_is_placed_whole_in_one_domain_or_leaves_no_trace(table: NodeTable, pods: list[Pod]) -> None:
    gang = pods[0].workload.gang
    assert gang is not None
    table.changes.clear()
    before = bytes_of(table)
    found = Search(table, Cycle(table, policies(), worth_waiting=inf), gang, 8, 9.0).find(pods, gang.least)
    assert not table.changes, "trying wakes nobody"
    assert {d.pod.uid for d in found.decisions} | {p.uid for p in found.left} == {p.uid for p in pods}
    if found.decisions:
        assert len(found.decisions) >= gang.least
        if gang.domain and gang.hard:
            racks = {rack_of(table, decision.node) for decision in found.decisions}
            assert len(racks) == 1
            assert racks != {""}
        for decision in found.decisions:
            assert table.charges(decision.node)[decision.pod.uid] == decision.placement
            assert decision.placement is not None
            assert decision.placement.workload is decision.pod.workload
    else:
        assert found.verdict is not None
        assert NodeChanged.FREE in found.verdict.wakes
    for decision in found.decisions:
        table.discharge(decision.node, decision.pod.uid)
    after = bytes_of(table)
    assert {name: after[name] for name in before} == before
    table.validate()


@given(tables(), st.integers(1, 8), st.sampled_from([1, 2, 3]), st.booleans())
def test_a_gang_of_equals_is_refused_only_if_no_domain_holds_it(
    table: NodeTable, count: int, cores: int, domain: bool
) -> None:
    gang = Gang(name="g", least=count, domain=RACK if domain else "")
    pods = [pod_of(an_owner(f"m{i}", cores=cores, gang=gang)) for i in range(count)]
    holds: dict[str, int] = {}
    for node in table.names:
        free = int(table.view().free("cpu")[table.rows[node]])
        holds[rack_of(table, node)] = holds.get(rack_of(table, node), 0) + free // (1000 * cores)
    holds = {rack: room for rack, room in holds.items() if rack} if domain else {"": sum(holds.values())}
    found = Search(table, Cycle(table, policies(), worth_waiting=inf), gang, 8, 9.0).find(pods, count)
    assert bool(found.decisions) == any(room >= count for room in holds.values())
    if domain and holds and not found.decisions:
        assert found.verdict is not None
        best = max(holds.values())
        assert found.verdict.why[0].startswith(f"gang g: {best} of the {count} members it needs found nodes in rack")


SPECS = [
    Gang(name="a", least=2),
    Gang(name="b", least=3, domain=RACK),
    Gang(name="c", least=3, domain=RACK, hard=False),
    None,
]


class GangRace(LedgerRace):
    """The same faults, for gangs."""

    nodes = (racked("n1", "r1", 4, 1), racked("n2", "r1", 4), racked("n3", "r2", 6), racked("n4", "r2", 2, 1))
    configured = Settings(
        append=AppendSettings(checkpoint_every=8, waiting=3), gang=GangSettings(patience=20.0, rest_first=0.2)
    )

    def __init__(self) -> None:
        super().__init__()
        self.strays = False

    @initialize(sizes=st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=3, max_size=9), works=st.booleans())
    def begin(self, sizes: list[float], works: bool) -> None:
        for cores in sizes:
            self.submit(cores, None)
        if works:
            self.bus_works()

    @rule(node=st.integers(0, 3))
    def a_node_fails(self, node: int) -> None:
        """Its placements are refused by the kubelet; who has no node looks for another."""
        for uid, placement in sorted(self.streams.held.get(self.nodes[node].node, {}).items()):
            workload = placement.workload
            ended = Ended(at=self.at, source="t", uid=uid, node="", attempt=workload.attempt, reason=EndReason.REFUSED)
            self.say(ended, workload, f"{workload.attempt}.failed")

    @rule()
    def only_the_first_append_arrives(self) -> None:
        """The others are denied, and time passes: what is not whole is undone."""
        self.bus_hears()
        if self.travelling:
            append = self.travelling.pop(0)
            self.answers.append(Done(self.at, append, self.streams.append(append)))
        while self.travelling:
            self.answers.append(Failed(self.at, self.travelling.pop(0), "denied", may_retry=False))
        while self.answers:
            self.answer()

    def bus_hears(self) -> None:
        while self.unheard_workload():
            self.hear_workload()
        while self.unheard_ledger():
            self.hear_ledger()

    @rule(cores=st.sampled_from([1.0, 2.0, 3.0]), gpu=st.sampled_from([None, None, (50, 4000)]))
    def submit(self, cores: float, gpu: Any) -> None:
        if len(self.submitted) >= 16:
            return
        number = len(self.submitted)
        workload = an_owner(f"u{number}", cores=cores, gpu=gpu, gang=SPECS[number % 3 if number < 12 else 3])
        self.submitted[workload.uid] = workload
        self.say(Submitted(at=self.at, source="t", workload=workload), workload, "submitted")

    @rule()
    def crash(self) -> None:
        """An append that is stored after its sender died may put a member into another domain than its gang's."""
        if self.heard_workloads:
            self.strays |= bool(self.travelling or self.orphans)
            super().crash()

    def check_capacity(self, node: str) -> None:
        super().check_capacity(node)
        if not self.strays:
            racks = {topology.node: topology.labels[RACK] for topology in self.nodes}
            hard = [
                (uid, racks[n])
                for n, held in self.streams.held.items()
                for uid, p in held.items()
                if p.workload.gang == SPECS[1]
            ]
            assert len({rack for _, rack in hard}) <= 1, f"a gang is torn apart: {hard}"

    def check_waits_for_a_reason(self, pod: Pod) -> None:
        gang = pod.workload.gang
        if gang is None:
            super().check_waits_for_a_reason(pod)
            return
        rounds, queue = self.machine._rounds, self.machine._queue
        here = rounds._here(pod.lane)
        need = 0 if here else max(0, gang.least - rounds._done(pod.lane))
        mates = queue.mates(pod.lane)
        if len(mates) < need:
            return
        search = Search(self.machine._table, rounds._cycle, gang, 8, self.at)
        assert not search.find(mates, need, rounds._domain(gang, here)).decisions, f"{gang} is starved"

    def teardown(self) -> None:
        super().teardown()
        assert not self.machine._rounds._rounds, "a gang is still forming"
        finished: dict[str, set[str]] = {}
        for _, event in self.streams.workloads:
            if isinstance(event, Ended) and event.reason is EndReason.FINISHED:
                workload = self.submitted[event.uid]
                finished.setdefault(workload.gang.name if workload.gang else "", set()).add(event.uid)
        whole = self.ever_whole(finished)
        for name in "abc":
            held = [
                uid for there in self.streams.held.values() for uid, p in there.items() if named(p.workload) == name
            ]
            assert not held or whole[name], f"gang {name} is held in part: {held}"

    def ever_whole(self, finished: dict[str, set[str]]) -> dict[str, bool]:
        """By gang: whether its least was held at once since it last held nothing."""
        least = {gang.name: gang.least for gang in SPECS if gang is not None}
        whole = dict.fromkeys(least, False)
        held: dict[str, dict[str, Any]] = {}
        for entry in self.streams.ledger:
            held[entry.node] = fold(held.get(entry.node, {}), entry)
            for name, needed in least.items():
                count = sum(named(p.workload) == name for there in held.values() for p in there.values())
                is_whole = count + len(finished.get(name, ())) >= needed
                whole[name] = count > 0 and (whole[name] or is_whole)
        return whole


def named(workload: Workload) -> str:
    return workload.gang.name if workload.gang else ""


GangRace.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
test_no_history_leaves_a_gang_in_part_or_torn_apart = GangRace.TestCase


@given(st.lists(st.tuples(st.sampled_from(["wake", "join", "pass"]), st.floats(0.1, 5.0)), max_size=20))
def test_a_resting_gang_wakes_when_its_rest_is_over_and_only_if_something_changed(
    steps: list[tuple[str, float]],
) -> None:
    queue, gang = Queue(limit=99), Gang(name="g", least=2)
    pods = [pod_of(an_owner(f"m{i}", gang=gang), float(i)) for i in range(30)]
    queue.push(pods[0])
    head = queue.pop()
    assert head is pods[0]
    queue.sleep(head, Decision(head, wakes=frozenset({NodeChanged.FREE})), until=10.0)
    at, stirred, joined = 0.0, False, 1
    for what, amount in steps:
        match what:
            case "wake":
                queue.wake({NodeChanged.FREE})
                stirred = True
            case "join":
                queue.push(pods[joined], at=at)
                joined, stirred = joined + 1, True
            case _:
                at += amount
                queue.ripen(at)
        queue.validate()
        assert queue.mates_count(head.lane) == joined
        if at >= 10.0 and stirred:
            assert queue.pop() is pods[0]
            return
        assert queue.pop() is None
