"""Three ways to let nodes change sides, on one world: by foresight (ours), by waiting pods (Katalyst's), not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np

from neap.common.model.tide import Side, TideNode, Turning
from neap.common.units import DAY, HOUR
from neap.foresight.forecasting import forecast
from neap.foresight.series import Series
from neap.foresight.tide import step
from neap.foresight.tide_demand import Demand, Habit, Outlook, Point, demand
from neap.foresight.tide_room import Ask
from neap.foresight.tide_rule import Node, Plan, Rule
from tests.bench.tide_world import CORES, MEMORY, NODES, PER_DAY, STEP, Numbers, World

RULE: Final = Rule(reserve_online="30%", reserve_offline="30%")
FORESEEN: Final = PER_DAY  # steps ahead
RENEWED: Final = round(2 * HOUR / STEP)
PASS: Final = 2  # steps between two passes: ten minutes, where the planner's desk looks every minute
Foretell: TypeAlias = Callable[[Series, int], tuple[Numbers, Numbers] | None]  # values, 99 % band


@dataclass
class Ours:
    """neap.foresight.tide, a pass every ten minutes; every two hours a forecast of what was used until then."""

    foretell: Foretell
    rule: Rule = RULE
    plan: Plan | None = None
    habit: Habit = field(default_factory=Habit)
    told: tuple[float, Numbers, Numbers] | None = None
    peak: tuple[float, Point] | None = None

    def __call__(self, world: World) -> None:
        """One pass."""
        if world.at % PASS:
            return
        asked = int((world.on.sum(axis=0) + world.waiting) @ world.served.cpu)
        memory = float((world.on.sum(axis=0) + world.waiting) @ world.served.memory)
        used = world.use[: world.at + 1].sum(axis=1)
        now = Point(float(used[-1]), asked)
        foreseen = self._foresee(world, Series(0.0, STEP, used), now, memory)
        self.habit = self.habit.told(world.now, asked, 7 * 48)
        waiting = [
            Ask(int(cpu), int(size), int(count))
            for cpu, size, count in zip(world.served.cpu, world.served.memory, world.waiting, strict=True)
            if count
        ]
        self.plan = step(self._nodes(world), foreseen, waiting, self.rule, world.now)
        for place, (before, after) in enumerate(zip(world.nodes, self.plan.nodes, strict=True)):
            if before.side is Side.OFFLINE and before.turning is Turning.STEADY and after.side is Side.ONLINE:
                world.guests_begin_to_leave(place)
        world.nodes = list(self.plan.nodes)

    def _foresee(self, world: World, used: Series, now: Point, memory: float) -> Demand | str:
        if world.at % RENEWED == 0:
            found = self.foretell(used, FORESEEN + RENEWED)
            self.told = None if found is None else (used.end, *found)
        if self.peak is None or now.used >= self.peak[1].used or world.now - self.peak[0] > DAY:
            self.peak = (world.now, now)
        if self.told is None:
            return "no forecast yet"
        start, values, band = self.told
        outlook = Outlook(now, memory, start, STEP, values, band, self.peak[1], self.habit)
        return demand(outlook, world.now, margin=self.rule.margin, early=self.rule.early)

    @staticmethod
    def _nodes(world: World) -> list[Node]:
        found = []
        for place, (state, row) in enumerate(zip(world.nodes, world.on.tolist(), strict=True)):
            offline = state.side is Side.OFFLINE and state.turning is Turning.STEADY
            guests = 1 if offline or world.has_guests(place) else 0
            asks = _asks(tuple(row), world.sizes)
            found.append(Node(state, CORES, MEMORY, asks, guests=guests, stays=("batch/train",) if guests else ()))
        return found


@lru_cache(maxsize=100_000)
def _asks(counts: tuple[int, ...], sizes: tuple[tuple[int, int], ...]) -> tuple[Ask, ...]:
    return tuple(Ask(cpu, memory, count) for (cpu, memory), count in zip(sizes, counts, strict=True) if count)


class Static:
    """The reserves and nothing else: a third for guests for ever."""

    def __call__(self, world: World) -> None:
        """The split, once."""
        if world.at == 0:
            lent = NODES * 30 // 100
            world.nodes = [
                TideNode(node=node.node, side=Side.OFFLINE if place >= NODES - lent else Side.ONLINE)
                for place, node in enumerate(world.nodes)
            ]


class Reactive:
    """Katalyst's loop: one node a pass of 10 s, by pods that wait; NoExecute takes effect at once.

    Source: reference katalyst-control 3.5. Usage by cores alone (its sum of bytes and milli-cores would be memory).
    """

    passes = round(STEP / 10)

    def __call__(self, world: World) -> None:
        """All passes of a step."""
        if world.at == 0:
            Static()(world)
        for _ in range(self.passes):
            if not (self._serve(world) if world.waiting.any() else self._release(world)):
                return

    def _serve(self, world: World) -> bool:
        """An offline node comes for pods that wait; its guests are killed."""
        lent = [place for place in range(NODES - NODES * 30 // 100) if world.nodes[place].side is Side.OFFLINE]
        if world.schedule() == 0 or not lent:
            return False
        world.nodes[lent[0]] = TideNode(node=world.nodes[lent[0]].node, side=Side.ONLINE, since=world.now)
        world.schedule()
        return True

    def _release(self, world: World) -> bool:
        """The least used tide node goes, if its pods fit elsewhere."""
        tide = range(NODES * 30 // 100, NODES - NODES * 30 // 100)
        online = [place for place in tide if world.nodes[place].side is Side.ONLINE]
        if len(online) < 2:
            return False
        cpu, _ = world.free()
        place = max(online, key=lambda one: int(cpu[one]))
        leaving = world.on[place].copy()
        before = world.on.copy()
        world.on[place] = 0
        world.waiting += leaving
        world.nodes[place] = TideNode(node=world.nodes[place].node, side=Side.OFFLINE, since=world.now)
        if world.schedule():
            world.on, world.waiting = before, np.zeros_like(world.waiting)
            world.nodes[place] = TideNode(node=world.nodes[place].node, side=Side.ONLINE)
            return False
        desired = world.desired[world.at]
        world.violations += int(
            np.maximum(leaving - np.maximum(1, desired // 10) * (world.closed_until <= world.now), 0).sum()
        )
        return True


def seasonal(series: Series, count: int) -> tuple[Numbers, Numbers] | None:
    """The mean of the last days at the same time, newer ones more, and what it was wrong by on the days before."""
    days = len(series) // PER_DAY
    if days < 2:
        return None
    back = min(days, 7)
    rows = series.last(back * PER_DAY).values.reshape(back, PER_DAY)  # every row ends at the same time of day
    weight = 0.7 ** np.arange(back)[::-1]
    mean = (rows * weight[:, None]).sum(axis=0) / weight.sum()
    wrong = rows[1:] / np.maximum(rows[:-1], 1e-9)
    band = mean * max(1.0, float(np.quantile(wrong, 0.99)))
    places = np.arange(count) % PER_DAY
    return mean[places], band[places]


def foretold(series: Series, count: int) -> tuple[Numbers, Numbers] | None:
    """What the planner's desk would be told: two days have to be known, and it has to be worth something."""
    if len(series) < 2 * PER_DAY:
        return None
    found = forecast(series.last(14 * PER_DAY), count)
    return (found.values, found.p90) if found.is_on else None
