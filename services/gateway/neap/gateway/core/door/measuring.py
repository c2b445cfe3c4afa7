"""The gateway's machine with the door's memory before it: what the metrics APIs tell, and which sizes hold for pods to come.

It is folded from the same events. Reports of nodes and forecasts go no further: nothing else in the gateway acts on them. What the web server says of itself is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from neap.common.contract.catalogue import FORECASTS, PROFILES, SCALING
from neap.common.errors import InputError
from neap.common.kube.objects import DAEMON_SETS, DEPLOYMENTS, NODES, PODS, STATEFUL_SETS, Node, Pod, Templated
from neap.common.model.forecast import Forecast
from neap.common.model.profile import ServiceProfile
from neap.common.model.resource import CPU, RECLAIMED_CPU, parse_amount
from neap.common.model.scaling import ScalingPlan
from neap.common.model.usage import NodeUsage
from neap.common.runtime.machine import Arrived, Count, Event, Gone, Heard, Instruction, Machine
from neap.common.units import MilliCores
from neap.gateway.core.acts import Say
from neap.gateway.core.door.metrics_store import MetricStore
from neap.gateway.core.door.notes import Notes
from neap.gateway.core.door.reply import Answered, Opened
from neap.gateway.core.hearing.reflector import Removed, Seen

OVER = ("Succeeded", "Failed")
OWNERS = (DEPLOYMENTS, STATEFUL_SETS, DAEMON_SETS)


class MeasuringMachine:
    """See module docstring."""

    def __init__(self, machine: Machine, store: MetricStore, notes: Notes | None = None) -> None:
        self.machine, self._store, self._notes = machine, store, Notes() if notes is None else notes

    def handle(self, event: Event) -> Sequence[Instruction]:
        """See Machine."""
        match event:
            case Arrived(message=NodeUsage() as usage):
                self._store.report(usage, event.at)
                return ()
            case Heard(what=Opened(port=port)):
                return [Say("gateway.door", f"webhooks and metrics are served on port {port}")]
            case Heard(what=Answered(door=door, outcome=outcome)):
                return [Count("neap_gateway_answers_total", labels={"door": door, "outcome": outcome})]
            case Heard(what=Seen(kind=kind, object=Pod() as pod)) if kind == PODS:
                self._pod(pod)
            case Heard(what=Seen(kind=kind, object=Node() as node)) if kind == NODES:
                meta = node.metadata
                cpu = _amount(CPU, (node.status.allocatable or {}).get(CPU, 0))
                self._store.meet_node(meta.name, meta.labels or {}, cpu)
            case Heard(what=Seen(kind=kind, object=Templated() as owner)):
                self._notes.see(kind.name, owner.metadata)
            case Heard(what=Removed(kind=kind, key=key)) if kind in OWNERS:
                self._notes.forget(kind.name, key)
            case Heard(what=Removed(kind=kind, key=key, uid=uid)) if kind in (PODS, NODES):
                (self._store.forget_node if kind == NODES else self._store.forget_pod)(key if kind == NODES else uid)
            case Arrived(message=ServiceProfile() as profile):
                self._store.learn(profile)
            case Arrived(message=Forecast() as forecast):
                self._store.foresee(forecast, event.at)
                return ()
            case Arrived(message=ScalingPlan() as plan):
                self._store.plan(plan)
            case Gone(channel=channel, subject=subject) if channel in (PROFILES, SCALING, FORECASTS):
                self._store.unlearn(channel, channel.tokens_of(subject))
        return self.machine.handle(event)

    def validate(self) -> None:
        """See Machine."""
        self.machine.validate()

    def _pod(self, pod: Pod) -> None:
        meta = pod.metadata
        if not pod.spec.node_name or pod.status.phase in OVER:
            self._store.forget_pod(meta.uid)
        else:
            self._store.meet_pod(meta.uid, meta.namespace, meta.name, meta.labels or {}, _asked(pod))


def _asked(pod: Pod) -> MilliCores:
    """Cores of its own and lent ones, over its containers."""
    return sum(_cores((one.resources.requests or {}).items()) for one in pod.spec.containers)


def _cores(amounts: Iterable[tuple[str, str | int | float]]) -> MilliCores:
    return sum(_amount(kind, amount) for kind, amount in amounts)


def _amount(kind: str, amount: str | float) -> MilliCores:
    """Milli-cores; 0 of what is no CPU, or cannot be read: that is not for metrics to complain about."""
    try:
        name, found = parse_amount(kind, str(amount))
    except InputError:
        return 0
    return found if name in (CPU, RECLAIMED_CPU) else 0
