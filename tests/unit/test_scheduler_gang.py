"""Gangs as their users see them: all or nothing, in one rack when asked, and never in anybody's way."""

from __future__ import annotations

from typing import Any

import pytest

from neap.common.contract.catalogue import PLACEMENTS, WORKLOAD
from neap.common.model.explanation import ExplainRequest
from neap.common.model.lifecycle import Ended, EndReason, Submitted
from neap.common.model.placement import Placed, Placement, Released
from neap.common.model.scheduling import Gang
from neap.common.model.topology import NodeTopology
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Append, Arrived, Done, Emit, Failed, Tick
from neap.scheduler.core.choice.gang import GangSettings
from neap.scheduler.settings import Settings
from tests.unit.scheduler_world import World, a_node, an_owner

RACK = "topology.example/rack"


def a_member(
    uid: str, *, least: int = 3, cores: float = 4, domain: str = "", hard: bool = True, **more: Any
) -> Workload:
    return an_owner(uid, cores=cores, gang=Gang(name="train-7", least=least, domain=domain, hard=hard), **more)


def members(count: int, **more: Any) -> list[Workload]:
    return [a_member(f"m{i}", **{"least": count} | more) for i in range(count)]


def racked(name: str, rack: str, cores: float = 8) -> NodeTopology:
    labels: dict[str, Any] = {RACK: rack}
    return a_node(name, cores=cores, **labels)


def racks(**nodes: int) -> list[Any]:
    """So many nodes of 8 cores in each rack."""
    return [racked(f"{rack}-{i}", rack) for rack, count in nodes.items() for i in range(count)]


def held(world: World) -> set[str]:
    return {uid for placements in world.streams.held.values() for uid in placements}


def test_nobody_of_a_gang_is_placed_before_as_many_as_it_needs_are_there() -> None:
    world = World(a_node("n1"), a_node("n2"))
    first, second, third = members(3)
    world.submit(first, second)
    assert world.streams.ledger == []
    assert world.why("m0.1.gathering") == "gang train-7: 1 of the 3 members it needs are in the queue"
    assert world.why("m1.1.gathering") == "gang train-7: 2 of the 3 members it needs are in the queue"
    world.submit(third)
    assert held(world) == {"m0", "m1", "m2"}


def test_a_gang_that_does_not_fit_holds_nothing_and_is_in_nobodys_way() -> None:
    world = World(a_node("n1"))
    world.submit(*members(3))
    assert held(world) == set()
    assert world.why("m0.1.waiting").startswith(
        "gang train-7: 2 of the 3 members it needs found nodes; none of 1 nodes"
    )
    answer = world.machine.explain(ExplainRequest(namespace="shop", name="m1"))
    assert answer.reason.startswith("gang train-7: 2 of the 3 members it needs found nodes")
    world.submit(an_owner("small", cores=8))
    assert held(world) == {"small"}
    world.end(an_owner("small"), EndReason.FINISHED)
    world.tell(Arrived(world.at, a_node("n2")))
    world.pass_time(1)
    assert held(world) == {"m0", "m1", "m2"}


def test_a_hard_domain_is_one_rack_and_the_refusal_names_the_best_one() -> None:
    world = World(*racks(r1=2, r2=1, r3=1))
    world.submit(*members(5, domain=RACK))
    assert held(world) == set()
    why = world.why("m0.1.waiting")
    assert why.startswith("gang train-7: 4 of the 5 members it needs found nodes in rack r1, the best of 3; none of 4")
    world.tell(Arrived(world.at, racked("r2-9", "r2", 16)))
    world.pass_time(1)
    assert {node.partition("-")[0] for node, there in world.streams.held.items() if there} == {"r2"}
    assert len(held(world)) == 5


def test_a_soft_domain_is_preferred_and_then_spilt_over() -> None:
    world = World(*racks(r1=1, r2=2))
    world.submit(*members(4, domain=RACK, hard=False))
    assert {node.partition("-")[0] for node in world.streams.held} == {"r2"}
    world = World(*racks(r1=1, r2=2))
    world.submit(*members(6, domain=RACK, hard=False))
    assert len(held(world)) == 6
    assert sum(len(there) for node, there in world.streams.held.items() if node.startswith("r2")) == 4


def test_no_node_with_the_label_is_said() -> None:
    world = World(a_node("n1"))
    world.submit(*members(2, domain=RACK))
    assert "no node carries the label topology.example/rack" in world.why("m0.1.waiting")


def test_more_than_the_least_are_placed_if_they_fit_and_wait_near_the_others_if_not() -> None:
    world = World(*racks(r1=1, r2=2))
    world.submit(*(a_member(f"m{i}", least=4, domain=RACK) for i in range(4)))
    assert {node.partition("-")[0] for node in world.streams.held} == {"r2"}
    world.submit(a_member("m4", least=4, domain=RACK))
    assert world.node_of("m4") == ""
    assert "gang train-7: runs, and 1 more of its members find no node near it" in world.why("m4.1.waiting")
    world.tell(Arrived(world.at, racked("r2-9", "r2")))
    world.pass_time(1)
    assert world.node_of("m4") == "r2-9"


def test_when_one_member_ends_the_others_run_on_and_it_comes_back_near_them() -> None:
    world = World(*racks(r1=2, r2=1))
    gang = members(4, domain=RACK)
    world.submit(*gang)
    world.end(gang[0], EndReason.EVICTED)
    assert held(world) == {"m1", "m2", "m3"}
    for _ in range(5):
        world.pass_time(10)
    assert held(world) == {"m0", "m1", "m2", "m3"}
    assert world.node_of("m0").startswith("r1")
    world.end(gang[1], EndReason.FINISHED)
    world.start()
    world.pass_time(1000)
    assert held(world) == {"m0", "m2", "m3"}
    assert not any(isinstance(e, Ended) and e.reason is EndReason.REFUSED for _, e in world.streams.workloads)


def test_a_gang_with_finished_members_comes_back_with_fewer() -> None:
    world = World(a_node("n1", cores=16))
    gang = members(3)
    world.submit(*gang)
    world.end(gang[0], EndReason.FINISHED)
    world.end(gang[1], EndReason.EVICTED)
    world.end(gang[2], EndReason.EVICTED)
    assert held(world) == set()
    world.pass_time(11)
    assert held(world) == {"m1", "m2"}


def test_two_gangs_that_each_need_more_than_half_never_hold_halves() -> None:
    world = World(a_node("n1", cores=12))
    a = [an_owner(f"a{i}", cores=4, gang=Gang(name="a", least=2)) for i in range(2)]
    b = [an_owner(f"b{i}", cores=4, gang=Gang(name="b", least=2)) for i in range(2)]
    world.submit(a[0], b[0], b[1], a[1])
    assert held(world) == {"b0", "b1"}
    for one in b:
        world.end(one, EndReason.FINISHED)
    world.pass_time(1)
    assert held(world) == {"a0", "a1"}


@pytest.mark.parametrize("least", [0, -1, 1_000_000])
def test_a_gang_without_sense_is_refused(least: int) -> None:
    world = World(a_node())
    world.submit(a_member("m0", least=least))
    assert f"least {least} is out of bounds" in world.why("m0.1.refused")


class Slow:
    """A world whose appends are answered by hand."""

    def __init__(self, *nodes: Any, settings: Settings | None = None) -> None:
        self.world = World(*nodes, settings=settings)
        self.sent: list[Append] = []

    def submit(self, *workloads: Workload) -> None:
        for workload in workloads:
            subject = WORKLOAD.at(namespace=workload.namespace, name=workload.name).subject
            self.tell(Arrived(self.world.at, Submitted(at=self.world.at, source="t", workload=workload), subject, 0))

    def tell(self, event: Any) -> None:
        for instruction in self.world.machine.handle(event):
            if isinstance(instruction, Append):
                self.sent.append(instruction)
            elif isinstance(instruction, Emit):
                self.tell(Arrived(self.world.at, instruction.message, instruction.to.subject, 0))
        self.world.machine.validate()

    def answer(self, append: Append, *, stored: bool = True) -> None:
        self.sent.remove(append)
        if stored:
            self.tell(Done(self.world.at, append, self.world.streams.append(append)))
        else:
            self.tell(Failed(self.world.at, append, "denied", may_retry=False))

    def of(self, uid: str) -> Append:
        return next(a for a in self.sent if isinstance(a.entry, Placed) and a.entry.placement.workload.uid == uid)

    def pass_time(self, seconds: float) -> None:
        self.world.at += seconds
        self.tell(Tick(self.world.at, "cycle"))


def test_a_member_whose_append_is_lost_is_decided_again_in_the_same_domain() -> None:
    slow = Slow(*racks(r1=3, r2=2))
    slow.submit(*members(3, domain=RACK, cores=6))
    nodes = {append.entry.node for append in slow.sent}
    assert nodes == {"r1-0", "r1-1", "r1-2"}
    lost = slow.of("m0")
    slow.answer(slow.of("m1"))
    slow.answer(lost, stored=False)
    assert held(slow.world) == {"m1"}
    slow.pass_time(6)
    again = slow.of("m0")
    assert again.entry.node.startswith("r1")
    slow.answer(again)
    slow.answer(slow.of("m2"))
    slow.pass_time(60)
    assert held(slow.world) == {"m0", "m1", "m2"}


def test_a_gang_that_is_not_whole_in_time_gives_everything_back() -> None:
    slow = Slow(*racks(r1=2), settings=Settings(gang=GangSettings(patience=20)))
    slow.submit(*members(2, cores=6))
    lost = slow.of("m0")
    slow.answer(slow.of("m1"))
    slow.answer(lost, stored=False)
    slow.tell(Arrived(0.0, a_node(lost.entry.node, cores=1, at=1.0)))
    slow.pass_time(10)
    assert held(slow.world) == {"m1"}
    slow.pass_time(11)
    [release] = slow.sent
    assert isinstance(release.entry, Released)
    assert "gang train-7: 1 of 2 members had a node after 20s, so none keeps one" in release.entry.reason
    slow.answer(release)
    assert held(slow.world) == set()
    slow.tell(Arrived(0.0, a_node(lost.entry.node, cores=8, at=2.0)))
    slow.pass_time(60)
    assert {(a.entry.placement.workload.uid, a.entry.placement.workload.attempt) for a in slow.sent} == {
        ("m0", 1),
        ("m1", 2),
    }


def test_after_a_restart_in_the_middle_the_gang_becomes_whole_or_gives_back() -> None:
    world = World(*racks(r1=2))
    gang = members(2, cores=6)
    world.submit(gang[0])
    placed = Placed(
        at=0.0,
        source="scheduler",
        node="r1-0",
        reason="x",
        placement=Placement(workload=gang[0], charged=gang[0].requests),
    )
    world.streams.append(Append(PLACEMENTS.at(node="r1-0"), placed, seen=0, id="m0.1.placed"))
    world.start()
    assert held(world) == {"m0"}
    world.pass_time(1)
    world.submit(gang[1])
    assert held(world) == {"m0", "m1"}
    world.pass_time(100)
    assert held(world) == {"m0", "m1"}

    world = World(*racks(r1=2))
    world.submit(gang[0])
    world.streams.append(Append(PLACEMENTS.at(node="r1-0"), placed, seen=0, id="m0.1.placed"))
    world.start()
    world.pass_time(31)
    assert held(world) == set()


def test_the_members_of_a_gang_have_one_scheduler() -> None:
    gang = members(8, cores=1)
    worlds = [World(a_node("n1", cores=64), settings=Settings(shards=3, shard=i)) for i in range(3)]
    for world in worlds:
        world.submit(*gang)
    assert sorted(len(held(world)) for world in worlds) == [0, 0, 8]
