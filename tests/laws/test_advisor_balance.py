"""Laws of memory that moves between NUMA nodes: any machine, any measurements, also absurd ones."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from neap.advisor.core.crowding import low_of
from neap.advisor.core.policy import MemoryNode, MemoryPod, MemoryView, Moved
from neap.advisor.plugins.memory_balance import Settings, advise
from neap.common.cpuset import parse_cpuset
from neap.common.units import GIB, MINUTE

NODES = range(4)
RATE = st.none() | st.floats(0, 1000)
AMOUNT = st.integers(0, 40 * GIB)
AT = 10_000.0


@st.composite
def views(draw: st.DrawFn) -> MemoryView:
    nodes = [
        MemoryNode(
            index=index,
            total=draw(st.sampled_from((GIB, 64 * GIB))),
            free=draw(st.none() | st.integers(0, 64 * GIB)),
            watermark=draw(st.none() | st.integers(0, GIB)),
            bandwidth=draw(RATE),
            latency=draw(RATE),
            guests=draw(st.booleans()) or draw(st.booleans()),
            distances=draw(st.dictionaries(st.sampled_from(NODES), st.sampled_from((10, 12, 21)))),
        )
        for index in draw(st.sets(st.sampled_from(NODES)))
    ]
    pods = [
        MemoryPod(
            uid=uid,
            target=draw(st.sampled_from((f"pod/{uid}", f"pod/{uid}", ""))),
            guest=draw(st.booleans()),
            pool=draw(st.sampled_from(("share", "dedicated"))),
            bound=draw(st.booleans()) and draw(st.booleans()),
            anon=draw(st.none() | st.dictionaries(st.sampled_from(NODES), AMOUNT)),
        )
        for uid in sorted(draw(st.sets(st.sampled_from("abcd"))))
    ]
    moves = st.builds(
        Moved,
        st.floats(AT - 2000, AT + 100),
        st.sampled_from(NODES),
        st.sets(st.sampled_from(NODES), min_size=1).map(lambda to: tuple(sorted(to))),
    )
    return MemoryView(
        capacity=256 * GIB,
        at=AT,
        nodes=tuple(nodes),
        pods=tuple(pods),
        moved=draw(st.dictionaries(st.sampled_from(("pod/a", "pod/b", "pod/gone")), moves)),
        fresh=draw(st.booleans()) or draw(st.booleans()),
        blind=draw(st.sampled_from(("", "", "no usage"))),
    )


SETTINGS = st.builds(Settings, owners=st.integers(0, 1), most=st.sampled_from((0.0, 500.0)))


@given(views(), SETTINGS)
def test_nobody_moves_who_may_not_nor_where_nobody_may_be_nor_back_nor_too_much(
    view: MemoryView, settings: Settings
) -> None:
    said = advise(view, settings)
    nodes, pods = {node.index: node for node in view.nodes}, {pod.target: pod for pod in view.pods if pod.target}
    assert {target: parse_cpuset(knobs.mems or "") for target, knobs in said.knobs.items()} == {
        target: frozenset(move.to) for target, move in said.moved.items()
    }
    moved = dict.fromkeys(NODES, 0)
    for target, move in said.moved.items():
        pod = pods[target]
        assert not pod.bound
        assert pod.guest or (settings.owners and pod.pool == "share")
        assert move.to
        assert all(nodes[index].guests for index in move.to)
        assert AT - settings.rest < move.at <= AT
        if view.moved.get(target) == move:
            continue
        assert view.fresh
        assert not view.blind
        assert move.source not in move.to
        assert pod.anon is not None
        assert settings.least < pod.anon[move.source] < (settings.guest if pod.guest else settings.owner)
        for other in view.moved.values():
            lately = AT - settings.rest < other.at
            assert not (lately and other.source in move.to and move.source in other.to), "back and forth"
        for index in move.to:
            moved[index] += sum(size for here, size in pod.anon.items() if here not in move.to)
    assert all(amount <= settings.all for amount in moved.values())
    for index, amount in moved.items():
        if amount:
            assert (nodes[index].free or 0) - amount >= 2 * low_of(nodes[index], settings), (
                "a destination came to be full"
            )


@given(views(), SETTINGS, st.randoms(use_true_random=False))
def test_the_order_of_pods_and_nodes_does_not_matter_and_the_memory_survives_the_wire(
    view: MemoryView, settings: Settings, rng: object
) -> None:
    said = advise(view, settings)
    nodes, pods = list(view.nodes), list(view.pods)
    rng.shuffle(pods)  # type: ignore[attr-defined]
    rng.shuffle(nodes)  # type: ignore[attr-defined]
    wired = msgspec.json.decode(msgspec.json.encode(view.moved), type=dict[str, Moved])
    assert advise(replace(view, pods=tuple(pods), nodes=tuple(nodes), moved=wired), settings) == said


@given(views(), SETTINGS)
def test_after_a_quarter_of_an_hour_without_crowd_everybody_may_use_all_nodes(
    view: MemoryView, settings: Settings
) -> None:
    said = advise(view, settings)
    calm = tuple(replace(node, free=node.total, watermark=0, bandwidth=None, latency=None) for node in view.nodes)
    later = replace(view, nodes=calm, moved=said.moved, at=AT + 15 * MINUTE + 1)
    assert advise(later, settings).knobs == {}
