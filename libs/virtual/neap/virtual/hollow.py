"""Kubelets of virtual nodes for a Kubernetes API server: the nodes, what runs on them and their heartbeats are simulated.

    Node objects      made from the machines, labelled `type=virtual`, Ready while this runs
    a pod is bound    started on its virtual host, its status says Running, with containers as a runtime names them
    it is deleted     stopped, and its object taken away at once: the grace is not modelled
    its work is done  its status says Succeeded
    it was resized    its status says so; the virtual kernel's limits stay as they were

The API server needs no other kubelet and no controller for this (the idea is that of KWOK). Whatever this process misses
it finds in the next list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import msgspec

from neap.common.errors import Conflict, InputError, PortError, Vanished
from neap.common.kube.objects import NODES, PODS, Pod
from neap.common.kube.port import Change, Kube, Watched
from neap.common.model.manifest import workload_of_pod
from neap.common.runtime.clock import Clock
from neap.common.telemetry.log import get_logger
from neap.common.units import Seconds
from neap.virtual.behaviour import Curves, Origin, runtime_id, virtual_pod
from neap.virtual.kernel import VirtualHost
from neap.virtual.pod import Work
from neap.virtual.slices import CURVE_STEP

LABELS: Final = {"type": "virtual", "virtual.neap.io/simulated": "true", "kubernetes.io/os": "linux"}
BEAT: Final[Seconds] = 30.0  # between two heartbeats of a node
LISTS: Final[Seconds] = 120.0  # between two lists of all pods
AGAIN: Final[Seconds] = 0.5  # before the API is asked again after it failed
TRIES: Final = 8  # then the next list must do
ABREAST: Final = 32  # requests at once
OVER: Final = frozenset({"Succeeded", "Failed"})


class HollowNodes:
    """See module docstring. `step`: how often the hosts are let live, in seconds of the clock."""

    def __init__(
        self,
        kube: Kube,
        hosts: Mapping[str, VirtualHost],
        clock: Clock,
        *,
        curves: Curves | None = None,
        step: Seconds = 1.0,
    ) -> None:
        self._kube, self._hosts, self._clock, self._step = kube, hosts, clock, step
        self._curves, self._origin = curves or {}, Origin(clock.now(), CURVE_STEP, 1)
        self._pods: dict[str, Pod] = {}  # running here, by uid
        self._working: dict[str, set[str]] = {}  # containers with work to do, by uid of their pod
        self._lanes = asyncio.Semaphore(ABREAST)
        self._log = get_logger("virtual")

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for node in self._hosts:
                group.create_task(self._tell(partial(self._register, node)))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hear(group))
            group.create_task(self._live(group))
            group.create_task(self._beat())

    # -- nodes -------------------------------------------------------------------------------------------------------

    async def _register(self, node: str) -> None:
        with suppress(Conflict):
            await self._kube.create(
                NODES, {"metadata": {"name": node, "labels": {**LABELS, "kubernetes.io/hostname": node}}}
            )
        await self._kube.patch(NODES, node, {"status": self._node_status(node, whole=True)}, subresource="status")

    def _node_status(self, node: str, *, whole: bool = False) -> dict[str, Any]:
        now = _stamp(self._clock.now())
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "VirtualKubelet",
            "message": "simulated",
            "lastHeartbeatTime": now,
        }
        status: dict[str, Any] = {"conditions": [{**ready, "lastTransitionTime": _stamp(self._origin.start)}]}
        if whole:
            machine = self._hosts[node].machine
            amounts = {"cpu": str(len(machine.cpus)), "memory": str(machine.memory), "pods": "250"}
            status |= {"capacity": amounts, "allocatable": amounts}
        return status

    async def _beat(self) -> None:
        while True:
            for node in self._hosts:  # one after the other, so that they are spread
                await self._clock.sleep_until(self._clock.now() + BEAT / len(self._hosts))
                beat = {"status": self._node_status(node)}
                await self._tell(partial(self._kube.patch, NODES, node, beat, subresource="status"))

    async def _live(self, group: asyncio.TaskGroup) -> None:
        while True:
            now = self._clock.now()
            await self._clock.sleep_until(now + self._step)
            for host in self._hosts.values():
                for ended in host.advance(now):
                    left = self._working.get(ended.uid, set())
                    left.discard(ended.container)
                    if not left and ended.uid in self._pods:
                        group.create_task(self._tell(partial(self._end, self._pods[ended.uid], host, ended.reason)))
                await asyncio.sleep(0)

    # -- pods --------------------------------------------------------------------------------------------------------

    async def _hear(self, group: asyncio.TaskGroup) -> None:
        while True:
            try:
                version = await self._list(group)
                async with self._kube.watch(PODS, version=version, within=LISTS) as changes:
                    async for change in changes:
                        self._heed(change, group)
            except PortError as error:
                self._log.info("virtual.kube.again", why=str(error))
            await self._clock.sleep_until(self._clock.now() + AGAIN)

    async def _list(self, group: asyncio.TaskGroup) -> str:
        found: dict[str, Pod] = {}
        token = ""
        while True:
            page = await self._kube.list(PODS, token=token)
            found |= {pod.metadata.uid: pod for pod in page.items}
            if not (token := page.token):
                break
        for uid in self._pods.keys() - found.keys():
            self._stop(self._pods[uid])
        for pod in found.values():
            self._heed(Watched(Change.ADDED, pod.metadata.resource_version, pod), group)
        return page.version

    def _heed(self, change: Watched[Pod], group: asyncio.TaskGroup) -> None:
        pod = change.object
        if pod is None or (host := self._hosts.get(pod.spec.node_name or "")) is None:
            return
        here = self._pods.get(pod.metadata.uid)
        if change.change is Change.DELETED:
            self._stop(pod)
        elif pod.metadata.deletion_timestamp is not None:
            self._stop(pod)
            group.create_task(self._tell(partial(self._take_away, pod)))
        elif here is None and pod.status.phase not in OVER:
            self._pods[pod.metadata.uid] = pod
            group.create_task(self._tell(partial(self._start, pod, host)))
        elif here is not None and (pod.status.phase == "Pending" or here.spec.containers != pod.spec.containers):
            self._pods[pod.metadata.uid] = pod
            group.create_task(self._tell(partial(self._show, pod)))

    async def _start(self, pod: Pod, host: VirtualHost) -> None:
        if pod.metadata.uid not in self._pods:
            return None  # it was stopped before it began
        try:
            document = {"apiVersion": "v1", "kind": "Pod", **msgspec.to_builtins(pod)}
            virtual = virtual_pod(workload_of_pod(document, where="pod"), self._curves, self._origin)
            if virtual.uid not in host.pods:
                host.start(virtual)
        except InputError as error:
            failed = {"phase": "Failed", "reason": "VirtualKubelet", "message": str(error)[:1000]}
            return await self._patch(pod, failed)
        self._working[virtual.uid] = {one.id for one in virtual.containers if isinstance(one.demand, Work)} or {""}
        return await self._show(pod)

    async def _show(self, pod: Pod) -> None:
        """That it runs, with what it has."""
        now = _stamp(self._clock.now())
        states = [
            {
                "name": one.name,
                "containerID": f"containerd://{_container_id(pod, one.name)}",
                "ready": True,
                "started": True,
                "restartCount": 0,
                "image": one.image,
                "imageID": "",
                "state": {"running": {"startedAt": now}},
                "resources": msgspec.to_builtins(one.resources),
            }
            for one in pod.spec.containers
        ]
        conditions = [
            {"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("Ready", "ContainersReady")
        ]
        await self._patch(
            pod, {"phase": "Running", "startTime": now, "containerStatuses": states, "conditions": conditions}
        )

    async def _end(self, pod: Pod, host: VirtualHost, reason: str) -> None:
        host.stop(pod.metadata.uid)
        self._stop(pod)
        await self._patch(pod, {"phase": "Succeeded" if reason == "done" else "Failed", "reason": reason})

    async def _patch(self, pod: Pod, status: dict[str, Any]) -> None:
        body = {"metadata": {"uid": pod.metadata.uid}, "status": status}
        await self._kube.patch(PODS, pod.metadata.name, body, namespace=pod.metadata.namespace, subresource="status")

    async def _take_away(self, pod: Pod) -> None:
        meta = pod.metadata
        await self._kube.delete(PODS, meta.name, namespace=meta.namespace, uid=meta.uid, grace=0)

    def _stop(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        self._pods.pop(uid, None)
        self._working.pop(uid, None)
        if (host := self._hosts.get(pod.spec.node_name or "")) is not None:
            host.stop(uid)

    async def _tell(self, ask: Callable[[], Awaitable[Any]]) -> None:
        """Ask until it is answered; what is gone by then, or another one's, is nobody's fault."""
        async with self._lanes:
            for _ in range(TRIES):
                try:
                    await ask()
                except (Vanished, Conflict):
                    return
                except PortError as error:
                    self._log.info("virtual.kube.failed", why=str(error))
                    await self._clock.sleep_until(self._clock.now() + AGAIN)
                else:
                    return


def _container_id(pod: Pod, container: str) -> str:
    document = {"apiVersion": "v1", "kind": "Pod", **msgspec.to_builtins(pod)}
    return runtime_id(workload_of_pod(document, where="pod"), container)


def _stamp(at: Seconds) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
