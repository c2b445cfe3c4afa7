"""What is expected of services, as far as the metrics APIs tell it: the planner's forecasts, the next day of each.

    at(now + lead)   the step of the forecast that holds then; the plan's own number where no forecast is stored
    nothing          where the forecast is switched off (it loses to the same time yesterday), over, or not there

A day of 5 minutes takes 2.3 KB; those beyond `most` are not kept.
"""

from __future__ import annotations

from array import array
from typing import Final, NamedTuple

from neap.common.model.forecast import CLUSTER_SCOPE, Forecast
from neap.common.model.resource import CPU
from neap.common.model.scaling import ScalingPlan
from neap.common.units import DAY, MINUTE, Seconds

KINDS: Final = ("Deployment", "StatefulSet", "ReplicaSet", "DaemonSet", "Job", "Pod")
MOST_STEPS: Final = 2016
FRESH: Final[Seconds] = 15 * MINUTE  # a plan is told again every five


class Expected(NamedTuple):
    """A value for a time: cores, bytes."""

    value: float
    at: Seconds  # since when it holds
    window: Seconds  # for how long


class Series(NamedTuple):
    """A forecast from now on."""

    start: Seconds
    step: Seconds
    values: array[float]


class Foreseen:
    """By service and resource: namespace/Kind/name/resource."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._series: dict[str, Series] = {}
        self._plans: dict[str, ScalingPlan] = {}

    def hear(self, forecast: Forecast, at: Seconds) -> None:
        """What is expected of a series."""
        key = f"{forecast.namespace}/{forecast.kind}/{forecast.name}/{forecast.resource}"
        is_on = bool(forecast.cards) and forecast.cards[0].on and forecast.namespace != CLUSTER_SCOPE
        if not is_on or not forecast.values or (key not in self._series and len(self._series) >= self._most):
            self._series.pop(key, None)
            return
        skip = min(max(0, int((at - forecast.start) // forecast.step)), len(forecast.values))
        steps = min(MOST_STEPS, int(DAY // forecast.step) + 2)
        start = forecast.start + skip * forecast.step
        self._series[key] = Series(start, forecast.step, array("d", forecast.values[skip : skip + steps]))

    def plan(self, plan: ScalingPlan) -> None:
        """How a service is scaled."""
        self._plans[f"{plan.namespace}/{plan.kind}/{plan.name}"] = plan

    def forget(self, key: str) -> None:
        """Nothing is expected of a series any more."""
        self._series.pop(key, None)

    def unplan(self, key: str) -> None:
        """A service is not scaled any more."""
        self._plans.pop(key, None)

    def lead(self, namespace: str, kind: str, name: str) -> Seconds | None:
        """How far a service is looked ahead, as measured; None: it is not scaled."""
        plan = self._plan(namespace, kind, name)
        return plan.lead if plan is not None else None

    def expected(
        self, namespace: str, kind: str, name: str, resource: str, now: Seconds, lead: Seconds
    ) -> Expected | None:
        """What a service will use then; None: not known."""
        for one in (kind,) if kind else KINDS:
            series = self._series.get(f"{namespace}/{one}/{name}/{resource}")
            if series is None:
                continue
            step = (now + lead - series.start) // series.step
            if 0 <= step < len(series.values):
                return Expected(series.values[int(step)], series.start + step * series.step, series.step)
        plan = self._plan(namespace, kind, name) if resource == CPU else None
        if plan is None or plan.expected is None or now - plan.at > FRESH or abs(lead - plan.lead) > MINUTE:
            return None
        return Expected(plan.expected, plan.at + plan.lead, 0.0)

    def _plan(self, namespace: str, kind: str, name: str) -> ScalingPlan | None:
        found = (self._plans.get(f"{namespace}/{one}/{name}") for one in ((kind,) if kind else KINDS))
        return next((plan for plan in found if plan is not None), None)
