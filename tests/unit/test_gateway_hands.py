"""What the gateway's plans do to an API server: another size, replicas, marks of a node; and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from neap.common.errors import Conflict, Unavailable, Vanished
from neap.common.kube.kind import Kind
from neap.common.kube.memory import Fault, MemoryCluster, MemoryKube
from neap.common.kube.objects import DEPLOYMENTS, NODES, PODS, NodeTaint
from neap.gateway.core.acts import (
    AlreadyGone,
    Impossible,
    Refused,
    ResizePod,
    ScaleOwner,
    SizeOwner,
    TaintNode,
    Written,
)
from neap.gateway.core.plans.sizes import NOTE, Sizes
from neap.gateway.shell.hands import TRIES, Hands

WIDE: Kind[dict[str, Any]] = Kind("apps", "v1", "deployments", "Deployment", dict[str, Any])
TO: Sizes = {"main": {"requests": {"cpu": 750}}}


class Stage:
    """One Deployment in an API server in memory, with fields that neap does not read."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        self.kube: MemoryKube = self.cluster.endpoint()
        self.hands = Hands(self.kube, None)  # type: ignore[arg-type]  no act of a plan asks the bus

    async def make(self) -> None:
        resources = {"requests": {"cpu": "1", "memory": "1Gi"}}
        containers = [
            {"name": name, "image": "i", "args": ["--x"], "resources": resources} for name in ("main", "side")
        ]
        spec = {"replicas": 3, "template": {"spec": {"containers": containers, "volumes": [{"name": "v"}]}}}
        metadata = {"name": "cart", "namespace": "default", "annotations": {"team": "shop"}}
        await self.kube.create(WIDE, {"metadata": metadata, "spec": spec}, namespace="default")

    async def owner(self) -> dict[str, Any]:
        return await self.kube.get(WIDE, "cart", namespace="default")

    def size(self, *, template: bool, to: Sizes = TO) -> SizeOwner:
        return SizeOwner(DEPLOYMENTS, "default", "cart", to, "v1", "plan", template)


def on(story: Callable[[Stage], Awaitable[None]]) -> None:
    async def told() -> None:
        stage = Stage()
        await stage.make()
        await story(stage)

    asyncio.run(told())


def but_for(owner: dict[str, Any], path: tuple[Any, ...]) -> str:
    """All of an owner but one value, and what every write changes."""
    owner = json.loads(json.dumps(owner))
    place: Any = owner
    for step in path[:-1]:
        place = place[step]
    place.pop(path[-1], None)
    for field in ("resourceVersion", "generation"):
        owner["metadata"].pop(field, None)
    return json.dumps(owner, sort_keys=True)


CPU = ("spec", "template", "spec", "containers", 0, "resources", "requests", "cpu")


def test_a_template_changes_in_the_named_amount_and_nowhere_else_and_once() -> None:
    async def story(stage: Stage) -> None:
        before = await stage.owner()
        assert await stage.hands.size(stage.size(template=True)) == Written("changed")
        after = await stage.owner()
        assert after["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "750m"
        assert but_for(before, CPU) == but_for(after, CPU)
        assert await stage.hands.size(stage.size(template=True)) == Written("")
        assert await stage.owner() == after

    on(story)


def test_a_note_leaves_the_template_alone_and_goes_when_the_template_says_so_itself() -> None:
    async def story(stage: Stage) -> None:
        before = await stage.owner()
        assert await stage.hands.size(stage.size(template=False)) == Written("changed")
        noted = await stage.owner()
        assert but_for(before, ("metadata", "annotations", NOTE)) == but_for(noted, ("metadata", "annotations", NOTE))
        assert json.loads(noted["metadata"]["annotations"][NOTE]) == {
            "version": "v1",
            "from": {"main": {"requests": {"cpu": 1000}}},
            "to": {"main": {"requests": {"cpu": 750}}},
        }
        assert await stage.hands.size(stage.size(template=False)) == Written("")
        back: Sizes = {"main": {"requests": {"cpu": 1000}}}
        assert await stage.hands.size(stage.size(template=False, to=back)) == Written("changed")
        assert (await stage.owner())["metadata"]["annotations"] == {"team": "shop"}
        await stage.hands.size(stage.size(template=False))
        await stage.hands.size(stage.size(template=True))
        assert (await stage.owner())["metadata"]["annotations"] == {"team": "shop"}

    on(story)


def test_what_cannot_be_written_is_answered_with_the_reason() -> None:
    async def story(stage: Stage) -> None:
        other: Sizes = {"none": {"requests": {"cpu": 1}}}
        refused = await stage.hands.size(stage.size(template=True, to=other))
        assert isinstance(refused, Refused)
        assert "'none'" in refused.why
        hands = Hands(stage.cluster.endpoint("poor", may=lambda verb, *_: verb == "get"), None)  # type: ignore[arg-type]
        assert isinstance(await hands.size(stage.size(template=False)), Refused)
        scale = ScaleOwner(DEPLOYMENTS, "default", "cart", "", 5)
        assert isinstance(await hands.scale(scale), Refused)
        await stage.kube.delete(DEPLOYMENTS, "cart", namespace="default")
        assert isinstance(await stage.hands.size(stage.size(template=True)), AlreadyGone)

    on(story)


def test_a_template_that_somebody_else_changes_meanwhile_is_read_again() -> None:
    async def story(stage: Stage) -> None:
        stage.kube.faults.append(Fault("patch", str(DEPLOYMENTS), error=Conflict, times=TRIES - 1))
        assert await stage.hands.size(stage.size(template=True)) == Written("changed")
        stage.kube.faults.append(Fault("patch", str(DEPLOYMENTS), error=Conflict))
        with pytest.raises(Unavailable, match="somebody else changed it"):
            await stage.hands.size(stage.size(template=False, to={"main": {"requests": {"cpu": 500}}}))

    on(story)


def test_replicas_are_those_of_the_one_that_was_meant() -> None:
    async def story(stage: Stage) -> None:
        uid = (await stage.owner())["metadata"]["uid"]
        assert await stage.hands.scale(ScaleOwner(DEPLOYMENTS, "default", "cart", uid, 5)) == Written()
        assert (await stage.owner())["spec"]["replicas"] == 5
        namesake = ScaleOwner(DEPLOYMENTS, "default", "cart", "another", 9)
        assert isinstance(await stage.hands.scale(namesake), AlreadyGone)
        assert (await stage.owner())["spec"]["replicas"] == 5

    on(story)


def test_a_server_that_cannot_resize_pods_is_told_from_a_pod_that_is_gone() -> None:
    async def story(stage: Stage) -> None:
        body = {"metadata": {"name": "cart-1"}, "spec": {"containers": [{"name": "main"}]}}
        pod = await stage.kube.create(PODS, body, namespace="default")
        stage.kube.faults.append(Fault("patch", "pods/resize", error=Vanished))
        act = ResizePod("default", "cart-1", pod.metadata.uid, {"main": {"resources": {}}}, "plan")
        assert isinstance(await stage.hands.resize(act), Impossible)
        gone = ResizePod("default", "cart-1", "another", {"main": {"resources": {}}}, "plan")
        assert isinstance(await stage.hands.resize(gone), AlreadyGone)

    on(story)


def test_labels_and_taints_of_a_node_are_written_together_and_others_stay() -> None:
    async def story(stage: Stage) -> None:
        theirs = {"key": "theirs", "effect": "NoExecute"}
        body = {"metadata": {"name": "n1", "labels": {"a": "b", "old": "x"}}, "spec": {"taints": [theirs]}}
        await stage.kube.create(NODES, body)
        mine = NodeTaint(key="neap.io/tide", value="offline", effect="NoSchedule")
        labels = (("neap.io/tide-side", "offline"), ("old", None))
        await stage.hands.taint(TaintNode("n1", (mine,), labels=labels))
        node = await stage.kube.get(NODES, "n1")
        assert node.metadata.labels == {"a": "b", "neap.io/tide-side": "offline"}
        assert [(one.key, one.value) for one in node.spec.taints or ()] == [("theirs", ""), ("neap.io/tide", "offline")]

    on(story)
