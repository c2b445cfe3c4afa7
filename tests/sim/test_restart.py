"""The advisors of a whole cluster are restarted in mid-day: what they say afterwards is what they would have said."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random

import msgspec
import pytest

from neap.common.contract.catalogue import ADVICE, HEADROOM, MEMORY
from neap.common.cpuset import parse_cpuset
from neap.common.runtime.clock import loop_clock
from neap.common.runtime.remembering import REFUSED
from neap.common.testing.simloop import simulate
from neap.common.units import HOUR, KIB, MINUTE, Seconds
from neap.virtual.faults import Crash, Trouble, plan
from neap.virtual.pace import day_settings
from neap.virtual.simulation import LEAD, Simulation
from tests.sim.small import STEP, examples

LENGTH: Seconds = 4 * HOUR
NODES = ("n1", "n2", "n3")
SMALL_MEMORY = 40 * KIB  # of a node with some twenty pods
LITTLE = 0.02
LOOK: Seconds = 50.0  # into every minute
Said = dict[tuple[Seconds, str], dict[str, float]]  # by minute and node: size of every pool, and every offer


@dataclass
class Day:
    """What was advised and offered, and how it was remembered."""

    pools: Said = field(default_factory=dict)
    offers: Said = field(default_factory=dict)
    largest: int = 0  # memory, in bytes
    refused: float = 0.0


@cache
def a_day(*troubles: Trouble, more: tuple[str, ...] = ()) -> Day:
    """Four hours of three nodes; looked at before the end of every minute."""
    return simulate(_live(troubles, more))


async def _live(troubles: Sequence[Trouble], more: tuple[str, ...]) -> Day:
    settings = day_settings(nodes=len(NODES), seed=1, length=LENGTH, step=STEP)
    world = Simulation([*settings, f"virtual.examples={examples()}", *more], seed=1, faults=plan(*troubles))
    clock, day = loop_clock(asyncio.get_running_loop(), epoch=world.virtual.start - LEAD), Day()
    async with world.running(clock) as bus:
        for minute in range(5, int(LENGTH / MINUTE)):
            await clock.sleep_until(world.virtual.start + minute * MINUTE + LOOK)
            for node in world.nodes:
                advice, offer = await bus.get(ADVICE.at(node=node)), await bus.get(HEADROOM.at(node=node))
                memory = await bus.get(MEMORY.at(room="advisor", node=node))
                if advice is not None and offer is not None:
                    now = minute * MINUTE, node
                    day.pools[now] = {pool.name: len(parse_cpuset(pool.cpus)) for pool in advice.message.pools}
                    day.offers[now] = dict(offer.message.offer)
                day.largest = max(day.largest, len(msgspec.json.encode(memory.message)) if memory is not None else 0)
    day.refused = sum(count for name, count in world.counts.items() if name.startswith(REFUSED))
    return day


def unlike(one: Said, other: Said, *, whole: bool) -> list[float]:
    """Differences relative to the node's CPUs (`whole`), or each to its own size."""
    assert one.keys() == other.keys()
    return [_unlike(one[now], other[now], sum(one[now].values()) if whole else 0.0) for now in sorted(one)]


def _unlike(one: Mapping[str, float], other: Mapping[str, float], whole: float) -> float:
    pairs = [(one.get(name, 0.0), other.get(name, 0.0)) for name in one.keys() | other.keys()]
    return max((abs(a - b) / (whole or max(a, b)) for a, b in pairs if a != b), default=0.0)


def mean(amounts: Sequence[float]) -> float:
    return sum(amounts) / len(amounts)


def restarts(
    at: Seconds, *, asked: bool, away: Seconds = 5.0, rooms: Sequence[str] = ("advisor",)
) -> tuple[Crash, ...]:
    return tuple(Crash(room, node, at, away, asked) for room in rooms for node in NODES)


def here(said: Said, troubles: Sequence[Crash]) -> Said:
    """Without the moments in which nobody was there to say anything."""
    away = [(crash.at, crash.at + crash.away) for crash in troubles]
    return {now: what for now, what in said.items() if not any(gone <= now[0] + LOOK <= back for gone, back in away)}


@pytest.mark.parametrize("asked", [True, False], ids=["asked to stop", "killed"])
@pytest.mark.parametrize(
    ("at", "away"), [(2 * HOUR + 30, 5.0), (2 * HOUR + 47 * MINUTE + 12, 5.0), (90 * MINUTE, 5 * MINUTE)]
)
def test_who_was_restarted_goes_on_as_if_nothing_had_been(at: Seconds, away: Seconds, asked: bool) -> None:
    troubles = restarts(at, asked=asked, away=away)
    steady, restarted = a_day(), a_day(*troubles)
    assert max(unlike(here(steady.pools, troubles), here(restarted.pools, troubles), whole=True)) == 0
    assert max(unlike(here(steady.offers, troubles), here(restarted.offers, troubles), whole=False)) < LITTLE
    assert restarted.refused == 0
    assert 0 < steady.largest < SMALL_MEMORY


@pytest.mark.parametrize("seed", [1, 2])
def test_who_is_killed_again_and_again_differs_at_no_moment(seed: int) -> None:
    random = Random(seed)
    killed = [trouble for _ in range(3) for trouble in restarts(random.uniform(0.2, 0.9) * LENGTH, asked=False)]
    steady, restarted = a_day(), a_day(*killed)
    assert max(unlike(steady.pools, restarted.pools, whole=True)) == 0
    assert max(unlike(steady.offers, restarted.offers, whole=False)) < LITTLE


def test_who_is_killed_together_with_the_reporter_differs_by_little() -> None:
    """Nobody knows the reports since the memory was written, up to ten. One CPU is 6 % of the smallest node here."""
    killed = restarts(7000.0, asked=False, rooms=("advisor", "reporter"))
    steady, restarted = a_day(), a_day(*killed)
    assert 0 < mean(unlike(steady.offers, restarted.offers, whole=False)) < LITTLE
    assert mean(unlike(steady.pools, restarted.pools, whole=True)) < LITTLE


def test_a_memory_that_is_too_old_is_said_to_be_and_not_used() -> None:
    forgetful = a_day(*restarts(2 * HOUR, asked=True, away=3 * MINUTE), more=("advisor.keep_patience=1",))
    assert forgetful.refused == len(NODES)
