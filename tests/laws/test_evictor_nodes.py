"""Laws of several evictors on one bus: no window of any shared budget sees more, whoever hears what, and how late."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from neap.common.contract.catalogue import EVICTION_TOKENS, PLACEMENTS
from neap.common.model.placement import Checkpoint, Placed, Placement
from neap.common.model.protection import family, minimum
from neap.common.model.scheduling import Gang
from neap.common.model.usage import NodeUsage
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Arrived, Synced
from neap.common.units import GIB
from neap.evictor.core.machine import EvictorMachine
from neap.evictor.core.memory import Memory
from neap.evictor.core.tokens import SharedBudgets
from neap.evictor.settings import Settings
from tests.laws.test_evictor_laws import acts, events_of, workloads
from tests.unit.evictor_world import RULES, TokenBus, World, a_guest, a_report, lends, released, shows

WINDOW = 6.0
GIVEN_UP = 2.0  # after a command: it counts as lost, and the guest as staying
NODES = ("n1", "n2", "n3")
MINIMUM = {"neap.io/min-available": "1"}
guests = st.lists(
    st.tuples(
        st.integers(0, len(NODES) - 1),
        st.sampled_from(["shop", "batch"]),
        st.sampled_from(["Job/j", "Job/k", "StatefulSet/s"]),
        st.sampled_from([{}, {}, {}, {"neap.io/protected": "true"}, MINIMUM]),
        st.sampled_from([None, None, Gang(name="g", least=1)]),
    ),
    min_size=3,
    max_size=14,
)
budgets = st.builds(
    SharedBudgets,
    window=st.just(WINDOW),
    workload=st.integers(0, 2),
    namespace=st.integers(0, 2),
    cluster=st.integers(1, 4),
)
turns = st.lists(
    st.tuples(st.integers(0, len(NODES) - 1), st.booleans(), st.booleans(), st.booleans()), min_size=4, max_size=40
)


def a_cluster(drawn: list[Any], shared: SharedBudgets, bus: TokenBus) -> tuple[list[World], dict[str, Workload]]:
    pods = {
        f"g{i}": a_guest(f"g{i}", namespace=space, owner=owner, labels=labels, gang=gang, memory=9 * GIB)
        for i, (_, space, owner, labels, gang) in enumerate(drawn)
    }
    worlds = []
    for number, node in enumerate(NODES):
        world = World(bus=bus, node=node, shared=shared, most=2, window=4, grace=1.0, confirm_after=1)
        for i, (where, *_) in enumerate(drawn):
            if where == number:
                workload = pods[f"g{i}"]
                placement = Placement(workload=workload, charged=workload.requests)
                world.ledger(Placed(at=float(i), source="s", node=node, placement=placement, reason="fits"))
        worlds.append(world)
    return worlds, pods


@given(guests, budgets, turns)
def test_no_window_of_any_budget_sees_more_than_it_allows(
    drawn: list[Any], shared: SharedBudgets, story: list[tuple[int, bool, bool, bool]]
) -> None:
    bus = TokenBus()
    worlds, pods = a_cluster(drawn, shared, bus)
    left: list[tuple[float, Workload]] = []
    asked: dict[str, float] = {}
    here = {node: {f"g{i}" for i, (where, *_) in enumerate(drawn) if NODES[where] == node} for node in NODES}
    for at, (number, short, hears, releases) in enumerate(story, start=100):
        world = worlds[number]
        if hears:
            for key, (revision, token) in bus.stored.items():
                world.live(Arrived(float(at), token, key, revision))
        containers = [shows(uid, working_set=GIB) for uid in pods]
        report = msgspec.structs.replace(
            a_report(float(at), *containers, memory_available=0 if short else 9 * GIB), node=world.node
        )
        for command in world.live(Arrived(float(at), report)):
            workload = pods[command.uid]
            left.append((command.at, workload))
            assert not workload.labels.get("neap.io/protected")
            assert not workload.owner.startswith("StatefulSet")
            mates = [uid for uid in here[world.node] if family(pods[uid]) == family(workload)]
            stay = [uid for uid in mates if uid != command.uid and asked.get(uid, 0.0) + GIVEN_UP <= at]
            assert len(stay) >= minimum(workload)
            asked[command.uid] = command.at
            if releases:
                here[world.node].discard(command.uid)
                world.ledger(msgspec.structs.replace(released(command.uid, at + 0.5), node=world.node))
    for most, of in (
        (shared.cluster, lambda _: "all"),
        (shared.namespace, lambda one: one.namespace),
        (shared.workload, family),
    ):
        for scope in {of(one) for _, one in left} if most else ():
            asks = [(at, one.uid, one.attempt) for at, one in left if of(one) == scope]
            for start, *_ in asks:  # a command that is repeated is one more, of the same run
                runs = {(uid, attempt) for at, uid, attempt in asks if start <= at < start + WINDOW}
                assert len(runs) <= most


@given(acts, st.integers(0, 40))
def test_who_remembers_acts_as_if_it_had_never_been_away(story: list[Any], when: int) -> None:
    """Restart at any event: the ledger (from its last checkpoint on) and the tokens are read again, inputs are said
    again, the rest is remembered.
    """
    settings: dict[str, Any] = {"most": 3, "window": 8, "grace": 2.0, "confirm_after": 2}
    steady, restarted = World(**settings), World(**settings)
    events = events_of(story)
    stored: list[Any] = []
    said: dict[type, Any] = {}
    for number, event in enumerate(events):
        if number == when:
            memory = msgspec.json.decode(msgspec.json.encode(restarted.machine.memory), type=Memory)
            restarted.machine = EvictorMachine(Settings(node="n1", **settings), RULES)
            restarted.machine.recall(memory, event.at)
            last = max((i for i, old in enumerate(stored) if isinstance(old.message, Checkpoint)), default=0)
            again = [Arrived(event.at, old.message, seq=old.seq) for old in stored[last:]]
            tokens = [Arrived(event.at, token, key, seq) for key, (seq, token) in restarted.bus.stored.items()]
            synced = [Synced(event.at, PLACEMENTS), Synced(event.at, EVICTION_TOKENS)]
            restarted.live(*again, *tokens, *synced, *said.values())
        if isinstance(event, Arrived):
            match event.message:
                case NodeUsage():
                    pass
                case _ if event.seq:
                    stored.append(event)
                case _:
                    said[type(event.message)] = event
        steady.live(event)
        restarted.live(event)
    assert [command.uid for command in steady.commands] == [command.uid for command in restarted.commands]
    assert steady.ids == restarted.ids
    assert [one.why for one in steady.trail] == [one.why for one in restarted.trail]


@given(st.lists(workloads, min_size=2, max_size=5, unique_by=lambda one: one.uid), st.integers(1, 12), st.booleans())
def test_after_a_step_of_load_nobody_leaves_within_the_grace(pods: list[Workload], lasts: int, is_enough: bool) -> None:
    """The offer falls at once; who leaves, leaves after the fifth report, and only if it has not come back by then."""
    world = World()
    for seq, workload in enumerate(pods, start=1):
        placement = Placement(workload=workload, charged=workload.requests)
        world.live(Arrived(0.0, Placed(at=0.0, source="s", node="n1", placement=placement, reason=""), seq=seq))
    for at in range(100, 140):
        short = 110 <= at < 110 + lasts if is_enough else at >= 110
        world.live(Arrived(float(at), lends(0.0 if short else 99.0, float(at))))
        commands = world.live(Arrived(float(at), a_report(float(at))))
        assert not commands or at >= 114
        assert not (is_enough and lasts < 5 and commands)
