"""Tide: node-hours in which whole nodes could have changed sides, and days on which they came back too late.

The planner's pass (neap.foresight.tide) every 15 minutes on a pool of all nodes, with its default rule; every two hours
a forecast of a day of what the cluster uses, from what was known then, and nothing is lent while it may not drive.

    as recorded     pods come and go as in the record: what is lent is what nobody asked for
    scaled          every service of a Deployment or StatefulSet has ceil(use / 70 % of its request) replicas, the
                    highest of the last 15 minutes: what a tide is worth once services follow their load
    lent            node-hours on the other side; late: days on which a pod had to wait for a node that would have had
                    one without a tide
Source: neap.foresight.{tide,tide_demand}; pool for what is modelled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from neap.common.model.tide import Side, TideMoment, Turning
from neap.common.units import DAY, HOUR, Cores, Seconds
from neap.console.core.imported import Whose
from neap.console.core.strategies.history import DAEMON, History, Line, evenly
from neap.console.core.strategies.pool import STEP, Pods, Pool, Whole
from neap.console.core.strategies.scaling import KINDS, SMALLEST, TARGET, request_of
from neap.console.core.strategies.verdict import ASSUMED, Table, Verdict, level_of, percent, share, unknown
from neap.foresight.forecasting import Foretold, forecast
from neap.foresight.judging import may_drive
from neap.foresight.past import last_known
from neap.foresight.series import Series, Values
from neap.foresight.tide_demand import Demand, Habit, Outlook, Point, demand
from neap.foresight.tide_rule import Rule, counted

NAME, TITLE = "tide", "nodes that change sides"
NEEDS: Final = "policy tide.enabled=true for a pool; two days of history, and services that scale"
MOST: Final = 60  # nodes
DAYS: Final = 14  # lived through, the newest
LEAST: Final[Seconds] = 3 * DAY  # of history: two until the first forecast, one to see what comes of it
EVERY: Final[Seconds] = 2 * HOUR  # a forecast
QUIET: Final[Seconds] = 2 * DAY  # of history before the first
RECORDED, SCALED = "as recorded", "if services were scaled"
RULE: Final = Rule()
SMALL: Final = 20  # nodes
SLOTS: Final = 7 * 48


@dataclass(frozen=True)
class Ebb:
    """One way the days went."""

    name: str
    hours: float  # node-hours in all
    lent: float  # node-hours
    cores: Cores  # lent, in the mean
    days: int
    late: int
    waited: float  # pod-hours beyond those without a tide
    flips: int  # of a node in a day, at most
    course: Sequence[TideMoment] = ()


def assess(history: History, most: int = MOST) -> Verdict:
    """The verdict."""
    if history.span < LEAST:
        why = (
            f"{history.span / DAY:.1f} days of history; two until there is a forecast, and one to see what comes of it"
        )
        return unknown(NAME, TITLE, why, NEEDS)
    if len(history.capacity) < 3:
        return unknown(NAME, TITLE, f"{len(history.capacity)} nodes; fewer than three are no pool", NEEDS)
    names = evenly(list(history.capacity), most)
    chosen = history.of_nodes(names)
    told = foretold(chosen)
    ways = [lived(chosen, told, RECORDED)]
    if any(whose[1] in KINDS for whose in chosen.services):
        ways.append(lived(chosen, told, SCALED))
    return _verdict(ways, history, chosen, told)


@dataclass(frozen=True)
class Told:
    """What was expected of the cluster's use, by the steps that were known then; `fit`: what might drive."""

    made: int
    fit: dict[int, Foretold]

    @property
    def note(self) -> str:
        """Why little was lent, if it was for that."""
        if 2 * len(self.fit) >= self.made:
            return ""
        said = (
            f"only {len(self.fit)} of {self.made} forecasts of the cluster might drive, at other times nothing is lent"
        )
        return f"{said}; there is no pattern, or too short a history"


def foretold(history: History) -> Told:
    """A forecast every two hours, from its past alone."""
    every, used = round(EVERY / history.step), history.used
    count = round((DAY + EVERY) / history.step)
    first = max(round(QUIET / history.step), history.count - round(DAYS * DAY / history.step))
    made = {place: forecast(used.until(place), count) for place in range(first, history.count, every)}
    return Told(len(made), {place: one for place, one in made.items() if one.cards and may_drive(one.cards[0])})


def lived(history: History, told: Told, name: str, rule: Rule = RULE) -> Ebb:
    """The days in which the pool follows its forecasts."""
    first = max(0, history.count - round(DAYS * DAY / history.step))
    pods, room = pods_of(history, first, scaled=name == SCALED), rooms(history)
    pool, still = (Pool(room, list(history.capacity), pods) for _ in range(2))
    eyes, course, waited = Lookout(history, told.fit), list[TideMoment](), list[int]()
    flips: dict[tuple[str, int], int] = {}
    sides = {node.node: node.side for node in pool.nodes}
    lent = cores = 0.0
    for place, asked in enumerate(pods.asked.tolist()):
        known = min(history.count, first + round((place + 1) * STEP / history.step))
        at = history.start + known * history.step
        waited.append(max(0, pool.follow(place) - still.follow(place)))
        plan = pool.turn(eyes.look(known, asked, at, rule), rule, at)
        away = [n.side is Side.OFFLINE and n.turning is Turning.STEADY for n in pool.nodes]
        lent += sum(away)
        cores += sum(cpu for cpu, is_away in zip(history.capacity.values(), away, strict=True) if is_away)
        for node in pool.nodes:
            if node.turning is Turning.STEADY and node.side is not sides[node.node]:
                day = (node.node, _day(at))
                flips[day], sides[node.node] = flips.get(day, 0) + 1, node.side
        turning = sum(node.turning is not Turning.STEADY for node in pool.nodes)
        course.append(TideMoment(at, len(away) - sum(away) - turning, sum(away), turning, 0, plan.wanted_online))
    late = {_day(moment.at) for moment, some in zip(course, waited, strict=True) if some}
    days = {_day(moment.at) for moment in course}
    each = STEP / HOUR
    return Ebb(
        name, len(course) * len(pool.nodes) * each, lent * each, cores / max(1, len(course)), len(days), len(late),
        sum(waited) * each, max(flips.values(), default=0), course,
    )  # fmt: skip


def _day(at: Seconds) -> int:
    """In which a step was that ended at a time."""
    return math.ceil(at / DAY) - 1


class Lookout:
    """What the tide's desk would be told at a time: from what was known then, and no more."""

    def __init__(self, history: History, told: dict[int, Foretold]) -> None:
        self._used = last_known(history.used.values)
        self._told, self._starts = told, sorted(told)
        self._every, self._step = round(EVERY / history.step), history.step
        self._habit, self._peak = Habit(), (-math.inf, Point(0.0, 0))

    def look(self, known: int, asked: int, at: Seconds, rule: Rule) -> Demand | str:
        """What is needed, or a sentence where nothing is known."""
        now = Point(float(np.nan_to_num(self._used[known - 1])), asked)
        self._habit = self._habit.told(at, asked, SLOTS)
        if now.used >= self._peak[1].used or at - self._peak[0] > DAY:
            self._peak = (at, now)
        place = int(np.searchsorted(self._starts, known, side="right")) - 1
        if place < 0 or known - self._starts[place] > self._every:
            return "no forecast that may drive"
        one = self._told[self._starts[place]]
        seen = Outlook(now, 0.0, one.start, self._step, one.values, one.p90, self._peak[1], self._habit)
        return demand(seen, at, margin=rule.margin, early=rule.early)


def rooms(history: History) -> list[int]:
    """Milli-cores of every node for pods that may run anywhere: what daemons ask there is taken off."""
    asked = dict.fromkeys(history.capacity, 0.0)
    for line in history.lines:
        if line.whose[1] == DAEMON:
            asked[line.node] += line.request * len(line.used) / history.count
    return [max(1, round(1000 * (cores - asked[node]))) for node, cores in history.capacity.items()]


def pods_of(history: History, first: int, *, scaled: bool) -> Pods:
    """Who is there at every step of 15 minutes, by service and size of request."""
    each = round(STEP / history.step) if history.step <= STEP else 1
    steps = math.ceil((history.count - first) * history.step / STEP)
    places = np.minimum(first + np.arange(1, steps + 1) * each, history.count) - 1
    if history.step > STEP:
        places = np.minimum(first + (np.arange(steps) * STEP / history.step).astype(int), history.count - 1)
    kinds: dict[tuple[Whose, int], Whole] = {}
    for whose, lines in _services(history).items():
        if whose[1] == DAEMON:
            continue
        if scaled and whose[1] in KINDS and (request := request_of(lines)) >= SMALLEST:
            kinds[whose, _milli(request)] = _replicas(history.total(lines), request, places, each)
            continue
        for line in lines:
            there = ((places >= line.first) & (places < line.end)).astype(np.int64)
            key = (whose, _milli(line.request))
            kinds[key] = kinds.get(key, np.zeros(steps, dtype=np.int64)) + there
    if not kinds:
        return Pods(np.zeros(1, dtype=np.int64), np.zeros((steps, 1), dtype=np.int64))
    return Pods(np.array([ask for _, ask in kinds], dtype=np.int64), np.stack(list(kinds.values()), axis=1))


def _services(history: History) -> dict[Whose, list[Line]]:
    """Those without a name too, in order of names."""
    found: dict[Whose, list[Line]] = {}
    for line in sorted(history.lines, key=lambda line: (line.whose, line.pod, line.container)):
        found.setdefault(line.whose, []).append(line)
    return found


def _milli(request: Cores) -> int:
    return max(1, round(1000 * request))


def _replicas(total: Series, request: Cores, places: Whole, held: int) -> Whole:
    """What an autoscaler would have, see module docstring."""
    used: Values = np.nan_to_num(last_known(total.values))
    wanted = np.maximum(1, np.ceil(used / (TARGET * request) - 1e-9)).astype(np.int64)
    back = np.maximum(places[:, None] - np.arange(held), 0)
    return np.asarray(wanted[back].max(axis=1))


def _verdict(ways: Sequence[Ebb], history: History, chosen: History, told: Told) -> Verdict:
    plain = ways[0]
    lent = share(plain.lent, plain.hours)
    notes = [told.note] if told.note else []
    if len(ways) > 1:
        more = ways[1]
        notes.append(
            f"{more.name} (70 % of requests): {more.lent:.0f} node-hours ({percent(share(more.lent, more.hours))}), "
            f"late on {more.late} of {more.days} days"
        )
    if (nodes := len(chosen.capacity)) < SMALL:
        stay = counted(RULE.reserve_online, nodes, up=True) + 2 * counted(RULE.spare, nodes, up=True)
        notes.append(
            f"of {nodes} nodes {stay} stay with owners whatever is foreseen (reserve and spare): small pools lend little"
        )
    if len(chosen.capacity) < len(history.capacity):
        notes.append(f"{len(chosen.capacity)} of {len(history.capacity)} nodes, evenly chosen, with who ran there")
    if chosen.is_assumed > 0.5:
        notes.append("requests are not told but assumed, and memory is not looked at: nodes hold what their cores hold")
    return Verdict(
        name=NAME,
        title=TITLE,
        cores=plain.cores * share(history.cores, chosen.cores),
        unit="cores of whole nodes",
        gain=f"{plain.lent:.0f} of {plain.hours:.0f} node-hours ({percent(lent)}) could have been lent to guests whole",
        risk=f"late on {plain.late} of {plain.days} days: pods waited {plain.waited:.1f} pod-hours; at most {plain.flips} flips a day",
        level=level_of(share(plain.late, plain.days) / 10),
        short=share(plain.late, plain.days),
        needs=NEEDS,
        but=ASSUMED if chosen.is_assumed > 0.5 else "",
        notes=tuple(notes),
        figures={
            f"{what}{'' if way is plain else '_if_scaled'}": value
            for way in ways
            for what, value in (
                ("lent_node_hours", way.lent), ("node_hours", way.hours), ("late_days", float(way.late)),
                ("days", float(way.days)), ("waited_pod_hours", way.waited), ("flips", float(way.flips)),
            )
        },
        table=_table(ways),
    )  # fmt: skip


def _table(ways: Sequence[Ebb]) -> Table:
    rows = [
        (
            way.name,
            f"{way.hours:.0f}",
            f"{way.lent:.0f}",
            percent(share(way.lent, way.hours)),
            f"{way.late} of {way.days}",
            f"{way.waited:.1f}",
            f"{way.flips}",
        )
        for way in ways
    ]
    titles = ("pods", "node-hours", "lent", "share", "days late", "pod-hours waited", "flips")
    said = (
        "late: a pod waited for a node that would have had one without a tide; flips: of a node in a day, at most",
        "nothing is lent in the first two days of a history: there is no forecast yet",
    )
    return Table(titles=titles, rows=tuple(rows), said=said, of="ways")
