"""A cluster in memory with a bus in memory: the real scheduler and the real gateway, and a kubelet that runs what is bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

from neap.common.bus.memory import MemoryBroker
from neap.common.bus.port import CaughtUp, Received
from neap.common.contract.catalogue import CHANNELS, HEADROOM, PLACEMENTS, STREAMS, TOPOLOGY, TRAIL, WORKLOAD
from neap.common.errors import PortError
from neap.common.host.memory import MemoryHost
from neap.common.kube.memory import MemoryCluster, MemoryKube
from neap.common.kube.objects import NAMESPACES, NODES, PODS, Pod
from neap.common.kube.port import Change, PatchStyle
from neap.common.model.advice import Headroom
from neap.common.model.lifecycle import Ended, LifecycleEvent, Started, Submitted
from neap.common.model.placement import LedgerEntry, Placement, fold
from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU
from neap.common.model.topology import NodeTopology, Zone, ZoneKind
from neap.common.runtime.clock import Clock, loop_clock
from neap.common.runtime.run import Running
from neap.common.runtime.service import Outside
from neap.common.telemetry.span import NoTracer
from neap.common.units import GIB
from neap.gateway import wiring as gateway
from neap.gateway.settings import Settings as GatewaySettings
from neap.scheduler import wiring as scheduler
from neap.scheduler.settings import Settings as SchedulerSettings

EPOCH = 1_764_000_000.0
NAMESPACE = "shop"


def pod(name: str, *, cpu: str = "1", scheduler_name: str = "neap", node: str = "", **more: Any) -> dict[str, Any]:
    spec = {
        "schedulerName": scheduler_name,
        "containers": [{"name": "main", "image": "i", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}],
        **({"nodeName": node} if node else {}),
    }
    return {"metadata": {"name": name, "namespace": NAMESPACE, **more}, "spec": spec}


class KubeWorld:
    """Everything that runs, by name; restarted and cut off by tests."""

    def __init__(self, *, nodes: int = 4, cores: int = 8) -> None:
        self.nodes, self._cores = [f"n{i}" for i in range(nodes)], cores
        self.clock: Clock = loop_clock(asyncio.get_running_loop(), epoch=EPOCH)
        self.cluster = MemoryCluster(now=self.clock.now, random=Random(1))
        self.kube = self.cluster.endpoint("test")
        self.broker = MemoryBroker(random=Random(2))
        self.bus = self.broker.bus("test")
        self.life: list[LifecycleEvent] = []
        self.ledger: dict[str, dict[str, Placement]] = {}
        self.trail: list[Any] = []
        self.counts: dict[str, float] = {}
        self._parts: dict[str, tuple[asyncio.Task[None], asyncio.Event, Any]] = {}
        self._lives = 0
        self.doors: dict[str, MemoryKube] = {}  # each gateway's way to the API

    @asynccontextmanager
    async def running(self, *rooms: str, **gateway_settings: Any) -> AsyncIterator[KubeWorld]:
        """The named rooms, or all."""
        self._settings = GatewaySettings(**{"serve": False, **gateway_settings})
        await self.bus.ensure(STREAMS, CHANNELS)
        await self.kube.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        await self.kube.create(NAMESPACES, {"metadata": {"name": "neap-system"}})
        for name in self.nodes:
            await self.add_node(name)
        async with asyncio.TaskGroup() as group:
            self._group = group
            watching = [
                group.create_task(job())
                for job in (self._hear_life, self._hear_ledger, self._hear_trail, self._kubelet)
            ]
            for room in rooms or ("scheduler", "gateway"):
                self.start(room)
            yield self
            for name in list(self._parts):
                await self.end(name)
            for task in watching:
                task.cancel()

    async def add_node(self, name: str) -> None:
        amounts = {CPU: self._cores * 1000, MEMORY: 32 * GIB}
        shown = {"cpu": str(self._cores), "memory": "32Gi", "pods": "110"}
        await self.kube.create(NODES, {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}})
        await self.kube.patch(NODES, name, {"status": {"capacity": shown, "allocatable": shown}}, subresource="status")
        topology = NodeTopology(at=self.clock.now(), source="reporter", node=name, machine=Zone(kind=ZoneKind.MACHINE, index=0), numa=(), capacity=amounts, allocatable=amounts)  # fmt: skip
        await self.bus.put(TOPOLOGY.at(node=name), topology)

    async def lend(self, node: str, cores: int) -> None:
        offer = Headroom(
            at=self.clock.now(), source="advisor", node=node, offer={RECLAIMED_CPU: cores * 1000}, arithmetic={}
        )
        await self.bus.put(HEADROOM.at(node=node), offer)

    def start(self, room: str) -> None:
        self._lives += 1
        bus, stop = self.broker.bus(f"{room}.{self._lives}"), asyncio.Event()
        outside = Outside(bus=bus, clock=self.clock, host=MemoryHost(), tracer=NoTracer(), seed=self._lives)
        if room.startswith("gateway"):
            self.doors[room] = self.cluster.endpoint(room)
            service = gateway.wire(self._settings, outside, {"memory": self.doors[room]})
        else:
            service = scheduler.wire(SchedulerSettings(), outside)
        running = Running(service, outside, count=self._count, validate=True)
        self._parts[room] = self._group.create_task(running.run(stop)), stop, bus

    async def end(self, room: str) -> None:
        task, stop, bus = self._parts.pop(room)
        stop.set()
        await task
        self.broker.disconnect(bus)

    async def crash(self, room: str) -> None:
        task, _, bus = self._parts.pop(room)
        self.broker.disconnect(bus)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def until(self, true: Callable[[], Any | Awaitable[Any]], *, within: float = 120.0) -> None:
        """Virtual seconds pass until something holds."""
        for _ in range(int(within * 4)):
            found = true()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.25)
        raise AssertionError(f"not within {within} s: {[type(one).__name__ for one in self.life[-20:]]}")

    async def pods(self) -> dict[str, Pod]:
        return {one.metadata.name: one for one in (await self.kube.list(PODS)).items}

    async def bound(self) -> dict[str, str]:
        return {name: one.spec.node_name for name, one in (await self.pods()).items() if one.spec.node_name}

    def held(self) -> dict[str, str]:
        """Name -> node, by the ledgers."""
        return {one.workload.name: node for node, held in self.ledger.items() for one in held.values()}

    def told(self, kind: type[Submitted | Started | Ended]) -> list[Any]:
        return [event for event in self.life if isinstance(event, kind)]

    # -- the rest of the cluster

    async def _hear_life(self) -> None:
        async with self.broker.bus("life").follow(WORKLOAD.only()) as items:
            async for item in items:
                if isinstance(item, Received):
                    self.life.append(item.message)

    async def _hear_ledger(self) -> None:
        async with self.broker.bus("ledger").follow(PLACEMENTS.only()) as items:
            async for item in items:
                if isinstance(item, Received):
                    entry: LedgerEntry = item.message
                    self.ledger[entry.node] = fold(self.ledger.get(entry.node, {}), entry)

    async def _hear_trail(self) -> None:
        async with self.broker.bus("trail").follow(TRAIL.only()) as items:
            async for item in items:
                if not isinstance(item, CaughtUp):
                    self.trail.append(item.message)

    async def _kubelet(self) -> None:
        """Pods that have a node run; pods that are to go are gone."""
        while True:
            with suppress(PortError):
                page = await self.kube.list(PODS)
                for one in page.items:
                    await self._run(one)
                async with self.kube.watch(PODS, version=page.version) as lines:
                    async for line in lines:
                        if line.object is not None and line.change is not Change.DELETED:
                            await self._run(line.object)
            await asyncio.sleep(1.0)

    async def _run(self, one: Pod) -> None:
        if one.metadata.deletion_timestamp is not None:
            await self.kube.delete(PODS, one.metadata.name, namespace=NAMESPACE, uid=one.metadata.uid, grace=0)
        elif one.spec.node_name and one.status.phase in ("", "Pending"):
            statuses = [{"name": c.name, "containerID": f"containerd://{one.metadata.uid}-{c.name}", "image": "i", "imageID": "", "ready": True, "restartCount": 0} for c in one.spec.containers]  # fmt: skip
            ready = [{"type": "Ready", "status": "True"}]
            status = {"status": {"phase": "Running", "containerStatuses": statuses, "conditions": ready}}
            await self.kube.patch(
                PODS, one.metadata.name, status, namespace=NAMESPACE, subresource="status", style=PatchStyle.MERGE
            )

    def _count(self, metric: str, by: float, labels: dict[str, str]) -> None:
        key = f"{metric}{{{','.join(f'{k}={v}' for k, v in sorted(labels.items()))}}}"
        self.counts[key] = self.counts.get(key, 0.0) + by
