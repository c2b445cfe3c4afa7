"""What a user of a cluster does and sees: real manifests, guests, NUMA, shares of cards, a budget, another size.

Kubernetes' API server, controllers and scheduler are real, the bus is a real nats-server, every room of neap runs; fifty
nodes are virtual, with their kubelets. One cluster for the whole journey, because it takes a while to come up.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from neap.common.contract.catalogue import DEVICES, EVICTIONS, PLACEMENTS, TRAIL
from neap.common.model.lifecycle import Eviction, Measured
from neap.common.model.placement import Placed, Placement
from neap.common.model.trail import TrailEntry
from neap.virtual.history import stored
from tests.kube.server import need_assets
from tests.kube.stage import ROOT, Cluster

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(900)]
EXAMPLES = ROOT / "examples" / "kubernetes"
NOT_HERE = {
    "ServiceMonitor",
    "Prometheus",
    "Alertmanager",
    "APIService",
}  # an operator's kinds; a server that is not there
OURS = "neap.io/gateway"  # reporting controller of neap's Events


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    need_assets()
    async with Cluster(nodes=50) as world:
        yield world


async def test_the_journey_of_a_cluster(cluster: Cluster, shared: Path) -> None:
    await real_manifests_run_where_kube_scheduler_puts_them_and_neap_knows(cluster, shared)
    await the_same_manifests_are_placed_by_neap_when_they_name_it(cluster, shared)
    await a_monitoring_stack_runs_and_its_daemon_set_is_charged_on_every_node(cluster, shared)
    await guests_run_on_what_nodes_lend_and_nodes_show_it(cluster)
    await a_dedicated_pod_has_a_numa_node_alone(cluster)
    await shares_of_cards_are_packed(cluster)
    await an_eviction_waits_for_a_budget(cluster)
    await another_size_keeps_the_uid(cluster)


# -- the stations ----------------------------------------------------------------------------------------------------


async def real_manifests_run_where_kube_scheduler_puts_them_and_neap_knows(cluster: Cluster, shared: Path) -> None:
    manifests = shared / "data" / "k8s" / "microservices-demo" / "kubernetes-manifests.yaml"
    await cluster.kubectl("apply", "-f", str(manifests))
    pods = await cluster.until(lambda: running(cluster, "default", 12), "the microservices demo runs")
    assert {pod["spec"]["schedulerName"] for pod in pods} == {"default-scheduler"}
    uids = {pod["metadata"]["uid"] for pod in pods}

    async def held() -> bool:
        return uids <= (await ledger(cluster)).keys()

    await cluster.until(held, "every pod of kube-scheduler is on its node's ledger")
    where = await ledger(cluster)
    assert {uid: where[uid][0] for uid in uids} == {pod["metadata"]["uid"]: pod["spec"]["nodeName"] for pod in pods}


async def the_same_manifests_are_placed_by_neap_when_they_name_it(cluster: Cluster, shared: Path) -> None:
    manifests = shared / "data" / "k8s" / "microservices-demo" / "kubernetes-manifests.yaml"
    documents = [each for each in yaml.safe_load_all(manifests.read_text()) if each]
    for document in documents:
        if document["kind"] == "Deployment":
            document["spec"]["template"]["spec"]["schedulerName"] = "neap"
    await cluster.kubectl("create", "namespace", "shop")
    await cluster.kubectl("apply", "-n", "shop", "-f", "-", said="\n---\n".join(map(json.dumps, documents)))
    pods = await cluster.until(lambda: running(cluster, "shop", 12), "the demo runs, placed by neap")
    told = await cluster.until(lambda: events(cluster, "shop", "Scheduled", 12), "every binding has an Event")
    assert {event["reportingController"] for event in told} == {OURS}
    by_pod = {event["regarding"]["name"]: event["note"] for event in told}
    for pod in pods:
        node = pod["spec"]["nodeName"]
        assert by_pod[pod["metadata"]["name"]].startswith(f"bound to {node}: score "), by_pod
    lines = await trail(cluster, pods[0])
    assert {"submitted", "placed", "bound"} <= {line.what for line in lines}


async def a_monitoring_stack_runs_and_its_daemon_set_is_charged_on_every_node(cluster: Cluster, shared: Path) -> None:
    folder = shared / "data" / "k8s" / "kube-prometheus"
    documents = [
        each for file in sorted(folder.glob("*.yaml")) for each in yaml.safe_load_all(file.read_text()) if each
    ]
    ours = [each for each in documents if each["kind"] not in NOT_HERE]
    await cluster.kubectl("create", "namespace", "monitoring")
    await cluster.kubectl("apply", "-f", "-", said="\n---\n".join(map(json.dumps, ours)))
    nodes = len(cluster.world.hosts)
    count = nodes + sum(each["spec"].get("replicas", 1) for each in ours if each["kind"] == "Deployment")
    pods = await cluster.until(lambda: running(cluster, "monitoring", count), "the monitoring stack runs")
    uids = {pod["metadata"]["uid"]: pod["spec"]["nodeName"] for pod in pods}

    async def held() -> bool:
        where = await ledger(cluster)
        return all(uid in where and where[uid][0] == node for uid, node in uids.items())

    await cluster.until(held, "every pod of it is on its node's ledger")


async def guests_run_on_what_nodes_lend_and_nodes_show_it(cluster: Cluster) -> None:
    await cluster.kubectl("apply", "-f", str(EXAMPLES / "reclaimed.yaml"))

    async def guests() -> list[Any]:
        return await running(cluster, "default", 3, "app=encode")

    pods = await cluster.until(guests, "three guests run")
    for pod in pods:
        [container] = pod["spec"]["containers"]
        assert container["resources"]["requests"] == {
            "neap.io/reclaimed-millicpu": "2k",
            "neap.io/reclaimed-memory": "1Gi",
        }
        assert (pod["status"]["qosClass"], pod["spec"]["schedulerName"]) == ("BestEffort", "neap")
    node = (await cluster.read("node", pods[0]["spec"]["nodeName"]))["status"]["allocatable"]
    assert {"neap.io/reclaimed-millicpu", "neap.io/reclaimed-memory"} <= node.keys()
    table = (await cluster.kubectl("get", "kcnr")).splitlines()
    assert table[0].split() == ["NAME", "READY", "RECLAIMED", "MCPU", "RECLAIMED", "BYTES", "AGE"]
    assert len(table) == 1 + len(cluster.world.hosts)
    assert all(line.split()[1] == "True" and int(line.split()[2]) >= 0 for line in table[1:])


async def a_dedicated_pod_has_a_numa_node_alone(cluster: Cluster) -> None:
    await cluster.kubectl("apply", "-f", str(EXAMPLES / "dedicated-numa.yaml"))
    pod = await cluster.until(lambda: one(cluster, "ranking"), "the dedicated pod runs")
    uid, node = pod["metadata"]["uid"], pod["spec"]["nodeName"]
    _, placement = (await ledger(cluster))[uid]
    assert placement.exclusive
    assert placement.numa, placement

    async def shown() -> Any:
        zones = (await cluster.read("kcnr", node))["status"].get("topologyZone") or []
        return [one for one in consumers(zones) if one.endswith(f"/{uid}")]

    await cluster.until(shown, "the node's mirror says whose NUMA node it is")


async def shares_of_cards_are_packed(cluster: Cluster) -> None:
    share = yaml.safe_load((EXAMPLES / "gpu-share.yaml").read_text())
    for amounts in share["spec"]["containers"][0]["resources"].values():
        amounts["neap.io/gpu-memory"] = "4096"  # two fit on any card there is here
    for number in range(4):
        share["metadata"]["name"] = f"inference-{number}"
        await cluster.kubectl("apply", "-f", "-", said=json.dumps(share))
    pods = [await cluster.until(lambda n=n: one(cluster, f"inference-{n}"), "a share runs") for n in range(4)]
    where = await ledger(cluster)
    cards = [
        (where[pod["metadata"]["uid"]][0], share.card)
        for pod in pods
        for share in where[pod["metadata"]["uid"]][1].gpus
    ]
    assert len(cards) == 4
    assert max(cards.count(card) for card in cards) == 2, "two halves of a card go on one card, and no third"
    state = await cluster.bus.get(DEVICES.at(node=pods[0]["spec"]["nodeName"]))
    assert state is not None


async def an_eviction_waits_for_a_budget(cluster: Cluster) -> None:
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "encode"},
        "spec": {"minAvailable": 3, "selector": {"matchLabels": {"app": "encode"}}},
    }
    await cluster.kubectl("apply", "-f", "-", said=json.dumps(budget))

    async def counted() -> bool:
        return (await cluster.read("pdb", "encode")).get("status", {}).get("expectedPods") == 3

    await cluster.until(counted, "the disruption controller has counted the guests")
    victim = (await running(cluster, "default", 3, "app=encode"))[0]
    meta = victim["metadata"]
    eviction = Eviction(
        at=cluster.clock.now(), source="evictor", node=victim["spec"]["nodeName"], uid=meta["uid"], namespace="default",
        name=meta["name"], attempt=1, rule="memory_pressure", reason="memory available 2% < 5% for 30 s",
        measured=(Measured(metric="memory available", value=0.02, threshold=0.05, window=30.0),), ranking="newest", grace=1.0,
    )  # fmt: skip
    await cluster.bus.emit(EVICTIONS.at(node=eviction.node), eviction, id=f"{meta['uid']}.1.evict")
    told = await cluster.until(lambda: events(cluster, "default", "EvictionRefused", 1), "the budget's no is shown")
    assert "encode" in told[0]["note"]
    assert (await one(cluster, meta["name"]))["metadata"]["uid"] == meta["uid"]
    await cluster.kubectl("delete", "pdb", "encode")

    async def replaced() -> bool:
        pods = await running(cluster, "default", 3, "app=encode")
        return bool(pods) and meta["uid"] not in {pod["metadata"]["uid"] for pod in pods}

    await cluster.until(replaced, "the guest is evicted, and its ReplicaSet has made another")
    lines = await trail(cluster, victim)
    assert any("memory available 2% < 5%" in line.why for line in lines if line.what == "evicted")


async def another_size_keeps_the_uid(cluster: Cluster) -> None:
    before = await one(cluster, "inference-0")
    wish = json.dumps({"model": {"requests": {"cpu": "750m"}, "limits": {"cpu": "750m"}}})
    await cluster.kubectl("annotate", "pod", "inference-0", f"neap.io/resize={wish}")

    async def resized() -> Any:
        pod = await one(cluster, "inference-0")
        asked = pod["spec"]["containers"][0]["resources"]["requests"]["cpu"]
        shown = pod["status"]["containerStatuses"][0].get("resources", {}).get("requests", {}).get("cpu")
        return pod if asked == shown == "750m" else None

    after = await cluster.until(resized, "the pod has another size")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0

    async def charged() -> bool:
        _, placement = (await ledger(cluster))[after["metadata"]["uid"]]
        return placement.charged["cpu"] == 750 == placement.workload.containers[0].limits["cpu"]

    await cluster.until(charged, "its ledger charges it what it has")


# -- looking ---------------------------------------------------------------------------------------------------------


async def running(cluster: Cluster, namespace: str, count: int, labels: str = "") -> list[Any]:
    """All pods, if there are that many and every one of them runs; else none."""
    pods = (await cluster.read("pods", "-n", namespace, "-l", labels))["items"]
    alive = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    return alive if len(alive) == count and {pod["status"]["phase"] for pod in alive} == {"Running"} else []


async def one(cluster: Cluster, name: str) -> Any:
    """A pod of the default namespace, if it runs."""
    pod = await cluster.read("pod", name)
    return pod if pod["status"].get("phase") == "Running" else None


async def events(cluster: Cluster, namespace: str, reason: str, count: int) -> list[Any]:
    """Events of neap's with a reason, if there are at least that many."""
    found = (await cluster.read("events.events.k8s.io", "-n", namespace))["items"]
    mine = [each for each in found if each["reason"] == reason and each.get("reportingController") == OURS]
    return mine if len(mine) >= count else []


async def ledger(cluster: Cluster) -> dict[str, tuple[str, Placement]]:
    """Who is held where, by uid."""
    held: dict[str, tuple[str, Placement]] = {}
    for item in await stored(cluster.bus, PLACEMENTS):
        entry = item.message
        if isinstance(entry, Placed):
            held[entry.placement.workload.uid] = (entry.node, entry.placement)
    return held


async def trail(cluster: Cluster, pod: Any) -> list[TrailEntry]:
    """What was told of a pod."""
    uid = pod["metadata"]["uid"]
    return [item.message for item in await stored(cluster.bus, TRAIL) if item.message.about.uid == uid]


def consumers(zones: list[Any]) -> list[str]:
    """Everybody who holds part of a zone or of a zone within."""
    mine = [one["consumer"] for zone in zones for one in zone.get("allocations") or ()]
    return [*mine, *(one for zone in zones for one in consumers(zone.get("children") or []))]
