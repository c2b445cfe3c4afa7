"""Laws of shares: exact, never over a card, and what the scheduler chooses gpushare accepts."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from neap.common.model.gpu import CardPolicy, CardRoom, GpuAsk, choose_cards, empty_rooms, short_of_card
from neap.common.model.placement import GpuShare, Placement
from neap.common.model.qos import QosClass
from neap.common.model.resource import GPU_CORE, GPU_MEMORY
from neap.common.model.topology import Card
from neap.common.model.workload import Container, Workload
from neap.gpushare.core.share import share_out

CARDS = tuple(Card(index=i, uuid=f"GPU-{i}", model="T4", memory_mib=15360) for i in range(3))


@st.composite
def slices(draw: st.DrawFn, container: str = "c") -> GpuAsk:
    if draw(st.integers(0, 4)) == 0:
        return GpuAsk(container=container, cards=draw(st.integers(1, 2)), core=100, memory_mib=0)
    return GpuAsk(container=container, cards=1, core=draw(st.integers(1, 99)), memory_mib=draw(st.integers(256, 16000)))


@st.composite
def used_rooms(draw: st.DrawFn) -> list[CardRoom]:
    rooms = list(empty_rooms(CARDS[: draw(st.integers(1, 3))]))
    for i, room in enumerate(rooms):
        if draw(st.booleans()):
            used = GpuShare(
                container="x", card=i, core=draw(st.integers(1, 100)), memory_mib=draw(st.integers(1, 15360))
            )
            rooms[i] = room.take(used)
    return rooms


def asked(uid: str, asks: list[GpuAsk], gpus: tuple[GpuShare, ...]) -> Placement:
    containers = tuple(
        Container(
            name=a.container,
            requests={GPU_CORE: a.cards * a.core} | ({GPU_MEMORY: a.memory_mib} if a.memory_mib else {}),
        )
        for a in asks
    )
    workload = Workload(uid=uid, namespace="ml", name=uid, qos=QosClass.SHARED, containers=containers)
    return Placement(workload=workload, charged=workload.requests, gpus=gpus)


@given(used_rooms(), st.lists(slices(), min_size=1, max_size=3), st.sampled_from(list(CardPolicy)), st.integers(0, 4))
def test_the_search_finds_what_trying_everything_finds(
    rooms: list[CardRoom], asks: list[GpuAsk], policy: CardPolicy, quarter: int
) -> None:
    asks = [GpuAsk(container=f"c{i}", cards=1, core=a.core, memory_mib=a.memory_mib) for i, a in enumerate(asks)]
    weight = Fraction(quarter, 4)
    best: list[tuple[Fraction, tuple[tuple[int, ...], ...]]] = []
    for cards in product(range(len(rooms)), repeat=len(asks)):
        left = list(rooms)
        for ask, card in zip(asks, cards, strict=True):
            if short_of_card(left[card], ask):
                break
            left[card] = left[card].take(
                GpuShare(container="", card=card, core=ask.core, memory_mib=ask.memory_mib or 15360)
            )
        else:
            touched = sorted(set(cards))
            fullness = [
                weight * Fraction(100 - left[i].core_free, 100)
                + (1 - weight) * Fraction(15360 - left[i].memory_free_mib, 15360)
                for i in touched
            ]
            packed = sum(fullness, Fraction(0)) / len(fullness)
            best.append((packed if policy is CardPolicy.BINPACK else 1 - packed, tuple((card,) for card in cards)))
    found = choose_cards(rooms, asks, policy=policy, weight=weight)
    if not best:
        assert found.cards is None
        return
    top = max(score for score, _ in best)
    assert found.score == top
    assert found.ties == tuple(cards for score, cards in best if score == top)
    assert found.leaves == len(best)


@given(st.lists(st.lists(slices(), min_size=1, max_size=2), max_size=30))
def test_what_the_search_chooses_is_accepted_and_sums_up_on_every_card(pods: list[list[GpuAsk]]) -> None:
    rooms = list(empty_rooms(CARDS))
    placements: list[Placement] = []
    for number, pod in enumerate(pods):
        asks = [
            GpuAsk(container=f"c{i}", cards=a.cards, core=a.core, memory_mib=a.memory_mib) for i, a in enumerate(pod)
        ]
        shares = choose_cards(rooms, asks).shares(rooms, asks)
        if shares:
            placements.append(asked(f"u{number}", asks, shares))
            for share in shares:
                rooms[share.card] = rooms[share.card].take(share)
    got = share_out(CARDS, placements, mps=False)
    assert got.refused == {}
    assert [(s.core_free, s.memory_free_mib, len(s.allocations)) for s in got.cards] == [
        (room.core_free, room.memory_free_mib, room.containers) for room in rooms
    ]


@given(st.lists(st.tuples(slices(), st.integers(0, 3), st.booleans()), max_size=40))
def test_whatever_the_ledger_says_no_card_is_given_twice(history: list[tuple[GpuAsk, int, bool]]) -> None:
    placements = [
        asked(
            f"u{i}",
            [ask],
            tuple(
                GpuShare(container=ask.container, card=card, core=ask.core, memory_mib=ask.memory_mib or 15360)
                for _ in range(ask.cards - short)
            ),
        )
        for i, (ask, card, short) in enumerate(history)
    ]
    got = share_out(CARDS, placements, mps=True)
    assert set(got.accepted) | set(got.refused) == {p.workload.uid for p in placements}
    assert not set(got.accepted) & set(got.refused)
    for state in got.cards:
        shares = [allocation.share for allocation in state.allocations]
        assert state.core_free == 100 - sum(share.core for share in shares) >= 0
        assert state.memory_free_mib == 15360 - sum(share.memory_mib for share in shares) >= 0
        assert len(shares) <= 16
    taken = set(got.accepted)
    again = share_out(CARDS, [p for p in placements if p.workload.uid in taken], mps=True)
    assert again.cards == got.cards, "the refused take nothing"
