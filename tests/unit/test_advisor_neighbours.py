"""Interference, through the real advisor and the real evictor: who is named, held back, let go, and asked to leave."""

from __future__ import annotations

import math
import random

import pytest

from neap.advisor.core.interference import STALL, Interference, Known, Neighbour, heard, suspect
from tests.unit.neighbour_world import GB, Actor, Neighbours, a_guest, an_owner

STEADY, HOG = 4.0, 8 * GB
BEGINS = 120  # the report from which the hog is busy


def a_hog(cores: float = 8.0, *, until: float = math.inf, uid: str = "hog", cpus: str = "8-15") -> Actor:
    return a_guest(uid, lambda at: cores if BEGINS < at <= until else 0.2, HOG, cpus)


def a_world(*guests: Actor, **fields: object) -> Neighbours:
    calm = a_guest("calm", lambda _: 3.0)
    return Neighbours([an_owner("cart", lambda _: STEADY), calm, *guests], **fields)  # type: ignore[arg-type]


def test_the_noisy_guest_is_named_with_its_numbers_and_held_back_and_nobody_else_is() -> None:
    world = a_world(a_hog()).live(BEGINS + 6)
    [one] = world.advice[-1].noisy
    assert (one.uid, one.owner, one.signal, one.leave) == ("hog", "shop/cart", "cpi", False)
    assert one.value > one.threshold > 1.2
    assert world.quota("hog") == pytest.approx(2.0, abs=0.1), "a quarter of what it used"
    assert world.quota("calm") == 32
    named, disturbed = world.lines("throttled"), world.lines("disturbed")
    assert [line.about.name for line in (*named, *disturbed)] == ["hog", "cart"]
    for part in ("feels cpi", "usual at 4.0 cores", "5 of 8 reports", "bandwidth", "r 0.9", "held to 2 cores"):
        assert part in named[0].why
    assert world.apart is None, "one suspicion is no verdict"


def test_the_owner_recovers_and_the_guest_is_let_go_once_it_has_been_calm() -> None:
    world = a_world(a_hog(until=BEGINS + 40)).live(BEGINS + 30)
    assert world.used(world.actors[2]) <= 0.5
    world.live(60)
    assert not world.advice[-1].noisy
    assert world.quota("hog") == 32, "a write has its inverse"
    assert "is lifted" in world.lines("unthrottled")[-1].why
    assert not world.evictor.commands


def test_who_begins_again_is_held_back_longer_each_time_and_then_published_and_asked_to_leave() -> None:
    world = a_world(a_hog()).live(500)
    released = [line.at / 60 for line in world.lines("unthrottled")]
    named = [line.at / 60 for line in world.lines("throttled") if "goes with it" in line.why]
    held = [let_go - begun for begun, let_go in zip(named, released, strict=False)]
    assert held[0] < held[1] < held[2], held
    assert world.apart is not None
    assert [(pair.owner, pair.guest) for pair in world.apart.pairs] == [("shop/cart", "shop/hog")]
    command = world.evictor.commands[0]
    assert (command.uid, command.rule) == ("hog", "interference")
    assert command.at / 60 > named[3], "throttled three times first"
    assert command.tried[0].says.startswith("its quota cut to")
    assert {one.uid for one in world.evictor.commands} == {"hog"}


def test_a_guest_that_does_harm_at_the_least_quota_is_asked_to_leave_after_the_grace() -> None:
    world = a_world(
        a_guest("hog", lambda at: 8.0 if at > BEGINS else 0.1, 8 * GB), harm=6.0, rules={"least_quota": 4.0}
    )
    world.live(BEGINS + 60)
    assert world.quota("hog") == 4.0
    assert not world.evictor.commands
    world.live(60)
    assert [command.uid for command in world.evictor.commands][:1] == ["hog"]
    assert "reports later shop/cart suffers still" in world.lines("should leave")[0].why


def test_an_innocent_guest_is_acquitted_by_what_holding_it_back_does_not_do() -> None:
    """Cycles become dear when the guest comes, and stay so whatever it does."""
    world = a_world(a_hog(), harm=0.0, quirk=lambda at: 2.5 if at > BEGINS else 1.0).live(BEGINS + 60)
    assert world.named == {"hog"}
    assert "made no difference to shop/cart" in world.lines("unthrottled")[0].why
    assert world.quota("hog") == 32
    assert world.apart is None
    assert not world.evictor.commands
    assert len(world.lines("throttled")) <= 2, "and it is not suspected again"


@pytest.mark.parametrize("twins", [2, 3])
def test_of_some_that_rise_together_nobody_is_blamed(twins: int) -> None:
    guests = (a_guest(f"twin{i}", lambda at: 4.0 if at > BEGINS else 0.2, HOG) for i in range(twins))
    world = a_world(*guests, rules={"share": 0.6}).live(BEGINS + 35)
    assert world.named == set()


def test_nobody_is_blamed_who_runs_on_another_numa_node() -> None:
    assert a_world(a_hog(cpus="16-31")).live(BEGINS + 60).named == set()


def test_nobody_is_blamed_for_what_is_usual_at_that_load() -> None:
    """The owner stalls when it is busy, at night and day, and the guest is busy by day as well."""
    owner = an_owner("cart", lambda at: 4 + 3 * math.sin(at / 40))
    busy = lambda at: 1 + 0.3 * (4 + 3 * math.sin(at / 40))  # noqa: E731
    by_day = a_guest("day", lambda at: 4 + 3 * math.sin(at / 40), 0.1 * GB)
    world = Neighbours([owner, by_day], harm=0.0, quirk=busy).live(1200)
    assert world.named == set()


@pytest.mark.parametrize("seed", range(3))
def test_without_a_noisy_guest_nobody_is_named(seed: int) -> None:
    def jobs(number: int) -> list[float]:
        dice, found = random.Random(f"{seed}.{number}"), list[float]()
        while len(found) < 1500:
            found += [0.0] * dice.randint(10, 80) + [2.0 + number] * dice.randint(10, 120)
        return found

    guests = [a_guest(f"g{i}", jobs(i).__getitem__) for i in range(4)]
    owners = [an_owner("cart", lambda at: 4 + 3 * math.sin(at / 200 + seed)), an_owner("pay", lambda _: 2.0)]
    world = Neighbours([*owners, *guests], harm=0.3, seed=seed).live(1400)
    assert world.named == set()
    assert not world.evictor.commands


def test_switched_off_it_knows_nothing_and_switched_off_later_it_lets_everybody_go() -> None:
    world = a_world(a_hog(), rules={"on": False}).live(BEGINS + 20)
    assert world.named == set()
    assert world.quota("hog") == 32


def test_who_has_gone_or_has_not_been_measured_is_neither_blamed_nor_kept() -> None:
    world = a_world(a_hog()).live(BEGINS + 10)
    assert world.quota("hog") < 8
    world.actors.pop(0)  # the owner is not in the reports any more: nothing is known, nothing changes
    world.live(30)
    assert world.quota("hog") < 8


def test_two_that_suffer_of_stalls_share_cpus_or_cannot_be_each_others_reason() -> None:
    rules, known = Interference(on=True), Known()
    for number in range(100):
        noisy = number > 80
        owner = Neighbour(
            "o", True, 4.0, frozenset({1}), frozenset({0}), {STALL: 0.4 if noisy else 0.01}, {"cores": 4.0}
        )
        near = Neighbour("near", False, None, frozenset({1}), uses={"cores": 6.0 if noisy else 0.1})
        far = Neighbour("far", False, None, frozenset({2}), uses={"cores": 6.0 if noisy else 0.1})
        known, felt = heard(known, [owner, near, far], rules)
    assert felt["o", STALL].is_outlier
    found = suspect(known, owner, STALL, [near, far], rules)
    assert found is not None
    assert (found.guest.uid, round(found.share, 2)) == ("near", 1.0)
    assert suspect(known, owner, STALL, [far], rules) is None
