"""The peer's rules as advisor policies: Koordinator's documented examples, and what becomes of the cap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.advisor.core.policy import Claim, HeadroomView, PodView, PoolView
from neap.advisor.plugins import headroom_koordinator as headroom
from neap.advisor.plugins import provision_koordinator as provision
from neap.common.model.resource import RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.units import GIB

CORES = st.floats(0, 128)


def a_view(used: float = 33.0, *, claimed: float = 33.0, system: float = 7.0, reserved: float = 5.0) -> HeadroomView:
    return HeadroomView(
        kind=RECLAIMED_CPU,
        capacity=100.0,
        reserved=reserved,
        system=system,
        claims=(Claim(claimed, "online"),),
        used=used,
    )


def test_batch_offer_of_koordinator_with_its_arithmetic() -> None:
    offer = headroom.advise(a_view(), headroom.Settings(cpu_reclaim=0.65))
    assert offer.amount == pytest.approx(25.0)
    assert offer.arithmetic == "25.0 = 100.0 capacity − 35.0 margin − 7.0 system − 33.0 online"


def test_its_default_thresholds_are_60_65_and_65_percent() -> None:
    settings = headroom.Settings()
    offer = headroom.advise(a_view(), settings)
    assert offer.amount == pytest.approx(100 * 0.60 - 7 - 33)
    assert offer.cap == pytest.approx(100 * 0.65 - 33 - 7)
    memory = HeadroomView(
        kind=RECLAIMED_MEMORY, capacity=100.0 * GIB, reserved=0.0, claims=(Claim(20.0 * GIB, "online"),)
    )
    told = headroom.advise(memory, settings)
    assert told.amount == pytest.approx(45 * GIB)
    assert told.cap is None
    assert told.arithmetic == "45.0 = 100.0 capacity − 35.0 margin − 20.0 online"


def test_suppression_leaves_guests_two_cores_whatever_owners_use() -> None:
    assert headroom.advise(a_view(used=99.0), headroom.Settings()).cap == 2.0
    unknown = HeadroomView(kind=RECLAIMED_CPU, capacity=100.0, reserved=5.0)
    assert headroom.advise(unknown, headroom.Settings()).cap == 2.0


@given(CORES, CORES, CORES)
def test_the_more_owners_use_the_less_is_lent(low: float, more: float, system: float) -> None:
    small, large = (
        headroom.advise(a_view(used, claimed=used, system=system), headroom.Settings()) for used in (low, low + more)
    )
    assert 0 <= large.amount <= small.amount <= 100
    assert small.cap is not None
    assert large.cap is not None
    assert 2 <= large.cap <= small.cap


def test_owners_need_what_they_use_and_their_request_until_that_is_known() -> None:
    pods = (PodView(uid="a", request=4, smooth=1.5), PodView(uid="b", request=2))
    need, _ = provision.advise(PoolView(name="share", pods=pods), provision.Settings(), None)
    assert (need.cores, need.estimate, need.reserve) == (3.5, 3.5, 0.0)
    assert provision.advise(PoolView(name="share", pods=()), provision.Settings(), None)[0].cores == 0
