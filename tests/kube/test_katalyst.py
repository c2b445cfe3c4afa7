"""Katalyst's manifests on neap, unchanged: each does what its tutorial says of it.

Not the same, on purpose: over-commitment is known to the scheduler and shown on the node's mirror, but the Node object keeps
what its kubelet says of it; Katalyst rewrites every kubelet's status in a webhook.
Source: reference/katalyst-control.md 7.3, UJ-2, UJ-6, UJ-7, UJ-11, UJ-19.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from neap.common.contract.catalogue import ADVICE, POLICY, TOPOLOGY
from neap.common.cpuset import parse_cpuset
from neap.common.kube.objects import NODES
from neap.common.model.advice import NodeAdvice
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.topology import NodeTopology, Zone, ZoneKind
from neap.common.units import KIB
from tests.kube.server import need_assets
from tests.kube.stage import ROOT, Cluster
from tests.kube.test_journey import ledger, one

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(900)]
EXAMPLES = ROOT / "examples" / "kubernetes" / "katalyst"
SMALL = {"cpu": "4", "memory": "8151352Ki", "pods": "110"}  # the tutorial's machines


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    need_assets()
    async with Cluster(nodes=4, period=2.0) as world:
        yield world


async def test_katalysts_manifests_do_what_their_tutorials_say(cluster: Cluster) -> None:
    await a_guest_that_names_reclaimed_resources_runs_beside_an_owner_on_other_cpus(cluster)
    await a_dedicated_pod_has_its_cpus_inside_numa_nodes_nobody_else_has(cluster)
    await a_configuration_of_the_evictor_is_in_force_and_says_so(cluster)
    await eighteen_of_twenty_pods_run_once_the_pool_is_overcommitted(cluster)


async def a_guest_that_names_reclaimed_resources_runs_beside_an_owner_on_other_cpus(cluster: Cluster) -> None:
    for name in ("shared", "reclaimed"):
        await cluster.kubectl("apply", "-f", str(EXAMPLES / f"{name}.yaml"))
    guest = await cluster.until(lambda: one(cluster, "reclaimed-normal-pod"), "the guest runs")
    owner = await cluster.until(lambda: one(cluster, "shared-normal-pod"), "the owner runs")
    assert {pod["spec"]["schedulerName"] for pod in (guest, owner)} == {"neap"}
    node = owner["spec"]["nodeName"]

    async def advised() -> NodeAdvice | None:
        said = await cluster.bus.get(ADVICE.at(node=node))
        return said.message if said and {pool.name for pool in said.message.pools} >= {"share", "reclaimed"} else None

    advice = await cluster.until(advised, "the owner has a pool")
    pools = {pool.name: parse_cpuset(pool.cpus) for pool in advice.pools}
    assert len(pools["share"]) >= 2
    assert not pools["share"] & pools["reclaimed"]


async def a_dedicated_pod_has_its_cpus_inside_numa_nodes_nobody_else_has(cluster: Cluster) -> None:
    await cluster.kubectl("apply", "-f", str(EXAMPLES / "dedicated-numa.yaml"))
    pod = await cluster.until(lambda: one(cluster, "numa-dedicated-normal-pod"), "the dedicated pod runs")
    _, placement = (await ledger(cluster))[pod["metadata"]["uid"]]
    assert placement.exclusive
    assert placement.numa


async def a_configuration_of_the_evictor_is_in_force_and_says_so(cluster: Cluster) -> None:
    await cluster.kubectl("apply", "-f", str(EXAMPLES / "eviction.yaml"))

    async def told() -> Any:
        async with cluster.bus.watch(POLICY.only(room="evictor")) as items:
            async for item in items:
                return item.message if hasattr(item, "message") else None
        return None

    policy = await cluster.until(told, "the evictor has a policy")
    assert policy.now.patch["reclaimed_overuse.ratio"] == 10.0

    async def answered() -> Any:
        found = await cluster.read("adminqosconfigurations", "reclaimed-eviction-config")
        return found.get("status", {}).get("conditions")

    conditions = await cluster.until(answered, "the object says what became of it")
    assert [one["status"] for one in conditions if one["type"] == "Accepted"] == ["True"]


async def eighteen_of_twenty_pods_run_once_the_pool_is_overcommitted(cluster: Cluster) -> None:
    for number in range(1, 4):
        await machine(cluster, f"small-{number}")
    config, deployment = (EXAMPLES / "overcommit.yaml").read_text().split("---\n")
    await cluster.kubectl("apply", "-f", "-", said=deployment)

    async def bound(count: int) -> list[Any]:
        pods = (await cluster.read("pods", "-l", "app=busybox"))["items"]
        placed = [pod for pod in pods if pod["spec"].get("nodeName")]
        return placed if len(pods) == 20 and len(placed) == count else []

    before = await cluster.until(lambda: bound(6), "two pods a node fit before")
    await cluster.kubectl("apply", "-f", "-", said=config)
    after = await cluster.until(lambda: bound(18), "six pods a node fit after")
    for pods, each in ((before, 2), (after, 6)):
        nodes = [pod["spec"]["nodeName"] for pod in pods]
        assert {nodes.count(f"small-{number}") for number in range(1, 4)} == {each}


async def machine(cluster: Cluster, name: str) -> None:
    """A node of the tutorial: no virtual kernel behind it, so what is bound to it stays Pending."""
    labels = {"katalyst.kubewharf.io/overcommit_node_pool": "overcommit-demo"}
    await cluster.kube.create(NODES, {"metadata": {"name": name, "labels": labels}})
    status = {"conditions": [{"type": "Ready", "status": "True"}], "capacity": SMALL, "allocatable": SMALL}
    await cluster.kube.patch(NODES, name, {"status": status}, subresource="status")
    amounts = {CPU: 4000, MEMORY: 8151352 * KIB}
    whole = Zone(kind=ZoneKind.MACHINE, index=0)
    topology = NodeTopology(
        at=cluster.clock.now(),
        source="reporter",
        node=name,
        machine=whole,
        numa=(),
        capacity=amounts,
        allocatable=amounts,
    )
    await cluster.bus.put(TOPOLOGY.at(node=name), topology)
