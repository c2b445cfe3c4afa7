"""Who runs where, and of which service: folded from ledgers, lifecycle events, topologies and nodes.

Ledgers are the truth about where a pod is; lifecycle events add when it started and how its containers are called.
Capped: of one service the newest start-up times are kept; of services without a pod those that lost theirs last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from sys import intern
from typing import Final

from neap.common.contract.catalogue import NODES, PLACEMENTS, TOPOLOGY
from neap.common.model.lifecycle import Ended, Started
from neap.common.model.node import NodeObject
from neap.common.model.placement import Checkpoint, Placed, Placement, Released
from neap.common.model.policy import pool_of
from neap.common.model.topology import NodeTopology
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Arrived, Event, Gone
from neap.common.units import Seconds
from neap.planner.core.keys import service_of
from neap.planner.core.lean import Lean

MOST_STARTS: Final = 200  # start-up times kept of one service
MOST_IDLE: Final = 10_000  # services without a pod: every run of a job was one
MOST_WAITING: Final = 10_000  # starts that were told before their ledger entry


@dataclass(slots=True)
class Pod:
    """One placed pod. Times are 0 while they are not known."""

    placement: Placement
    node: str
    key: str  # of its service
    placed_at: Seconds = 0.0
    started_at: Seconds = 0.0
    containers: Mapping[str, str] = field(default_factory=dict)  # id of the runtime -> name of the container

    @property
    def workload(self) -> Workload:
        """What it is."""
        return self.placement.workload


@dataclass(slots=True)
class Service:
    """All pods of one key that are placed now. `workload`: of the one placed last, for a while after it is gone."""

    key: str
    workload: Workload
    uids: dict[str, None] = field(default_factory=dict)
    starts: Sequence[Seconds] = ()  # from placed to started


@dataclass(slots=True)
class Node:
    """One node, as far as it was told."""

    name: str
    topology: NodeTopology | None = None
    object: NodeObject | None = None
    uids: dict[str, None] = field(default_factory=dict)

    @property
    def labels(self) -> Mapping[str, str]:
        """Of the machine, and over them those of the cluster."""
        machine = self.topology.labels if self.topology is not None else {}
        return {**machine, **(self.object.labels if self.object is not None else {})}

    @property
    def pool(self) -> str:
        """The pool of nodes it is in; empty: none."""
        return pool_of(self.object.labels if self.object else {}, self.topology.labels if self.topology else {})


class Cluster:
    """See module docstring. `news`: the messages it folds."""

    news: Final = (Placed, Released, Checkpoint, Started, Ended, NodeTopology, NodeObject)

    def __init__(self) -> None:
        self.pods: dict[str, Pod] = {}  # by uid
        self.services: dict[str, Service] = {}  # by key
        self.nodes: dict[str, Node] = {}
        self._idle: dict[str, None] = {}  # services without a pod, the one that has been so longest first
        self._started: dict[str, Started] = {}  # told before their ledger entry
        self._lean = Lean()

    def hear(self, event: Event) -> None:
        """Fold one event, whatever it is about."""
        match event:
            case Arrived(message=Placed() as placed):
                self._place(placed.placement, placed.node, placed.at)
            case Arrived(message=Released(uid=uid, node=node)):
                self._release(uid, node)
            case Arrived(message=Checkpoint() as checkpoint):
                self._restate(checkpoint)
            case Arrived(message=Started() as started):
                self._start(started)
            case Arrived(message=Ended(uid=uid)):
                self._started.pop(uid, None)
            case Arrived(message=NodeTopology() as topology):
                self._node(topology.node).topology = self._lean.topology(topology)
            case Arrived(message=NodeObject() as told):
                self._node(told.node).object = told
            case Gone(channel=channel, subject=subject) if channel in (NODES, TOPOLOGY, PLACEMENTS):
                lost = self._node(channel.tokens_of(subject)["node"])
                if channel == NODES:
                    lost.object = None
                else:
                    lost.topology = None
                self._forget_node(lost)

    def pods_of(self, node: Node) -> list[Pod]:
        """Who is placed there, in the order they came."""
        return [self.pods[uid] for uid in node.uids]

    def validate(self) -> None:
        """Every pod is on one node and in one service, and nowhere else."""
        on_nodes = {uid: node.name for node in self.nodes.values() for uid in node.uids}
        assert on_nodes == {uid: pod.node for uid, pod in self.pods.items()}, "pods and nodes differ"
        in_services = {uid for service in self.services.values() for uid in service.uids}
        assert in_services == self.pods.keys(), "pods and services differ"
        assert self._idle.keys() == {key for key, service in self.services.items() if not service.uids}, "who is idle"

    # -- folding -----------------------------------------------------------------------------------------------------

    def _node(self, name: str) -> Node:
        return self.nodes.setdefault(name, Node(name))

    def _place(self, placement: Placement, node: str, at: Seconds) -> None:
        placement = self._lean.placement(placement)
        workload, pod = placement.workload, self.pods.get(placement.workload.uid)
        if pod is not None and (pod.node, pod.workload.attempt) == (node, workload.attempt):  # resized in place
            pod.placement, self.services[pod.key].workload = placement, workload
            return
        self._forget(workload.uid)
        place = self._node(node)
        key = service_of(workload)
        service = self.services.get(key)
        if service is None:
            service = self.services[key] = Service(key, workload)
        self._idle.pop(key, None)
        pod = self.pods[workload.uid] = Pod(placement, place.name, service.key, at)
        place.uids[workload.uid] = None
        service.workload = workload
        service.uids[workload.uid] = None
        told = self._started.pop(workload.uid, None)
        if told is not None:
            self._mark_started(pod, service, told)

    def _release(self, uid: str, node: str) -> None:
        pod = self.pods.get(uid)
        if pod is not None and pod.node == node:
            self._forget(uid)

    def _restate(self, checkpoint: Checkpoint) -> None:
        listed = {placement.workload.uid: placement for placement in checkpoint.placements}
        known = self.nodes.get(checkpoint.node)
        for uid in [uid for uid in known.uids if uid not in listed] if known is not None else ():
            self._forget(uid)
        for uid, placement in listed.items():
            pod = self.pods.get(uid)
            if pod is None or pod.node != checkpoint.node:
                self._place(placement, checkpoint.node, 0.0)
            else:
                pod.placement = self._lean.placement(placement)

    def _forget(self, uid: str) -> None:
        pod = self.pods.pop(uid, None)
        if pod is not None:
            node = self.nodes[pod.node]
            del node.uids[uid]
            self._forget_node(node)
            service = self.services[pod.key]
            del service.uids[uid]
            if not service.uids:
                self._idle[pod.key] = None
        while len(self._idle) > MOST_IDLE:
            longest = next(iter(self._idle))
            del self._idle[longest], self.services[longest]

    def _forget_node(self, node: Node) -> None:
        """If nothing is known of it any more."""
        if node.topology is None and node.object is None and not node.uids:
            del self.nodes[node.name]

    def _start(self, started: Started) -> None:
        pod = self.pods.get(started.uid)
        if pod is not None and pod.node == started.node:
            self._mark_started(pod, self.services[pod.key], started)
        elif len(self._started) < MOST_WAITING:
            self._started[started.uid] = started

    def _mark_started(self, pod: Pod, service: Service, started: Started) -> None:
        if not pod.started_at and 0 < pod.placed_at <= started.at:
            service.starts = (*service.starts, started.at - pod.placed_at)[-MOST_STARTS:]
        pod.started_at = pod.started_at or started.at  # told again when it is resized
        pod.containers = {intern(id): intern(name) for name, id in started.containers.items()} or pod.containers
