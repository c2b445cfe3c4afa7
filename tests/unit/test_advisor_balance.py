"""Memory that moves off a crowded NUMA node: every threshold of Katalyst's balancer, who moves, and a kernel that does it.

The reference has formulas and thresholds (§4.8.2) but no acceptance case of it, so the tables below are read off them.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from neap.advisor.core.crowding import Crowd, Thresholds, crowd
from neap.advisor.core.policy import MemoryNode, MemoryPod, MemoryProposal, MemoryView, Moved
from neap.advisor.plugins.memory_balance import Settings, advise
from neap.common.model.advice import Knobs
from neap.common.model.qos import KubeQos
from neap.common.model.usage import ContainerUsage, NodeUsage, NumaUsage
from neap.common.units import GIB, MIB, MINUTE
from neap.reporter.reader import NodeReader
from neap.reporter.settings import Settings as ReporterSettings
from neap.virtual.kernel import VirtualHost
from neap.virtual.pod import Memory, VirtualContainer, VirtualPod, Work
from neap.virtual.snapshot import load_snapshot
from tests.conftest import ROOT
from tests.unit.test_advisor_memory import a_guest, an_owner
from tests.unit.test_advisor_node import Node
from tests.unit.test_advisor_numa import ALONE, BOUND, DEDICATED, RECLAIMED, a_node, a_pod, mems
from tests.unit.test_virtual_host import PODS

EIGHT_NODES = ROOT / "examples" / "machines" / "16amd64-8n2c.tar.bz2"
ON_PURPOSE = {
    "all latencies": "Katalyst says an error where one node's latency is not known; ours goes by bandwidth, or by room",
    "evict": "under force Katalyst evicts the guest with most memory there; here memory moves, and the evictor judges",
    "owners": "owners of shared pools are moved only where the site says so",
    "room": "a destination must have room; Katalyst does not ask",
    "bound": "who is bound to NUMA nodes is not moved; Katalyst looks at whole pools",
}


def node(index: int, latency: float | None = 50.0, bandwidth: float | None = 100.0, **more: Any) -> MemoryNode:
    """Distances 10 to itself, 12 within pairs (0-1, 2-3), 21 across."""
    distances = {other: 10 if other == index else 12 if other // 2 == index // 2 else 21 for other in range(4)}
    given = {"total": 100 * GIB, "free": 60 * GIB, "distances": distances} | more
    return MemoryNode(index=index, latency=latency, bandwidth=bandwidth, **given)


def found(*nodes: MemoryNode, **terms: Any) -> tuple[int, tuple[int, ...], bool] | None:
    said = crowd(nodes, Thresholds(**terms))
    return None if said is None else (said.source, said.to, said.force)


# -- by latency ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slow", "expected"),
    [
        pytest.param(80.5, (0, (1, 2, 3), True), id="force above 80 ns: near nodes first, then far ones"),
        pytest.param(80.0, (0, (1,), False), id="grace at 80 ns: near nodes only"),
        pytest.param(70.5, (0, (1,), False), id="grace above 70 ns"),
        pytest.param(70.0, None, id="nothing at 70 ns"),
    ],
)
def test_latency_of_the_worst_node(slow: float, expected: Any) -> None:
    assert found(node(0, slow), *(node(i) for i in (1, 2, 3))) == expected


@pytest.mark.parametrize(
    ("near", "gap", "expected"),
    [
        pytest.param(20.0, 40, (0, (1,), False), id="more than 40 ns above its neighbour"),
        pytest.param(25.0, 40, None, id="40 ns above it"),
        pytest.param(20.0, 400, None, id="AMD: 400 ns"),
    ],
)
def test_the_gap_to_the_nearest_node(near: float, gap: float, expected: Any) -> None:
    assert found(node(0, 65.0), node(1, near), node(2, 1.0), gap=gap) == expected


def test_the_gap_to_a_far_node_does_not_count() -> None:
    assert found(node(0, 65.0), node(2, 1.0)) is None


@pytest.mark.parametrize(
    ("latency", "slow", "expected"),
    [
        pytest.param(70.0, 80.5, (0, (1,), True), id="near: a latency 15 % better"),
        pytest.param(70.1, 80.5, (0, (), True), id="near: less than that"),
        pytest.param(100.0, 601.0, (0, (1,), True), id="AMD"),
    ],
)
def test_how_much_better_a_near_node_must_be(latency: float, slow: float, expected: Any) -> None:
    terms = {"force": 600.0, "grace": 500.0} if slow > 600 else {}
    assert found(node(0, slow), node(1, latency), **terms) == expected


@pytest.mark.parametrize(
    ("latency", "to"), [pytest.param(67.0, (2,), id="far: 20 % better"), pytest.param(67.2, (), id="far: less")]
)
def test_how_much_better_a_far_node_must_be(latency: float, to: tuple[int, ...]) -> None:
    assert found(node(0, 80.5), node(2, latency)) == (0, to, True)


@pytest.mark.parametrize(
    ("bandwidth", "slow", "expected"),
    [
        pytest.param(81.0, 90.0, (0, (1, 2), True), id="high, 81 % of the busiest: off the slow one"),
        pytest.param(80.0, 90.0, (1, (2,), True), id="medium, 80 %: off the busiest, to the least busy"),
        pytest.param(51.0, 90.0, (1, (2,), True), id="medium, 51 %"),
        pytest.param(
            50.0, 90.0, (1, (0,), True), id="low, 50 %: its latency is an artefact, so off the busiest, to it"
        ),
        pytest.param(80.0, 75.0, None, id="medium under grace: nothing"),
        pytest.param(81.0, 75.0, (0, (1,), False), id="high under grace"),
    ],
)
def test_the_bandwidth_of_the_worst_node_says_whose_fault_it_is(bandwidth: float, slow: float, expected: Any) -> None:
    assert found(node(0, slow, bandwidth), node(1, 50, 100.0), node(2, 50, 20.0)) == expected


# -- by bandwidth, by room -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        pytest.param(99.0, (0, (1, 2), True), id="above most: force"),
        pytest.param(110.0, (0, (1,), False), id="above 90 % of it: grace"),
        pytest.param(112.0, None, id="below that"),
        pytest.param(0.0, None, id="nobody says what it can do"),
    ],
)
def test_without_latencies_bandwidth_decides_where_the_site_says_what_a_node_can_do(most: float, expected: Any) -> None:
    nodes = (node(0, None, 100.0), node(1, None, 50.0), node(2, None, 40.0))
    assert found(*nodes, most=most) == expected, ON_PURPOSE["all latencies"]


def test_without_either_room_decides() -> None:
    full, near, far = (node(i, None, None, free=free * GIB) for i, free in ((0, 4), (1, 30), (2, 60)))
    assert found(full, near, far) == (0, (1, 2), False)
    assert found(replace(full, free=5 * GIB), near, far) is None, "5 % are enough"
    assert found(replace(full, free=5 * GIB, watermark=3 * GIB), near, far) == (0, (1, 2), False)
    assert found(replace(full, free=None), near, far) is None
    assert found(full, replace(near, free=3 * GIB)) == (1, (), False), "nobody has room"


def test_one_node_has_nowhere_to_move_to() -> None:
    assert found(node(0, 500.0)) is None
    assert found() is None


def test_the_sentence_has_the_numbers() -> None:
    said = crowd((node(0, 85.0), node(1)), Thresholds())
    assert said == Crowd(0, (1,), True, "85 ns on NUMA node 0, 80 are allowed")


# -- who moves -------------------------------------------------------------------------------------------------------

HOT = (node(0, 90.0), node(1))


def held(pod: MemoryPod, *amounts: int) -> MemoryPod:
    return replace(pod, anon=dict(enumerate(amounts)))


def told(*pods: MemoryPod, nodes: tuple[MemoryNode, ...] = HOT, **more: Any) -> MemoryProposal:
    tuning = more.pop("tuning", {})
    view = MemoryView(**{"capacity": 200 * GIB, "at": 1000.0, "nodes": nodes, "pods": pods} | more)
    return advise(view, Settings(**tuning))


def who(said: MemoryProposal) -> list[str]:
    return [target.removeprefix("pod/") for target in said.moved]


@pytest.mark.parametrize(
    ("here", "moves"),
    [(128 * MIB, False), (129 * MIB, True), (15 * GIB - 1, True), (15 * GIB, False)],
    ids=["128 MiB is not worth it", "more is", "below 15 GiB", "15 GiB take too long"],
)
def test_the_size_of_a_guest_that_moves(here: int, moves: bool) -> None:
    assert who(told(held(a_guest(), here, 0))) == (["g"] if moves else [])


@pytest.mark.parametrize(
    ("here", "moves"), [(129 * MIB, True), (10 * GIB - 1, True), (10 * GIB, False), (128 * MIB, False)]
)
def test_owners_of_shared_pools_move_only_where_the_site_says_so(here: int, moves: bool) -> None:
    owner = held(an_owner(), here, 0)
    assert who(told(owner)) == [], ON_PURPOSE["owners"]
    assert who(told(owner, tuning={"owners": 1})) == (["s"] if moves else [])
    assert who(told(replace(owner, pool="dedicated"), tuning={"owners": 1})) == []


def test_guests_come_first_the_smallest_first_and_three_gib_of_them_are_enough() -> None:
    guests = [held(a_guest(uid), size * GIB, GIB) for uid, size in (("a", 2), ("b", 1), ("c", 13))]
    owner = held(an_owner(), GIB, 0)
    assert who(told(*guests[:1], owner, tuning={"owners": 1})) == ["a", "s"]
    assert who(told(*guests[:2], owner, tuning={"owners": 1})) == ["a", "b"], "b and a are 3 GiB, so s stays"
    assert who(told(*guests)) == ["a", "b"], "c would make it 16 GiB, 15 are the most"
    assert told(*guests).knobs == {f"pod/{uid}": Knobs(mems="1") for uid in "ab"}
    assert told(*guests).reason == "3Gi of 2 pods moved to NUMA node 1: 90 ns on NUMA node 0, 80 are allowed"


def test_a_destination_keeps_twice_what_it_should_have_free() -> None:
    guests = [held(a_guest(uid), 2 * GIB, 0) for uid in "ab"]
    tight = (HOT[0], replace(HOT[1], free=13 * GIB))
    assert who(told(*guests, nodes=tight)) == ["a"], ON_PURPOSE["room"]
    assert who(told(*guests, nodes=(HOT[0], replace(HOT[1], free=10 * GIB)))) == []
    assert "no other node is better off and has room" in told(nodes=(HOT[0], replace(HOT[1], free=None))).reason


@pytest.mark.parametrize(
    "pod",
    [replace(held(a_guest(), GIB, 0), bound=True), held(a_guest(), 0, GIB), a_guest(), replace(held(a_guest(), GIB), target="")],
    ids=["bound", "lies elsewhere", "nobody knows where", "not in the ledger"],
)  # fmt: skip
def test_who_cannot_be_moved(pod: MemoryPod) -> None:
    said = told(pod)
    assert said.moved == {}
    assert "nobody's can be moved to NUMA node 1" in said.reason


def test_a_node_somebody_has_alone_is_no_destination() -> None:
    nodes = (*HOT, node(2, 10.0, guests=False))
    assert told(held(a_guest(), GIB, 0, 0), nodes=nodes).knobs["pod/g"].mems == "1"


# -- for how long ----------------------------------------------------------------------------------------------------


def test_who_moved_is_held_there_for_a_while_and_nobody_moves_back_meanwhile() -> None:
    guest, other = held(a_guest("a"), GIB, 0), held(a_guest("b"), 0, GIB)
    first = told(guest, other)
    assert who(first) == ["a"]
    hot = (node(0), node(1, 90.0))
    for after, moving in ((31.0, []), (15 * MINUTE - 1, []), (15 * MINUTE + 1, ["b"])):
        later = told(guest, other, nodes=hot, at=1000.0 + after, moved=first.moved)
        held_still = ["a"] if after < 15 * MINUTE else []
        assert who(later) == sorted(held_still + moving)


def test_a_round_waits_for_what_the_last_one_did() -> None:
    first = told(held(a_guest("a"), GIB, 0))
    both = held(a_guest("a"), GIB, 0), held(a_guest("b"), GIB, 0)
    assert who(told(*both, at=1029.0, moved=first.moved)) == ["a"]
    assert who(told(*both, at=1030.0, moved=first.moved)) == ["a", "b"]


@pytest.mark.parametrize("why", [{"fresh": False}, {"blind": "no usage"}])
def test_without_news_nobody_moves_and_who_moved_is_held(why: dict[str, Any]) -> None:
    guest = held(a_guest(), GIB, 0)
    assert told(guest, **why).moved == {}
    moved = {"pod/g": Moved(900.0, 0, (1,))}
    assert told(guest, moved=moved, **why).moved == moved


def test_who_came_to_be_bound_or_whose_node_was_taken_is_not_held() -> None:
    moved = {"pod/g": Moved(990.0, 0, (1,))}
    guest = held(a_guest(), GIB, 0)
    assert told(guest, moved=moved).moved == moved
    assert told(replace(guest, bound=True), moved=moved).moved == {}
    assert told(guest, moved=moved, nodes=(HOT[0], replace(HOT[1], guests=False))).moved == {}


# -- on a node -------------------------------------------------------------------------------------------------------


def a_report(at: float, free: tuple[int, ...], **lies: tuple[int, ...]) -> NodeUsage:
    containers = tuple(
        ContainerUsage(uid=uid, container="c", cgroup=f"besteffort/{uid}", cpu=0.1, memory=sum(held), memory_nodes=held)
        for uid, held in lies.items()
    )
    numa = tuple(NumaUsage(index=i, memory_free=amount) for i, amount in enumerate(free))
    return NodeUsage(at=at, source="r", node="n", seq=1, period=60, cpu=1, memory_available=sum(free), numa=numa, containers=containers)  # fmt: skip


LIE = (200 * MIB, 0, 0, 0)
FREE = (10 * MIB, *(GIB - MIB,) * 3)
BALANCE = {"memory": ("memory_balance",)}


def test_a_guest_is_moved_off_a_full_node_and_may_use_all_nodes_again_after_a_while() -> None:
    node = a_node(a_pod("g", RECLAIMED), a_pod("s"), **BALANCE)
    node.at = 100.0
    node.hear(a_report(100.0, FREE, g=LIE, s=(0, 0, 0, 0)))
    assert mems(node, "pod/g") == "1-3"
    assert mems(node, "pod/s") is None
    assert mems(node, "class/besteffort") is None
    again = a_node(a_pod("g", RECLAIMED), a_pod("s"), last=node.advice, at=node.at, **BALANCE)
    assert mems(node, "pod/g") == "1-3"
    for at, shown in ((400.0, "1-3"), (100.0 + 16 * MINUTE, "0-3")):
        node.at = at
        node.hear(a_report(at, (GIB // 2, *FREE[1:]), g=(0, 200 * MIB, 0, 0), s=(0, 0, 0, 0)))
        assert mems(node, "pod/g") == shown
    again.at = 130.0
    again.hear(a_report(130.0, (GIB // 2, *FREE[1:]), g=(0, 200 * MIB, 0, 0), s=(0, 0, 0, 0)))
    assert mems(again, "pod/g") == "0-3", "without its memory an advisor holds nobody"


def test_whoever_comes_to_have_the_node_alone_has_it_alone() -> None:
    node = a_node(a_pod("g", RECLAIMED), a_pod("x", DEDICATED, 1, (3,), ALONE), **BALANCE)
    node.at = 100.0
    node.hear(a_report(100.0, FREE, g=LIE, x=(0, 0, 0, MIB)))
    assert mems(node, "pod/g") == "1-2"
    assert mems(node, "pod/x") == "3"


def test_a_bound_guest_stays() -> None:
    node = a_node(a_pod("g", RECLAIMED, 1, (0,), BOUND), a_pod("h", RECLAIMED), **BALANCE)
    node.at = 100.0
    node.hear(a_report(100.0, FREE, g=LIE, h=LIE))
    assert (mems(node, "pod/g"), mems(node, "pod/h")) == ("0", "1-3")


def test_the_report_says_where_memory_lies_and_the_advised_nodes_move_it() -> None:
    """Reporter, advisor and a kernel: NUMA node 2 of 8 GiB is full of two guests, until the smaller one may not be there."""
    host = VirtualHost(load_snapshot(EIGHT_NODES), node="n")
    for uid, gib in (("a", 2.0), ("b", 5.9)):
        memory = Memory(start=int(gib * GIB))
        container = VirtualContainer(id=f"{uid}-c", demand=Work(core_seconds=1e9, width=1), memory=memory)
        host.start(VirtualPod(uid=uid, qos=KubeQos.BEST_EFFORT, containers=(container,)))
        host.write(f"{PODS}/besteffort/pod{uid}/cpuset.cpus", "4-5")
    clock = [0.0]
    reader = NodeReader(host, clock=lambda: clock[0], node="n", settings=ReporterSettings(every={"container_numa": 0}))
    guests = a_pod("a", RECLAIMED), a_pod("b", RECLAIMED)
    node = Node(*guests, topology=reader.topology(), memory=("memory_balance",))

    def lies() -> dict[str, tuple[int, ...] | None]:
        clock[0] += 60.0
        host.advance(clock[0])
        report = reader.sample()
        node.at = clock[0]
        node.hear(report)
        return {one.uid: one.memory_nodes for one in report.containers}

    assert lies()["a"] == (0, 0, 2 * GIB, 0, 0, 0, 0, 0)
    assert (mems(node, "pod/a"), mems(node, "pod/b")) == ("0-1,3-7", None)
    assert "2Gi of 1 pods moved to NUMA node 0-1,3-7: " in node.why("reclaimed")
    host.write(f"{PODS}/besteffort/poda/cpuset.mems", mems(node, "pod/a") or "")
    moved = lies()["a"]
    assert moved is not None
    assert moved[2] == 0
    assert sum(moved) >= 2 * GIB - 8 * 4096
