"""Two weeks of a tide, many times: flips, mornings, budgets, and what guests gain; ours, a reactive one, and none.

python -m tests.bench tides      3 seeds of each curve; NEAP_BENCH_SEEDS=20 for more. Table and build/tides.json, build/tides.svg

    morning    04:00-12:00, on a day on which more nodes are needed than were online at 04:00; it is lost if any pod had
               to wait for a node
    flip       a node that has come to be steady on its other side, per node and day, midnight to midnight
    budget     pods that left a service beyond what its budget allowed
    gained     node-hours of guests beyond the static split (30 of 100 nodes); `perfect`: what whoever knows every request
               could have lent, with no spare, no way back and no reserve but the same 30 online
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from neap.common.model.tide import Side, TideMoment, Turning
from neap.common.units import HOUR
from neap.console.core.tidefigure import Timeline, draw
from tests.bench.measure import Row
from tests.bench.tide_policies import Ours, Reactive, Static, foretold
from tests.bench.tide_world import CORES, LOW_WATER, NODES, PER_DAY, STEP, Policy, World

OUT: Final = Path(__file__).resolve().parents[2] / "build"
NAMES: Final = ("ali2018", "google2019")
DAYS: Final = 14
RESERVED: Final = NODES * 30 // 100
WIDEST: Final = 8000  # milli-cores of the largest pods
POLICIES: Final[Mapping[str, Callable[[], Policy]]] = {
    "neap": lambda: Ours(foretold),
    "reactive (Katalyst)": Reactive,
    "static 30/30": Static,
}


def rows() -> Iterator[Row]:
    """The table; the last line of each policy is over both curves."""
    seeds = range(int(os.environ.get("NEAP_BENCH_SEEDS", "3")))
    told: dict[str, list[dict[str, Any]]] = {}
    for policy, make in POLICIES.items():
        told[policy] = [_live(name, seed, make(), policy) for name in NAMES for seed in seeds]
    OUT.mkdir(exist_ok=True)
    (OUT / "tides.json").write_text(json.dumps(told, indent=1))
    for policy, lives in told.items():
        mornings, lost = (sum(life[what] for life in lives) for what in ("mornings", "lost"))
        ours = policy == "neap"
        kept = 100 * (1 - lost / mornings) if mornings else 100.0
        yield Row(name=f"{policy}: mornings with all nodes back", value=kept, unit="%", at_least=99.0 if ours else None,
                  note=f"{mornings - lost} of {mornings}")  # fmt: skip
        yield Row(name=f"{policy}: flips of a node in a day, at most", value=max(life["flips"] for life in lives), unit="",
                  at_most=2.0 if ours else None)  # fmt: skip
        yield Row(name=f"{policy}: pods that left beyond a budget", value=sum(life["violations"] for life in lives), unit="pods",
                  at_most=0.0 if ours else None)  # fmt: skip
        yield Row(
            name=f"{policy}: pods waited for a node",
            value=_mean(lives, "waited_minutes"),
            unit="pod-minutes a fortnight",
        )
        for name in NAMES:
            mine = [life for life in lives if life["curve"] == name]
            perfect = _mean(mine, "perfect")
            yield Row(name=f"{policy}: guests gained on {name}", value=_mean(mine, "gained"), unit="node-hours a fortnight",
                      rival="perfect", rival_value=perfect, ratio=_mean(mine, "gained") / perfect)  # fmt: skip


def _mean(lives: list[dict[str, Any]], what: str) -> float:
    return float(sum(life[what] for life in lives) / len(lives))


def _live(name: str, seed: int, policy: Policy, title: str) -> dict[str, Any]:
    """One fortnight."""
    world, course = World(name, DAYS, seed), list[TideMoment]()
    steady = {node.node: node.side for node in world.nodes}
    flips, waited, online = Counter[tuple[str, int]](), list[int](), list[int]()
    while world.at < DAYS * PER_DAY:
        world.follow_load()
        world.leave()
        waited.append(world.schedule())
        online.append(int(world.is_online().sum()))
        policy(world)
        for node in world.nodes:
            if node.turning is Turning.STEADY and steady[node.node] is not node.side:
                if world.at:
                    flips[node.node, world.at // PER_DAY] += 1
                steady[node.node] = node.side
        course.append(_moment(world))
        world.at += 1
    needed = _needed(world)
    if title == "neap" and seed == 0:
        _draw(name, course, needed)
    mornings, lost = _mornings(needed, np.array(waited), np.array(online))
    lent = sum(moment.offline for moment in course) * STEP / HOUR
    static = RESERVED * DAYS * 24
    return {
        "curve": name, "seed": seed, "mornings": mornings, "lost": lost, "flips": max(flips.values(), default=0),
        "violations": world.violations, "waited_minutes": sum(waited) * STEP / 60, "gained": lent - static,
        "perfect": float(np.clip(NODES - needed, RESERVED, NODES - RESERVED).sum() * STEP / HOUR - static),
        "turning": sum(moment.turning for moment in course) * STEP / HOUR,
        "blocked": sum(moment.blocked for moment in course) * STEP / HOUR,
    }  # fmt: skip


def _needed(world: World) -> Any:
    """Nodes that hold all requests, whatever order pods come in."""
    return np.ceil((world.desired @ world.served.cpu) / (CORES - WIDEST)).astype(int)


def _mornings(needed: Any, waited: Any, online: Any) -> tuple[int, int]:
    begin, counted, lost = LOW_WATER * PER_DAY // 24, 0, 0
    for day in range(DAYS):
        ramp = slice(day * PER_DAY + begin, day * PER_DAY + PER_DAY // 2)
        if needed[ramp].max() > online[ramp.start]:
            counted += 1
            lost += bool(waited[ramp].any())
    return counted, lost


def _moment(world: World) -> TideMoment:
    steady = [node.side for node in world.nodes if node.turning is Turning.STEADY]
    blocked = sum(node.turning is Turning.BLOCKED for node in world.nodes)
    online = sum(side is Side.ONLINE for side in steady)
    return TideMoment(world.now, online, len(steady) - online, NODES - len(steady) - blocked, blocked)


def _draw(name: str, course: list[TideMoment], needed: Any) -> None:
    told = [TideMoment(one.at, one.online, one.offline, one.turning, one.blocked, int(need))
            for one, need in zip(course, needed, strict=True)]  # fmt: skip
    title = f"A fortnight of 100 nodes ({name}): whose they are, and how many online services need"
    (OUT / f"tides-{name}.svg").write_text(draw(Timeline(title, told, told[-1].at)))
