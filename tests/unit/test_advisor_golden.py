"""Examples from the reference pages: golden vectors and Katalyst's acceptance cases, in our words."""

from __future__ import annotations

import pytest

from neap.advisor.core.policy import Claim, HeadroomView, PodView, PoolView
from neap.advisor.core.sizing import Rules, Wish, normalise, size
from neap.advisor.plugins import headroom_canonical as headroom
from neap.advisor.plugins import provision_canonical as provision
from neap.common.model.resource import RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.units import GIB

PLAIN = provision.Settings(growth=0, margin=0, reserve=0)
RULES = Rules(unit=1, pool_minimum=1, reclaimed_minimum=4, step=100, dead_band=0)


def test_reclaim_offer_prints_its_sum() -> None:
    view = HeadroomView(kind=RECLAIMED_CPU, capacity=32, reserved=2, system=1.2, claims=(Claim(20.0, "online", 1.1),))
    offer = headroom.advise(view, headroom.Settings())
    assert offer.amount == pytest.approx(8.0)
    assert offer.arithmetic == "8.0 = 32.0 capacity − 2.0 system − 20.0 online x 1.10"


def test_batch_offer_of_koordinator() -> None:
    view = HeadroomView(kind=RECLAIMED_CPU, capacity=100, reserved=5, system=7, claims=(Claim(33.0, "online"),))
    offer = headroom.advise(view, headroom.Settings(cpu_margin=0.35))
    assert offer.amount == pytest.approx(25.0)
    assert offer.arithmetic == "25.0 = 100.0 capacity − 35.0 margin − 7.0 system − 33.0 online"


def test_a_deficit_is_an_offer_of_nothing_with_the_sum() -> None:
    view = HeadroomView(kind=RECLAIMED_CPU, capacity=8, reserved=1, claims=(Claim(9.0, "online"),))
    assert (
        headroom.advise(view, headroom.Settings()).arithmetic
        == "0.0, because -2.0 = 8.0 capacity − 1.0 system − 9.0 online"
    )


def test_memory_headroom_of_katalyst_a9() -> None:
    claims = (Claim(20.0 * GIB, "online", 1.1),)
    view = HeadroomView(kind=RECLAIMED_MEMORY, capacity=100 * GIB, reserved=0, system=10.0 * GIB, claims=claims)
    offer = headroom.advise(view, headroom.Settings(memory_margin=0.04))
    assert offer.amount == pytest.approx(64 * GIB)
    assert offer.arithmetic == "64.0Gi = 100.0Gi capacity − 4.0Gi margin − 10.0Gi system − 20.0Gi online x 1.10"


@pytest.mark.parametrize(
    ("pod", "cores"),
    [
        (PodView(uid="a", request=4, now=2, smooth=2, peak=2, settled=True), 2.5),
        (PodView(uid="a", request=4, now=2, smooth=2, peak=2, settled=False), 4.0),
        (PodView(uid="a", request=4), 4.0),
        (PodView(uid="a", request=4, now=8, smooth=8, peak=8, settled=True), 10.0),
        (PodView(uid="a", request=4, limit=9, now=8, smooth=8, peak=8, settled=True), 9.0),
        (PodView(uid="a", request=4, now=1, smooth=1, peak=6, settled=True), 6.0),
        (PodView(uid="a", request=4, smooth=6, peak=6, settled=True), 7.5),
    ],
    ids=[
        "1.25 x usage",
        "ramping up",
        "unknown",
        "above its request",
        "not above its limit",
        "a peak",
        "vanished from the report",
    ],
)
def test_estimates_of_katalyst_a2_and_ours(pod: PodView, cores: float) -> None:
    need, _ = provision.advise(PoolView(name="share", pods=(pod,)), PLAIN, provision.START)
    assert need.cores == pytest.approx(cores)


def test_the_requirement_is_printed_as_it_is_computed() -> None:
    pod = PodView(uid="a", request=4, now=8, smooth=8, peak=8, settled=True)
    need, _ = provision.advise(PoolView(name="share", pods=(pod,)), provision.Settings(), provision.START)
    assert need.reason == "14.0 = 10.0 online x 1.35 + 0.5 reserve"


def test_a_full_pool_is_given_what_was_asked_for_because_nobody_knows_what_it_wants() -> None:
    pod = PodView(uid="a", request=12, now=3.7, smooth=3, peak=3.7, settled=True)
    free, full = (PoolView(name="share", pods=(pod,), held=held) for held in (5, 4))
    settings = provision.Settings()
    assert provision.advise(free, settings, provision.START)[0].cores == pytest.approx(3.7 * 1.1 * 1.35 + 0.5)
    need, _ = provision.advise(full, settings, provision.START)
    assert need.cores == 12.5
    assert "3.7 of 4 CPUs in use, so requests count" in need.reason


def test_a_stall_that_is_over_does_not_count_twice_and_a_small_pool_gets_a_cpu_for_one() -> None:
    def stalls(*shares: float) -> float:
        memory, cores = provision.START, 0.0
        for share in shares:
            pod = PodView(uid="a", request=1, now=0.1, smooth=0.1, peak=0.1, stall=share, settled=True)
            need, memory = provision.advise(PoolView(name="share", pods=(pod,)), provision.Settings(), memory)
            cores = need.cores
        return cores

    assert stalls(0.0) < 1 < stalls(0.3) < 2
    assert stalls(0.3, 0.27, 0.25) == stalls(0.3)
    assert stalls(0.3, 0.3, 0.3) > stalls(0.3) > stalls(0.3, 0.0)


def test_pool_sizes_of_katalyst_a4() -> None:
    assert size({"share": Wish(6, 6, 6, rising=False)}, 24, None, RULES, growing=True).reclaimed == 18
    assert size({}, 48, None, RULES, growing=True).reclaimed == 48


def test_normalising_takes_from_whom_it_hurts_least() -> None:
    assert normalise({"share": 9, "bmq": 8, "flink": 7}, 12) == {"share": 5, "bmq": 4, "flink": 3}
    assert normalise({"share": 100, "tiny": 1}, 8) == {"share": 7, "tiny": 1}
    assert normalise({"a": 3, "b": 3, "c": 3}, 2) == {"a": 2, "b": 2, "c": 2}
