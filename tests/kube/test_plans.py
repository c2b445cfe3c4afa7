"""What the planner says, done to a real cluster: sizes in place and by roll-out, replicas, nodes that turn with the tide.

Kubernetes' API server, controllers and scheduler are real, the bus is a real nats-server; nodes and their kubelets are
virtual. The planner is played: its messages are put on the bus as it would.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from neap.common.contract.catalogue import RESIZED, RESIZES, SCALING, TIDES
from neap.common.model.recommendation import Resize, Resized, ResizeHow
from neap.common.model.scaling import ScaleMode, ScalingPlan
from neap.common.model.tide import Side, TideNode, TidePool, Turning
from neap.virtual.history import stored
from tests.kube.server import need_assets
from tests.kube.stage import Cluster
from tests.kube.test_journey import events, ledger

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    need_assets()
    async with Cluster(nodes=4, period=2.0, rooms=("reporter",), settings={"gateway.tides.show": "neap"}) as world:
        yield world


async def test_plans_are_carried_out(cluster: Cluster) -> None:
    await make(cluster, "cart", 3)
    await cluster.until(lambda: running(cluster, "cart", 3), "three pods run")
    await pods_are_resized_in_place_and_pods_to_come_get_the_size(cluster)
    await what_a_kubelet_defers_is_told(cluster)
    await another_template_rolls_every_pod(cluster)
    await replicas_follow_a_plan_but_where_an_autoscaler_counts_them(cluster)
    await a_node_that_turns_offline_is_emptied_as_budgets_allow(cluster)


# -- the stations ----------------------------------------------------------------------------------------------------


async def pods_are_resized_in_place_and_pods_to_come_get_the_size(cluster: Cluster) -> None:
    before = {pod["metadata"]["uid"] for pod in await running(cluster, "cart", 3)}
    owner = await cluster.read("deployment", "cart")
    await command(cluster, a_resize(cluster, "v1", 400))
    told = await cluster.until(lambda: outcomes(cluster, "v1", done=3), "three pods are told as done")
    assert {one.uid for one in told if one.uid} == before
    pods = await running(cluster, "cart", 3)
    assert {pod["metadata"]["uid"] for pod in pods} == before
    assert [cpu_of(pod) for pod in pods] == ["400m"] * 3
    assert {pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods} == {0}

    async def charged() -> bool:
        places = [await held(cluster, pod) for pod in pods]
        return all(place is not None and place[1].charged["cpu"] == 400 for place in places)

    await cluster.until(charged, "their ledgers charge them what they have")

    async def noted() -> Any:
        return (await cluster.read("deployment", "cart"))["metadata"]["annotations"].get("neap.io/size")

    await cluster.until(noted, "the owner has its note")
    assert (await cluster.read("deployment", "cart"))["spec"] == owner["spec"]
    generations = {pod["metadata"]["uid"]: pod["metadata"]["generation"] for pod in pods}
    await command(cluster, a_resize(cluster, "v1-again", 400))
    await cluster.until(lambda: outcomes(cluster, "v1-again", done=3), "the same size again is done at once")
    again = {pod["metadata"]["uid"]: pod["metadata"]["generation"] for pod in await running(cluster, "cart", 3)}
    assert again == generations, "nothing was asked of any pod"
    await cluster.kubectl("scale", "deployment/cart", "--replicas=4")
    pods = await cluster.until(lambda: running(cluster, "cart", 4), "a fourth pod runs")
    assert [cpu_of(pod) for pod in pods] == ["400m"] * 4
    fresh = next(pod for pod in pods if pod["metadata"]["uid"] not in before)
    assert fresh["metadata"]["annotations"]["neap.io/sized"] == "v1-again"
    _, placement = await cluster.until(lambda: held(cluster, fresh), "the fourth pod is on its ledger")
    assert placement.charged["cpu"] == 400
    await cluster.kubectl("set", "image", "deployment/cart", "main=another")
    pods = await cluster.until(lambda: rolled(cluster, 4, "another"), "another image was rolled out")
    assert [cpu_of(pod) for pod in pods] == ["400m"] * 4
    await cluster.kubectl("set", "resources", "deployment/cart", "--requests=cpu=600m")
    await cluster.until(lambda: sized(cluster, 4, "600m"), "whoever writes the template has the last word")


async def what_a_kubelet_defers_is_told(cluster: Cluster) -> None:
    """The virtual kubelet defers nothing by itself; here its word is put into its mouth."""
    victim = (await running(cluster, "cart", 4))[0]["metadata"]
    pending = {"type": "PodResizePending", "status": "True", "reason": "Infeasible", "message": "node has 1 core"}
    status = json.dumps({"status": {"conditions": [pending]}})
    await cluster.kubectl("patch", "pod", victim["name"], "--subresource=status", "-p", status)
    await command(cluster, a_resize(cluster, "v2", 600))
    told = await cluster.until(lambda: outcomes(cluster, "v2", done=3, infeasible=1), "one of four is infeasible")
    [one] = [one for one in told if one.outcome == "infeasible"]
    assert (one.pod, one.detail) == (victim["name"], "node has 1 core")
    assert await events(cluster, "default", "ResizeInfeasible", 1)


async def another_template_rolls_every_pod(cluster: Cluster) -> None:
    before = {pod["metadata"]["uid"] for pod in await running(cluster, "cart", 4)}
    owner = await cluster.read("deployment", "cart")
    await command(cluster, a_resize(cluster, "v3", 300, ResizeHow.RECREATE))
    await cluster.until(lambda: outcomes(cluster, "v3", recreating=1), "the template is told as changed")
    pods = await cluster.until(lambda: sized(cluster, 4, "300m"), "every pod was made anew")
    assert not before & {pod["metadata"]["uid"] for pod in pods}
    after = await cluster.read("deployment", "cart")
    assert "neap.io/size" not in after["metadata"]["annotations"]
    for one in (owner, after):
        one["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"].pop("cpu")
    assert after["spec"] == owner["spec"]


async def replicas_follow_a_plan_but_where_an_autoscaler_counts_them(cluster: Cluster) -> None:
    await cluster.bus.put(SCALING.at(namespace="default", kind="Deployment", name="cart"), a_plan(cluster, 4, 6))
    await cluster.until(lambda: running(cluster, "cart", 6), "six replicas run")
    assert await cluster.until(lambda: events(cluster, "default", "Scaled", 1), "it is said why")
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "cart"},
        "spec": {
            "minReplicas": 6,
            "maxReplicas": 9,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart"},
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
                }
            ],
        },
    }
    await cluster.kubectl("apply", "-f", "-", said=json.dumps(scaler))
    found = (await cluster.read("hpa", "cart"))["metadata"]["uid"]
    assert found
    await cluster.bus.put(SCALING.at(namespace="default", kind="Deployment", name="cart"), a_plan(cluster, 6, 9))
    await cluster.until(lambda: events(cluster, "default", "LeftToAutoscaler", 1), "it is left to the autoscaler")
    assert (await cluster.read("deployment", "cart"))["spec"]["replicas"] == 6
    await cluster.kubectl("delete", "hpa", "cart")
    await cluster.until(lambda: running(cluster, "cart", 9), "without one the plan is carried out")


async def a_node_that_turns_offline_is_emptied_as_budgets_allow(cluster: Cluster) -> None:
    await cluster.kubectl("apply", "-f", "-", said=json.dumps(daemons()))
    nodes = list(cluster.world.hosts)
    await cluster.until(lambda: running(cluster, "agent", len(nodes)), "a daemon runs on every node")
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "cart"},
        "spec": {"minAvailable": 9, "selector": {"matchLabels": {"app": "cart"}}},
    }
    await cluster.kubectl("apply", "-f", "-", said=json.dumps(budget))

    async def counted() -> bool:
        return (await cluster.read("pdb", "cart")).get("status", {}).get("currentHealthy") == 9

    await cluster.until(counted, "the disruption controller has counted")
    pods = await running(cluster, "cart", 9)
    node = max(nodes, key=lambda one: sum(pod["spec"]["nodeName"] == one for pod in pods))
    here = {pod["metadata"]["uid"] for pod in pods if pod["spec"]["nodeName"] == node}
    assert here
    for pod in pods:
        await cluster.until(lambda pod=pod: held(cluster, pod), "it is on its ledger")
    await tide(cluster, node, Turning.DRAINING)
    await cluster.until(lambda: tainted(cluster, node, "turning"), "kube-scheduler is told")
    await cluster.until(lambda: events(cluster, "default", "EvictionRefused", 1), "the budget has no room")
    assert here <= {pod["metadata"]["uid"] for pod in await running(cluster, "cart", 9)}
    await cluster.kubectl("patch", "pdb", "cart", "--type=merge", "-p", '{"spec": {"minAvailable": 7}}')

    async def empty() -> Any:
        pods = await running(cluster, "cart", 9)
        return pods and node not in {pod["spec"]["nodeName"] for pod in pods}

    await cluster.until(empty, "all of its pods run elsewhere")
    daemon = [pod for pod in await running(cluster, "agent", len(nodes)) if pod["spec"]["nodeName"] == node]
    assert len(daemon) == 1, "daemons stay"
    await tide(cluster, node, Turning.STEADY)
    await cluster.until(lambda: tainted(cluster, node, "offline"), "the node is the guests'")
    await cluster.bus.delete(TIDES.at(pool="web"))
    await cluster.until(lambda: tainted(cluster, node, ""), "without a tide nothing of it is left")


# -- the planner's words -----------------------------------------------------------------------------------------------


def a_resize(cluster: Cluster, version: str, cpu: int, how: ResizeHow = ResizeHow.BEST) -> Resize:
    return Resize(
        at=cluster.clock.now(), source="planner", namespace="default", kind="Deployment", name="cart", version=version,
        how=how, requests={"main": {"cpu": cpu}}, reason="p95 over 14 d",
    )  # fmt: skip


async def command(cluster: Cluster, resize: Resize) -> None:
    await cluster.bus.emit(RESIZES.at(namespace="default"), resize, id=f"{resize.version}.resize")


def a_plan(cluster: Cluster, now: int, desired: int) -> ScalingPlan:
    return ScalingPlan(
        at=cluster.clock.now(), source="planner", namespace="default", kind="Deployment", name="cart",
        mode=ScaleMode.AUTO, now=now, desired=desired, least=2, most=10, arithmetic=f"{desired} by forecast",
    )  # fmt: skip


async def tide(cluster: Cluster, node: str, turning: Turning) -> None:
    at = cluster.clock.now()
    mine = TideNode(node=node, side=Side.OFFLINE, turning=turning, since=at, why="not needed until morning")
    others = (TideNode(node=one, side=Side.ONLINE) for one in cluster.world.hosts if one != node)
    await cluster.bus.put(TIDES.at(pool="web"), TidePool(at=at, source="planner", pool="web", nodes=(mine, *others)))


# -- looking -----------------------------------------------------------------------------------------------------------


async def outcomes(cluster: Cluster, version: str, **wanted: int) -> list[Resized]:
    """What was told of a command, once there is that much of it about pods, or of the owner if it is "recreating"."""
    found = [item.message for item in await stored(cluster.bus, RESIZED) if item.message.version == version]
    for outcome, count in wanted.items():
        mine = {one.uid for one in found if one.outcome == outcome and bool(one.uid) == (outcome != "recreating")}
        if len(mine) != count:
            return []
    return found


async def running(cluster: Cluster, app: str, count: int) -> list[Any]:
    pods = (await cluster.read("pods", "-l", f"app={app}"))["items"]
    alive = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    return alive if len(alive) == count and {pod["status"]["phase"] for pod in alive} == {"Running"} else []


async def rolled(cluster: Cluster, count: int, image: str) -> list[Any]:
    pods = await running(cluster, "cart", count)
    return pods if {pod["spec"]["containers"][0]["image"] for pod in pods} == {image} else []


async def sized(cluster: Cluster, count: int, cpu: str) -> list[Any]:
    pods = await running(cluster, "cart", count)
    return pods if {cpu_of(pod) for pod in pods} == {cpu} else []


async def held(cluster: Cluster, pod: Any) -> Any:
    return (await ledger(cluster)).get(pod["metadata"]["uid"])


async def tainted(cluster: Cluster, node: str, value: str) -> bool:
    found = await cluster.read("node", node)
    taints = {one["key"]: one.get("value", "") for one in found["spec"].get("taints") or ()}
    side = found["metadata"]["labels"].get("neap.io/tide-side", "")
    return (taints.get("neap.io/tide", ""), side) == (value, "offline" if value else "")


def cpu_of(pod: Any) -> str:
    return str(pod["spec"]["containers"][0]["resources"]["requests"]["cpu"])


async def make(cluster: Cluster, name: str, replicas: int) -> None:
    labels = {"app": name}
    container = {"name": "main", "image": "none", "resources": {"requests": {"cpu": "500m", "memory": "64Mi"}}}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
    await cluster.kubectl("apply", "-f", "-", said=json.dumps(body))


def daemons() -> Any:
    labels = {"app": "agent"}
    container = {"name": "main", "image": "none", "resources": {"requests": {"cpu": "10m"}}}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"}, "spec": spec}
