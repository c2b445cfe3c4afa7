"""Katalyst's acceptance cases for eviction (A21 to A24) as tables. Where ours differs on purpose, `ON_PURPOSE` says why."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from neap.common.model.enhancement import MEMORY_KEY
from neap.common.model.oom import oom_priority
from neap.common.model.qos import QosClass
from neap.common.model.resource import RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.topology import NodeTopology, NumaNode, Zone, ZoneKind
from neap.common.model.usage import NumaUsage
from neap.common.model.workload import Container
from neap.common.units import GIB
from neap.evictor.core.hold import Held, felt
from neap.evictor.core.rank import in_order
from neap.evictor.core.score import frequency_score, usage_score
from neap.evictor.core.view import Guest, Level, Pool, Victim, View
from neap.evictor.plugins import cpu_load, cpu_suppression, cpu_usage, memory_overuse, numa_memory
from tests.unit.evictor_world import World, a_guest, a_report, shows, uids

ON_PURPOSE = {
    "A21 order": "owners are no candidates at all, so the order begins with the reclaimed; rules come one after the "
    "other, hard levels first, so the scope (force, memory, cpu) is no key; equals go by what losing them costs",
    "A21 queue": "there is no queue of victims: a guest is chosen anew at each report, within budgets",
    "A22 all": "owners never leave: where Katalyst takes all, we take guests",
    "A22 counter": "after a calm report patience begins anew; Katalyst's counter goes down by one",
    "A22 size": "of equals the one nearest to what is needed leaves, not the largest",
    "A23 shared": "owners never leave, only guests are judged",
    "A23 rss": "the working set is judged, which the kubelet judges too; 1.2 times is allowed by default",
    "A23 one victim": "as few as bring the node below its threshold, at most two in ten reports by default",
    "A24 victim": "a guest leaves, not a pod of the pool; soft only closes the node",
    "A24 supply": "each guest is judged by the CPUs it got and waited for, not by its share of an estimate",
    "A24 scores": "both scores count, not only usage; they order guests of one priority",
}


def a_pod(uid: str, qos: QosClass = QosClass.RECLAIMED, **fields: Any) -> Guest:
    return Guest(a_guest(uid, qos=qos, **fields), {}, 0.0)


# -- A21 -------------------------------------------------------------------------------------------------------------


def test_a21_of_the_twelve_pods_only_guests_stand_for_election_and_the_lowest_priority_goes_first() -> None:
    pods = [
        ("shared", 100), ("shared", 80), ("dedicated", 80), ("shared", 80), ("shared", 70), ("dedicated", 60),
        ("shared", 60), ("shared", 60), ("dedicated", 60), ("reclaimed", 100), ("reclaimed", 100), ("reclaimed", 20),
    ]  # fmt: skip
    guests = [
        a_pod(f"{n}-{qos}-{priority}", QosClass(f"{qos}_cores"), priority=priority)
        for n, (qos, priority) in enumerate(pods)
    ]
    ranked = in_order([Victim(guest, 1, "") for guest in guests], 1)
    assert [victim.guest.uid for victim in ranked] == ["11-reclaimed-20", "10-reclaimed-100", "9-reclaimed-100"]


@pytest.mark.parametrize(
    ("case", "first", "second"),
    [
        ("priority before everything", a_pod("a", priority=1), a_pod("b", priority=2, annotations={"neap.io/oom-priority": "-100"})),
        ("OOM priority", a_pod("b", annotations={"neap.io/oom-priority": "-90"}), a_pod("a", annotations={"neap.io/oom-priority": "-10"})),
        ("Katalyst's OOM priority", a_pod("b"), a_pod("a", annotations={MEMORY_KEY: '{"oom_priority": "-10"}'})),
        ("a surplus gang member", a_pod("b")._replace(surplus=True), a_pod("a")._replace(start_cost=0.0)),
        ("over-use", a_pod("b")._replace(requests={RECLAIMED_CPU: 1000}, cpu=3.0), a_pod("a")._replace(requests={RECLAIMED_CPU: 1000}, cpu=2.0)),
        ("less over-use than asked for is none", a_pod("a")._replace(requests={RECLAIMED_CPU: 1000}, cpu=0.1), a_pod("b")._replace(requests={RECLAIMED_CPU: 1000}, cpu=0.9)),
        ("start-up cost: 5 s before 300 s", a_pod("b")._replace(start_cost=5.0), a_pod("a")._replace(start_cost=300.0)),
        ("age: the youngest", a_pod("b")._replace(started=9.0), a_pod("a")._replace(started=1.0)),
        ("uid", a_pod("a"), a_pod("b")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a21_the_order_among_guests(case: str, first: Guest, second: Guest) -> None:
    for pair in ((first, second), (second, first)):
        ranked = in_order([Victim(guest, 1, "") for guest in pair], 1)
        assert [victim.guest for victim in ranked] == [first, second], case


@pytest.mark.parametrize(
    ("qos", "wish", "is_so"),
    [
        (QosClass.RECLAIMED, "-150", -100),
        (QosClass.RECLAIMED, "100", -1),
        (QosClass.RECLAIMED, "300", 300),
        (QosClass.SHARED, "210", 99),
        (QosClass.SHARED, None, 0),
        (QosClass.RECLAIMED, "soon", -100),
        (QosClass.RECLAIMED, "-300", -100),
    ],
)
def test_a25_oom_priority_stays_in_the_range_of_its_class(qos: QosClass, wish: str | None, is_so: int) -> None:
    annotations = {} if wish is None else {MEMORY_KEY: msgspec.json.encode({"oom_priority": wish}).decode()}
    assert oom_priority(a_guest("a", qos=qos, annotations=annotations)) == is_so


# -- A22 -------------------------------------------------------------------------------------------------------------


def bound(uid: str, numa: int, held: int) -> Guest:
    return a_pod(uid)._replace(numa=(numa,), working_set=held * GIB)


def test_a22_a_numa_node_runs_out_of_memory() -> None:
    settings = numa_memory.Settings(reports=2, dry_run=False)
    frees = [(20, 25), (1, 2), (1, 2), (1, 10), (1, 2), (1, 2), (10, 2)]
    due: list[list[str]] = []
    holds: dict[str, Held] = {}
    for at, free in enumerate(frees):
        numa = [NumaUsage(index=i, memory_free=size * GIB, memory_total=50 * GIB) for i, size in enumerate(free)]
        view = View(float(at), a_report(float(at), numa=tuple(numa)), (bound("a", 0, 1), bound("b", 1, 1)))
        levels = numa_memory.pressure(view, settings)
        holds, acts = felt(holds, levels, settings, float(at))
        due.append([numa_memory.rank(view, level, view.guests)[0].guest.uid for level, _ in acts])
    assert due == [[], [], ["a", "b"], ["a"], ["a"], ["a", "b"], ["b"]]


def test_a22_guests_that_are_bound_there_go_by_priority_then_by_what_helps() -> None:
    guests = [
        bound("pod-1", 0, 1)._replace(workload=a_guest("pod-1", priority=0)),
        bound("pod-2", 0, 2)._replace(workload=a_guest("pod-2", priority=0)),
        bound("pod-3", 0, 1)._replace(workload=a_guest("pod-3", priority=5)),
        bound("pod-4", 0, 2)._replace(workload=a_guest("pod-4", priority=5)),
        bound("pod-6", 0, 9)._replace(workload=a_guest("pod-6", qos=QosClass.SHARED)),
        bound("elsewhere", 1, 9),
        bound("unbound", 0, 9)._replace(numa=()),
    ]
    level = Level("free", 1.0, 2.0, need=8 * GIB, calm=False, why="", scope="numa0", unit="bytes")
    view = View(0.0, a_report(0.0), tuple(guests))
    ranked = numa_memory.rank(view, level, guests)
    assert [victim.guest.uid for victim in ranked] == ["pod-2", "pod-1", "pod-4", "pod-3"]


def test_a22_guests_that_are_not_bound_go_by_what_is_seen_to_lie_there_if_it_is_a_thousandth() -> None:
    guests = [
        bound("bound", 0, 2),
        a_pod("half")._replace(working_set=9 * GIB, anon={0: 3 * GIB, 1: 6 * GIB}),
        a_pod("crumb")._replace(anon={0: GIB // 25, 1: GIB}),
        a_pod("elsewhere")._replace(anon={0: 0, 1: 9 * GIB}),
        a_pod("unknown")._replace(working_set=9 * GIB),
    ]
    numa = NumaUsage(index=0, memory_free=GIB, memory_total=50 * GIB)
    level = Level("free", 1.0, 2.0, need=3 * GIB, calm=False, why="", scope="numa0", unit="bytes")
    ranked = numa_memory.rank(View(0.0, a_report(0.0, numa=(numa,)), tuple(guests)), level, guests)
    assert [(victim.guest.uid, victim.frees) for victim in ranked] == [("half", 3 * GIB), ("bound", 2 * GIB)]


def test_a22_the_report_says_where_a_guests_memory_lies() -> None:
    world = World(a_guest("a"), numa_memory=numa_memory.Settings(reports=1, dry_run=False))
    numa = tuple(NumaUsage(index=i, memory_free=free * GIB, memory_total=50 * GIB) for i, free in enumerate((1, 40)))
    seen = shows("a", working_set=9 * GIB)
    assert uids(world.report(100.0, seen, numa=numa)) == []
    lies = msgspec.structs.replace(seen, memory_nodes=(8 * GIB, GIB))
    assert uids(world.report(160.0, lies, numa=numa)) == ["a"]


@pytest.mark.parametrize(
    ("watermark", "free", "need", "hard"),
    [(GIB, 3, False, False), (GIB, 1.5, True, False), (GIB, 1.2, True, True), (None, 2, True, False), (None, 4, False, False)],
)  # fmt: skip
def test_a22_the_kernels_watermark_comes_before_a_share(
    watermark: int | None, free: float, need: bool, hard: bool
) -> None:
    numa = NumaUsage(index=0, memory_free=int(free * GIB), memory_total=50 * GIB, watermark_low=watermark)
    (level,) = numa_memory.pressure(View(0.0, a_report(0.0, numa=(numa,)), ()), numa_memory.Settings())
    assert (level.need > 0, level.hard) == (need, hard)


def test_a22_a_numa_node_nobody_measures_is_not_judged() -> None:
    numa = (NumaUsage(index=0, memory_free=0), NumaUsage(index=1, memory_total=GIB), NumaUsage(index=2))
    assert numa_memory.pressure(View(0.0, a_report(0.0, numa=numa), ()), numa_memory.Settings()) == ()


# -- A23 -------------------------------------------------------------------------------------------------------------


def tells(ratio: str) -> dict[str, str]:
    return {MEMORY_KEY: msgspec.json.encode({"rss_overuse_threshold": ratio}).decode()}


@pytest.mark.parametrize(
    ("case", "requests", "held", "annotations", "labels", "settings", "leaves"),
    [
        ("request 10, holds 9, own ratio .8", (10,), 9, tells("0.8"), {}, {}, True),
        ("the same in our words", (10,), 9, {"neap.io/memory-overuse": "0.8"}, {}, {}, True),
        ("request 10, holds 9", (10,), 9, {}, {}, {}, False),
        ("no request", (0,), 9, tells("0.8"), {}, {}, False),
        ("one container without a request", (10, 0), 14, tells("0.8"), {}, {}, False),
        ("14 requested, holds 12, own ratio .8", (10, 4), 12, tells("0.8"), {}, {}, True),
        ("14 requested, holds 7", (10, 4), 7, tells("0.8"), {}, {}, False),
        ("a ratio that is none keeps it", (10,), 99, tells("much"), {}, {}, False),
        ("a ratio of 0 keeps it", (10,), 99, tells("0"), {}, {}, False),
        ("default .1", (10,), 2, {}, {}, {"ratio": 0.1}, True),
        ("label filter, has it", (10,), 99, {}, {"canEvict": "true"}, {"only": ("canEvict=true",)}, True),
        ("label filter, has it not", (10,), 99, {}, {"canEvict": "false"}, {"only": ("canEvict=true",)}, False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a23_memory_overuse(
    case: str,
    requests: tuple[int, ...],
    held: int,
    annotations: dict[str, str],
    labels: dict[str, str],
    settings: dict[str, Any],
    leaves: bool,
) -> None:
    containers = tuple(Container(name=f"c{i}", requests={RECLAIMED_MEMORY: GIB * r}) for i, r in enumerate(requests))
    pod = msgspec.structs.replace(a_guest("a", annotations=annotations, labels=labels), containers=containers)
    world = World(pod, memory_overuse=memory_overuse.Settings(**({"ratio": 1.05, "reports": 1} | settings)))
    assert bool(world.report(100.0, shows("a", working_set=held * GIB))) == leaves, case


@pytest.mark.parametrize("qos", [QosClass.SHARED, QosClass.DEDICATED, QosClass.SYSTEM])
def test_a23_owners_are_not_judged(qos: QosClass) -> None:
    world = World(a_guest("a", qos=qos), memory_overuse=memory_overuse.Settings(reports=1))
    assert world.report(100.0, shows("a", working_set=99 * GIB)) == []


def test_a23_the_rule_switched_off_evicts_nobody() -> None:
    assert World(a_guest("a"), off=("memory_overuse",)).report(100.0, shows("a", working_set=99 * GIB)) == []


@pytest.mark.parametrize(("most", "left"), [(1, ["b"]), (2, ["b", "a"])])
def test_a23_two_guests_of_five_cores_where_one_core_is_lent(most: int, left: list[str]) -> None:
    world = World(a_guest("a", 5.0), a_guest("b", 5.0), most=most)
    assert uids(world.oversold(1.0, 100, 104)) == left


# -- A24 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("load", "soft", "hard"), [(1.0, False, False), (11.0, True, False), (50.0, True, True)])
def test_a24_load_of_a_pool_of_ten_cpus(load: float, soft: bool, hard: bool) -> None:
    one = {RECLAIMED_CPU: 1000}
    guests = (
        a_pod("near")._replace(cpus=frozenset({9}), requests=one),
        a_pod("far")._replace(cpus=frozenset({99}), requests=one),
    )
    view = View(0.0, a_report(0.0), guests, pools=(Pool("share", frozenset(range(10)), load),))
    (level,) = cpu_load.pressure(view, cpu_load.Settings())
    assert (level.crowded, level.need > 0) == (soft, hard)
    assert [victim.guest.uid for victim in cpu_load.rank(view, level, guests)] == ["near"]


def test_a24_a_pool_with_a_member_nobody_measures_is_not_judged() -> None:
    view = View(0.0, a_report(0.0), (), pools=(Pool("share", frozenset(range(10)), None),))
    assert cpu_load.pressure(view, cpu_load.Settings()) == ()


@pytest.mark.parametrize(
    ("case", "asked", "got", "leaves"),
    [
        ("15 and 4 of 10", (15.0, 4.0), (6.0, 4.0), ["p0"]),
        ("quota 5", (15.0, 4.0), (1.0, 4.0), ["p0"]),
        ("requests of 2", (2.0, 2.0), (2.0, 2.0), []),
    ],
)
def test_a24_suppression(case: str, asked: tuple[float, ...], got: tuple[float, ...], leaves: list[str]) -> None:
    key = "katalyst.kubewharf.io/cpu_enhancement"
    own = {key: '{"suppression_tolerance_rate": "1.2"}'}
    starving = cpu_suppression.Settings(hold=0.0, reports=1)
    world = World(
        *(a_guest(f"p{i}", cores, annotations=own) for i, cores in enumerate(asked)), cpu_suppression=starving
    )
    seen = [shows(f"p{i}", cpu=cores, stalled=0.9) for i, cores in enumerate(got)]
    assert uids(world.report(100.0, *seen)) == leaves, case


def test_a24_usage_score() -> None:
    assert usage_score(0.7, 0.5) == 20
    assert usage_score(0.1, 0.5) == -1000
    assert usage_score(0.5, -0.5) == 60


@pytest.mark.parametrize(
    ("ratios", "score"), [({1: 0.3, 24: 0.2}, 14), ({1: 0.0, 24: 0.0}, 100), ({1: 0.5}, -5000), ({}, 100)]
)
def test_a24_eviction_frequency(ratios: dict[float, float], score: int) -> None:
    assert frequency_score(ratios) == score


def on_a_hundred_cpus(used: dict[str, float | None], busy: float) -> View:
    numa = NumaNode(index=0, cpus="0-99", memory=GIB)
    machine = Zone(kind=ZoneKind.MACHINE, index=0)
    topology = NodeTopology(at=0.0, source="reporter", node="n1", machine=machine, numa=(numa,))
    guests = tuple(a_pod(uid)._replace(cpu=cpu, cpus=frozenset({3})) for uid, cpu in used.items())
    return View(0.0, a_report(0.0, numa=(NumaUsage(index=0, cpu=busy),)), guests, topology=topology)


def test_a24_guests_by_score() -> None:
    view = on_a_hundred_cpus({"pod1": 80.0, "pod2": 60.0, "pod3": 90.0, "pod4": 70.0, "pod5": 95.0}, 99.0)
    level = Level("usage", 0.99, 0.49, need=1, calm=False, why="", scope="numa0")
    ranked = cpu_usage.rank(view, level, view.guests)
    assert [victim.guest.uid for victim in ranked] == ["pod2", "pod4", "pod1", "pod3", "pod5"]


@pytest.mark.parametrize(
    ("busy", "guest", "crowded", "beyond"),
    [(100.0, 40.0, False, False), (95.0, 10.0, True, False), (99.0, 5.0, True, True)],
)
def test_a24_owners_not_guests_make_cpu_usage_pressure(busy: float, guest: float, crowded: bool, beyond: bool) -> None:
    (level,) = cpu_usage.pressure(on_a_hundred_cpus({"a": guest}, busy), cpu_usage.Settings())
    assert (level.crowded, level.need > 0) == (crowded, beyond)


def test_a24_cpu_usage_that_is_not_measured_is_not_judged() -> None:
    assert cpu_usage.pressure(on_a_hundred_cpus({"a": None}, 99.0), cpu_usage.Settings()) == ()
    assert cpu_usage.pressure(View(0.0, a_report(0.0), ()), cpu_usage.Settings()) == ()
