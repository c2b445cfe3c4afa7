"""Pods that somebody else placed: what they hold is charged, whether it fits or not, and nobody else is given it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from neap.common.contract.catalogue import WORKLOAD
from neap.common.model.device import DeviceState
from neap.common.model.lifecycle import Ended, EndReason, Submitted
from neap.common.model.placement import Placed, Released
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Arrived
from tests.unit.scheduler_world import World, a_node, an_owner


def found(world: World, workload: Workload, node: str) -> None:
    """The gateway saw that it runs there."""
    subject = WORKLOAD.at(namespace=workload.namespace, name=workload.name).subject
    told = Submitted(at=world.at, source="gateway", workload=workload, node=node)
    world.streams.emit(subject, told, f"{workload.uid}.{workload.attempt}.found.{node}")
    world.hear()


def test_a_pod_of_another_scheduler_is_on_its_nodes_ledger_and_what_it_holds_is_not_given_away() -> None:
    world = World(a_node("n1", cores=4), a_node("n2", cores=2))
    found(world, an_owner("theirs", cores=3), "n1")
    [entry] = world.streams.ledger
    assert isinstance(entry, Placed)
    assert (entry.node, entry.placement.charged["cpu"]) == ("n1", 3000)
    assert world.why("theirs.1.adopted") == "it runs here already: somebody else placed it"
    world.submit(an_owner("ours", cores=2))
    assert world.node_of("ours") == "n2"


def test_it_is_taken_as_it_is_even_where_there_is_no_room_and_on_a_node_nobody_described() -> None:
    world = World(a_node("n1", cores=2))
    found(world, an_owner("big", cores=64), "n1")
    found(world, an_owner("far", cores=1), "n9")
    assert (world.node_of("big"), world.node_of("far")) == ("n1", "n9")
    world.submit(an_owner("ours", cores=1))
    assert world.node_of("ours") == ""
    world.end(an_owner("big", cores=64), EndReason.DELETED)
    world.pass_time(1.0)
    assert (world.node_of("big"), world.node_of("ours")) == ("", "n1")


def test_who_waited_here_and_was_placed_elsewhere_waits_no_more() -> None:
    world = World(a_node("n1", cores=1))
    big = an_owner("big", cores=4)
    world.submit(big)
    found(world, big, "n7")
    assert world.node_of("big") == "n7"
    world.nodes.append(a_node("n2", cores=64))
    world.pass_time(500)
    assert [type(entry) for entry in world.streams.ledger] == [Placed]


def test_who_was_placed_here_and_bound_elsewhere_is_held_where_it_runs() -> None:
    world = World(a_node("n1", cores=4))
    cart = an_owner("cart", cores=2)
    world.submit(cart)
    assert world.node_of("cart") == "n1"
    found(world, cart, "n2")
    assert world.node_of("cart") == "n2"
    assert [(type(entry), entry.node) for entry in world.streams.ledger] == [
        (Placed, "n1"),
        (Released, "n1"),
        (Placed, "n2"),
    ]


def test_nobody_is_taken_for_lost_whose_start_another_scheduler_saw_to() -> None:
    world = World(a_node("n1"))
    world.starts = False
    found(world, an_owner("theirs"), "n1")
    for _ in range(20):
        world.pass_time(600)
    assert world.node_of("theirs") == "n1"


def test_a_device_that_refuses_it_changes_nothing_for_it_runs_there_whatever_is_said() -> None:
    world = World(a_node("n1"))
    found(world, an_owner("theirs"), "n1")
    refused = DeviceState(
        at=world.at, source="gpushare", node="n1", cards=(), ledger_seq=9, refused={"theirs": "there is no card 7"}
    )
    world.tell(Arrived(world.at, refused))
    assert world.node_of("theirs") == "n1"
    assert not [event for _, event in world.streams.workloads if isinstance(event, Ended)]


PODS = tuple(an_owner(f"p{number}", cores=1) for number in range(3))
STEPS = st.lists(
    st.tuples(st.sampled_from(PODS), st.sampled_from(["submit", "found", "delete", "restart", "wait"])), max_size=14
)
WHERE = st.fixed_dictionaries({pod.uid: st.sampled_from(["n1", "n2", "n9"]) for pod in PODS})


@given(STEPS, WHERE)
def test_in_the_end_everybody_is_held_where_he_runs_and_nobody_who_is_gone(
    steps: list[tuple[Workload, str]], where: dict[str, str]
) -> None:
    world, runs = World(a_node("n1", cores=2), a_node("n2", cores=2)), dict[str, str]()
    gone = set[str]()
    for pod, what in steps:
        if what == "restart":
            world.start()
        elif what == "wait":
            world.pass_time(30)
        elif what == "delete":
            world.end(pod, EndReason.DELETED)
            gone.add(pod.uid)
        elif what == "submit":
            world.submit(pod)
        else:
            runs[pod.uid] = where[pod.uid]
            found(world, pod, runs[pod.uid])
    for _ in range(3):
        world.pass_time(30)
    for pod in PODS:
        if pod.uid in gone:
            assert world.node_of(pod.uid) == ""
        elif pod.uid in runs:
            assert world.node_of(pod.uid) == runs[pod.uid]


def test_a_pod_that_is_said_to_run_where_no_node_can_be_called_so_is_refused_and_nothing_stops() -> None:
    world = World(a_node("n1", cores=4))
    for node in ("a" * 300, "n_1", "n 1", "*"):
        world.machine.handle(
            Arrived(world.at, Submitted(at=world.at, source="t", workload=an_owner("u"), node=node), "", 9)
        )
    world.submit(an_owner("ours"))
    assert world.node_of("ours") == "n1"
    assert world.node_of("u") == ""
