"""The desk of tides: a pass per pool and period, said when a node or an alert is new, or after a while.

    cluster + record + forecast of the pool ─► tide_demand ─► tide.step ─► TIDES, a line in the trail of each pod to move

What the next life has to know is in TIDES: sides, since when, flips, what was asked at which time of day, the last peak.
After a start the forecast may come later than the first pass: what was lent stays so for `patience`, and no longer than
until the return that was foreseen. What acts on TIDES, and how: see neap.common.model.tide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import msgspec
import numpy as np

from neap.common.contract.catalogue import TIDES
from neap.common.errors import InputError
from neap.common.model.forecast import CLUSTER_SCOPE
from neap.common.model.lifecycle import Ended, Submitted
from neap.common.model.placement import Checkpoint, Placed
from neap.common.model.resource import CPU
from neap.common.model.tide import MOST_COURSE, MOST_SLOTS, Side, TideMoment, TideNode, TidePool, Turning
from neap.common.model.trail import ObjectRef, TrailEntry
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Arrived, Count, Decide, Delete, Event, Instruction, Put, Synced
from neap.common.telemetry.span import object_context
from neap.common.units import DAY, Seconds
from neap.foresight.tide import step
from neap.foresight.tide_demand import SLOT, Demand, Habit, Outlook, Point, demand
from neap.foresight.tide_room import total
from neap.foresight.tide_rule import Plan
from neap.planner.core.cluster import Cluster
from neap.planner.core.cluster import Node as ClusterNode
from neap.planner.core.desk import SOURCE
from neap.planner.core.forecasting.desk import Forecasts
from neap.planner.core.record import Record
from neap.planner.core.tides.gathering import gathered, other, pools, side_of, used_by_owners, waiting_for
from neap.planner.core.tides.settings import TideSettings
from neap.planner.core.wishes import Wishes

MOST_WAITING: Final = 20_000  # pods without a node that are looked at
MOST_LINES: Final = 500  # of trails, in one pass
KEPT: Final[Seconds] = 2 * DAY  # of the course
TURNED: Final = "neap_planner_tide_turns_total"
UNNAMEABLE: Final = "neap_planner_tide_unnameable_total"
UNSURE: Final = "neap_planner_tide_unsure_total"


@dataclass
class _Pool:
    """What the desk keeps of one pool beside what it said."""

    said: TidePool
    unsure: Seconds | None = None  # since when there is no forecast
    told_at: Seconds = field(default=-np.inf)
    fresh: bool = False  # `said` is of this life


class TidesDesk:
    """See module docstring."""

    news: Final = (TidePool, Submitted, Placed, Checkpoint, Ended)

    def __init__(self, wishes: Wishes, cluster: Cluster, record: Record, forecasts: Forecasts) -> None:
        self._wishes, self._cluster, self._record, self._forecasts = wishes, cluster, record, forecasts
        self._pools: dict[str, _Pool] = {}
        self._waiting: dict[str, Workload] = {}
        self._is_synced = False

    def hear(self, event: Event) -> Sequence[Instruction]:
        """See Desk."""
        match event:
            case Arrived(message=TidePool() as said) if not self._is_synced:
                self._pools[said.pool] = _Pool(said)
            case Synced(channel=channel) if channel == TIDES:
                self._is_synced = True
            case Arrived(message=Submitted(workload=workload, node="")) if len(self._waiting) < MOST_WAITING:
                if side_of(workload) is Side.ONLINE:
                    self._waiting[workload.uid] = workload
            case Arrived(message=Placed(placement=placement)):
                self._waiting.pop(placement.workload.uid, None)
            case Arrived(message=Checkpoint(placements=placements)):
                for placement in placements:
                    self._waiting.pop(placement.workload.uid, None)
            case Arrived(message=Ended(uid=uid)):
                self._waiting.pop(uid, None)
        return ()

    def plan(self, at: Seconds) -> Sequence[Instruction]:
        """See Desk."""
        if not self._is_synced:
            return ()
        said: list[Instruction] = []
        wished: dict[str, None] = {}
        for pool, nodes in pools(self._cluster).items():
            settings = self._wishes.of_pool(pool).tide
            if settings.enabled and not _is_nameable(pool):
                said.append(Count(UNNAMEABLE))
            elif settings.enabled:
                wished[pool] = None
                said += self._pass(pool, nodes, settings, at)
        for pool in sorted(self._pools.keys() - wished.keys()):
            del self._pools[pool]
            said.append(Delete(TIDES.at(pool=pool)))
        return said

    def validate(self) -> None:
        """See Desk."""
        for name, pool in self._pools.items():
            nodes = [state.node for state in pool.said.nodes]
            assert len(nodes) == len(set(nodes)), f"{name}: a node is there twice"
            assert all(not state.blockers or state.why for state in pool.said.nodes), (
                f"{name}: blocked without a reason"
            )

    # -- one pool ----------------------------------------------------------------------------------------------------

    def _pass(
        self, name: str, found: Sequence[ClusterNode], settings: TideSettings, at: Seconds
    ) -> Iterator[Instruction]:
        pool = self._pools.setdefault(name, _Pool(TidePool(at=at, source=SOURCE, pool=name)))
        before = {state.node: state for state in pool.said.nodes}
        nodes = gathered(self._cluster, found, before, at)
        waiting = waiting_for((w for uid, w in self._waiting.items() if uid not in self._cluster.pods), found)
        asked, memory = total([*waiting, *(ask for node in nodes for ask in node.online)])
        now = Point(used_by_owners(self._record, found), asked)
        pool.said = _remembered(pool.said, now, at)
        foreseen = self._foreseen(pool, settings, now, memory, at)
        if isinstance(foreseen, str):
            yield Count(UNSURE, labels={"pool": name})
        plan = step(nodes, foreseen, waiting, settings, at)
        turned = [new for new in plan.nodes if new.side is not before.get(new.node, new).side]
        for state in turned:
            yield Count(TURNED, labels={"pool": name, "side": state.side})
        yield from self._lines(name, [one for one in plan.nodes if _began(before.get(one.node), one)], at)
        yield from self._say(pool, plan, foreseen, settings, at)

    def _foreseen(self, pool: _Pool, settings: TideSettings, now: Point, memory: float, at: Seconds) -> Demand | str:
        """What is needed, or a sentence where nothing is known; see module docstring for the time after a start."""
        name = (CLUSTER_SCOPE, "NodePool", pool.said.pool, CPU)
        self._forecasts.want(name, settings.horizon)
        told, why = self._forecasts.of(name), "there is no forecast of the pool that may drive decisions"
        if told is not None:
            band = told.p90 if len(told.p90) == len(told.values) else ()
            habit = Habit(pool.said.asked_from, pool.said.asked)
            outlook = Outlook(
                now, memory, told.start, told.step, np.array(told.values), np.array(band) if band else None,
                Point(pool.said.peak_used, pool.said.peak_asked), habit, told.version,
            )  # fmt: skip
            found = demand(outlook, at, margin=settings.margin, early=settings.early)
            if isinstance(found, Demand):
                pool.unsure = None
                return found
            why = found
        pool.unsure = at if pool.unsure is None or pool.unsure > at else pool.unsure
        due = pool.said.ready_by and at >= pool.said.next_change
        if pool.said.forecast and at - pool.unsure < settings.patience and not due:
            need = np.array([[now.asked, memory, 0.0]])
            return Demand(at, 1.0, need, version=pool.said.forecast, words=f"{why}; sides are kept for a while")
        return why

    def _lines(self, pool: str, turned: Sequence[TideNode], at: Seconds) -> Iterator[Instruction]:
        """A line for each pod that has to leave a node."""
        told = (
            Decide(_line(pool, state, pod.workload, at))
            for state in turned
            for pod in self._cluster.pods_of(self._cluster.nodes[state.node])
            if side_of(pod.workload) is other(state.side)
        )
        yield from islice(told, MOST_LINES)

    def _say(
        self, pool: _Pool, plan: Plan, foreseen: Demand | str, settings: TideSettings, at: Seconds
    ) -> Iterator[Instruction]:
        old = pool.said
        is_news = plan.nodes != old.nodes or plan.alerts != old.alerts or not pool.fresh
        if not is_news and 0 <= at - pool.told_at < settings.repeat:
            return
        ahead, ahead_from = _ahead(plan, foreseen)
        next_change, ready_by, returning = plan.next_change, plan.ready_by, plan.returning
        if pool.unsure is not None and isinstance(foreseen, Demand):  # what was foreseen last still holds
            ahead, ahead_from = old.ahead, old.ahead_from
            next_change, ready_by, returning = old.next_change, old.ready_by, old.returning
        moment = _moment(plan, at, int(plan.needed[0]) if plan.needed is not None and len(plan.needed) else 0)
        course = tuple(one for one in (*old.course, moment) if at - KEPT <= one.at <= at)[-MOST_COURSE:]
        pool.said = TidePool(
            at=at, source=SOURCE, pool=old.pool, nodes=plan.nodes, wanted_online=plan.wanted_online, until=plan.until,
            next_change=next_change, arithmetic=plan.arithmetic,
            forecast=foreseen.version if isinstance(foreseen, Demand) else "",
            alerts=plan.alerts, ready_by=ready_by, returning=returning, zone=settings.zone, course=course,
            ahead=ahead, ahead_from=ahead_from, asked=old.asked, asked_from=old.asked_from,
            peak_used=old.peak_used, peak_asked=old.peak_asked, peak_at=old.peak_at,
        )  # fmt: skip
        pool.told_at, pool.fresh = at, True
        yield Put(TIDES.at(pool=old.pool), pool.said)


def _is_nameable(pool: str) -> bool:
    """Whether a subject can have its name: a label may have an underscore, a token not."""
    try:
        TIDES.at(pool=pool)
    except InputError:
        return False
    return True


def _began(old: TideNode | None, new: TideNode) -> bool:
    """Whether somebody has to leave from now on."""
    was = old is not None and old.side is new.side and old.turning is not Turning.STEADY
    return new.turning is Turning.DRAINING and not was


def _line(pool: str, state: TideNode, workload: Workload, at: Seconds) -> TrailEntry:
    about = ObjectRef(namespace=workload.namespace, name=workload.name, uid=workload.uid)
    return TrailEntry(
        at=at, source=SOURCE, id=f"{workload.uid}.{workload.attempt}.tide.{state.since:.0f}", about=about,
        what="asked to leave", why=f"{state.node} of pool {pool} turns {state.side}: {state.why}", node=state.node,
        trace=object_context(about).trace, parent=workload.owner,
    )  # fmt: skip


def _remembered(said: TidePool, now: Point, at: Seconds) -> TidePool:
    """With what is asked and used now."""
    habit = Habit(said.asked_from, said.asked).told(at, now.asked, MOST_SLOTS)
    changes: dict[str, Any] = {"asked": tuple(habit.asked), "asked_from": habit.start}
    if now.used >= said.peak_used or not 0 <= at - said.peak_at <= DAY:
        used = now.used if np.isfinite(now.used) else 0.0
        changes |= {"peak_used": used, "peak_asked": now.asked, "peak_at": at}
    return msgspec.structs.replace(said, **changes)


def _moment(plan: Plan, at: Seconds, needed: int) -> TideMoment:
    steady = [state.side for state in plan.nodes if state.turning is Turning.STEADY]
    blocked = sum(state.turning is Turning.BLOCKED for state in plan.nodes)
    online = sum(side is Side.ONLINE for side in steady)
    return TideMoment(
        at=at, online=online, offline=len(steady) - online, turning=len(plan.nodes) - len(steady) - blocked,
        blocked=blocked, needed=needed,
    )  # fmt: skip


def _ahead(plan: Plan, foreseen: Demand | str) -> tuple[tuple[int, ...], Seconds]:
    """The most nodes needed per SLOT."""
    if isinstance(foreseen, str) or plan.needed is None or not len(plan.needed):
        return (), 0.0
    slots = np.floor(foreseen.times / SLOT).astype(np.int64)
    starts = np.flatnonzero(np.diff(slots, prepend=slots[0] - 1))
    highest = np.maximum.reduceat(plan.needed, starts)
    return tuple(int(one) for one in highest[:96]), float(slots[0] * SLOT)
