"""Virtual kubelets at a Kubernetes API: what `kubectl get` would show of the nodes and of the pods bound to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from neap.common.errors import Vanished
from neap.common.kube.memory import Fault, MemoryCluster, MemoryKube
from neap.common.kube.objects import NAMESPACES, NODES, PODS, Pod
from neap.common.runtime.clock import loop_clock
from neap.common.testing.simloop import simulate
from neap.virtual.hollow import HollowNodes
from neap.virtual.kernel import VirtualHost
from neap.virtual.settings import Settings
from neap.virtual.world import build_hosts, plan_nodes
from tests.sim.small import examples


class Stage:
    """Two virtual nodes, an API server in memory, and a clock."""

    def __init__(self) -> None:
        self.clock = loop_clock(asyncio.get_running_loop(), epoch=1_000_000.0)
        self.cluster = MemoryCluster(now=self.clock.now, random=Random(1))
        self.kube: MemoryKube = self.cluster.endpoint("admin")
        plans = plan_nodes(Settings(nodes=2, seed=1, examples=str(examples())))
        self.hosts: dict[str, VirtualHost] = build_hosts(plans, self.clock.now())
        self.nodes = HollowNodes(self.cluster.endpoint("kubelet"), self.hosts, self.clock)

    async def pod(self, name: str = "cart", *, node: str = "n1", **annotations: str) -> Pod:
        """A pod that is bound."""
        spec = {
            "containers": [{"name": "main", "image": "x", "resources": {"requests": {"cpu": "2", "memory": "1Gi"}}}]
        }
        told = {f"virtual.neap.io/{key}": value for key, value in annotations.items()}
        made = await self.kube.create(
            PODS, {"metadata": {"name": name, "annotations": told}, "spec": spec}, namespace="shop"
        )
        await self.kube.bind("shop", name, uid=made.metadata.uid, node=node)
        return made

    async def look(self, name: str = "cart") -> Pod:
        return await self.kube.get(PODS, name, namespace="shop")

    async def passes(self, seconds: float) -> None:
        await self.clock.sleep_until(self.clock.now() + seconds)


def staged(main: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
    async def play() -> None:
        stage = Stage()
        await stage.kube.create(NAMESPACES, {"metadata": {"name": "shop"}})
        task = asyncio.ensure_future(stage.nodes.run())
        await stage.passes(2)
        try:
            await main(stage)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    simulate(play())


def test_nodes_are_there_with_what_their_machines_have_and_say_that_they_are_simulated() -> None:
    async def main(stage: Stage) -> None:
        node = await stage.kube.get(NODES, "n1")
        assert node.status.allocatable is not None
        assert node.status.allocatable["cpu"] == str(len(stage.hosts["n1"].machine.cpus))
        assert (node.metadata.labels or {})["virtual.neap.io/simulated"] == "true"
        before = [one.status for one in node.status.conditions or () if one.type == "Ready"]
        assert before == ["True"]

    staged(main)


def test_a_bound_pod_runs_on_its_host_and_its_container_is_named_as_its_cgroup_is() -> None:
    async def main(stage: Stage) -> None:
        made = await stage.pod()
        await stage.passes(3)
        pod = await stage.look()
        assert pod.status.phase == "Running"
        [state] = pod.status.container_statuses or ()
        runtime, _, container = state.container_id.partition("://")
        assert runtime == "containerd"
        home = f"/sys/fs/cgroup/kubepods/burstable/pod{made.metadata.uid}"
        assert stage.hosts["n1"].read(f"{home}/{container}/cpu.stat")
        assert stage.hosts["n2"].pods == ()

    staged(main)


def test_a_deleted_pod_leaves_its_host_and_the_api() -> None:
    async def main(stage: Stage) -> None:
        await stage.pod()
        await stage.passes(3)
        await stage.kube.delete(PODS, "cart", namespace="shop")
        await stage.passes(3)
        assert stage.hosts["n1"].pods == ()
        with pytest.raises(Vanished):
            await stage.look()

    staged(main)


def test_a_pod_whose_work_is_done_has_succeeded() -> None:
    async def main(stage: Stage) -> None:
        await stage.pod(demand="work", work="20", width="2")
        await stage.passes(5)
        assert (await stage.look()).status.phase == "Running"
        await stage.passes(20)
        assert (await stage.look()).status.phase == "Succeeded"
        assert stage.hosts["n1"].pods == ()

    staged(main)


def test_a_pod_it_cannot_understand_has_failed_with_the_reason() -> None:
    async def main(stage: Stage) -> None:
        await stage.pod(demand="dance")
        await stage.passes(3)
        pod = await stage.look()
        assert (pod.status.phase, "must be curve" in pod.status.message) == ("Failed", True)

    staged(main)


def test_what_happened_while_the_api_was_away_is_made_up_for() -> None:
    async def main(stage: Stage) -> None:
        await stage.pod("stays")
        await stage.pod("goes")
        await stage.passes(3)
        stage.cluster.faults.append(Fault("*", "pods/status", times=3))
        stage.nodes._kube.go()  # type: ignore[attr-defined]
        await stage.pod("comes")
        await stage.kube.delete(PODS, "goes", namespace="shop", grace=0)
        await stage.passes(30)
        stage.nodes._kube.come()  # type: ignore[attr-defined]
        await stage.passes(300)
        assert (await stage.look("comes")).status.phase == "Running"
        assert len(stage.hosts["n1"].pods) == 2

    staged(main)
