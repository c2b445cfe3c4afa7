"""Shares of cards in the scheduler: two levels of policy, gangs, cards named by others, Katalyst's virtual GPU (AC-23)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import pytest

from neap.common.model.gpu import CardPolicy, CardRoom, GpuAsk, choose_cards, named_shares
from neap.common.model.placement import GpuShare, Placement
from neap.common.model.resource import CPU, GPU_CORE, GPU_MEMORY
from neap.common.model.scheduling import Gang
from neap.common.model.topology import NodeTopology
from neap.common.model.workload import Container
from neap.scheduler.core.choice.cycle import Cycle, Decision
from neap.scheduler.core.choice.framework import Parts, Policy
from neap.scheduler.core.nodes.gang_cards import TOGETHER
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.pods.admission import refusal
from neap.scheduler.core.pods.pod import Pod, pod_of
from neap.scheduler.plugins import gpu_share
from neap.scheduler.plugins.gpu_share import Settings
from tests.unit.scheduler_world import a_card, a_node, an_owner

PACK, SPREAD = CardPolicy.BINPACK, CardPolicy.SPREAD


def a_pool(*cards: int, settings: Settings | None = None) -> tuple[NodeTable, Cycle]:
    """Nodes g1, g2, ... with so many cards of 16,000 MiB."""
    table = NodeTable()
    for number, count in enumerate(cards, start=1):
        table.describe(a_node(f"g{number}", cores=1000, gib=4000, cards=count))
    return table, Cycle(table, [Policy("gpu_share", gpu_share.PLUGIN, settings=settings or Settings())])


def take(table: NodeTable, node: str, *shares: tuple[int, int, int]) -> None:
    """Somebody has (card, percent, MiB) of a node."""
    gpus = tuple(GpuShare(container=f"c{n}", card=c, core=p, memory_mib=m) for n, (c, p, m) in enumerate(shares))
    who = an_owner(f"other-{node}-{shares[0]}", cores=0)
    table.charge(node, Placement(workload=who, charged={}, gpus=gpus), 0.0)


def a_pod(uid: str = "p", *asks: tuple[int, int], **more: Any) -> Pod:
    amounts = [{CPU: 1, GPU_CORE: core} | ({GPU_MEMORY: memory} if memory else {}) for core, memory in asks]
    containers = tuple(Container(name=f"c{n}", requests=requests) for n, requests in enumerate(amounts))
    return pod_of(an_owner(uid, containers=containers, **more))


def where(decision: Decision) -> tuple[str, list[int]]:
    assert decision.placement is not None, decision.rejected
    return decision.node, [share.card for share in decision.placement.gpus]


def told(table: NodeTable, pod: Pod, row: int = 0, settings: Settings | None = None) -> list[str]:
    """What is said of a node by the rules it does not pass."""
    table.ask(pod)
    found = []
    for rule in gpu_share.have_cards(pod, table.view(), settings or Settings()):
        if not rule.passes[row]:
            assert rule.near is not None
            found.append(rule.near().tell(row).replace("{node}", table.names[row]))
    return found


# --- two levels


@pytest.mark.parametrize(
    ("nodes", "cards", "right"),
    [
        ("pack", PACK, ("g1", [1])),
        ("pack", SPREAD, ("g1", [0])),
        ("spread", PACK, ("g2", [1])),
        ("spread", SPREAD, ("g2", [0])),
    ],
)
def test_one_policy_chooses_the_node_and_another_the_card(
    nodes: Literal["pack", "spread"], cards: CardPolicy, right: tuple[str, list[int]]
) -> None:
    table, cycle = a_pool(2, 2, settings=Settings(nodes=nodes, cards=cards))
    take(table, "g1", (0, 30, 4000), (1, 60, 8000))
    take(table, "g2", (0, 10, 1000), (1, 20, 2000))
    assert where(cycle.decide(a_pod("p", (20, 2000)))) == right


# --- gangs


def members(count: int, **more: Any) -> list[Pod]:
    gang = Gang(name="train", least=count)
    return [a_pod(f"m{number}", (20, 2000), gang=gang, **more) for number in range(count)]


def test_shares_of_one_gang_are_never_on_one_card() -> None:
    table, cycle = a_pool(3)
    for number, pod in enumerate(members(3)):
        assert where(cycle.decide(pod)) == ("g1", [number])
    (late,) = members(1)
    refused = cycle.decide(late)
    assert [(verdict.plugin, verdict.reason) for verdict in refused.rejected] == [
        ("gpu_share", "card with 20 % and 2000 MiB left, without its gang")
    ], "the filter knows: it is not left to reserve"
    assert told(table, late) == ["no card of g1 may be had"]
    assert where(cycle.decide(a_pod("stranger", (20, 2000)))) == ("g1", [0])
    table.discharge("g1", "m1")
    assert where(cycle.decide(late)) == ("g1", [1])


def test_gangs_go_to_other_nodes_when_cards_are_used_up_and_do_not_hinder_other_gangs() -> None:
    _, cycle = a_pool(1, 1)
    assert sorted(where(cycle.decide(pod))[0] for pod in members(2)) == ["g1", "g2"]
    other = a_pod("o", (20, 2000), gang=Gang(name="other", least=1))
    elsewhere = a_pod("e", (20, 2000), gang=Gang(name="train", least=1), namespace="lab")
    for pod in (other, elsewhere):
        where(cycle.decide(pod))


def test_a_gang_may_share_cards_if_it_says_so_or_the_setting_does() -> None:
    for settings, said in ((Settings(), dict([TOGETHER])), (Settings(gang_apart=False), {})):
        _, cycle = a_pool(1, settings=settings)
        for pod in members(3, annotations=said):
            assert where(cycle.decide(pod)) == ("g1", [0])


def test_containers_of_one_member_may_share_a_card() -> None:
    _, cycle = a_pool(1)
    assert where(cycle.decide(a_pod("m", (20, 2000), (30, 3000), gang=Gang(name="train", least=1)))) == ("g1", [0, 0])


# --- cards named by a plugin before


@pytest.mark.parametrize(
    ("prefer", "right"),
    [
        ((2, 3), [2, 3]),
        ((3, 2), [3, 2]),  # ask by ask
        ((3, 3), [3, 3]),
        ((0, 3), [1, 1]),  # 0 is taken: no more than a wish
        ((2,), [1, 1]),
        ((9, 3), [1, 1]),
        ((), [1, 1]),
    ],
)
def test_cards_named_before_are_taken_if_they_are_legal(prefer: tuple[int, ...], right: list[int]) -> None:
    table, _ = a_pool(4)
    take(table, "g1", (0, 100, 16000), (1, 30, 3000))
    parts = gpu_share.choose(a_pod("p", (20, 2000), (30, 3000)), table, 0, Settings(), Parts(prefer=prefer))
    assert isinstance(parts, Parts)
    assert [share.card for share in parts.gpus] == right


def test_cards_on_the_numa_nodes_given_before_are_taken_first() -> None:
    table, _ = a_pool(4)
    table.describe(_with_numa(4))
    take(table, "g1", (0, 50, 5000))
    pod = a_pod("p", (20, 2000))
    for numa, right in (((), 0), ((1,), 2), ((7,), 0)):
        parts = gpu_share.choose(pod, table, 0, Settings(), Parts(numa=numa))
        assert isinstance(parts, Parts)
        assert [share.card for share in parts.gpus] == [right]


def _with_numa(count: int) -> NodeTopology:
    cards = tuple(msgspec.structs.replace(a_card(n), numa=n // 2) for n in range(count))
    return msgspec.structs.replace(a_node("g1", cores=1000, gib=4000), cards=cards)


# --- misses with their numbers


def test_the_nearest_card_is_named_with_what_it_lacks() -> None:
    table, _ = a_pool(2)
    take(table, "g1", (0, 90, 4000), (1, 95, 15000))
    assert told(table, a_pod("p", (30, 4000))) == ["best card g1/0 has 10 %, needs 30 % (12000 MiB would do)"]
    assert told(table, a_pod("p", (10, 14000))) == ["best card g1/0 has 12000 MiB, needs 14000 MiB (10 % would do)"]
    assert told(table, a_pod("p", (30, 14000))) == ["best card g1/0 has 10 %, 12000 MiB, needs 30 %, 14000 MiB"]
    assert told(table, a_pod("p", (100, 0))) == ["g1 has 0 untouched cards on 2 cards, needs 1"]
    assert told(table, a_pod("p", (10, 400), (9, 400))) == ["g1 has 15 % left on 2 cards, needs 19"]
    assert told(table, a_pod("p", (10, 400), gpu_models=("A10",)))[0] == "g1 has 2 cards, none is A10"
    full, _ = a_pool(1)
    take(full, "g1", *[(0, 1, 256)] * 16)
    (said,) = told(full, a_pod("p", (10, 400)))
    assert said == "best card g1/0 has 16 containers, needs at most 15 (84 %, 11904 MiB would do)"
    none, _ = a_pool(0)
    assert told(none, a_pod("p", (10, 400)))[0] == "g1 has 0 cards, a card is needed"


# --- Katalyst's virtual GPU: 1000 milligpu are 100 %, its units of memory are ours


def rooms(memory: int, used: Sequence[tuple[int, int]]) -> list[CardRoom]:
    """Cards by (memory, milligpu) used."""
    return [
        CardRoom(index=n, memory_mib=memory, core_free=100 - milli // 10, memory_free_mib=memory - mib, containers=1 * bool(mib or milli))
        for n, (mib, milli) in enumerate(used)
    ]  # fmt: skip


def ask(memory: int, milli: int) -> GpuAsk:
    return GpuAsk(container="c", cards=1, core=milli // 10, memory_mib=memory)


@pytest.mark.parametrize(
    ("memory", "used", "asked", "policy", "right"),
    [
        (4, [(1, 300), (0, 0)], (2, 500), SPREAD, 1),
        (4, [(1, 300), (0, 0)], (2, 500), PACK, 0),
        (10, [(8, 0), (0, 500), (0, 0)], (3, 600), PACK, 2),
        (8, [(4, 500), (0, 0), (0, 0)], (4, 500), PACK, 0),  # the half used one's NUMA node is the preferred one
        (8, [(0, 0)], (20, 500), PACK, None),
    ],
)
def test_virtual_gpus_are_chosen_as_katalyst_does(
    memory: int, used: list[tuple[int, int]], asked: tuple[int, int], policy: CardPolicy, right: int | None
) -> None:
    found = choose_cards(rooms(memory, used), [ask(*asked)], policy=policy).cards
    assert found == (None if right is None else ((right,),))


def test_packing_goes_through_virtual_gpus_in_katalysts_order() -> None:
    left = {f"gpu-{n}": room for n, room in enumerate(rooms(4, [(1, 200), (2, 100), (1, 100), (2, 200)]), start=1)}
    order = []
    while left:
        names = list(left)
        found = choose_cards([left[name] for name in names], [ask(1, 100)])
        assert found.cards is not None
        chosen = next(name for name in names if left[name].index == found.cards[0][0])
        order.append(chosen)
        del left[chosen]
    assert order == ["gpu-4", "gpu-2", "gpu-1", "gpu-3"]


def test_a_part_of_a_card_and_a_whole_one_are_not_one_ask() -> None:
    both = Container(name="c", requests={CPU: 1, GPU_CORE: 100, GPU_MEMORY: 4000})
    assert "must not be stated" in refusal(an_owner("p", containers=(both,)))


def test_a_selection_from_outside_is_followed_as_far_as_it_is_free() -> None:
    free, two = rooms(4, [(0, 0)] * 4), [GpuAsk(container="c", cards=2, core=100, memory_mib=0)]
    chosen = named_shares(free, two, (0, 2))
    assert chosen is not None
    assert [share.card for share in chosen] == [0, 2]
    assert named_shares(free[:2], two, (4, 5)) is None
    assert choose_cards(free[:2], two).cards == ((0, 1),)


# --- many nodes of one state


def test_a_search_is_made_once_for_nodes_of_one_state() -> None:
    _, cycle = a_pool(*[8] * 20)
    gpu_share._searched.cache_clear()
    for number in range(20):
        where(cycle.decide(a_pod(f"p{number}", (60, 6000), (60, 6000), (60, 6000), (60, 6000), (60, 6000))))
    assert gpu_share._searched.cache_info().misses == 1


def test_the_filter_counts_how_many_equal_slices_a_node_has_room_for() -> None:
    table, cycle = a_pool(2)
    take(table, "g1", (0, 50, 8000), (1, 10, 13000))
    assert where(cycle.decide(a_pod("p", *[(25, 1000)] * 5)))
    table, _ = a_pool(2)
    take(table, "g1", (0, 50, 8000), (1, 60, 8000))
    said = "g1 has 3 slices of 25 % and 1000 MiB on 2 cards, needs 4"
    assert told(table, a_pod("q", *[(25, 1000)] * 4))[0] == said


def test_a_card_has_room_for_no_more_slices_than_containers() -> None:
    table, _ = a_pool(1)
    take(table, "g1", *[(0, 1, 256)] * 15)
    assert told(table, a_pod("p", *[(1, 256)] * 2)) == ["g1 has 1 slices of 1 % and 256 MiB on 1 cards, needs 2"]
