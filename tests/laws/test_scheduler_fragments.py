"""Laws of fragmentation: tables say what the definition says, a row does not depend on others, and learning is bounded."""

from __future__ import annotations

from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.common.model.gpu import MOST_CONTAINERS
from neap.common.model.placement import GpuShare, Placement
from neap.scheduler.core.choice.fragments import Mix, Room
from neap.scheduler.core.nodes import card_states, cards
from neap.scheduler.core.nodes.cards import CONTAINERS, CORE, MEMORY, MODEL, STATES
from neap.scheduler.core.nodes.census import EVERY, LEAST, MOST, SEEN, TYPICAL, WINDOW, Census
from neap.scheduler.core.nodes.columns import Columns, code
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.pods.pod import pod_of
from neap.scheduler.core.pods.typical import Typical, shape_of
from neap.scheduler.plugins import fgd
from neap.scheduler.plugins.fgd import PUBLISHED, Ask, Rule, descend
from tests.unit.scheduler_world import a_card, a_guest, a_node, an_owner, policies

MODELS = ("T4", "A10", "G2")
SIZES = st.sampled_from([100, 330, 500, 650, 1000])
ASKS = (
    st.lists(st.builds(Ask, st.just(1), SIZES, st.sampled_from([0, 4000, 9000])), max_size=3)
    | st.builds(lambda k: [Ask(k, 1000)], st.integers(1, 3))
)  # fmt: skip


@st.composite
def typical(draw: st.DrawFn) -> Typical:
    pods, cpu, models = (
        draw(st.integers(1, 50)),
        draw(st.integers(0, 9)) * 1000,
        tuple(draw(st.sets(st.sampled_from(MODELS)))),
    )
    if draw(st.booleans()):
        return Typical(pods, cpu, draw(st.integers(0, 4)), 1000, models)
    return Typical(pods, cpu, 1, draw(SIZES), models, draw(st.sampled_from([0, 0, 4096, 8192])))


@st.composite
def rooms(draw: st.DrawFn) -> Room:
    """Nodes of one model each."""
    rows = draw(st.integers(1, 6))
    cards = np.array(draw(st.lists(st.lists(SIZES | st.just(0), min_size=4, max_size=4), min_size=rows, max_size=rows)))
    memory = np.array(
        draw(st.lists(st.lists(st.integers(0, 16000), min_size=4, max_size=4), min_size=rows, max_size=rows))
    )
    models = np.array([[code(draw(st.sampled_from((*MODELS, "X"))))] * 4 for _ in range(rows)])
    cpu = np.array(draw(st.lists(st.integers(0, 12), min_size=rows, max_size=rows))) * 1000.0
    return Room(cpu, cards, memory, models, cards > 0)


def useless(room: Room, row: int, pod: Typical) -> int:
    """By the definition, card by card."""
    idle, of_use = int(room.cards[row].sum()), []
    for left, memory, model in zip(room.cards[row], room.memory[row], room.models[row], strict=True):
        if left >= pod.core and memory >= pod.memory and (not pod.models or int(model) in map(code, pod.models)):
            of_use.append(int(left))
    runs = pod.cards > 0 and room.cpu[row] >= pod.cpu and len(of_use) >= pod.cards
    return idle - sum(of_use) if runs else idle


@given(st.lists(typical(), min_size=1, max_size=8), rooms())
def test_the_tables_say_what_the_definition_says(pods: list[Typical], room: Room) -> None:
    found = Mix(pods).fragmentation(room)
    for row in range(len(room.cpu)):
        whole = sum(pod.pods * useless(room, row, pod) for pod in pods)
        assert found[row] == whole / sum(pod.pods for pod in pods)


@given(
    st.lists(typical(), min_size=1, max_size=8), rooms(), ASKS, st.integers(0, 9), st.sampled_from([Rule(), PUBLISHED])
)
def test_a_row_scores_alone_what_it_scores_among_others_and_nothing_given_is_changed(
    pods: list[Typical], room: Room, asks: list[Ask], cpu: int, rule: Rule
) -> None:
    mix, before = Mix(pods), [column.copy() for column in room]
    whole, some = descend(mix, room, cpu * 1000, asks, rule), np.arange(0, len(room.cpu), 2)
    part = descend(mix, room.of(some), cpu * 1000, asks, rule)
    assert np.array_equal(part.score, whole.score[some])
    assert np.array_equal(part.cards, whole.cards[some])
    assert ((whole.score >= 0) & (whole.score <= 100)).all()
    assert all(np.array_equal(now, then) for now, then in zip(room, before, strict=True))


@given(
    st.lists(typical(), min_size=1, max_size=8), rooms(), ASKS, st.integers(0, 9), st.sampled_from([Rule(), PUBLISHED])
)
def test_a_score_is_the_steps_of_what_is_stranded_before_and_after(
    pods: list[Typical], room: Room, asks: list[Ask], cpu: int, rule: Rule
) -> None:
    mix, found = Mix(pods), descend(Mix(pods), room, cpu * 1000, asks, rule)
    taken = sum(np.where(mask, ask.memory, 0) for mask, ask in zip(found.taken, asks, strict=True))
    after = room._replace(cpu=room.cpu - cpu * 1000, cards=found.cards, memory=room.memory - taken)
    gradient = mix.fragmentation(room) - mix.fragmentation(after)
    if rule.ahead and not asks:  # F is left out
        gradient[:] = 0
    if rule.ahead:
        gradient += mix.unfed(room.cards.sum(axis=1), room.cpu) - mix.unfed(found.cards.sum(axis=1), after.cpu)
    score = 100 / (1 + np.exp(-gradient / 1000))
    assert (np.abs(found.score - score)[found.found] <= 1.0 + 1e-9).all(), "the floor takes less than a step"
    asked = [(ask.cards * ask.core) for ask in asks]
    assert (room.cards.sum(axis=1) - found.cards.sum(axis=1) == sum(asked))[found.found].all()


def room_of(table: NodeTable, asked: tuple[str, ...]) -> Room:
    core, memory, models = (table.columns[name] for name in (CORE, MEMORY, MODEL))
    allowed = (core > 0) & (table.columns[CONTAINERS] < MOST_CONTAINERS)
    if asked:
        allowed &= np.isin(models, [code(model) for model in asked])
    return Room(table.view().free("cpu"), np.maximum(core, 0) * 10, memory, models, allowed)


@given(
    st.lists(typical(), min_size=1, max_size=8),
    st.lists(st.lists(st.tuples(st.sampled_from(MODELS), st.sampled_from([9000, 16000])), max_size=5), max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(1, 100), st.integers(0, 9000)), max_size=30),
    st.sampled_from([(33, 4000), (50, 9000), (100, 0), (200, 0), None]),
    st.sets(st.sampled_from(MODELS), max_size=1).map(tuple),
    st.tuples(st.booleans(), st.sampled_from([2, card_states.FEW])),
)
def test_what_is_looked_up_for_the_cards_left_is_what_these_cards_score(
    pods: list[Typical],
    nodes: list[list[tuple[str, int]]],
    charges: list[tuple[int, int, int, int]],
    gpu: tuple[int, int] | None,
    models: tuple[str, ...],
    way: tuple[bool, int],
) -> None:
    (ahead, few), table = way, NodeTable()
    pod = pod_of(an_owner(cores=3, gpu=gpu, gpu_models=models))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cards, "FEW", few)
        table.columns.facts[STATES].most = few
        for number, some in enumerate([*nodes, [("T4", 16000)]]):
            shown = tuple(a_card(index, memory, model) for index, (model, memory) in enumerate(some))
            table.describe(msgspec.structs.replace(a_node(f"n{number}", cores=16), cards=shown))
        table.columns.facts[TYPICAL] = mix = Mix(pods)
        for number, (node, card, core, memory) in enumerate(charges):
            gpus = (GpuShare(container="main", card=card, core=core, memory_mib=memory),)
            placement = Placement(workload=an_owner(f"u{number}"), charged={"cpu": 100 * core}, gpus=gpus)
            table.charge(f"n{min(node, len(nodes))}", placement, 0.0)
            found = fgd.least_stranding(pod, table.view(), fgd.Settings(ahead=ahead))
            asks = [Ask(ask.cards, ask.core * 10, ask.memory_mib) for ask in pod.asks]
            score = descend(mix, room_of(table, models), 3000, asks, Rule(ahead=ahead)).score
            bare = np.array([not some for some in [*nodes, [1]]])
            assert found is not None
            assert np.array_equal(found, np.where(bare, 0.0 if asks else 100.0, score))


@given(st.permutations(range(4)))
def test_cards_in_another_order_are_the_same_state_unless_untouched_ones_change_places(order: list[int]) -> None:
    states, rows = card_states.CardStates(16), np.array([[50, 20, 100, 100], [9000, 500, 9000, 16000], [7, 7, 7, 7]])

    def number(cells: np.ndarray, *full: int) -> int:
        return states.number(*cells, np.isin(np.arange(4), full))

    first, moved = number(rows), number(rows[:, order])
    assert (moved == first) == (order.index(2) < order.index(3)), "whole cards are the first untouched ones"
    assert number(rows, 1) != first, "a card that takes no other container is something else"
    assert [states.idle[one] for one in (first, moved)] == [2700.0, 2700.0]


def test_what_came_here_becomes_typical_in_time_and_only_if_it_is_something_else() -> None:
    columns = Columns()
    census, random = Census(columns), Random(1)
    shapes = [{"cores": 1 + i, "gpu": (10 + i, 1000 + 300 * i)} for i in range(5)]
    for i in range(LEAST - 1):
        census.turn_away(pod_of(an_owner(f"u{i}", **random.choice(shapes))))
    census.expire(0.0)
    assert columns.facts[TYPICAL] is None, "too few"
    census.turn_away(pod_of(an_owner("u0", **shapes[0])))
    assert census.expire(0.0) == ()
    assert columns.facts[TYPICAL] is None, "u0 was counted before"
    census.turn_away(pod_of(an_owner("more", **shapes[0])))
    census.expire(1.0)
    first, epoch = columns.facts[TYPICAL], census.ask(pod_of(an_owner(gpu=(10, 1000))))
    assert sum(pod.pods for pod in first.typical) == LEAST
    for i in range(90):
        census.turn_away(pod_of(an_owner(f"w{i}", cores=60, gpu=(800, 0))))
    census.expire(EVERY)
    assert columns.facts[TYPICAL] is first, "too soon"
    census.expire(1.0 + EVERY)
    assert columns.facts[TYPICAL].typical[0]._replace(pods=0)[1:4] == (60_000, 8, 1000)
    assert census.ask(pod_of(an_owner(gpu=(10, 1000)))) != epoch, "everything is weighed anew, once"
    assert census.ask(pod_of(a_guest())) is None


def test_a_census_stays_small_and_forgets() -> None:
    columns = Columns()
    census = Census(columns)
    for i in range(WINDOW + 300):
        census.turn_away(pod_of(an_owner(f"u{i}", cores=1 + i % 400, gpu=(1 + i % 90, 256))))
    census.expire(0.0)
    assert len(columns.facts[TYPICAL].typical) == MOST
    for i in range(WINDOW):
        census.turn_away(pod_of(an_owner(f"v{i}", cores=1, gpu=(100, 0))))
    census.expire(2 * EVERY)
    assert [pod._replace(pods=0) for pod in columns.facts[TYPICAL].typical] == [Typical(0, 1000, 1, 1000)]


def test_cards_matter_from_the_first_one_on() -> None:
    table = NodeTable()
    table.describe(a_node("plain"))
    before = table.ask(pod_of(an_owner()))
    assert not table.columns.facts[SEEN]
    table.describe(a_node("cards", cards=1))
    assert table.columns.facts[SEEN]
    assert table.ask(pod_of(an_owner())) != before


def test_a_pod_of_several_containers_counts_as_its_largest_part() -> None:
    assert shape_of(an_owner(cores=2)) is None
    assert shape_of(an_owner(cores=2, gpu=(35, 5000), gpu_models=("T4", "A10", "T4"))) == Typical(
        1, 2000, 1, 350, ("A10", "T4"), 8192
    )
    assert shape_of(an_owner(cores=2, gpu=(300, 0))) == Typical(1, 2000, 3, 1000)


def test_placed_pods_are_counted_as_well() -> None:
    table = NodeTable()
    table.describe(a_node(cores=2000, gib=2000, cards=16))
    from neap.scheduler.core.choice.cycle import Cycle

    cycle = Cycle(table, policies("fit", "gpu_share"))
    for i in range(LEAST):
        cycle.decide(pod_of(an_owner(f"u{i}", gpu=(7, 1000))))
    table.expire(1.0)
    assert [pod.pods for pod in table.columns.facts[TYPICAL].typical] == [LEAST]
