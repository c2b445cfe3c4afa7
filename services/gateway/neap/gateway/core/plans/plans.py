"""The planner says, the gateway acts: sizes of pods, replicas of services, sides of nodes, as one part of the machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from neap.common.contract.catalogue import SCALING, TIDES
from neap.common.contract.channel import Channel
from neap.common.kube.kind import Kind
from neap.common.kube.objects import AUTOSCALERS, DAEMON_SETS, DEPLOYMENTS, STATEFUL_SETS, Pod
from neap.common.model.recommendation import Resize
from neap.common.model.scaling import ScalingPlan
from neap.common.model.tide import TidePool
from neap.common.runtime.machine import Instruction
from neap.common.units import Seconds
from neap.gateway.core.acts import ReadObject, ResizePod, ScaleOwner, SizeOwner
from neap.gateway.core.asking.staleness import Staleness
from neap.gateway.core.events import Events
from neap.gateway.core.plans.resizes import Resizes
from neap.gateway.core.plans.scaling import SCALED, Scaling
from neap.gateway.core.plans.tides import Tides
from neap.gateway.core.pods.book import Holds
from neap.gateway.core.pods.evictions import Evictions
from neap.gateway.core.pods.facts import PodFacts
from neap.gateway.core.pods.replicas import Replicas
from neap.gateway.settings import Settings

WORKLOADS: Final = (DEPLOYMENTS, STATEFUL_SETS, DAEMON_SETS, AUTOSCALERS)


class Plans:
    """See module docstring."""

    def __init__(
        self,
        settings: Settings,
        staleness: Staleness,
        pods: dict[str, PodFacts],
        holds: Holds,
        evictions: Evictions,
        events: Events,
    ) -> None:
        self._staleness = staleness
        self.replicas = Replicas()
        self.resizes = Resizes(settings.resizes, self.replicas, events)
        self.scaling = Scaling(settings.scaling, events)
        self.tides = Tides(settings.tides, holds, evictions)
        self.resizes.pods = self.tides.pods = pods

    # -- what is heard -------------------------------------------------------------------------------------------------

    def resize(self, resize: Resize, at: Seconds) -> Sequence[Instruction]:
        """A command came, or came again."""
        return self.resizes.handle(resize, at, self._staleness.forbids("resize", at))

    def hear(self, message: ScalingPlan | TidePool) -> None:
        """What the planner wants."""
        match message:
            case ScalingPlan():
                self.scaling.hear(message)
            case TidePool():
                self.tides.hear(message)

    def synced(self, channel: Channel[Any]) -> None:
        """Everything stored was heard."""
        self.tides.is_read |= channel == TIDES

    def lost(self, channel: Channel[Any], tokens: dict[str, str]) -> None:
        """It wants nothing any more."""
        if channel == SCALING:
            self.scaling.lost("/".join(tokens[part] for part in ("namespace", "kind", "name")))
        elif channel == TIDES:
            self.tides.lost(tokens["pool"])

    def see(self, kind: Kind[Any], value: Any) -> None:
        """An owner or an autoscaler as the API has it."""
        if kind == AUTOSCALERS:
            self.scaling.see_autoscaler(value)
        elif kind.name in SCALED:
            self.scaling.see(kind, value)

    def remove(self, kind: Kind[Any], key: str) -> None:
        """The API has it no more."""
        if kind == AUTOSCALERS:
            self.scaling.forget_autoscaler(key)
        else:
            self.scaling.forget(kind, key)

    def forget(self, uid: str) -> None:
        """A pod is gone."""
        self.resizes.forget(uid)
        self.replicas.forget(uid)

    def follow(self) -> None:
        """Another gateway acts from here on."""
        self.resizes.follow()

    # -- what is done --------------------------------------------------------------------------------------------------

    def tick(self, at: Seconds) -> list[Instruction]:
        """What differs from what is wanted."""
        known = {act: not self._staleness.forbids(act, at) for act in ("scale", "taint", "evict")}
        scaled = self.scaling.tick(at) if known["scale"] else []
        return scaled + self.tides.tick(at, marks=known["taint"], evicts=known["evict"])

    def answered(
        self, act: ResizePod | SizeOwner | ScaleOwner | ReadObject, outcome: Any, at: Seconds
    ) -> Sequence[Instruction]:
        """The API server said what becomes of it."""
        match act:
            case ResizePod():
                return self.resizes.answered(act, outcome, at)
            case SizeOwner():
                return self.resizes.sized(act, outcome, at)
            case ScaleOwner():
                return self.scaling.answered(act, outcome, at)
            case ReadObject(namespace=namespace, name=name):
                return self.resizes.read(outcome if isinstance(outcome, Pod) else None, namespace, name, at)

    def failed(self, act: ResizePod | SizeOwner | ScaleOwner | ReadObject, at: Seconds) -> Sequence[Instruction]:
        """It could not be asked."""
        if isinstance(act, ScaleOwner):
            return self.scaling.failed(act, at)
        self.resizes.failed(act)
        return ()
