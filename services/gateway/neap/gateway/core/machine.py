"""The gateway: the Kubernetes API on one side, the bus on the other, and what one says told to the other.

    API -> bus    pods as workloads (settle), nodes (nodes), our kinds as profiles and policy (objects)
    bus -> API    ledger entries as bindings (settle), evictions, what nodes lend (mirror), Events, taints;
                  plans: sizes, replicas, sides of nodes (plans)

Every part folds what it hears at any time, and speaks only when everything stored was read and this gateway leads. A
kind that is stale is still known: nothing is taken back for want of news. Nothing here waits: what is asked of the API
runs beside the machine, and its answer is an event.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from neap.common.contract.catalogue import HEADROOM, PLACEMENTS, POLICY, PROFILES, RATIOS, WORKLOAD
from neap.common.contract.catalogue import NODES as NODE_OBJECTS
from neap.common.contract.channel import Channel
from neap.common.errors import InputError, WireError
from neap.common.kube.kind import Kind
from neap.common.kube.objects import BUDGETS, JOBS, NODES, PODS, REPLICA_SETS, Node, Pod
from neap.common.model.advice import Headroom
from neap.common.model.enforcement import NodeEnforcement
from neap.common.model.evicting import Evicting
from neap.common.model.explanation import Explanation
from neap.common.model.lifecycle import Ended, Eviction, Started, Submitted
from neap.common.model.node import NodeObject
from neap.common.model.placement import Checkpoint, Placed, Released
from neap.common.model.policy import PolicyDocument
from neap.common.model.profile import ServiceProfile
from neap.common.model.ratios import NodeRatios
from neap.common.model.recommendation import Resize
from neap.common.model.scaling import ScalingPlan
from neap.common.model.tide import TidePool
from neap.common.model.topology import NodeTopology
from neap.common.runtime.machine import (
    Arrived,
    Delete,
    Done,
    Event,
    Failed,
    Gone,
    Heard,
    Instruction,
    Later,
    Put,
    Synced,
    Tick,
)
from neap.common.units import Seconds
from neap.gateway.core import lines
from neap.gateway.core.acts import (
    ApplyNode,
    AskWhy,
    Bind,
    Evict,
    MirrorNode,
    ReadObject,
    Refused,
    ResizePod,
    Say,
    ScaleOwner,
    SizeOwner,
    TaintNode,
)
from neap.gateway.core.asking.lease import Follows, Leads
from neap.gateway.core.asking.staleness import Staleness
from neap.gateway.core.events import Events
from neap.gateway.core.hearing.reflector import Complete, Removed, Seen, Stale
from neap.gateway.core.kinds.objects import Objects
from neap.gateway.core.kinds.table import KINDS
from neap.gateway.core.nodes.showing import Showing
from neap.gateway.core.nodes.taints import Tainting
from neap.gateway.core.nodes.views import NodeViews, node_object
from neap.gateway.core.plans.plans import WORKLOADS, Plans
from neap.gateway.core.pods.book import Holds, Runs
from neap.gateway.core.pods.evictions import Evictions
from neap.gateway.core.pods.facts import Labels, PodFacts, asks_for_neap
from neap.gateway.core.pods.owners import Owners
from neap.gateway.core.pods.resizing import Resizing
from neap.gateway.core.pods.settle import Settler
from neap.gateway.settings import Settings

STORED: Final = (WORKLOAD, PLACEMENTS, NODE_OBJECTS, POLICY, PROFILES)  # read to their end before anything is said
NEEDED: Final = (PODS, NODES)  # and so are these
BEFORE_READY: Final[Seconds] = 1.0  # a command that came too early comes again


class GatewayMachine:
    """See module docstring."""

    def __init__(self, settings: Settings, staleness: Staleness | None = None) -> None:
        self._settings, self._staleness = settings, staleness or Staleness(settings.staleness)
        self._runs, self._holds, self._owners = Runs(settings.remember), Holds(), Owners()
        self._events = Events(settings.events)
        self._settler = Settler(settings, self._runs, self._holds, self._owners, self._events)
        self._evictions = Evictions(settings.evictions, self._holds, self._events)
        self._settler.evicted = self._evictions
        self._labels, self._views, self._objects = Labels(), NodeViews(), Objects()
        self._showing, self._tainting = Showing(settings.mirror, self._holds), Tainting(settings.taints)
        self._resizing = Resizing(self._events)
        self._plans = Plans(settings, self._staleness, self._settler.pods, self._holds, self._evictions, self._events)
        self._unsynced: list[Channel[Any]] = list(STORED)
        self._unread: list[Kind[Any]] = list(NEEDED)
        self._keys: dict[str, str] = {}  # of pods: namespace/name -> uid
        self._leads_until: Seconds = -math.inf if settings.elect else math.inf

    @property
    def ready(self) -> bool:
        """Everything stored, and every pod and node, has been read."""
        return not (self._unsynced or self._unread)

    def handle(self, event: Event) -> Sequence[Instruction]:
        """See Machine."""
        self._settler.may_speak = self.ready and event.at < self._leads_until
        match event:
            case Heard(at=at, what=what):
                return self._heard(what, at)
            case Arrived(at=at, message=(Submitted() | Started() | Ended()) as told):
                return self._lifecycle(told, event.subject, at)
            case Arrived(at=at, message=(Placed() | Released() | Checkpoint()) as entry):
                touched = self._holds.fold(entry, event.seq)
                self._showing.held(entry.node, at)
                return [act for uid in touched for act in self._settler.settle(uid, at)]
            case Arrived(at=at, message=Eviction() as eviction):
                return self._command() or self._evict(eviction, at)
            case Arrived(at=at, message=Resize() as resize):
                return self._command() or self._plans.resize(resize, at)
            case Arrived(at=at, message=message):
                self._hear(message, at)
            case Done(at=at, instruction=instruction, outcome=outcome):
                return self._done(instruction, outcome, at)
            case Failed(at=at, instruction=instruction, error=error):
                return self._failed(instruction, error, at)
            case Synced(at=at, channel=channel) if channel in self._unsynced:
                self._unsynced.remove(channel)
                return self._begin(at)
            case Synced(channel=channel):
                self._plans.synced(channel)
            case Gone(channel=channel, subject=subject):
                self._lost(channel, channel.tokens_of(subject), event.at)
            case Tick(at=at):
                return self._tick(at)
        return ()

    def validate(self) -> None:
        """Every invariant of the parts."""
        self._holds.validate()
        self._settler.validate()
        assert len(self._keys) == len(self._settler.pods), "names and pods disagree"

    # -- the API -------------------------------------------------------------------------------------------------------

    def _heard(self, what: Any, at: Seconds) -> Sequence[Instruction]:
        if isinstance(what, Seen | Removed | Complete | Stale):
            self._staleness.hear(what)
        match what:
            case Seen(kind=kind, object=value):
                self._settler.is_blind &= kind != PODS
                return self._seen(kind, value, at)
            case Removed(kind=kind, key=key, uid=uid):
                return self._removed(kind, key, uid, at)
            case Complete(kind=kind):
                self._settler.is_blind &= kind != PODS
                return self._complete(kind, at)
            case Stale(kind=kind, why=why):
                self._settler.is_blind |= kind == PODS
                return [Say("gateway.stale", f"nothing new of {kind}: {why}")]
            case Leads(token=token, until=until):
                return self._lead(token, until, at)
            case Follows():
                self._leads_until, self._settler.may_speak = -math.inf, False
                self._plans.follow()
            case tuple():
                return what  # counted by somebody else
        return ()

    def _seen(self, kind: Kind[Any], value: Any, at: Seconds) -> Sequence[Instruction]:
        if kind == PODS:
            return self._pod(value, at)
        if kind == NODES:
            self._node(value, at)
            return self._put_nodes() if self._settler.may_speak else ()
        if kind in (REPLICA_SETS, JOBS):
            self._owners.learn(value.metadata)
        elif kind in WORKLOADS:
            self._plans.see(kind, value)
        elif kind == BUDGETS and self._evictions.budgets.see(value):
            self._evictions.has_room(value.metadata.key)
        elif kind in KINDS:
            before = self._objects.object(kind, value.metadata.key)
            self._objects.see(kind, value, at)
            if self._settler.may_speak:
                again = [*self._objects.reread(kind, before), *self._objects.reread(kind, value)]
                return [*dict.fromkeys(again), *self._objects.settle(at, kind)]
        return ()

    def _removed(self, kind: Kind[Any], key: str, uid: str, at: Seconds) -> Sequence[Instruction]:
        if kind == PODS:
            return self._pod_gone(key, uid, at)
        if kind == NODES:
            for part in (self._showing, self._tainting, self._plans.tides):
                part.forget(key)
            self._views.remove(key)
            self._objects.forget_node(key)
            return self._drop_nodes() if self._settler.may_speak else ()
        if kind in (REPLICA_SETS, JOBS):
            self._owners.forget(uid)
        elif kind in WORKLOADS:
            self._plans.remove(kind, key)
        elif kind == BUDGETS:
            self._evictions.budgets.forget(key)
            self._evictions.has_room(key)
        elif kind in KINDS:
            again = self._objects.reread(kind, self._objects.object(kind, key))
            self._objects.remove(kind, key)
            return [*again, *self._objects.settle(at, kind)] if self._settler.may_speak else ()
        return ()

    def _complete(self, kind: Kind[Any], at: Seconds) -> Sequence[Instruction]:
        self._objects.complete(kind)
        if kind in self._unread:
            self._unread.remove(kind)
            return self._begin(at)
        return self._drop_nodes() if kind == NODES and self._settler.may_speak else ()

    def _pod(self, pod: Pod, at: Seconds) -> list[Instruction]:
        meta = pod.metadata
        facts = self._settler.pods.get(meta.uid)
        if facts is None:
            facts = self._settler.pods[meta.uid] = PodFacts(meta.uid, meta.namespace, meta.name, at)
            self._keys[meta.key] = meta.uid
            facts.labels = self._labels.take(meta.labels)
        elif dict(facts.labels) != (meta.labels or {}):
            self._labels.leave(facts.labels)
            facts.labels = self._labels.take(meta.labels)
        asks = asks_for_neap(pod, self._settings.schedulers, by_resources=self._settings.by_resources)
        facts.learn(pod, asks=asks)
        self._plans.replicas.see(meta.uid, meta.namespace, self._owners.of(meta))
        said = self._settler.see(facts, pod, at)
        if self._settler.may_speak:
            doubt = self._staleness.forbids("resize", at)
            said += self._resizing.see(facts, pod, at, doubt) if self._settings.resize else ()
            said += self._plans.resizes.see(facts, pod, at)
        return said

    def _pod_gone(self, key: str, uid: str, at: Seconds) -> list[Instruction]:
        uid = uid or self._keys.get(key, "")
        facts = self._settler.pods.pop(uid, None)
        if facts is None:
            return []
        if self._keys.get(key) == uid:
            del self._keys[key]
        self._labels.leave(facts.labels)
        said = self._settler.gone(uid, at)
        for part in (self._evictions, self._resizing, self._plans):
            part.forget(uid)
        return said

    def _node(self, node: Node, at: Seconds) -> None:
        ratios = self._objects.ratios(node.metadata.name, node.metadata.labels or {})
        self._views.see(node_object(node, at, ratios), node.metadata.uid)
        self._showing.see(node, at)
        self._tainting.see(node)
        self._plans.tides.see(node)

    def _put_nodes(self) -> list[Instruction]:
        told = []
        for node in self._views.due():
            try:
                told.append(Put(NODE_OBJECTS.at(node=node.node), node))
            except InputError:
                continue  # no subject can carry its name: no reporter could speak of it either
        return list(told)

    def _drop_nodes(self) -> list[Instruction]:
        """Nodes that the API has no more; never all of them at once, for that would be a mistake of somebody's."""
        if not len(self._views) or self._unread:
            return []
        return [Delete(NODE_OBJECTS.at(node=node)) for node in self._views.orphans()]

    # -- the bus -------------------------------------------------------------------------------------------------------

    def _lifecycle(self, told: Submitted | Started | Ended, subject: str, at: Seconds) -> list[Instruction]:
        try:
            names = WORKLOAD.tokens_of(subject)
        except WireError:
            return []
        return self._settler.settle(self._runs.fold(told, names["namespace"], names["name"]), at)

    def _hear(self, message: Any, at: Seconds) -> None:
        match message:
            case NodeObject():
                self._views.stored(message)
            case PolicyDocument() | ServiceProfile():
                self._objects.hear(message)
            case Headroom() | NodeTopology() | NodeEnforcement() | NodeRatios():
                self._showing.hear(message, at)
            case Evicting():
                self._showing.hear(message, at)
                self._tainting.hear(message)
            case ScalingPlan() | TidePool():
                self._plans.hear(message)

    def _lost(self, channel: Channel[Any], tokens: dict[str, str], at: Seconds) -> None:
        if channel == NODE_OBJECTS:
            self._views.lost(tokens["node"])
        elif channel in (POLICY, PROFILES):
            self._objects.lost(tokens)
        elif channel == HEADROOM:
            self._showing.offer_gone(tokens["node"], at)
        elif channel == RATIOS:
            self._showing.ratios_gone(tokens["node"], at)
        else:
            self._plans.lost(channel, tokens)

    def _command(self) -> Sequence[Instruction]:
        """Whether a command comes too early, or to the wrong one of several gateways: then later."""
        if not self.ready:
            return [Later(BEFORE_READY)]
        return [] if self._settler.may_speak else [Later(self._settings.evictions.hand_over)]

    def _evict(self, eviction: Eviction, at: Seconds) -> Sequence[Instruction]:
        doubt = self._staleness.forbids("evict", at)
        return self._evictions.handle(eviction, self._settler.pods.get(eviction.uid), at, doubt)

    # -- leading, answers, time ----------------------------------------------------------------------------------------

    def _lead(self, token: int, until: Seconds, at: Seconds) -> Sequence[Instruction]:
        led = at < self._leads_until and token == self._settler.token
        self._leads_until, self._settler.token = until, token
        self._settler.may_speak = self.ready and at < until
        return () if led else self._begin(at)

    def _begin(self, at: Seconds) -> list[Instruction]:
        """Everything was read, or this gateway leads from here on."""
        self._settler.may_speak, self._settler.is_behind = self.ready and at < self._leads_until, bool(self._unsynced)
        if self.ready:
            self._runs.forget_all_but((*self._settler.pods, *self._holds.uids))
        if not self._settler.may_speak:
            return []
        nodes = [*self._put_nodes(), *self._drop_nodes()]
        return [*nodes, *self._settler.settle_all(at), *self._objects.settle(at)]

    def _tick(self, at: Seconds) -> list[Instruction]:
        if not self._settler.may_speak:
            return []
        self._settler.may_bind = not self._staleness.forbids("bind", at)
        return [
            *self._settler.tick(at),
            *self._put_nodes(),
            *(() if self._staleness.forbids("mirror", at) else self._showing.tick(at, self._settings.beat)),
            *(() if self._staleness.forbids("taint", at) else self._tainting.tick(at)),
            *self._plans.tick(at),
            *self._events.tick(at),
        ]

    def _done(self, instruction: Instruction, outcome: Any, at: Seconds) -> Sequence[Instruction]:
        match instruction:
            case Bind():
                return self._settler.answered(instruction, outcome, at)
            case Evict(uid=uid):
                return self._evictions.answered(instruction, outcome, self._settler.pods.get(uid), at)
            case ApplyNode() | MirrorNode():
                return self._showing.answered(instruction, at, well=not isinstance(outcome, Refused))
            case TaintNode(node=node):
                self._tainting.over(node)
                self._plans.tides.over(node)
            case ReadObject() if isinstance(outcome, Node):
                self._node(outcome, at)
            case AskWhy(namespace=namespace, name=name, uid=uid) if isinstance(outcome, Explanation):
                pod = lines.about(namespace, name, uid)
                if outcome.found and outcome.state == "queued":
                    why = lines.waiting_why(outcome)
                    return self._events.say(pod, "FailedScheduling", why, at, action="Scheduling", warning=True)
            case ResizePod(plan=""):
                return self._resizing.answered(instruction, outcome, at)
            case ResizePod() | SizeOwner() | ScaleOwner() | ReadObject():
                return self._plans.answered(instruction, outcome, at)
        return ()

    def _failed(self, instruction: Instruction, error: str, at: Seconds) -> Sequence[Instruction]:
        match instruction:
            case Bind():
                return self._settler.failed(instruction, error, at)
            case Evict():
                return self._evictions.failed(instruction)
            case ApplyNode() | MirrorNode():
                return self._showing.answered(instruction, at, well=False)
            case TaintNode(node=node):
                self._tainting.over(node)
                self._plans.tides.over(node)
            case ResizePod(uid=uid, plan=""):
                self._resizing.forget(uid)
            case ResizePod() | SizeOwner() | ScaleOwner() | ReadObject():
                return self._plans.failed(instruction, at)
        return ()
