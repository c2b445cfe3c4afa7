"""The scaling desk: every look, for every service that is scaled, how many replicas it should have.

    use (the pods' reports since the last look) ┐
    forecast (Forecasts) ───────────────────────┼─► judge (which manner) ─► decide ─► SCALING, trail
    starts (Cluster), bounds of the clock ──────┘

A plan is told when what is desired, its bounds or its flags change, and again after `renew`. In `auto` the gateway acts on
it; in `preview` nobody does. Cost of a look: O(replicas of the services looked at), at most `services` of them.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from neap.common.contract.catalogue import SCALING
from neap.common.contract.channel import Address
from neap.common.errors import InputError
from neap.common.model.forecast import Forecast
from neap.common.model.scaling import ScaleMode, ScalingPlan
from neap.common.model.trail import TrailEntry
from neap.common.model.usage import NodeUsage
from neap.common.runtime.machine import Arrived, Count, Decide, Delete, Event, Instruction, Put
from neap.common.telemetry.span import object_context
from neap.common.units import HOUR, Seconds
from neap.foresight.cron import Bound, parse_bounds
from neap.foresight.manners import Judge
from neap.foresight.scaling import Decision, Load, Rules, StabilizationWindow, predicted
from neap.planner.core.cluster import Cluster, Service
from neap.planner.core.desk import SOURCE
from neap.planner.core.forecasting.desk import Forecasts
from neap.planner.core.forecasting.gathering import SeriesName
from neap.planner.core.keys import key_of, object_of, tokens_of
from neap.planner.core.scaling import counting
from neap.planner.core.scaling.gauge import Gauge
from neap.planner.core.scaling.settings import Scaling
from neap.planner.core.wishes import Wishes

TOLD: Final = "neap_planner_scaling_told_total"
LEFT_OUT: Final = "neap_planner_scaling_left_out_total"
KINDS: Final = frozenset({"Deployment", "ReplicaSet", "StatefulSet"})
HORIZON: Final[Seconds] = 4 * HOUR  # of the forecasts asked for
AT_ONCE: Final = 5000  # services that are asked whether they are scaled, in one look: 10 ms
RELIST: Final[Seconds] = 60.0  # who is scaled is looked up so often, and when policy changes
Wanted: TypeAlias = tuple[bool, str, Scaling]  # those of auto come first


@dataclass(slots=True)
class Scaled:
    """What is remembered of one service."""

    judge: Judge
    bounds: tuple[Bound, ...]
    settings: Scaling
    since: Seconds
    window: StabilizationWindow = field(default_factory=StabilizationWindow)
    last: Seconds = 0.0  # look
    told: ScalingPlan | None = None
    begun: bool = False


class ScalingDesk:
    """See module docstring."""

    news: Final = (NodeUsage, ScalingPlan)

    def __init__(self, wishes: Wishes, cluster: Cluster, forecasts: Forecasts) -> None:
        self._wishes, self._cluster, self._forecasts = wishes, cluster, forecasts
        self._gauge = Gauge()
        self._scaled: dict[str, Scaled] = {}
        self._round, self._listed = -1, -math.inf
        self._crowded = 0
        self._left, self._wanted, self._count = deque[str](), list[Wanted](), 0  # of a look at who is scaled
        self._stored: dict[str, ScalingPlan] = {}  # told in an earlier life

    def hear(self, event: Event) -> Sequence[Instruction]:
        """Use of what is scaled; and, before the first look, what was told in an earlier life."""
        match event:
            case Arrived(message=NodeUsage() as usage) if self._scaled:
                self._gauge.hear(usage, event.at)
            case Arrived(message=ScalingPlan() as plan) if self._listed < 0:
                self._stored[key_of(plan)] = plan
        return ()

    def plan(self, at: Seconds) -> Sequence[Instruction]:
        """See Desk."""
        said: list[Instruction] = []
        if self._wishes.round != self._round or (not self._left and at >= self._listed + RELIST):
            self._round, self._listed = self._wishes.round, at
            self._left, self._wanted, self._count = deque(self._cluster.services), [], 0
            said += self._relist(at)
        elif self._left:
            said += self._relist(at)
        said += self._drop([key for key in self._scaled if key not in self._cluster.services])
        self._gauge.follow(uid for key in self._scaled for uid in self._cluster.services[key].uids)
        for key, scaled in self._scaled.items():
            said += self._look(self._cluster.services[key], scaled, at)
        if self._gauge.left_out:
            said.append(Count(LEFT_OUT, by=self._gauge.left_out, labels={"why": "impossible use"}))
            self._gauge.left_out = 0
        return said

    def validate(self) -> None:
        """Every plan is within its bounds, or leaves things as they are."""
        for key, scaled in self._scaled.items():
            plan = scaled.told
            assert plan is None or plan.least <= plan.desired <= plan.most or plan.desired == plan.now, (
                f"{key}: {plan.desired} not within {plan.least}..{plan.most}"
            )

    # -- who -----------------------------------------------------------------------------------------------------------

    def _relist(self, at: Seconds) -> list[Instruction]:
        """Some of the services; after the last of them, who is scaled from now on."""
        most = self._wishes.settings.scaling.services
        found: list[Wanted] = []
        for _ in range(min(AT_ONCE, len(self._left))):
            key = self._left.popleft()
            settings = self._wishes.of_service(key).scaling
            if key.split("/")[1] in KINDS and settings.mode is not ScaleMode.OFF:
                found.append((settings.mode is not ScaleMode.AUTO, key, settings))
        self._count += len(found)
        self._wanted = heapq.nsmallest(most, [*self._wanted, *found], key=lambda each: each[:2])
        return [] if self._left else self._take_all(at)

    def _take_all(self, at: Seconds) -> list[Instruction]:
        kept = {key: settings for _, key, settings in self._wanted}
        said: list[Instruction] = []
        if self._count - len(kept) > self._crowded:
            said.append(Count(LEFT_OUT, by=self._count - len(kept) - self._crowded, labels={"why": "too many"}))
        self._crowded = self._count - len(kept)
        said += self._drop([key for key in self._scaled if key not in kept])
        for key, settings in kept.items():
            self._take_up(key, settings, at, said)
        said += [Delete(_address(key)) for key in self._stored]
        self._stored = {}
        return said

    def _drop(self, keys: Sequence[str]) -> list[Instruction]:
        """They are not scaled any more."""
        gone = [(key, self._scaled.pop(key)) for key in keys]
        return [Delete(_address(key)) for key, scaled in gone if scaled.told is not None]

    def _take_up(self, key: str, settings: Scaling, at: Seconds, said: list[Instruction]) -> None:
        known = self._scaled.get(key)
        if known is not None and known.settings == settings:
            return
        try:
            bounds = parse_bounds(settings.bounds, settings.zone)
        except InputError:  # policy is checked before it holds; this is what the room was started with
            bounds = ()
            said.append(Count(LEFT_OUT, labels={"why": "bound"}))
        if known is None:
            known = self._scaled[key] = Scaled(Judge(), bounds, settings, at, told=self._stored.pop(key, None))
        known.settings, known.bounds = settings, bounds
        judge = known.judge
        judge.memory, judge.allowance, judge.credit = settings.memory, settings.allowance, settings.credit

    # -- how many ------------------------------------------------------------------------------------------------------

    def _look(self, service: Service, scaled: Scaled, at: Seconds) -> Sequence[Instruction]:
        settings, period = scaled.settings, at - scaled.last
        if period <= 0:
            return ()  # a clock that stands, or was set back
        scaled.last = at
        load, unknown = self._load_of(service, settings, at)
        if unknown and load.now and at < scaled.since + settings.stale:
            return ()  # reports of its pods are heard from now on
        aim = counting.aim_of(service.workload, settings)
        start = counting.start_of(service.starts, settings)
        lead = counting.lead_of(start, settings)
        if flaw := _flaw(load, aim, unknown):
            return self._tell(service, scaled, _idle(service.key, scaled, load, lead, flaw, at))
        assert aim is not None
        name = _series(service.key)
        self._forecasts.want(name, HORIZON)
        forecast = self._forecasts.of(name)
        rules, by = counting.rules_of(aim, settings, scaled.bounds, at)
        load = Load(load.use, load.now, load.ready, *counting.ahead(forecast, at, lead + settings.period))
        if not scaled.begun:
            scaled.begun, period = True, settings.period
            scaled.judge.begin(load.now)
        scaled.judge.see(at, min(period, 4 * settings.period), load, rules, start)
        if not scaled.judge.manner.wary:
            load = Load(load.use, load.now, load.ready, load.expected)
        try:
            decision = counting.counted(at, load, rules, scaled.window, scaled.judge, lead)
        except InputError as error:
            return self._tell(service, scaled, _idle(service.key, scaled, load, lead, str(error), at))
        return self._tell(service, scaled, _plan(service.key, scaled, load, rules, decision, forecast, lead, by, at))

    def _load_of(self, service: Service, settings: Scaling, at: Seconds) -> tuple[Load, bool]:
        """What its replicas use; whether nothing is known of any."""
        known = [self._gauge.read(uid, at, settings.stale) for uid in service.uids]
        seen = [use for use in known if use is not None]
        return Load(sum(seen), len(known), len(seen)), not seen

    # -- saying --------------------------------------------------------------------------------------------------------

    def _tell(self, service: Service, scaled: Scaled, plan: ScalingPlan) -> Sequence[Instruction]:
        before = scaled.told
        same = before is not None and _gist(before) == _gist(plan)
        if same and before is not None and plan.at - before.at < scaled.settings.renew:
            return ()
        try:
            said: list[Instruction] = [Put(_address(service.key), plan), Count(TOLD, labels={"mode": plan.mode})]
        except InputError:
            return () if before is not None else (Count(LEFT_OUT, labels={"why": "no subject"}),)
        scaled.told = plan
        if plan.desired != (before.desired if before is not None else plan.now):
            said.append(Decide(_line(plan)))
        return said


def _flaw(load: Load, aim: counting.Aim | None, unknown: bool) -> str:
    if not load.now:
        return counting.NO_REPLICA
    if aim is None:
        return counting.NO_REQUEST
    return counting.NO_USE if unknown else ""


def _plan(
    key: str, scaled: Scaled, load: Load, rules: Rules, decision: Decision, forecast: Forecast | None, lead: Seconds,
    by: str, at: Seconds,
) -> ScalingPlan:  # fmt: skip
    judge = scaled.judge
    ahead, flags = predicted(load, rules), decision.flags
    if ahead is None:
        flags = (*flags, counting.NO_FORECAST)
    elif not judge.manner.ahead:
        flags = (*flags, counting.NOT_FOLLOWED)
    next_peak = counting.coming(forecast, rules, load.now, at, lead) if forecast is not None else None
    return ScalingPlan(
        at=at, source=SOURCE, **tokens_of(key), mode=scaled.settings.mode, now=load.now,
        desired=decision.desired, native=decision.native, predicted=ahead, least=rules.least, most=rules.most,
        lead=lead, expected=load.expected, target=rules.target, forecast=forecast.version if forecast else "",
        flags=flags, arithmetic=counting.arithmetic(load, rules, decision, judge.leeway.autoscaler, lead, by), manner=judge.manner.name,
        peak=next_peak.peak if next_peak else None, peak_at=next_peak.peak_at if next_peak else None,
        acts_at=next_peak.acts_at if next_peak else None, short=judge.own.went_short, paid=judge.own.paid,
        autoscaler_short=judge.reference.went_short, autoscaler_paid=judge.reference.paid,
    )  # fmt: skip


def _idle(key: str, scaled: Scaled, load: Load, lead: Seconds, flaw: str, at: Seconds) -> ScalingPlan:
    """Nothing can be counted: what there is stays."""
    return ScalingPlan(
        at=at, source=SOURCE, **tokens_of(key), mode=scaled.settings.mode, now=load.now,
        desired=load.now, least=scaled.settings.least, most=scaled.settings.most, lead=lead, flags=(flaw,),
        arithmetic=flaw,
    )  # fmt: skip


def _gist(plan: ScalingPlan) -> tuple[object, ...]:
    """What of a plan is news."""
    return plan.mode, plan.desired, plan.least, plan.most, plan.flags, plan.manner


def _line(plan: ScalingPlan) -> TrailEntry:
    about = object_of(plan)
    what = "asked to scale" if plan.mode is ScaleMode.AUTO else "would scale"
    flags = f" ({', '.join(plan.flags)})" if plan.flags else ""
    return TrailEntry(
        at=plan.at, source=SOURCE, id=f"{about.uid}.{plan.at:.0f}.scaling", about=about, what=what,
        why=f"{plan.now} -> {plan.desired}: {plan.arithmetic}{flags}", trace=object_context(about).trace,
        cause=plan.forecast, parent=f"{plan.kind}/{plan.name}",
    )  # fmt: skip


def _series(key: str) -> SeriesName:
    namespace, kind, name = key.split("/", 2)
    return namespace, kind, name, "cpu"


def _address(key: str) -> Address[ScalingPlan]:
    return SCALING.at(**tokens_of(key))
