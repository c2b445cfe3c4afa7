"""Guests of a service that disturbed an owner are kept away from it while there is another place, and only while."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neap.common.contract.catalogue import APART
from neap.common.model.apart import Apart, Pair
from neap.common.model.protection import family
from neap.common.runtime.machine import Arrived, Gone
from neap.common.runtime.plugins import load
from neap.scheduler.core.choice.cycle import Cycle
from neap.scheduler.core.choice.framework import Plugin, Policy
from neap.scheduler.core.nodes.feuds import feuds
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.pods.pod import pod_of
from neap.scheduler.settings import WEIGHTS
from tests.unit.scheduler_world import World, a_guest, a_node, an_offer, an_owner, policies

CART, SWEEP = "shop/Deployment/cart", "batch/Job/sweep"


def says(until: float = 1000.0, at: float = 0.0, node: str = "n1") -> Arrived[Apart]:
    pair = Pair(owner=CART, guest=SWEEP, until=until, why="cpi 2.4 against 1.6")
    return Arrived(at, Apart(at=at, source="advisor", node=node, pairs=(pair,)))


def a_world() -> World:
    """A cart runs on n1, which is otherwise as empty as n2 and much emptier than n3."""
    world = World(*(a_node(name, cores=8) for name in ("n1", "n2")))
    for name in ("n1", "n2"):
        world.tell(Arrived(0.0, an_offer(name, cores=8)))
    world.submit(an_owner("cart-1", cores=1, owner="Deployment/cart", node_selector={}))
    world.pass_time(0.2)
    return world


def other(node: str) -> str:
    return {"n1": "n2", "n2": "n1"}[node]


def test_such_a_guest_goes_elsewhere_though_another_would_not() -> None:
    world = a_world()
    cart = world.node_of("cart-1")
    world.submit(*(a_guest(f"x{i}", cores=2) for i in range(3)))  # they fill the other node
    world.pass_time(0.2)
    world.tell(says())
    crowd = {uid for uid in ("x0", "x1", "x2") if world.node_of(uid) == other(cart)}
    assert crowd
    world.submit(*(a_guest(f"s{i}", owner="Job/sweep") for i in range(2)))
    world.pass_time(0.2)
    assert {world.node_of(f"s{i}") for i in range(2)} == {other(cart)}


def test_without_another_place_it_runs_there_all_the_same() -> None:
    world = World(a_node("n1", cores=8))
    world.tell(Arrived(0.0, an_offer("n1", cores=4)), says())
    world.submit(an_owner("cart-1", cores=1, owner="Deployment/cart"), a_guest("s", owner="Job/sweep"))
    world.pass_time(0.2)
    assert world.node_of("s") == "n1"


def test_a_pair_ends_by_itself_with_its_key_and_when_its_node_takes_it_back() -> None:
    for end in (
        lambda world: world.pass_time(2000.0),
        lambda world: world.tell(Gone(1.0, APART, "n1")),
        lambda world: world.tell(Arrived(1.0, Apart(at=1.0, source="advisor", node="n1"))),
    ):
        world = a_world()
        world.tell(says())
        table, pod = world.machine._table, pod_of(a_guest("s", owner="Job/sweep"))
        assert table.feuds.ask(pod) == (CART,)
        end(world)
        assert table.feuds.ask(pod) is None
        assert not table.columns[feuds(CART)].any()


def test_nothing_is_kept_and_nothing_asked_while_there_is_no_pair() -> None:
    world = a_world()
    world.submit(a_guest("s", owner="Job/sweep"))
    assert not any(name.startswith("feuds/") for name in world.machine._table.columns.names)
    assert world.machine._table.feuds.ask(pod_of(a_guest("t", owner="Job/sweep"))) is None


@given(
    st.lists(st.tuples(st.sampled_from(["cart", "pay"]), st.booleans()), max_size=20),
    st.integers(0, 19),
)
def test_the_columns_count_the_owners_that_are_there_whenever_the_pair_was_told(
    moves: list[tuple[str, bool]], turn: int
) -> None:
    table = NodeTable()
    for name in ("n1", "n2", "n3"):
        table.describe(a_node(name, cores=64))
        table.offer(an_offer(name, cores=64), 0.0)
    cycle, here = Cycle(table, policies()), dict[str, str]()
    for number, (service, comes) in enumerate(moves):
        if number == turn:
            table.heed(says().message, 0.0)
        if comes or not here:
            decision = cycle.decide(pod_of(an_owner(f"u{number}", cores=1, owner=f"Deployment/{service}")), 0.0)
            here[f"u{number}"] = decision.node
        else:
            uid = min(here)
            table.discharge(here.pop(uid), uid)
    table.heed(says().message, 0.0)
    counts = {
        name: sum(family(p.workload) == CART for p in table.charges(name).values()) for name in ("n1", "n2", "n3")
    }
    column = table.columns[feuds(CART)]
    assert {name: column[table.row(name)] for name in counts} == counts
    pod = pod_of(a_guest("s", owner="Job/sweep"))
    kept, fresh = cycle.evaluate(pod), Cycle(table, policies()).evaluate(pod)
    assert (kept.totals == fresh.totals).all()


def test_the_score_is_for_guests_of_the_pair_alone() -> None:
    table = NodeTable()
    table.describe(a_node("n1"))
    table.heed(says().message, 0.0)
    plugin = load("neap.scheduler.plugins", Plugin)["apart"]
    policy = Policy("apart", plugin, WEIGHTS["apart"], plugin.settings())
    score = plugin.score
    assert score is not None
    assert score(pod_of(a_guest("g")), table.view(), policy.settings) is None
    assert score(pod_of(an_owner("o", owner="Job/sweep")), table.view(), policy.settings) is None
    assert np.array_equal(score(pod_of(a_guest("s", owner="Job/sweep")), table.view(), policy.settings), [100.0])
