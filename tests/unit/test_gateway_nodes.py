"""Nodes of the API reach the bus once, change when they change, and go when they go."""

from __future__ import annotations

import msgspec

from neap.common.contract.catalogue import NODES as NODE_OBJECTS
from neap.common.kube.katalyst import OVERCOMMIT_CONFIGS, NodeOvercommitConfig
from neap.common.kube.objects import NODES, PODS, Node
from neap.common.model.node import NodeObject
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.scheduling import Effect
from neap.common.runtime.machine import Arrived, Delete, Done, Heard, Instruction, Put, Synced
from neap.common.units import GIB
from neap.gateway.core.acts import AnswerObject, ReadObject
from neap.gateway.core.hearing.reflector import Complete, Removed, Seen
from neap.gateway.core.machine import STORED
from neap.gateway.core.nodes.views import node_object
from tests.unit.gateway_world import World, a_node

REAL = {
    "metadata": {"name": "n1", "uid": "u", "labels": {"zone": "b", "kubernetes.io/arch": "amd64"},
                 "annotations": {"neap.io/datasets": "imagenet, coco", "neap.io/cpu-manager-policy": "static"}},
    "spec": {"unschedulable": True, "taints": [
        {"key": "gpu", "value": "yes", "effect": "NoSchedule"}, {"key": "odd", "effect": "Sometimes"},
        {"key": "neap.io/evicting", "effect": "NoSchedule"}]},
    "status": {"allocatable": {"cpu": "7500m", "memory": "30Gi", "pods": "110"},
               "images": [{"names": ["a:1", "a@sha256:x"], "sizeBytes": 7}, {"names": None, "sizeBytes": 1}]},
}  # fmt: skip


def node(document: dict[str, object] = REAL) -> Node:  # type: ignore[assignment]
    return msgspec.convert(document, Node)


def put(said: list[Instruction]) -> list[NodeObject]:
    return [one.value for one in said if isinstance(one, Put) and isinstance(one.value, NodeObject)]


def test_what_the_cluster_says_of_a_node_is_read_and_nonsense_says_nothing() -> None:
    found = node_object(node(), 5.0, {})
    assert found.labels == {"zone": "b", "kubernetes.io/arch": "amd64"}
    assert [(taint.key, taint.effect, taint.qos) for taint in found.taints] == [
        ("gpu", Effect.NO_SCHEDULE, ()),
        ("neap.io/evicting", Effect.NO_SCHEDULE, ("reclaimed_cores",)),  # ours: it means guests
    ]
    assert found.cordoned
    assert found.pinned_cpu
    assert found.images == {"a:1": 7, "a@sha256:x": 7}
    assert found.datasets == ("imagenet", "coco")
    assert found.original == {CPU: 7500, MEMORY: 30 * GIB}
    odd = {"metadata": {"name": "n2", "annotations": {"neap.io/datasets": ",,", "katalyst.kubewharf.io/cpu_overcommit_ratio": "much"}},
           "status": {"allocatable": {"cpu": "some"}}}  # fmt: skip
    assert node_object(node(odd), 5.0, {}) == NodeObject(at=5.0, source="gateway", node="n2")


def test_the_smaller_of_what_is_set_and_what_is_measured_counts() -> None:
    def ratios(set_ratios: dict[str, float], **notes: str) -> dict[str, float]:
        told = {f"katalyst.kubewharf.io/{key}": value for key, value in notes.items()}
        return node_object(a_node(metadata={"annotations": told}), 0.0, set_ratios).ratios

    assert ratios({CPU: 2.5}) == {CPU: 2.5}
    assert ratios({CPU: 2.5}, realtime_cpu_overcommit_ratio="1.54") == {CPU: 1.54}
    assert ratios({}, cpu_overcommit_ratio="2", memory_overcommit_ratio="1.5") == {CPU: 2.0, MEMORY: 1.5}
    assert ratios({}, realtime_cpu_overcommit_ratio="1.5") == {}  # nobody asked for it
    assert ratios({CPU: 2.5}, realtime_cpu_overcommit_ratio="0.7") == {}  # never below 1
    assert ratios({CPU: 2.5}, realtime_cpu_overcommit_ratio="nan") == {CPU: 2.5}


def test_a_node_is_told_when_it_changes_and_not_when_its_heartbeat_does() -> None:
    world = World(nodes=())
    [first] = put(world.tell(Heard(world.at, Seen(NODES, node(), "1"))))
    assert first.node == "n1"
    world.at += 10
    assert not put(world.tell(Heard(world.at, Seen(NODES, node(), "2"))))
    changed = {**REAL, "spec": {}}
    assert put(world.tell(Heard(world.at, Seen(NODES, node(changed), "3"))))[0].cordoned is False
    said = world.tell(Heard(world.at, Seen(NODES, a_node("n2"), "4")), Heard(world.at, Removed(NODES, "n1", "u")))
    assert [one.key.subject for one in said if isinstance(one, Delete)] == ["n1"]


def test_after_a_restart_only_what_differs_is_told_and_only_what_is_gone_is_deleted() -> None:
    world = World()
    known = node_object(a_node("n1"), 1.0, {})
    gone = NodeObject(at=1.0, source="gateway", node="old")
    others = NodeObject(at=1.0, source="console", node="lab")
    world.machine = type(world.machine)(world.settings)
    world.tell(*(Arrived(world.at, one) for one in (known, gone, others)))
    for name in ("n1", "n2"):
        world.tell(Heard(world.at, Seen(NODES, a_node(name), "1")))
    before = len(world.said)
    world.tell(*(Heard(world.at, Complete(kind, "1", 2)) for kind in (PODS, NODES)))
    world.tell(*(Synced(world.at, channel) for channel in STORED))
    said = world.said[before:]
    assert [one.node for one in put(said)] == ["n2"]
    assert [one.key for one in said if isinstance(one, Delete)] == [NODE_OBJECTS.at(node="old")]


def test_no_nodes_at_all_is_taken_for_a_mistake() -> None:
    world = World(nodes=())
    said = world.tell(
        Arrived(world.at, NodeObject(at=1.0, source="gateway", node="n9")), Heard(world.at, Complete(NODES, "1", 0))
    )
    assert not [one for one in said if isinstance(one, Delete)]


def config(ratio: str, pool: str = "demo", name: str = "c") -> NodeOvercommitConfig:
    document = {"metadata": {"name": name, "generation": 1},
                "spec": {"nodeOvercommitSelectorVal": pool, "resourceOvercommitRatio": {"cpu": ratio}}}  # fmt: skip
    return msgspec.convert(document, NodeOvercommitConfig)


def test_an_over_commitment_reaches_the_nodes_of_its_pool_and_is_answered() -> None:
    world = World(nodes=())
    mine = a_node("n1", metadata={"labels": {"katalyst.kubewharf.io/overcommit_node_pool": "demo"}})
    world.tell(Heard(world.at, Seen(NODES, mine, "1")), Heard(world.at, Seen(NODES, a_node("n2"), "1")))
    said = world.tell(Heard(world.at, Seen(OVERCOMMIT_CONFIGS, config("2.5"), "1")))
    [again] = [one for one in said if isinstance(one, ReadObject)]
    assert (again.kind, again.name) == (NODES, "n1")
    [answer] = [one for one in said if isinstance(one, AnswerObject)]
    assert answer.status["conditions"][0]["status"] == "True"
    assert answer.status["matchedNodeList"] == ["n1"]
    world.tell(Done(world.at, again, mine))
    [told] = put(world.pass_time(1.0))
    assert told.ratios == {CPU: 2.5}
    said = world.tell(Heard(world.at, Removed(OVERCOMMIT_CONFIGS, "c", "")))
    [again] = [one for one in said if isinstance(one, ReadObject)]
    world.tell(Done(world.at, again, mine))
    assert put(world.pass_time(1.0))[0].ratios == {}
