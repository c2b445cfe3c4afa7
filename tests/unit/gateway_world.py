"""Builders for the gateway's tests, and a small model of what is around it: an API, two streams, a naive scheduler."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from neap.common.contract.catalogue import NODES as NODE_OBJECTS
from neap.common.contract.catalogue import PLACEMENTS, POLICY, PROFILES
from neap.common.kube.kind import Kind
from neap.common.kube.objects import NODES, PODS, Metadata, Node, OwnerReference, Pod
from neap.common.model.lifecycle import Ended, EndReason, Eviction, Measured, Started, Submitted
from neap.common.model.placement import Placed, Placement, Released
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Arrived, Decide, Done, Emit, Event, Failed, Heard, Instruction, Synced, Tick
from neap.gateway.core.acts import Accepted, AlreadyGone, Bind, Bound, Evict, LostRace, ShowEvent
from neap.gateway.core.hearing.reflector import Complete, Removed, Seen
from neap.gateway.core.kinds.table import KINDS
from neap.gateway.core.machine import STORED, GatewayMachine
from neap.gateway.settings import Settings

ALONE = Settings(elect=False)
DOCUMENTED: tuple[Kind[Any], ...] = (PODS, NODES)
TERMINAL = frozenset({EndReason.DELETED, EndReason.FINISHED})


def a_pod(
    name: str = "cart-1",
    *,
    uid: str = "",
    node: str = "",
    phase: str = "Pending",
    scheduler: str = "neap",
    requests: dict[str, str] | None = None,
    owner: OwnerReference | None = None,
    deleting: bool = False,
    **more: Any,
) -> Pod:
    amounts = {"cpu": "1", "memory": "1Gi"} if requests is None else requests
    document: dict[str, Any] = {
        "metadata": {
            "name": name, "namespace": "shop", "uid": uid or f"uid-{name}", "resourceVersion": "1", "labels": {"app": "cart"},
            **({"ownerReferences": [msgspec.to_builtins(owner)]} if owner else {}),
            **({"deletionTimestamp": "2026-11-22T17:00:00Z"} if deleting else {}),
            **more.pop("metadata", {}),
        },
        "spec": {
            "schedulerName": scheduler,
            "containers": [{"name": "main", "image": "i", "resources": {"requests": amounts}}],
            **({"nodeName": node} if node else {}), **more,
        },
        "status": {"phase": phase},
    }  # fmt: skip
    if phase == "Running":
        document["status"]["containerStatuses"] = [{"name": "main", "containerID": "containerd://4f3a"}]
    return msgspec.convert(document, Pod)


def a_node(name: str = "n1", **more: Any) -> Node:
    document = {"metadata": {"name": name, "uid": f"uid-{name}", **more.pop("metadata", {})}, **more}
    return msgspec.convert(document, Node)


def an_eviction(
    uid: str = "uid-cart-1", *, name: str = "cart-1", node: str = "n1", attempt: int = 1, at: float = 0.0
) -> Eviction:
    measured = (Measured(metric="memory", value=0.97, threshold=0.9),)
    return Eviction(at=at, source="evictor", node=node, uid=uid, namespace="shop", name=name, attempt=attempt,
                    rule="memory_pressure", reason="memory 0.97 above 0.9", measured=measured, ranking="the largest",
                    grace=30.0)  # fmt: skip


class World:
    """A gateway among streams that store, and an API that is told and asked when a test says so."""

    def __init__(self, settings: Settings = ALONE, *, nodes: Sequence[str] = ("n1", "n2", "n3")) -> None:
        self.settings, self.nodes, self.at = settings, nodes, 1000.0
        self.api: dict[str, Pod] = {}  # uid -> what the API has
        self.binds: dict[str, list[str]] = {}  # uid -> nodes it was bound to by us
        self.life: list[tuple[str, Submitted | Started | Ended]] = []
        self.ledger: list[Placed | Released] = []
        self.held: dict[str, Placed] = {}
        self.named: dict[str, set[str]] = {}  # uid -> nodes a ledger ever named
        self._ids: set[str] = set()
        self.trail: list[Decide] = []
        self.shown: list[ShowEvent] = []
        self.acts: deque[Instruction] = deque()  # asked, and not carried out
        self.news: deque[Event] = deque()  # of the API, not heard
        self.said: list[Instruction] = []
        self.start()

    # -- the gateway

    def start(self) -> None:
        """A new life: everything stored is read, and everything the API has is listed."""
        self.acts.clear()
        self.news.clear()
        self.machine = GatewayMachine(self.settings)
        self.heard_life = self.heard_ledger = 0
        for name in self.nodes:
            self.tell(Heard(self.at, Seen(NODES, a_node(name), "1")))
        for pod in self.api.values():
            self.tell(Heard(self.at, Seen(PODS, pod, "1")))
        for kind in (PODS, NODES, *KINDS):
            self.tell(Heard(self.at, Complete(kind, "1", 1)))
        self.hear()
        for channel in STORED:
            self.tell(Synced(self.at, channel))
        self.hear()

    def tell(self, *events: Event) -> list[Instruction]:
        """Events, and what the gateway says to them."""
        said: list[Instruction] = []
        for event in events:
            found = self.machine.handle(event)
            self.machine.validate()
            for one in found:
                said.append(one)
                match one:
                    case Emit(to=to, message=message, id=id):
                        if id not in self._ids:
                            self._ids.add(id)
                            self.life.append((to.subject, message))
                    case Decide():
                        self.trail.append(one)
                    case ShowEvent():
                        self.shown.append(one)
                    case Bind() | Evict():
                        self.acts.append(one)
        self.said += said
        return said

    def hear(self, most: int = 1_000_000) -> None:
        """What the streams have reaches the gateway, in each stream's order."""
        while most > 0 and (self.heard_life < len(self.life) or self.heard_ledger < len(self.ledger)):
            most -= 1
            if self.heard_life < len(self.life):
                subject, event = self.life[self.heard_life]
                self.heard_life += 1
                self.tell(Arrived(self.at, event, subject, self.heard_life))
            if self.heard_ledger < len(self.ledger):
                entry = self.ledger[self.heard_ledger]
                self.heard_ledger += 1
                self.tell(Arrived(self.at, entry, PLACEMENTS.at(node=entry.node).subject, self.heard_ledger))

    def see(self, pod: Pod) -> list[Instruction]:
        """The API has this pod, and the gateway sees it at once."""
        self.api[pod.metadata.uid] = pod
        return self.tell(Heard(self.at, Seen(PODS, pod, "2")))

    def remove(self, uid: str) -> list[Instruction]:
        """The API has it no more, and the gateway hears of it at once."""
        pod = self.api.pop(uid)
        return self.tell(Heard(self.at, Removed(PODS, pod.metadata.key, uid)))

    def pass_time(self, seconds: float) -> list[Instruction]:
        self.at += seconds
        return self.tell(Tick(self.at, "beat"))

    # -- the API

    def change(self, uid: str, **status: Any) -> None:
        """A pod is something else by now; the gateway will hear of it."""
        pod = self.api[uid]
        node = status.pop("node", None)
        if node is not None:
            pod = msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, node_name=node))
        if status:
            pod = msgspec.structs.replace(pod, status=msgspec.structs.replace(pod.status, **status))
        self.api[uid] = pod
        self.news.append(Heard(self.at, Seen(PODS, pod, "3")))

    def act(self, *, fails: bool = False, answers: bool = True) -> None:
        """The oldest act is carried out; or not; or its answer is lost."""
        if not self.acts:
            return
        one = self.acts.popleft()
        if fails:
            self.tell(Failed(self.at, one, "no answer", may_retry=True))
            return
        outcome = self._bind(one) if isinstance(one, Bind) else self._evict(one)
        if answers:
            self.tell(Done(self.at, one, outcome))
        else:
            self.tell(Failed(self.at, one, "the answer was lost", may_retry=True))

    def _bind(self, bind: Bind) -> Bound | LostRace | AlreadyGone:
        pod = self.api.get(bind.uid)
        if pod is None:
            return AlreadyGone()
        if pod.spec.node_name:
            same = pod.spec.node_name == bind.node
            return Bound() if same else LostRace(f"{pod.spec.node_name} has it", pod.spec.node_name)
        assert bind.node in self.named.get(bind.uid, ()), f"{bind.uid} is bound to {bind.node}, which no ledger names"
        self.binds.setdefault(bind.uid, []).append(bind.node)
        self.change(bind.uid, node=bind.node)
        return Bound()

    def _evict(self, _: Instruction) -> Accepted:
        return Accepted()

    # -- the scheduler

    def place(self, choose: int = 0) -> None:
        """Places what is wanted, adopts what is there, releases what is over."""
        wanted: dict[str, tuple[Workload, str, int]] = {}
        over: dict[str, int] = {}
        for _, event in self.life:
            match event:
                case Submitted(workload=workload, node=node) if over.get(workload.uid, 0) < 1 << 30:
                    attempt = max(workload.attempt, over.get(workload.uid, 0) + 1)
                    wanted[workload.uid] = (workload, node, attempt)
                case Ended(uid=uid, attempt=attempt, reason=EndReason.REFUSED | EndReason.EVICTED):
                    over[uid] = max(over.get(uid, 0), attempt)
                    if uid in wanted:
                        wanted[uid] = (wanted[uid][0], "", over[uid] + 1)
                case Ended(uid=uid):
                    over[uid] = 1 << 30
        for uid, placed in list(self.held.items()):
            node = wanted[uid][1] if uid in wanted else ""
            if placed.placement.workload.attempt <= over.get(uid, 0) or (node and node != placed.node):
                del self.held[uid]
                self.ledger.append(Released(at=self.at, source="scheduler", node=placed.node, uid=uid, reason="over"))
        for uid, (workload, node, attempt) in wanted.items():
            if uid not in self.held and over.get(uid, 0) < attempt:
                there = node or self.nodes[(choose + len(self.ledger)) % len(self.nodes)]
                placement = Placement(
                    workload=msgspec.structs.replace(workload, attempt=attempt), charged=workload.requests
                )
                entry = Placed(at=self.at, source="scheduler", node=there, placement=placement, reason="it fits")
                self.held[uid] = entry
                self.named.setdefault(uid, set()).add(there)
                self.ledger.append(entry)

    # -- for tests

    def told(self, kind: type[Submitted | Started | Ended], uid: str = "") -> list[Any]:
        found = [event for _, event in self.life if isinstance(event, kind)]
        return [one for one in found if not uid or (one.workload.uid if isinstance(one, Submitted) else one.uid) == uid]

    def calm_down(self) -> None:
        """Everything that is under way arrives, and nothing more happens."""
        for _ in range(12):
            while self.news:
                self.tell(self.news.popleft())
            while self.acts:
                self.act()
            self.place()
            self.hear()
            self.pass_time(40.0)


def meta(name: str, uid: str, owner: OwnerReference | None = None) -> Metadata:
    return Metadata(name=name, namespace="shop", uid=uid, owner_references=(owner,) if owner else None)


__all__ = ["ALONE", "NODE_OBJECTS", "POLICY", "PROFILES", "World", "a_node", "a_pod", "an_eviction", "meta"]
