"""Which nodes of a pool change sides now. One pass a minute or so; the same input gives the same plan.

    short(t)  = nodes to add until Σ room - spare x room >= need(t)       need: tide_demand, room: tide_room
    return    k = the highest short(t) with  at + lead(short(t)) >= t,  or what waiting pods need to be packed
    lend      a node if  Σ room of the others - 2 x spare x room >= need(t)  until at + drain + stay + lead(1),  its pods, and
              all that wait or are leaving others, pack onto the others now, and its way back is open

Cool-down, a law without exception: no node begins to change sides more than FLIPS times in a day of `zone`. So that
nobody is missed who is lent, a node whose return would be one too many is lent only if none is foreseen before the day
ends, if it ends within `exposed`, and if the others hold the most that was asked at any of its remaining hours in the
last week. A node that could not be emptied for guests stays with online services, has not changed sides, and is left
alone for a day.

Order. To be lent: least of its own size asked by online pods, then fewest pods, then name. To return: who is still
leaving for the other side (it is back at once), then fewest guests, then least work lost since their checkpoints.

Whatever is not known speaks for online services: without a forecast nothing is lent and what was lent comes back; a
time from the future counts as now; nodes that are not there hold nothing. At least one node stays online.
Source: reference katalyst-control 3.5 (reserves, AC-20), whose tide has no memory, no budget and no look ahead; the two
levels, `spare` apart, are a Schmitt trigger.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from neap.common.model.tide import MOST_BLOCKERS, Side, TideNode, Turning
from neap.common.units import DAY, Seconds, format_duration
from neap.foresight.tide_demand import Demand
from neap.foresight.tide_room import Ask, Free, room, total, unplaced
from neap.foresight.tide_rule import FLIPS, Node, Plan, Rule, counted, lead, midnight, most_turning, shares

MOST_TRIES: Final = 16  # nodes looked at to be lent in one pass
MOST_ALERTS: Final = 64


def step(nodes: Iterable[Node], foreseen: Demand | str, waiting: Sequence[Ask], rule: Rule, at: Seconds) -> Plan:
    """One pass; see module docstring. `foreseen`: a sentence where nothing is; `waiting`: online pods without a node."""
    one = _Pass(sorted(nodes, key=lambda node: node.name), foreseen, waiting, rule, at)
    one.believe()
    one.settle()
    one.reserve()
    if not one.come_back():
        one.lend()
    return one.plan()


class _Pass:
    """One call of `step`."""

    def __init__(
        self, nodes: Sequence[Node], foreseen: Demand | str, waiting: Sequence[Ask], rule: Rule, at: Seconds
    ) -> None:
        self._nodes, self._foreseen, self._waiting, self._rule, self._at = nodes, foreseen, waiting, rule, at
        self._states = {node.name: node.state for node in nodes}
        self._alerts: list[str] = []
        self._most, self._day = most_turning(len(nodes), rule), midnight(at, rule.zone)
        self._keep_online, self._keep_offline, _ = shares(len(nodes), rule)
        self._asked = {node.name: total(node.online) for node in nodes}
        self._rooms = self._measured([*waiting, *{ask: None for node in nodes for ask in node.online}])
        spare = counted(rule.spare, len(nodes), up=True)
        self._spare = spare * np.max([np.zeros(3), *self._rooms.values()], axis=0)
        cpu, memory = np.array([total(waiting), *self._asked.values()]).sum(axis=0)
        known = foreseen if isinstance(foreseen, Demand) else None
        self._needs = np.array(
            [[cpu, memory, 0.0], *([] if known is None else known.need)]
        )  # now, then what is foreseen
        self._times = np.array([at, *([] if known is None else known.times)])

    def _measured(self, asks: Sequence[Ask]) -> dict[str, NDArray[np.float64]]:
        """What every node has room for; a pod larger than the widest node is nobody's measure."""
        cpu, memory = (
            max(sizes, default=0) for sizes in ([n.cpu for n in self._nodes], [n.memory for n in self._nodes])
        )
        fitting = [ask for ask in asks if ask.cpu <= cpu and ask.memory <= memory]
        largest = (max((ask.cpu for ask in fitting), default=0), max((ask.memory for ask in fitting), default=0))
        sizes = {(node.cpu, node.memory): None for node in self._nodes if node.present}
        known = {size: room(*size, largest, self._rule.full) for size in sizes}
        nothing = np.zeros(3)
        return {node.name: known[node.cpu, node.memory] if node.present else nothing for node in self._nodes}

    # -- what is ------------------------------------------------------------------------------------------------------

    def _at_side(self, side: Side, *turning: Turning) -> list[Node]:
        wanted, states = turning or tuple(Turning), self._states
        return [
            one for one in self._nodes if (state := states[one.state.node]).side is side and state.turning in wanted
        ]

    def _free_to_turn(self) -> int:
        return self._most - sum(state.turning is Turning.DRAINING for state in self._states.values())

    def _flips_today(self, state: TideNode) -> int:
        return sum(flip >= self._day for flip in state.flips)

    def _have(self, nodes: Iterable[Node]) -> NDArray[np.float64]:
        return np.asarray(sum((self._rooms[node.name] for node in nodes), np.zeros(3)))

    def _lent(self) -> list[Node]:
        """Who may come back, cheapest first."""
        lent = [one for one in self._at_side(Side.OFFLINE, Turning.STEADY) if not self._states[one.name].reserve]
        return sorted(lent, key=lambda node: (not node.present, node.guests, node.lost, node.name))

    def _short(self, order: Sequence[Node], have: NDArray[np.float64]) -> NDArray[np.int64]:
        """Nodes of `order` that are needed beside what there is, per row; one more than all where they do not do."""
        steps = np.cumsum([have, *(self._rooms[node.name] for node in order)], axis=0)
        found = [np.searchsorted(steps[:, kind], self._needs[:, kind], side="left") for kind in range(3)]
        return np.asarray(np.max(found, axis=0), dtype=np.int64)

    def _fullest(self, node: Node) -> tuple[float, str]:
        return -self._fullness(node), node.name

    def _emptiest(self, node: Node) -> tuple[float, int, str]:
        return self._fullness(node), sum(ask.count for ask in node.online), node.name

    def _fullness(self, node: Node) -> float:
        """The larger share of its cores and of its memory that online pods ask."""
        cpu, memory = self._asked[node.name]
        return max(cpu / max(1, node.cpu), memory / max(1, node.memory))

    def _free(self, node: Node) -> Free:
        cpu, memory = self._asked[node.name]
        return Free(node.cpu - cpu, node.memory - memory)

    def _set(self, node: Node, **changes: Any) -> None:
        self._states[node.name] = replace(self._states[node.name], **changes)

    # -- steps --------------------------------------------------------------------------------------------------------

    def believe(self) -> None:
        """A time from the future is a clock that jumped; what it stamped counts as done now."""
        for node in self._nodes:
            state, at = self._states[node.name], self._at
            latest = max((state.since, state.failed, *state.flips))
            if latest > at:
                said = f"{node.name} was stamped {format_duration(latest - at)} after now: the clock went back"
                self._alerts.append(said)
                flips = tuple(min(flip, at) for flip in state.flips)
                self._set(node, since=min(state.since, at), failed=min(state.failed, at), flips=flips)

    def settle(self) -> None:
        """Who is empty has arrived; who is late is blocked, or stays where it was."""
        for node in self._nodes:
            state = self._states[node.name]
            if state.turning is Turning.STEADY:
                continue
            left = node.guests if state.side is Side.ONLINE else sum(ask.count for ask in node.online)
            late = self._at - state.since > self._rule.drain
            if not left:
                why = f"empty after {format_duration(self._at - state.since)}"
                self._set(node, turning=Turning.STEADY, since=self._at, blockers=(), why=why)
            elif state.side is Side.ONLINE and (late or state.turning is Turning.BLOCKED):
                self._block(node, left)
            elif late:
                self._give_up(node, left)

    def _block(self, node: Node, left: int) -> None:
        state, names = self._states[node.name], node.stays[:MOST_BLOCKERS]
        since = state.since if state.turning is Turning.BLOCKED else self._at
        why = f"{left} guests did not leave within {format_duration(self._rule.drain)}"
        self._set(node, turning=Turning.BLOCKED, since=since, blockers=names, why=why)
        self._alerts.append(f"{node.name} does not come back: {why}: {_few(names)}")

    def _give_up(self, node: Node, left: int) -> None:
        names = node.stays[:MOST_BLOCKERS]
        why = f"{left} online pods did not leave within {format_duration(self._rule.drain)}"
        self._stay(node, why)
        self._set(node, failed=self._at, blockers=names)
        self._alerts.append(f"{node.name} stays online: {why}: {_few(names)}")

    def _stay(self, node: Node, why: str) -> None:
        """It never left: online again, and that was no flip."""
        flips = self._states[node.name].flips[:-1]
        self._set(node, side=Side.ONLINE, turning=Turning.STEADY, since=self._at, flips=flips, why=why, blockers=())

    def reserve(self) -> None:
        """Who never changes sides; online those that are fullest, where it is not settled yet."""
        for side, count in ((Side.ONLINE, self._keep_online), (Side.OFFLINE, self._keep_offline)):
            steady = self._at_side(side, Turning.STEADY)
            mine = [node for node in steady if self._states[node.name].reserve]
            for node in mine[count:]:
                self._set(node, reserve=False)
            if len(mine) < min(count, len(steady)):
                others = [node for node in steady if not self._states[node.name].reserve and node.present]
                for node in sorted(others, key=self._fullest)[: count - len(mine)]:
                    self._set(node, reserve=True)

    def come_back(self) -> int:
        """Begin to return what is needed; how many more nodes online services need than they have or get."""
        leaving = [] if self._keeps_leaving() else self._at_side(Side.OFFLINE, Turning.DRAINING)
        lent = self._lent()
        count = self._wanted_back([*leaving, *lent])
        for node in leaving[:count]:
            self._stay(node, f"online services need it again: {self._words()}")
        left = max(0, count - len(leaving))
        free = [one for one in lent if self._flips_today(self._states[one.name]) < FLIPS and one.present]
        for node in free[: max(0, min(left, self._free_to_turn()))]:
            self._turn(node, Side.ONLINE, f"online services need it: {self._words()}")
        if left > len(free):
            held = len(lent) - len(free)
            why = f" ({held} have changed sides {FLIPS} times today, or are not there)" if held else ""
            self._alerts.append(f"online services want {left} more nodes, {len(free)} can come back{why}")
        return count

    def _keeps_leaving(self) -> bool:
        """Without a forecast those that are leaving for the offline reserve go on."""
        lacking = self._keep_offline - len(self._at_side(Side.OFFLINE, Turning.STEADY))
        return isinstance(self._foreseen, str) and lacking >= len(self._at_side(Side.OFFLINE, Turning.DRAINING))

    def _wanted_back(self, order: Sequence[Node]) -> int:
        """How many of `order` have to be on their way now."""
        if not order or isinstance(self._foreseen, str):
            return len(order)
        coming = self._at_side(Side.ONLINE, Turning.STEADY, Turning.DRAINING)
        short = np.minimum(self._short(order, self._have(coming) - self._spare), len(order))
        leads = np.array([lead(count, self._most, self._rule) for count in range(len(order) + 1)])
        due = short[self._times <= self._at + leads[short]]
        return max(int(due.max(initial=0)), self._to_pack(order, coming))

    def _to_pack(self, order: Sequence[Node], coming: Sequence[Node]) -> int:
        """How many of `order` it takes to place, one by one, whoever waits now and can be helped."""
        left, helped = unplaced(self._waiting, [self._free(node) for node in coming if node.present]), 0
        for count, node in enumerate(order, start=1):
            if not left:
                break
            still = unplaced(left, [self._free(node)]) if node.present else left
            helped, left = (count if still != left else helped), still
        if left:
            largest = max(left, key=lambda ask: (ask.cpu, ask.memory))
            many = sum(ask.count for ask in left)
            self._alerts.append(
                f"{many} online pods wait and fit no node that can come back, such as {largest.cpu}m cpu"
            )
        return helped

    def lend(self) -> None:
        """Begin to lend what is not needed for long enough."""
        steady = [node for node in self._at_side(Side.ONLINE, Turning.STEADY) if node.present]
        leaving = self._at_side(Side.OFFLINE, Turning.DRAINING)
        moving = [*self._waiting, *(ask for node in leaving for ask in node.online)]
        have, free, tries = self._have(steady), self._free_to_turn(), MOST_TRIES
        lacking = self._keep_offline - len(self._at_side(Side.OFFLINE))
        if free <= 0 or (lacking <= 0 and not self._has_spare(have)):
            return
        for node in sorted((node for node in steady if self._may_leave(node)), key=self._emptiest):
            if free <= 0 or tries <= 0 or len(steady) <= max(1, self._keep_online):
                return
            tries, left = tries - 1, have - self._rooms[node.name]
            why = "guests' reserve is not full yet" if lacking > 0 else self._not_needed(node, left)
            others = [one for one in steady if one is not node] if why else []
            if why and not unplaced([*moving, *node.online], [self._free(one) for one in others]):
                self._turn(node, Side.OFFLINE, why)
                steady, have, moving, free, lacking = others, left, [*moving, *node.online], free - 1, lacking - 1

    def _has_spare(self, have: NDArray[np.float64]) -> bool:
        """Whether there is more than is needed until a node that is lent now could be back, and the spare ones."""
        way_back = lead(1, self._most, self._rule)
        until = self._at + self._rule.drain + self._rule.stay + way_back
        if isinstance(self._foreseen, str) or self._times[-1] + self._foreseen.step < until:
            return False
        return not (self._needs[self._times <= until] > have - 2 * self._spare).any()

    def _may_leave(self, node: Node) -> bool:
        state = self._states[node.name]
        if state.reserve or (state.failed and self._at - state.failed < DAY) or self._flips_today(state) >= FLIPS:
            return False
        return self._at - state.since >= self._rule.stay and all(ask.movable for ask in node.online)

    def _not_needed(self, node: Node, have: NDArray[np.float64]) -> str:
        """Why a node may be lent, if the others have that room; empty if it may not."""
        if not self._has_spare(have):
            return ""
        over = self._times[(self._needs > have).any(axis=1)]
        first = float(over[0]) - lead(1, self._most, self._rule) if len(over) else math.inf
        if self._flips_today(self._states[node.name]) + 1 >= FLIPS and not self._is_safe_today(have, first):
            return ""
        for_long = f"for {format_duration(first - self._at)}" if len(over) else "as far as is foreseen"
        return f"not needed {for_long}: {self._words()}; the others hold {have[0] / 1000:.1f}"

    def _is_safe_today(self, have: NDArray[np.float64], first: Seconds) -> bool:
        """Whether a node that could not come back today is not missed: by what is foreseen, nor by what was usual."""
        end = self._day + DAY
        if first < end or end - self._at > self._rule.exposed or isinstance(self._foreseen, str):
            return False
        today = self._foreseen.times < end
        usual = self._foreseen.usual
        return len(usual) == len(today) and bool((usual[today] <= have[0]).all())

    def _turn(self, node: Node, side: Side, why: str) -> None:
        flips = (*self._states[node.name].flips, self._at)[-FLIPS:]
        self._set(node, side=side, turning=Turning.DRAINING, since=self._at, flips=flips, why=why, blockers=())

    def _words(self) -> str:
        return self._foreseen if isinstance(self._foreseen, str) else self._foreseen.words

    # -- what is said -------------------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """The states after this pass, and what comes next."""
        rule, online = self._rule, self._at_side(Side.ONLINE)
        rest = [node for node in self._nodes if self._states[node.name].side is Side.OFFLINE]
        order = [*sorted(online, key=self._fullest), *rest]
        needed = np.minimum(self._short(order, -self._spare), len(order))
        needed = np.maximum(needed, min(self._keep_online, len(order)))
        until = self._at + rule.drain + rule.stay
        wanted = int(needed[self._times <= until].max())
        if isinstance(self._foreseen, str):
            wanted = len(order) - self._keep_offline
        late = [
            f"{state.node} stays online: {state.why}: {_few(state.blockers)}"
            for state in self._states.values()
            if state.failed and state.failed < self._at < state.failed + DAY and state.blockers
        ]
        next_change, ready_by, returning = self._next(needed, len(online))
        return Plan(
            tuple(self._states.values()), wanted, until, next_change, ready_by, returning,
            needed=needed[1:], arithmetic=self._arithmetic(wanted, until), alerts=tuple([*self._alerts, *late][:MOST_ALERTS]),
        )  # fmt: skip

    def _next(self, needed: NDArray[np.int64], online: int) -> tuple[Seconds, Seconds, int]:
        """When nodes are turned next: begin, by when the first of them is needed, how many come back."""
        coming = self._have(self._at_side(Side.ONLINE, Turning.STEADY, Turning.DRAINING))
        lent = self._lent()
        short = np.minimum(self._short(lent, coming - self._spare), len(lent))
        after = short > 0
        if after.any():
            begins = [
                t - lead(int(k), self._most, self._rule) for t, k in zip(self._times[after], short[after], strict=True)
            ]
            return max(self._at, float(min(begins))), float(self._times[after][0]), int(short.max())
        spare = counted(self._rule.spare, len(self._nodes), up=True)
        few = np.flatnonzero(needed + spare < online)
        return (float(self._times[few[0]]) if len(few) else 0.0), 0.0, 0

    def _arithmetic(self, wanted: int, until: Seconds) -> str:
        if isinstance(self._foreseen, str):
            return f"{wanted} of {len(self._nodes)} nodes online, all but guests' reserve: {self._foreseen}"
        most = self._needs[self._times <= until].max(axis=0)
        return (
            f"{wanted} of {len(self._nodes)} nodes online for {format_duration(until - self._at)}: "
            f"{most[0] / 1000:.1f} cores to place, {most[2]:.1f} used at {self._rule.full:.0%}, "
            f"{self._keep_online} at least; {self._foreseen.words}"
        )


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) or "unnamed"
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
