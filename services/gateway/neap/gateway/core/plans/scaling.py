"""Replicas by plan: what the planner wants of a service in mode auto, done by its scale subresource.

    desired > now    replicas = desired where there are fewer
    desired < now    replicas = desired where there are more; never to a plan that is only "as it is"
    always           within least..most of the plan, one change of a service per `every`

Left alone: what an autoscaler scales (it is served the prediction as a metric; said once in an Event), what is scaled to
nothing (somebody switched it off), a plan older than `fresh`, kinds beside Deployment and StatefulSet.
Source: Kubernetes documentation, "Horizontal Pod Autoscaling" (replicas 0 switch it off too).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from neap.common.kube.kind import Kind
from neap.common.kube.objects import DEPLOYMENTS, STATEFUL_SETS, Autoscaler, Templated
from neap.common.model.scaling import ScaleMode, ScalingPlan
from neap.common.model.trail import ObjectRef
from neap.common.runtime.machine import Count, Instruction
from neap.common.units import MINUTE, Seconds
from neap.gateway.core import lines
from neap.gateway.core.acts import Refused, ScaleOwner, Written
from neap.gateway.core.events import Events

SCALED: Final = {one.name: one for one in (DEPLOYMENTS, STATEFUL_SETS)}
LONGEST_WAIT: Final[Seconds] = 5 * MINUTE  # until what failed is asked again


class ScalingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See module docstring."""

    every: Annotated[Seconds, Meta(gt=0)] = 15.0  # at most one change of a service's replicas in this time
    fresh: Annotated[Seconds, Meta(gt=0)] = 15 * MINUTE  # an older plan is not followed; it is renewed every 5 min
    at_once: Annotated[int, Meta(ge=1, le=1000)] = 20  # changes per beat


@dataclass(slots=True)
class _Last:
    """What was asked last of a service."""

    plan: ScalingPlan
    replicas: int
    due: Seconds
    tries: int = 0  # that failed in a row


class Scaling:
    """See module docstring. Owners and autoscalers as the API has them; plans as the bus has them."""

    def __init__(self, settings: ScalingSettings, events: Events) -> None:
        self._settings, self._events = settings, events
        self._plans: dict[str, ScalingPlan] = {}
        self._owners: dict[str, tuple[str, int]] = {}  # by service: uid, replicas
        self._targets: dict[str, str] = {}  # autoscaler -> service
        self._last: dict[str, _Last] = {}
        self._yielded: set[str] = set()  # said to be an autoscaler's

    # -- what is -------------------------------------------------------------------------------------------------------

    def hear(self, plan: ScalingPlan) -> None:
        """What the planner wants."""
        key = f"{plan.namespace}/{plan.kind}/{plan.name}"
        if plan.mode is ScaleMode.AUTO:
            self._plans[key] = plan
        else:
            self.lost(key)

    def lost(self, key: str) -> None:
        """The planner wants nothing any more."""
        self._plans.pop(key, None)
        self._last.pop(key, None)
        self._yielded.discard(key)

    def see(self, kind: Kind[Any], owner: Templated) -> None:
        """The API has it."""
        replicas = owner.spec.replicas
        self._owners[_key(kind, owner.metadata.key)] = owner.metadata.uid, 1 if replicas is None else replicas

    def forget(self, kind: Kind[Any], key: str) -> None:
        """The API has it no more."""
        self._owners.pop(_key(kind, key), None)

    def see_autoscaler(self, one: Autoscaler) -> None:
        """The API has it."""
        target = one.spec.scale_target_ref
        self._targets[one.metadata.key] = f"{one.metadata.namespace}/{target.kind}/{target.name}"

    def forget_autoscaler(self, key: str) -> None:
        """The API has it no more."""
        self._targets.pop(key, None)

    # -- what is done --------------------------------------------------------------------------------------------------

    def tick(self, at: Seconds) -> list[Instruction]:
        """Replicas that differ from what is wanted."""
        told: list[Instruction] = []
        taken: set[str] | None = None
        for key, plan in self._plans.items():
            if len(told) >= self._settings.at_once:
                break
            owner, last = self._owners.get(key), self._last.get(key)
            if owner is None or (last is not None and at < last.due) or at - plan.at > self._settings.fresh:
                continue
            replicas = _wanted(plan, owner[1])
            if replicas is None or (last is not None and last.plan is plan and not last.tries):
                continue
            taken = set(self._targets.values()) if taken is None else taken
            if key in taken:
                told += self._yield(key, plan, owner[0], at)
                continue
            self._yielded.discard(key)
            tries = last.tries if last is not None else 0
            self._last[key] = _Last(plan, replicas, at + self._settings.every, tries)
            told.append(ScaleOwner(SCALED[plan.kind], plan.namespace, plan.name, owner[0], replicas))
        return told

    def answered(self, act: ScaleOwner, outcome: Any, at: Seconds) -> list[Instruction]:
        """The API server said what becomes of it."""
        key = f"{act.namespace}/{act.kind.name}/{act.name}"
        last, about = self._last.get(key), _about(act.kind.name, act.namespace, act.name, act.uid)
        if last is None:
            return []
        before, last.tries = self._owners.get(key, ("", 0))[1], 0
        if isinstance(outcome, Refused):
            last.due = at + LONGEST_WAIT
            said = self._events.say(about, "ScalingRefused", outcome.why, at, action="Scaling", warning=True)
            return [_counted("refused"), *said]
        if not isinstance(outcome, Written):
            return [_counted("gone")]
        why = f"{before} -> {act.replicas}: {last.plan.arithmetic}"
        service = lines.service(act.namespace, act.kind.name, act.name)
        line = lines.line(service, at, "scaled", why, id=f"{last.plan.at:.3f}.scaled", cause=last.plan.forecast)
        return [_counted("scaled"), line, *self._events.say(about, "Scaled", why, at, action="Scaling")]

    def failed(self, act: ScaleOwner, at: Seconds) -> list[Instruction]:
        """It could not be asked; it is asked again, less and less often."""
        last = self._last.get(f"{act.namespace}/{act.kind.name}/{act.name}")
        if last is not None:
            last.tries += 1
            last.due = at + min(LONGEST_WAIT, self._settings.every * 2.0 ** min(last.tries, 16))
        return [_counted("failed")]

    def _yield(self, key: str, plan: ScalingPlan, uid: str, at: Seconds) -> list[Instruction]:
        if key in self._yielded:
            return []
        self._yielded.add(key)
        names = sorted(name for name, service in self._targets.items() if service == key)
        why = f"{plan.now} -> {plan.desired} is left to autoscaler {names[0]}; it can ask for neap_predicted_usage"
        about = _about(plan.kind, plan.namespace, plan.name, uid)
        return [_counted("yielded"), *self._events.say(about, "LeftToAutoscaler", why, at, action="Scaling")]


def _wanted(plan: ScalingPlan, replicas: int) -> int | None:
    """Another number of replicas; None: as it is."""
    wanted = min(max(plan.desired, plan.least), max(plan.least, plan.most))
    if plan.kind not in SCALED or replicas == 0 or plan.desired == plan.now:
        return None
    differs = replicas < wanted if plan.desired > plan.now else replicas > wanted
    return wanted if differs else None


def _about(kind: str, namespace: str, name: str, uid: str) -> ObjectRef:
    return ObjectRef(namespace=namespace, name=name, uid=uid, kind=kind)


def _key(kind: Kind[Any], key: str) -> str:
    namespace, _, name = key.partition("/")
    return f"{namespace}/{kind.name}/{name}"


def _counted(outcome: str) -> Count:
    return Count("neap_gateway_scalings_total", labels={"outcome": outcome})
