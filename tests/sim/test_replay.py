"""A recorded life, handed to a fresh machine, leads to the same decisions: for every room of every node."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from neap.common.runtime.clock import loop_clock
from neap.common.runtime.journal import Recording, replay
from neap.common.runtime.machine import Arrived, Machine
from neap.common.testing.simloop import simulate
from neap.common.units import MINUTE
from neap.virtual.faults import Noise, plan
from neap.virtual.simulation import LEAD, ROOMS, Simulation
from tests.sim.small import small_settings


@pytest.fixture(scope="module")
def lived() -> tuple[Recording, dict[tuple[str, str], Machine]]:
    """What every machine heard and decided in twenty minutes, and a fresh machine for each."""
    recording = Recording()
    late = Noise("neap.v1.node.>", "delay", at=5 * MINUTE, away=10 * MINUTE, share=0.3, most=70.0)
    world = Simulation(small_settings(), seed=1, record=recording, faults=plan(late))

    async def live() -> dict[tuple[str, str], Machine]:
        clock = loop_clock(asyncio.get_running_loop(), epoch=world.virtual.start - LEAD)
        async with world.running(clock) as bus:
            await clock.sleep_until(world.virtual.start + 20 * MINUTE)
            return {who: world.wire(*who, bus)[0].machine for who in world.parts}

    return recording, simulate(live())


def test_every_room_of_every_node_decides_the_same_again(
    lived: tuple[Recording, dict[tuple[str, str], Machine]],
) -> None:
    recording, fresh = lived
    assert {name for name, _ in recording.lives} == set(ROOMS)
    for who, machine in fresh.items():
        assert len(recording.lives[who]) > 10, who
        assert replay(machine, recording.lives[who]) == "", who


def test_a_replay_says_where_it_goes_another_way(lived: tuple[Recording, dict[tuple[str, str], Machine]]) -> None:
    recording, _ = lived
    events = recording.lives["evictor", "n1"]
    told = next(number for number, (_, decided) in enumerate(events) if decided)

    class Deaf:
        def handle(self, event: object) -> tuple[()]:
            return ()

        def validate(self) -> None:
            pass

    said = replay(Deaf(), events)
    assert said.startswith(f"event {told + 1}\n")
    heard, _ = events[told]
    assert isinstance(heard, Arrived)
    assert replay(Deaf(), [(replace(heard, seq=heard.seq), ())]) == ""
