"""The whole system, in virtual time, while things go wrong: whatever happens, the auditor finds nothing.

And once the troubles have passed: every node is advised on fresh numbers within five report periods, whoever fits
somewhere is placed, and whatever is held runs.
"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st

from neap.common.bus.memory import MemoryBroker
from neap.common.model.lifecycle import Ended, EndReason, Submitted
from neap.common.model.placement import Checkpoint, Placed
from neap.common.runtime.clock import loop_clock
from neap.common.testing.simloop import simulate
from neap.common.units import MINUTE
from neap.virtual.faults import Crash, Cut, Noise, Outage, Trouble, over_at
from neap.virtual.simulation import ROOMS, Simulation
from tests.sim.small import STEP, Lived, flaws, live, small_settings

NODES = ("n1", "n2", "n3", "n4")
CENTRAL = ("virtual", "scheduler")
ON_NODES = tuple(room for room in ROOMS if room not in CENTRAL)


def is_well(lived: Lived) -> None:
    """Nothing was broken, and everything works again."""
    assert flaws(lived) == []


def reasons(lived: Lived) -> set[EndReason]:
    return {item.message.reason for item in lived.history.workloads if isinstance(item.message, Ended)}


def test_days_without_trouble_have_everything_the_auditor_looks_at() -> None:
    full, with_cards = live(), live(nodes=6)
    is_well(full)
    is_well(with_cards)
    assert {EndReason.EVICTED, EndReason.FINISHED} <= reasons(full)
    assert any(isinstance(item.message, Checkpoint) for item in full.history.ledger)
    submitted = [item.message.workload for item in full.history.workloads if isinstance(item.message, Submitted)]
    (whale,) = (workload.uid for workload in submitted if workload.name == "whale-0")
    assert "none of 4 nodes takes it: 4 fit cpu" in full.history.queued[whale]
    given = [item.message.placement.gpus for item in with_cards.history.ledger if isinstance(item.message, Placed)]
    assert any(given), "nobody got a card"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_killed_on_every_node_in_the_middle_of_the_day_breaks_nothing(room: str) -> None:
    if room in CENTRAL:
        troubles = [Crash(room, "", at=at * MINUTE + 5, away=45) for at in (5, 15, 24)]
    else:
        troubles = [
            Crash(room, node, at=at * MINUTE + 5, away=45) for node, at in zip(NODES, (5, 14, 15, 24), strict=True)
        ]
    is_well(live(troubles))


def test_everything_killed_at_once_starts_again_and_goes_on() -> None:
    troubles = [Crash(room, node, at=15 * MINUTE + 5, away=20) for room in ON_NODES for node in NODES]
    troubles += [Crash(room, "", at=15 * MINUTE + 5, away=40) for room in CENTRAL]
    is_well(live([*troubles, Outage(at=15 * MINUTE + 3, away=30)]))


def test_a_connection_made_or_mended_while_the_server_is_away_comes_with_the_server() -> None:
    async def main() -> None:
        broker = MemoryBroker()
        cut, lost = broker.bus("cut"), broker.bus("lost")
        broker.disconnect(cut)
        broker.restart(away=30)
        new = broker.bus("new")
        broker.reconnect(cut)
        broker.disconnect(lost)
        await asyncio.sleep(29)
        assert [bus.health.connected for bus in (cut, lost, new)] == [False, False, False]
        await asyncio.sleep(2)
        assert [bus.health.connected for bus in (cut, lost, new)] == [True, False, True]

    simulate(main())


def test_a_room_that_starts_on_a_node_that_is_cut_off_is_cut_off_too() -> None:
    async def main() -> None:
        world = Simulation(small_settings())
        async with world.running(loop_clock(asyncio.get_running_loop(), epoch=0.0)):
            connected = []
            for act in (Cut("n1", 0, 0).strike, Crash("advisor", "n1", 0).strike, Crash("advisor", "n1", 0).pass_over):
                await act(world)
            connected.append(world.parts["advisor", "n1"].bus.health.connected)
            world.mend("n1")
            connected.append(world.parts["advisor", "n1"].bus.health.connected)
            assert connected == [False, True]

    simulate(main())


def test_what_two_troubles_keep_away_is_back_when_the_second_has_passed() -> None:
    async def main() -> None:
        world, key = Simulation(small_settings()), ("advisor", "n1")
        async with world.running(loop_clock(asyncio.get_running_loop(), epoch=0.0)):
            crashes = Crash(*key, at=1, away=3), Crash(*key, at=2, away=9)
            cuts = Cut("n1", at=1, away=3), Cut("n1", at=2, away=9)
            for trouble in (*crashes, *cuts):
                await trouble.strike(world)
            await crashes[0].pass_over(world)
            assert key not in world.parts
            await crashes[1].pass_over(world)
            await cuts[0].pass_over(world)
            assert not world.parts[key].bus.health.connected
            await cuts[1].pass_over(world)
            assert world.parts[key].bus.health.connected

    simulate(main())


# -- plans drawn ---------------------------------------------------------------------------------------------------

AT = st.builds(lambda minute, second: minute * MINUTE + second, st.integers(2, 24), st.sampled_from((0, 1, 7, 31)))
AWAY = st.sampled_from((0.0, 3.0, 40.0, 130.0, 400.0))
CRASH = st.one_of(
    st.builds(Crash, room=st.sampled_from(ON_NODES), node=st.sampled_from(NODES), at=AT, away=AWAY),
    st.builds(Crash, room=st.sampled_from(CENTRAL), node=st.just(""), at=AT, away=AWAY),
)
NOISE = st.one_of(
    st.builds(
        Noise,
        subject=st.sampled_from(("neap.v1.node.>", "neap.v1.node.n1.usage", "neap.v1.node.*.applied")),
        kind=st.sampled_from(("drop", "delay", "duplicate")),
        at=AT,
        away=AWAY,
        share=st.sampled_from((0.3, 1.0)),
        most=st.sampled_from((0.0, 5.0, 150.0)),
    ),
    st.builds(Noise, subject=st.just("neap.v1.work.>"), kind=st.just("redeliver"), at=AT, away=AWAY),
)
TROUBLE: st.SearchStrategy[Trouble] = st.one_of(
    CRASH,
    CRASH,
    NOISE,
    st.builds(Outage, at=AT, away=AWAY),
    st.builds(Cut, node=st.sampled_from(("", *NODES)), at=AT, away=AWAY),
)


@settings(max_examples=6, phases=(Phase.explicit, Phase.generate, Phase.shrink))
@given(troubles=st.lists(TROUBLE, min_size=2, max_size=6), seed=st.integers(0, 3))
def test_whatever_goes_wrong_nothing_is_lost_doubled_or_left_behind(troubles: list[Trouble], seed: int) -> None:
    for kind in sorted({type(trouble).__name__ for trouble in troubles}):
        event(kind)
    is_well(live(troubles, seed=seed, until=max(34 * MINUTE, over_at(troubles) + 6 * STEP)))
