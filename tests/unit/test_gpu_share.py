"""Shares of GPUs: the validation table, the golden search and exact card accounting (requirements 2.3)."""

from __future__ import annotations

from fractions import Fraction

import pytest

from neap.common.errors import InputError
from neap.common.model.gpu import (
    MOST_CONTAINERS,
    CardPolicy,
    CardRoom,
    GpuAsk,
    choose_cards,
    empty_rooms,
    gpu_ask,
    short_of_card,
    tree_size,
)
from neap.common.model.placement import GpuShare
from neap.common.model.resource import GPU_CORE, GPU_MEMORY, parse_amount
from neap.common.model.topology import Card
from neap.common.model.workload import Container

FREE = [(60, 30000), (90, 70000), (35, 96000), (80, 28000)]
ASKS = tuple(
    GpuAsk(container=f"c{i}", cards=1, core=core, memory_mib=memory)
    for i, (core, memory) in enumerate([(25, 12000), (45, 26000), (30, 16000)])
)


def golden_rooms() -> list[CardRoom]:
    return [
        CardRoom(index=i, memory_mib=96000, core_free=core, memory_free_mib=memory)
        for i, (core, memory) in enumerate(FREE)
    ]


def whole(cards: int, container: str = "c") -> GpuAsk:
    return GpuAsk(container=container, cards=cards, core=100, memory_mib=0)


def idle(count: int, memory: int = 96000) -> tuple[CardRoom, ...]:
    return empty_rooms(Card(index=i, uuid=f"GPU-{i}", model="A10", memory_mib=memory) for i in range(count))


def test_golden_search_packs_on_the_cards_in_use() -> None:
    found = choose_cards(golden_rooms(), ASKS, policy=CardPolicy.BINPACK)
    assert found.cards == ((0,), (3,), (0,))
    assert [[card for (card,) in tie] for tie in found.ties] == [[0, 3, 0], [3, 0, 3]]
    assert round(float(found.score), 6) == 0.889583


def test_golden_search_spreads_over_the_emptiest_cards() -> None:
    found = choose_cards(golden_rooms(), ASKS, policy=CardPolicy.SPREAD)
    assert found.cards == ((1,), (3,), (2,))
    assert [[card for (card,) in tie] for tie in found.ties] == [[1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2]]
    assert round(float(found.score), 6) == 0.418056


@pytest.mark.parametrize("policy", list(CardPolicy))
def test_golden_search_counts_its_work(policy: CardPolicy) -> None:
    found = choose_cards(golden_rooms(), ASKS, policy=policy)
    assert (found.checks, found.pruned, found.leaves, tree_size(4, ASKS)) == (60, 16, 30, 84)
    assert not found.truncated


def test_two_shares_fill_a_card_exactly_and_a_third_is_refused_by_name() -> None:
    room = CardRoom(index=0, memory_mib=142336, core_free=100, memory_free_mib=142336)
    for core, memory in [(30, 40000), (70, 102336)]:
        ask = GpuAsk(container="c", cards=1, core=core, memory_mib=memory)
        assert short_of_card(room, ask) == ""
        room = room.take(GpuShare(container="c", card=0, core=core, memory_mib=memory))
    assert (room.core_free, room.memory_free_mib) == (0, 0)
    assert short_of_card(room, GpuAsk(container="c", cards=1, core=1, memory_mib=1)).startswith("compute: 1 % asked")
    only_memory_short = CardRoom(index=0, memory_mib=100, core_free=50, memory_free_mib=0)
    assert short_of_card(only_memory_short, GpuAsk(container="c", cards=1, core=1, memory_mib=1)).startswith("memory:")


def test_each_container_of_a_pod_gets_its_own_card_index() -> None:
    asks = (
        GpuAsk(container="a", cards=1, core=20, memory_mib=1000),
        GpuAsk(container="b", cards=1, core=30, memory_mib=2000),
    )
    rooms = idle(2)
    found = choose_cards(rooms, asks, policy=CardPolicy.SPREAD)
    shares = found.shares(rooms, asks)
    assert [(s.container, s.card, s.core, s.memory_mib) for s in shares] == [("a", 0, 20, 1000), ("b", 1, 30, 2000)]


@pytest.mark.parametrize(
    ("core", "memory", "wrong"),
    [
        (30, 0, "at least 256 MiB"),
        (30, 255, "at least 256 MiB"),
        (0, 1024, "compute must be at least 1 %"),
        (-5, 1024, "compute must be at least 1 %"),
        (20, -1, "compute must be at least 1 %"),
        (101, 0, "multiple of 100"),
        (150, 1024, "multiple of 100"),
        (100, 1024, "must not be stated"),
        (200, 1, "must not be stated"),
        (100 * 65, 0, "more than 64 cards"),
    ],
)
def test_the_validation_table_refuses_by_name(core: int, memory: int, wrong: str) -> None:
    with pytest.raises(InputError, match=wrong) as refused:
        gpu_ask(Container(name="train", requests={GPU_CORE: core, GPU_MEMORY: memory}))
    assert "container train" in str(refused.value)


@pytest.mark.parametrize(
    ("requests", "ask"),
    [
        ({}, None),
        ({"cpu": 4000}, None),
        ({GPU_CORE: 1, GPU_MEMORY: 256}, (1, 1, 256)),
        ({GPU_CORE: 99, GPU_MEMORY: 1000}, (1, 99, 1000)),
        ({GPU_CORE: 100}, (1, 100, 0)),
        ({GPU_CORE: 800}, (8, 100, 0)),
    ],
)
def test_the_validation_table_lets_pass(requests: dict[str, int], ask: tuple[int, int, int] | None) -> None:
    got = gpu_ask(Container(name="c", requests=requests))
    assert (None if got is None else (got.cards, got.core, got.memory_mib)) == ask


@pytest.mark.parametrize(("kind", "text"), [(GPU_CORE, "0.5"), (GPU_MEMORY, "0.5Mi"), (GPU_CORE, "12.5")])
def test_amounts_below_the_granularity_are_refused_and_not_rounded(kind: str, text: str) -> None:
    with pytest.raises(InputError, match="finer than one unit"):
        parse_amount(kind, text)


def test_whole_cards_need_untouched_cards() -> None:
    rooms = [idle(1)[0], idle(2)[1].take(GpuShare(container="x", card=1, core=1, memory_mib=256)), idle(3)[2]]
    assert choose_cards(rooms, (whole(2),)).cards == ((0, 2),)
    assert choose_cards(rooms, (whole(3),)).cards is None


def test_a_share_and_whole_cards_do_not_meet_on_one_card() -> None:
    asks = (GpuAsk(container="a", cards=1, core=10, memory_mib=256), whole(1, "b"))
    assert choose_cards(idle(2), asks).cards == ((0,), (1,))
    assert choose_cards(idle(1), asks).cards is None


def test_a_seventeenth_container_is_refused() -> None:
    room = CardRoom(index=0, memory_mib=96000, core_free=50, memory_free_mib=90000, containers=MOST_CONTAINERS)
    assert short_of_card(room, ASKS[0]).startswith("containers: 16")


def test_a_search_that_hits_its_limit_says_so_and_keeps_the_best_so_far() -> None:
    asks = tuple(GpuAsk(container=f"c{i}", cards=1, core=5, memory_mib=256) for i in range(8))
    found = choose_cards(idle(8), asks, limit=500)
    assert found.truncated
    assert found.checks + found.leaves <= 500
    assert found.cards is not None


def test_scores_are_exact_fractions() -> None:
    found = choose_cards(golden_rooms(), ASKS)
    assert isinstance(found.score, Fraction)
    assert found.score == Fraction(427, 480)
