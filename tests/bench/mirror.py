"""What 20,000 nodes cost an API server: a day of what they lend, through the gateway's mirror.

Virtual time: every node says what it lends once a minute: a day's curve of load, a load of its own that is drawn anew
every ten minutes (1 %), and on every third node a job of a tenth of the machine, twenty minutes of every forty. Offers
move as the advisor moves them, down at once and up by steps. Counted are calls.
Goal: 50 calls per second (requirements 000-17); the floor, 20,000 nodes every ten minutes, is 33.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random
from statistics import quantiles

from neap.common.model.resource import RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.units import DAY, GIB, HOUR, MINUTE
from neap.gateway.core.nodes.mirror import Mirror, MirrorSettings, is_change
from tests.bench.measure import Row

NODES, CORES, MEMORY = 20_000, 64, 256
LENGTH, START = HOUR, 7 * HOUR  # the morning, when load rises fastest
WARM = 30 * MINUTE  # until every node was written once
STEP_UP = 0.04  # of the machine, per minute
GOAL = 50.0
OWN = [Random(i).gauss(0, 0.01) for i in range(9973)]  # loads of nodes' own, drawn from by node and time


def rows() -> Iterator[Row]:
    settings = MirrorSettings()
    mirror, at = Mirror(settings), START
    offers = [CORES * 1000] * NODES
    names = [f"n{i}" for i in range(NODES)]
    written: list[dict[str, int]] = [{} for _ in names]
    since: dict[int, float] = {}
    for name in names:
        mirror.see(name, {}, at)
    per_second: list[int] = []
    waits: dict[bool, list[float]] = {False: [], True: []}  # by whether less was offered than was written
    while at < START + WARM + LENGTH:
        second = int(at) % 60
        for i in range(second, NODES, 60):
            offers[i] = _offer(i, at, offers[i])
            amounts = {RECLAIMED_CPU: offers[i], RECLAIMED_MEMORY: (MEMORY * GIB * offers[i]) // (CORES * 1000)}
            mirror.offer(names[i], amounts, at)
            if is_change(written[i].get(RECLAIMED_CPU), offers[i], settings.least_change):
                since.setdefault(i, at)
            else:
                since.pop(i, None)
        at += 1.0
        calls = 0
        for write in mirror.take(at, 1.0):
            calls += 1 + write.both
            i = int(write.node[1:])
            if write.both:
                less = offers[i] < written[i].get(RECLAIMED_CPU, 0)
                written[i] = mirror.offered(write.node)
                if i in since and at > START + WARM:
                    waits[less].append(at - since[i])
                since.pop(i, None)
            mirror.answered(write.node, at, well=True)
        if at > START + WARM:
            per_second.append(calls)
    what = f"calls/s to the API, {NODES} nodes, {LENGTH / HOUR:.0f} h of a day"
    yield Row(name=what, value=sum(per_second) / len(per_second), unit="calls/s", at_most=GOAL, note="mean")
    yield Row(name="the same, the busiest second", value=float(max(per_second)), unit="calls/s", at_most=GOAL)
    for less, found in waits.items():
        late = quantiles(found, n=100)[98] if len(found) > 1 else 0.0
        name = f"{'less' if less else 'more'} offered, by 5 %, is written after"
        yield Row(name=name, value=late, unit="s", note=f"p99 of {len(found)}; most {max(found, default=0):.0f} s")


def _offer(node: int, at: float, before: int) -> int:
    """Milli-cores lent: what owners leave, down at once, up by steps, as the advisor does."""
    phase = (node % 97) / 97 * HOUR
    own = OWN[(7919 * node + 104_729 * int((at + phase) // (10 * MINUTE))) % len(OWN)]
    load = 0.45 - 0.3 * math.cos(2 * math.pi * (at + phase - 3 * HOUR) / DAY) + own
    if node % 3 == 0 and int((at + phase) // (20 * MINUTE)) % 2:
        load += 0.1
    wanted = int(CORES * 1000 * max(0.02, 1.0 - load) * 0.9)
    return wanted if wanted < before else min(wanted, before + int(STEP_UP * CORES * 1000))
