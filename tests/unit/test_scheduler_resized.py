"""Pods that were resized in place: charged what their node has given them, once, whoever asked for it."""

from __future__ import annotations

import pytest

from neap.common.bus.port import LostRace, Stored
from neap.common.contract.catalogue import PLACEMENTS, WORKLOAD
from neap.common.model.explanation import ExplainRequest
from neap.common.model.lifecycle import EndReason, Started, Submitted
from neap.common.model.placement import Checkpoint, Placed, Placement, Released
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.workload import Container, Size, Workload
from neap.common.runtime.machine import Append, Arrived, Done, Failed, Synced, Tick
from neap.common.units import GIB
from neap.scheduler.core.flow.settle import resized
from neap.scheduler.core.nodes.load import FLYING
from tests.unit.scheduler_world import World, a_node, a_usage, an_owner
from tests.unit.test_scheduler_adoption import found
from tests.unit.test_scheduler_appends import Race


def a_size(cores: float, gib: int = 1) -> Size:
    requests = {CPU: int(cores * 1000), MEMORY: gib * GIB}
    return Size(containers=(Container(name="main", requests=requests),))


def word(workload: Workload, size: Size, *, at: float = 0.0, node: str = "n1", attempt: int = 1) -> Arrived[Started]:
    started = Started(at=at, source="gateway", uid=workload.uid, node=node, attempt=attempt, size=size)
    return Arrived(at, started, WORKLOAD.at(namespace=workload.namespace, name=workload.name).subject, 99)


def give(world: World, workload: Workload, size: Size) -> None:
    """Its node gives it another size, and the gateway says so."""
    world.at += 1.0
    told = word(workload, size, at=world.at, node=world.node_of(workload.uid))
    world.streams.emit(told.subject, told.message, f"{workload.uid}.sized.{world.at}")
    world.hear()


def charged(world: World, uid: str) -> tuple[int, int]:
    """CPU and GiB by the ledger."""
    placement = world.streams.held[world.node_of(uid)][uid]
    assert placement.charged == placement.workload.requests
    return placement.charged[CPU], placement.charged[MEMORY] // GIB


CART = an_owner("cart", cores=2)


def test_a_pod_that_became_larger_is_charged_more_and_nobody_is_given_that() -> None:
    world = World(a_node("n1", cores=4))
    world.submit(CART)
    give(world, CART, a_size(3.5, gib=2))
    assert charged(world, "cart") == (3500, 2)
    world.submit(an_owner("next", cores=1))
    assert world.node_of("next") == ""
    entry = world.streams.ledger[-1]
    assert isinstance(entry, Placed)
    assert entry.reason.endswith(f"; resized in place: cpu 2000 -> 3500, memory {GIB} -> {2 * GIB}")
    [line] = [one.entry for one in world.trail.values() if one.entry.what == "charged"]
    assert line.why == f"resized in place: cpu 2000 -> 3500, memory {GIB} -> {2 * GIB}"


def test_what_a_pod_that_became_smaller_gives_back_is_given_to_who_waits() -> None:
    world = World(a_node("n1", cores=4))
    world.submit(CART, an_owner("next", cores=3))
    assert world.node_of("next") == ""
    give(world, CART, a_size(1))
    world.pass_time(1.0)
    assert charged(world, "cart") == (1000, 1)
    assert world.node_of("next") == "n1"


def test_a_resize_that_does_not_fit_is_a_fact_and_an_overfull_node_takes_nobody() -> None:
    world = World(a_node("n1", cores=4))
    world.submit(CART, an_owner("other", cores=2))
    give(world, CART, a_size(8))
    assert charged(world, "cart") == (8000, 1)
    world.submit(an_owner("next", cores=0.1))
    assert world.node_of("next") == ""
    give(world, CART, a_size(1))
    world.pass_time(1.0)
    assert world.node_of("next") == "n1"


def test_nothing_is_appended_for_what_was_said_before_nor_for_an_older_word() -> None:
    world = World(a_node("n1", cores=4))
    world.submit(CART)
    give(world, CART, a_size(2))  # what it has
    assert len(world.streams.ledger) == 1
    give(world, CART, a_size(3))
    give(world, CART, a_size(1))
    entries = len(world.streams.ledger)
    assert entries == 3
    world.tell(word(CART, a_size(1), at=world.at), word(CART, a_size(3), at=world.at - 1.0))
    world.start()
    world.pass_time(60.0)
    assert (len(world.streams.ledger), charged(world, "cart")) == (entries, (1000, 1))


def test_back_and_forth_within_the_window_of_repeated_ids_is_followed() -> None:
    world = World(a_node("n1", cores=8))
    world.submit(CART)
    for cores in (3, 2, 3, 2, 3):
        give(world, CART, a_size(cores))
        assert charged(world, "cart") == (cores * 1000, 1)
    reason = world.streams.ledger[-1]
    assert isinstance(reason, Placed)
    assert reason.reason.count("resized in place") == 1  # it does not grow
    told = world.machine.explain(ExplainRequest(namespace="shop", name="cart"))
    assert told.reason == reason.reason
    assert told.reason.startswith("n1: score")


def test_who_was_adopted_is_charged_anew_like_anybody_and_stays_adopted() -> None:
    world = World(a_node("n1", cores=4))
    world.starts = False
    found(world, CART, "n1")
    give(world, CART, a_size(3))
    assert charged(world, "cart") == (3000, 1)
    for _ in range(20):
        world.pass_time(600.0)
    assert world.node_of("cart") == "n1"


def test_a_restart_before_the_append_finds_what_was_said_and_one_after_it_appends_nothing() -> None:
    world = World(a_node("n1", cores=4))
    world.submit(CART)
    world.at += 1.0
    told = word(CART, a_size(3), at=world.at)
    world.streams.emit(told.subject, told.message, "said while nobody heard")
    world.start()
    assert charged(world, "cart") == (3000, 1)
    before = len(world.streams.ledger)
    world.start()
    world.streams.forget_ids()
    world.start()
    assert len(world.streams.ledger) == before
    assert [one.entry.what for one in world.trail.values()].count("charged") == 1


def test_a_word_about_somebody_of_whom_only_a_ledger_tells_is_not_lost() -> None:
    world = World(a_node("n1", cores=4))
    world.submit(CART)
    told = word(CART, a_size(3), at=5.0)
    world.streams.workloads = [(told.subject, told.message)]  # its submission is older than the stream remembers
    world.start()
    assert charged(world, "cart") == (3000, 1)
    world.end(CART, EndReason.DELETED)
    assert world.node_of("cart") == ""
    world.pass_time(60.0)
    assert world.machine._book.records["cart"].workload is None


def test_who_ended_is_not_held_again_by_a_word_that_came_late() -> None:
    world = World(a_node("n1", cores=4))
    world.submit(CART)
    world.end(CART, EndReason.DELETED)
    give(world, CART, a_size(3))
    world.start()
    assert world.node_of("cart") == ""


def test_a_word_about_an_attempt_that_is_past_means_nothing_for_the_next() -> None:
    world = World(a_node("n1", cores=4))
    world.submit(CART)
    give(world, CART, a_size(3))
    world.end(CART, EndReason.EVICTED)
    world.pass_time(60.0)
    assert (world.node_of("cart"), charged(world, "cart")) == ("n1", (2000, 1))


def test_cards_gangs_and_what_is_not_resized_stay_as_they_are() -> None:
    world = World(a_node("n1", cores=8, cards=1))
    cart = an_owner("cart", cores=2, gpu=(50, 4000))
    world.submit(cart)
    before = world.streams.held["n1"]["cart"]
    [main] = cart.containers
    requests = main.requests | {CPU: 4000}
    give(world, cart, Size(containers=(Container(name="main", requests=requests),)))
    after = world.streams.held["n1"]["cart"]
    assert (after.gpus, after.charged) == (before.gpus, before.charged | {CPU: 4000})
    world.submit(an_owner("half", cores=1, gpu=(50, 4000)), an_owner("more", cores=1, gpu=(50, 4000)))
    assert (world.node_of("half"), world.node_of("more")) == ("n1", "")


def test_who_has_numa_nodes_alone_is_charged_them_whole_however_small_it_becomes() -> None:
    whole = {CPU: 16_000, MEMORY: 64 * GIB, "membw": 7}
    alone = Placement(workload=CART, charged=whole, numa=(0,), exclusive=True)
    assert resized(alone, CART.sized(a_size(1))).charged == whole
    shared = Placement(workload=CART, charged=CART.requests | {"membw": 7}, numa=(0,))
    assert resized(shared, CART.sized(a_size(1))).charged == {CPU: 1000, MEMORY: GIB, "membw": 7}


def test_who_was_measured_is_not_counted_as_just_placed_again() -> None:
    world = World(a_node("n1", cores=8))
    world.submit(CART)
    table = world.machine._table
    flying = [float(table.columns[name][table.row("n1")]) for name in FLYING]
    assert all(flying)
    give(world, CART, a_size(3))  # not measured yet: still counted, once
    assert float(table.columns[FLYING[0]][table.row("n1")]) <= 1.5 * flying[0]
    world.tell(Arrived(world.at + 1, a_usage(at=world.at + 1, cpu=2.0, containers={"cart": 2.0})))
    assert not any(table.columns[name][table.row("n1")] for name in FLYING)
    give(world, CART, a_size(4))
    assert not any(table.columns[name][table.row("n1")] for name in FLYING)


def test_a_size_no_ledger_would_take_is_refused_and_changes_nothing() -> None:
    world = World(a_node("n1", cores=8))
    world.submit(CART)
    for size in (Size(containers=()), Size(containers=(Container(name="main", requests={CPU: -1}),))):
        give(world, CART, size)
    assert (len(world.streams.ledger), charged(world, "cart")) == (1, (2000, 1))
    give(world, CART, a_size(3))
    assert charged(world, "cart") == (3000, 1)


class Resizing(Race):
    """The race of tests/unit/test_scheduler_appends.py, once the pod is placed and its node gave it three cores."""

    def __init__(self) -> None:
        super().__init__()
        assert self.appends(Done(0.1, self.append, Stored(1)), self.heard(self.append.entry, 1)) == []
        self.placed = self.append
        (self.append,) = self.appends(word(an_owner(), a_size(3), at=1.0, node=self.node))

    @property
    def held(self) -> int:
        return int(self.machine._ledgers.of(self.node).held["u1"].placement.charged[CPU])


@pytest.fixture
def race() -> Resizing:
    return Resizing()


def test_a_lost_race_is_tried_again_once_the_ledger_was_heard(race: Resizing) -> None:
    assert race.appends(Done(1.1, race.append, LostRace(1, 2))) == []  # it is held, but not with that size
    assert race.held == 1000
    (again,) = race.appends(race.foreign(race.node, 2), Tick(1.3, "cycle"))
    assert (again.entry.node, again.seen, again.id) == (race.node, 2, race.append.id)
    race.tell(Done(1.4, again, Stored(3)))
    assert race.held == 3000


def test_an_append_of_which_nobody_knows_is_decided_by_the_ledger(race: Resizing) -> None:
    assert race.appends(Failed(1.1, race.append, "no answer", may_retry=True), Tick(1.4, "cycle")) == [race.append]
    assert race.appends(Done(1.5, race.append, LostRace(1, 2)), race.heard(race.append.entry, 2)) == []
    assert race.held == 3000
    assert race.appends(Tick(60.0, "cycle")) == []


def test_a_duplicate_of_an_earlier_life_is_found_on_the_ledger(race: Resizing) -> None:
    assert race.appends(Done(1.1, race.append, Stored(2, duplicate=True))) == []
    assert race.appends(race.heard(race.append.entry, 2), Synced(2.0, PLACEMENTS, 2), Tick(60.0, "cycle")) == []
    assert race.held == 3000


def test_a_newer_word_while_an_append_is_under_way_is_appended_after_it(race: Resizing) -> None:
    assert race.appends(word(an_owner(), a_size(1.5), at=2.0, node=race.node)) == []
    (again,) = race.appends(Done(2.1, race.append, Stored(2)))
    assert (again.seen, again.id != race.append.id) == (2, True)
    race.tell(Done(2.2, again, Stored(3)))
    assert race.held == 1500


def test_a_pod_that_left_meanwhile_is_not_held_again(race: Resizing) -> None:
    gone = Released(at=2.0, source="other", node=race.node, uid="u1", reason="over")
    assert race.appends(Done(1.1, race.append, LostRace(1, 2))) == []
    appended = race.appends(race.heard(gone, 2), Tick(9.0, "cycle"))
    assert not [one for one in appended if one.id == race.append.id]


def test_what_waits_behind_another_append_is_taken_back_with_its_pod() -> None:
    race = Race()
    race.tell(Done(0.1, race.append, Stored(1)))
    other = Submitted(at=0.2, source="t", workload=an_owner("two"), node=race.node)
    (flight,) = race.appends(Arrived(0.2, other, "neap.v1.workload.shop.two", 2))
    assert race.appends(word(an_owner(), a_size(3), at=1.0, node=race.node)) == []
    gone = Released(at=2.0, source="other", node=race.node, uid="u1", reason="over")
    race.tell(race.heard(gone, 2))
    appended = race.appends(Done(2.1, flight, LostRace(1, 2)), Tick(40.0, "cycle"))
    assert not [one for one in appended if ".sized." in one.id]


def test_a_checkpoint_carries_the_new_size() -> None:
    world = World(a_node("n1", cores=64))
    world.submit(CART)
    for number in range(300):
        give(world, CART, a_size(2 + number % 2))
    kinds = [type(entry) for entry in world.streams.ledger]
    assert Checkpoint in kinds
    latest = max(index for index, kind in enumerate(kinds) if kind is Checkpoint)
    world.streams.ledger[:latest] = [Released(at=0.0, source="t", node="n1", uid="none", reason="")] * latest
    world.start()
    assert charged(world, "cart") == (3000, 1)


def test_the_law_of_free_amounts_holds_on_the_nodes_columns() -> None:
    world = World(a_node("n1", cores=16))
    pods = [an_owner(f"p{number}", cores=1) for number in range(4)]
    world.submit(*pods)
    for number, pod in enumerate(pods):
        give(world, pod, a_size(0.5 + number))
    table = world.machine._table
    assert table.columns[f"requested/{CPU}"][table.row("n1")] == 500 + 1500 + 2500 + 3500
    appends = [one for one in world.instructions if isinstance(one, Append)]
    assert len(appends) == 8
