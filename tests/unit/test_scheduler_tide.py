"""Nodes of a tide take who is of their side, say why they do not take others, and are open again when nobody speaks."""

from __future__ import annotations

from neap.common.contract.catalogue import TIDES
from neap.common.model.explanation import ExplainRequest
from neap.common.model.qos import QosClass
from neap.common.model.tide import LAPSE, Side, TideNode, TidePool, Turning
from neap.common.runtime.machine import Arrived, Gone
from tests.unit.scheduler_world import World, a_guest, a_node, an_offer, an_owner


def says(at: float = 0.0, **sides: tuple[Side, Turning]) -> Arrived[TidePool]:
    nodes = tuple(
        TideNode(node=name, side=side, turning=turning, why="not needed for 6h")
        for name, (side, turning) in sides.items()
    )
    return Arrived(at, TidePool(at=at, source="planner", pool="web", nodes=nodes))


ONLINE, OFFLINE = (Side.ONLINE, Turning.STEADY), (Side.OFFLINE, Turning.STEADY)
LEAVING, COMING, BLOCKED = (
    (Side.OFFLINE, Turning.DRAINING),
    (Side.ONLINE, Turning.DRAINING),
    (Side.ONLINE, Turning.BLOCKED),
)


def a_world(*nodes: str) -> World:
    world = World(*(a_node(name, cores=8) for name in nodes), names=("tide", "fit", "allocation"))
    for name in nodes:
        world.tell(Arrived(0.0, an_offer(name)))
    return world


def test_every_pod_goes_to_its_side() -> None:
    world = a_world("n1", "n2")
    world.tell(says(n1=ONLINE, n2=OFFLINE))
    world.submit(*(a_guest(f"g{i}") for i in range(3)), *(an_owner(f"o{i}") for i in range(3)))
    world.pass_time(1.0)
    assert {world.node_of(f"g{i}") for i in range(3)} == {"n2"}
    assert {world.node_of(f"o{i}") for i in range(3)} == {"n1"}


def test_a_turning_node_takes_nobody_and_says_so() -> None:
    for turning in (LEAVING, COMING, BLOCKED):
        world = a_world("n1")
        world.tell(says(n1=turning))
        world.submit(a_guest("g"), an_owner("o"))
        world.pass_time(1.0)
        assert (world.node_of("g"), world.node_of("o")) == ("", "")
        told = world.machine.explain(ExplainRequest(namespace="shop", name="o"))
        assert told.rejected[0].nearest == f"n1 of pool web turns {turning[0]}: not needed for 6h"
        assert "1 tide on the other side of the tide" in world.why("o.1.waiting")


def test_what_belongs_to_the_node_is_of_no_side() -> None:
    world = a_world("n1")
    world.tell(says(n1=OFFLINE))
    world.submit(an_owner("agent", qos=QosClass.SYSTEM))
    world.pass_time(1.0)
    assert world.node_of("agent") == "n1"


def test_a_node_that_changes_sides_wakes_who_waits_and_another_pool_is_not_meant() -> None:
    world = a_world("n1", "n2")
    world.tell(says(n1=OFFLINE))
    world.submit(an_owner("o", cores=6), an_owner("p", cores=6))
    world.pass_time(1.0)
    assert sorted((world.node_of("o"), world.node_of("p"))) == ["", "n2"]
    world.tell(says(at=world.at, n1=ONLINE))
    world.pass_time(1.0)
    assert {world.node_of("o"), world.node_of("p")} == {"n1", "n2"}


def test_owners_go_everywhere_when_the_planner_is_silent_or_its_pool_is_gone() -> None:
    world = a_world("n1")
    world.tell(says(n1=OFFLINE))
    world.submit(an_owner("o", cores=6))
    world.pass_time(1.0)
    assert world.node_of("o") == ""
    world.tell(Gone(world.at, TIDES, "web"))
    world.pass_time(1.0)
    assert world.node_of("o") == "n1"

    world = a_world("n1", "n2")
    world.tell(says(n1=LEAVING, n2=ONLINE))
    world.pass_time(LAPSE)
    world.tell(*(Arrived(world.at, an_offer(name, at=world.at)) for name in ("n1", "n2")))
    world.submit(a_guest("g"), *(an_owner(f"o{i}", cores=6) for i in range(2)))
    world.pass_time(2.0)
    assert {world.node_of(f"o{i}") for i in range(2)} == {"n1", "n2"}
    assert world.node_of("g") == "", "a node that was turning takes no guest because its planner fell silent"


def test_a_node_that_appears_after_its_pool_was_told_is_on_its_side() -> None:
    world = a_world("n1")
    world.tell(says(n1=ONLINE, n2=OFFLINE), Arrived(0.0, a_node("n2", cores=8)), Arrived(0.0, an_offer("n2")))
    world.submit(*(an_owner(f"o{i}", cores=4) for i in range(3)), a_guest("g"))
    world.pass_time(1.0)
    assert sorted(world.node_of(f"o{i}") for i in range(3)) == ["", "n1", "n1"]
    assert world.node_of("g") == "n2"
