"""A node whose evictor makes room takes no guests until it says so, or until what it said has ended."""

from __future__ import annotations

from neap.common.contract.catalogue import EVICTING
from neap.common.model.evicting import Closure, Evicting
from neap.common.model.explanation import ExplainRequest
from neap.common.model.lifecycle import EndReason
from neap.common.runtime.machine import Arrived, Gone
from tests.unit.scheduler_world import World, a_guest, a_node, an_offer, an_owner


def closes(node: str = "n1", until: float = 100.0, at: float = 0.0) -> Arrived[Evicting]:
    why = "512Mi of memory available, 1Gi wanted"
    closure = Closure(rule="memory_pressure", why=why, until=until)
    return Arrived(at, Evicting(at=at, source="evictor", node=node, closed=(closure,), until=until))


def opens(node: str = "n1", at: float = 0.0) -> Arrived[Evicting]:
    return Arrived(at, Evicting(at=at, source="evictor", node=node))


def a_world(*nodes: str) -> World:
    world = World(*(a_node(name, cores=8) for name in nodes), names=("evicting", "fit", "allocation"))
    for name in nodes:
        world.tell(Arrived(0.0, an_offer(name)))
    return world


def test_a_closed_node_takes_owners_and_no_guests_and_says_why() -> None:
    world = a_world("n1")
    world.tell(closes())
    world.submit(a_guest("g"), an_owner("o"))
    world.pass_time(1.0)
    assert (world.node_of("g"), world.node_of("o")) == ("", "n1")
    assert "1 evicting closed to guests" in world.why("g.1.waiting")
    told = world.machine.explain(ExplainRequest(namespace="batch", name="g"))
    assert told.rejected[0].nearest == "n1 makes room: 512Mi of memory available, 1Gi wanted"


def test_guests_go_elsewhere_meanwhile() -> None:
    world = a_world("n1", "n2")
    world.tell(closes())
    world.submit(*(a_guest(f"g{i}") for i in range(4)))
    world.pass_time(1.0)
    assert {world.node_of(f"g{i}") for i in range(4)} == {"n2"}


def test_a_node_that_opens_wakes_who_waits() -> None:
    world = a_world("n1")
    world.tell(closes())
    world.submit(a_guest("g"))
    world.pass_time(1.0)
    assert world.node_of("g") == ""
    world.tell(opens(at=1.0))
    world.pass_time(1.0)
    assert world.node_of("g") == "n1"


def test_a_closure_ends_by_itself_and_with_its_key() -> None:
    world = a_world("n1")
    world.tell(closes(until=5.0))
    world.submit(a_guest("g"))
    world.pass_time(4.0)
    assert world.node_of("g") == ""
    world.pass_time(2.0)
    assert world.node_of("g") == "n1"
    world.tell(closes(until=60.0, at=6.0))
    world.submit(a_guest("h"))
    world.pass_time(1.0)
    assert world.node_of("h") == ""
    world.tell(Gone(world.at, EVICTING, "n1"))
    world.pass_time(1.0)
    assert world.node_of("h") == "n1"


def test_an_evicted_guest_returns_with_its_reason_after_a_back_off_and_not_to_the_closed_node() -> None:
    world = a_world("n1", "n2")
    guest = a_guest("g")
    world.submit(guest)
    world.pass_time(1.0)
    first = world.node_of("g")
    world.tell(closes(first, at=world.at))
    world.end(guest, EndReason.EVICTED, detail="memory_pressure: 512Mi of memory available, 1Gi wanted")
    assert "512Mi of memory available" in world.why("g.2.requeued")
    assert "not before 10s have passed" in world.why("g.2.requeued")
    world.pass_time(9.0)
    assert world.node_of("g") == ""
    world.pass_time(2.0)
    assert world.node_of("g") == ({"n1", "n2"} - {first}).pop()
