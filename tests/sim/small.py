"""A small world for the simulations: four small machines, and forty minutes in which everything happens.

Loading all machine snapshots costs two seconds per process, so an examples folder with the smallest ones is made.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import BinaryIO

from neap.common.bus.port import Bus
from neap.common.contract.catalogue import ADVICE
from neap.common.model.advice import NodeAdvice
from neap.common.runtime.clock import loop_clock
from neap.common.testing.simloop import simulate
from neap.common.units import MINUTE, Seconds
from neap.virtual.audit import History, audit, held_by
from neap.virtual.faults import Trouble, over_at, plan
from neap.virtual.history import read_history
from neap.virtual.pace import day_settings
from neap.virtual.simulation import LEAD, Simulation
from tests.conftest import ROOT
from tests.sim.after import Shadow, left_behind

MACHINES = ("16amd64-8n2c", "16em64t-4s2c2t-offlines", "20em64t-hybrid-1p6c2t+2ca4co1t", "8em64t-2s4c-asymcaches")
STEP: Seconds = MINUTE
SETTLES = 2 * MINUTE  # from a placement to its start, from an end to its release
LOOK = 0.8 * STEP  # after a full minute, when the scheduler has looked at what the minute brought
CALM = 0.6  # of a minute, when nothing is under way
FIT = re.compile(r"[1-9]\d* nodes fit")
DAY = """
name = "forty minutes"
length = "40m"

[[owner]]
name = "cart"
namespace = "shop"
replicas = 6
cpu = "2"
memory = "512Mi"

[[owner]]
name = "pay"
namespace = "shop"
replicas = 2
cpu = "2"
memory = "512Mi"
qos = "dedicated_cores"
at = "1m"

[[owner]]               # more than any machine has: waits for ever
name = "whale"
namespace = "shop"
cpu = "40"
memory = "1Gi"
at = "2m"

[[gpu]]                 # waits for ever where no machine has cards
name = "train"
copies = 5
at = "3m"
every = "3m"
cpu = "500m"
memory = "128Mi"
core = 35
gpu_memory = 4096
duration = "8m"

[[guest]]
name = "index"
copies = 24
at = "4m"
every = "40s"
cpu = "2"
memory = "128Mi"
duration = "11m"

[[owner]]               # when these come, guests must go
name = "rush"
namespace = "shop"
replicas = 9
cpu = "2"
memory = "512Mi"
peak = 0.9
at = "14m"
"""


@cache
def examples() -> Path:
    """An examples folder with the smallest machines; it lives as long as the process."""
    folder = tempfile.TemporaryDirectory(prefix="neap-examples-")
    _KEPT.append(folder)
    root = Path(folder.name)
    (root / "machines").mkdir()
    for name in MACHINES:
        (root / "machines" / f"{name}.tar.bz2").symlink_to(ROOT / "examples" / "machines" / f"{name}.tar.bz2")
    for name in ("curves", "trace"):
        (root / name).symlink_to(ROOT / "examples" / name)
    (root / "day.toml").write_text(DAY)
    return root


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def small_settings(*more: str, nodes: int = 4, seed: int = 1) -> list[str]:
    """Everything a report period long is a virtual minute; advice ages fast, so that ageing happens at all."""
    return [
        *day_settings(nodes=nodes, seed=seed, length=40 * MINUTE, step=STEP),
        f"virtual.examples={examples()}",
        f"virtual.file={examples() / 'day.toml'}",
        "advisor.stale_after=5",
        "advisor.ttl=6",
        f"enforcer.grace={3 * STEP}",
        "scheduler.append.checkpoint_every=8",
        "scheduler.backoff.most=60",
        *more,
    ]


@dataclass
class Lived:
    """What a world came to. `stuck` fitted some node, twice in a row, and was not placed."""

    history: History
    breaches: list[str]
    advice: dict[str, NodeAdvice]  # of every node, five report periods after the last trouble
    healed_at: Seconds  # when the last trouble was over
    stuck: list[str] = field(default_factory=list)
    drifted: list[str] = field(default_factory=list)  # advisors that differ from new ones with the same memory
    left: list[str] = field(default_factory=list)  # what still holds somebody back
    unlike: dict[str, set[str]] = field(default_factory=dict)  # by node: what runs and is not held, or the other way
    counts: dict[str, float] = field(default_factory=dict)


def live(
    troubles: Sequence[Trouble] = (),
    *more: str,
    nodes: int = 4,
    seed: int = 1,
    until: Seconds = 40 * MINUTE,
    journal: BinaryIO | None = None,
) -> Lived:
    """Live through the small day with these troubles, every machine checking itself, and audit what is stored."""
    world = Simulation(
        small_settings(*more, nodes=nodes, seed=seed), seed=seed, faults=plan(*troubles), journal=journal, validate=True
    )
    return simulate(_live(world, until, over_at(troubles)))


async def _live(world: Simulation, until: Seconds, healed: Seconds) -> Lived:
    clock, start = loop_clock(asyncio.get_running_loop(), epoch=world.virtual.start - LEAD), world.virtual.start
    async with world.running(clock) as bus:
        await clock.sleep_until(start + healed + 5 * STEP)
        advice = {node: await _advice(bus, node) for node in world.nodes}
        await clock.sleep_until((clock.now() // STEP + CALM) * STEP)
        shadows = [Shadow(world, bus, node) for node in world.nodes]
        for shadow in shadows:
            await shadow.begin()
        await clock.sleep_until(clock.now() + 2 * STEP)
        drifted = [odd for shadow in shadows for odd in shadow.unlike()]
        await clock.sleep_until(max(start + until, clock.now() + SETTLES) + LOOK)
        waiting = _fitting(await read_history(bus))
        await clock.sleep_until(clock.now() + 3 * STEP)
        history = await read_history(bus)
        held = held_by(history.ledger)
        return Lived(
            history,
            audit(history, now=clock.now(), patience=SETTLES),
            advice,
            healed_at=start + healed,
            stuck=sorted(waiting & _fitting(history)),
            drifted=drifted,
            left=await left_behind(world, bus),
            unlike={node: odd for node in world.nodes if (odd := world.pods_on(node) ^ set(held.get(node, ())))},
            counts=world.counts,
        )


async def _advice(bus: Bus, node: str) -> NodeAdvice:
    found = await bus.get(ADVICE.at(node=node))
    assert found is not None, f"{node} never was advised"
    return found.message


def _fitting(history: History) -> set[str]:
    """Who could be placed, as the scheduler itself says."""
    return {uid for uid, why in history.queued.items() if FIT.match(why)}


def flaws(lived: Lived) -> list[str]:
    """Everything that was broken, or does not work again; in sentences."""
    found = [*lived.breaches, *lived.drifted, *lived.left]
    for node, advice in lived.advice.items():
        late = advice.at - lived.healed_at
        if late < 0:
            found.append(f"{node}: last advised {-late:.0f} s before the last trouble was over")
        if advice.stale:
            found.append(f"{node}: {advice.stale}")
    found += [f"{uid} fits, and is not placed" for uid in lived.stuck]
    found += [f"{node}: what it runs is not what the ledger holds: {odd}" for node, odd in lived.unlike.items()]
    return found
