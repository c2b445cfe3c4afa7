"""Pods of the API become workloads: to the letter where they ask for neap, by what they take where they do not."""

from __future__ import annotations

import pytest

from neap.common.errors import InputError
from neap.common.kube.objects import OwnerReference
from neap.common.model.protection import may_leave
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU
from neap.common.units import GIB
from neap.gateway.core.pods.facts import PodFacts, asks_for_neap, is_read, occupant_of, workload_of
from neap.gateway.core.pods.owners import DEPTH, Owners
from neap.gateway.core.pods.resizing import resize_of
from tests.unit.gateway_world import a_pod, meta

NEAP = ("neap", "katalyst-scheduler")


def owner(kind: str, name: str, uid: str) -> OwnerReference:
    return OwnerReference(kind=kind, name=name, uid=uid, controller=True)


def test_a_pod_is_the_workload_that_its_manifest_would_be() -> None:
    pod = a_pod(node="n1", schedulingGates=[{"name": "quota"}], tolerations=[{"key": "gpu", "operator": "Exists"}])
    workload = workload_of(pod, "Deployment/cart")
    assert (workload.uid, workload.key, workload.owner) == ("uid-cart-1", "shop/cart-1", "Deployment/cart")
    assert workload.requests == {CPU: 1000, MEMORY: GIB}
    assert workload.qos is QosClass.SHARED
    assert workload.constraints.tolerations[0].exists


def test_sidecars_and_overhead_are_charged_as_kubernetes_does() -> None:
    initial = [
        {"name": "early", "resources": {"requests": {"cpu": "3"}}},
        {"name": "proxy", "restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}},
        {"name": "late", "resources": {"requests": {"cpu": "1"}}},
    ]
    workload = workload_of(a_pod(initContainers=initial), "")
    assert [one.name for one in workload.containers] == ["main", "proxy"]
    assert workload.requests[CPU] == 3000  # early, before the sidecar runs; then 1 + 0.5
    heavy = workload_of(a_pod(initContainers=initial[1:], overhead={"cpu": "250m"}), "")
    assert heavy.requests[CPU] == 1750  # max(main + proxy, proxy + late) + overhead


@pytest.mark.parametrize(
    ("scheduler", "requests", "asks"),
    [
        ("neap", None, True),
        ("katalyst-scheduler", None, True),
        ("default-scheduler", None, False),
        ("default-scheduler", {"neap.io/reclaimed-millicpu": "500"}, True),
        ("default-scheduler", {"resource.katalyst.kubewharf.io/reclaimed_millicpu": "500"}, True),
        ("default-scheduler", {"neap.io/gpu-core": "30", "neap.io/gpu-memory": "1000"}, True),
        ("volcano", {"neap.io/gpu-core": "30"}, False),  # somebody else's, by name
    ],
)
def test_who_names_neap_or_asks_for_what_only_neap_gives_is_ours(
    scheduler: str, requests: dict[str, str] | None, *, asks: bool
) -> None:
    pod = a_pod(scheduler=scheduler, requests=requests)
    assert asks_for_neap(pod, NEAP, by_resources=True) is asks
    assert asks_for_neap(pod, NEAP, by_resources=False) is (scheduler in NEAP)


def test_only_annotations_that_neap_reads_travel_with_a_workload() -> None:
    notes = {
        "kubectl.kubernetes.io/last-applied-configuration": "x" * 200_000,
        "neap.io/gpu-models": "T4",
        "cpu.katalyst.kubewharf.io/weight": "1",
        "ours.example/team": "a",
    }
    kept = workload_of(a_pod(metadata={"annotations": notes}), "", also=("ours.example/",)).annotations
    assert sorted(kept) == [
        "cpu.katalyst.kubewharf.io/weight",
        "neap.io/gpu-models",
        "neap.io/origin",
        "ours.example/team",
    ]
    assert not is_read("evilneap.io/x")


def test_a_pod_that_others_placed_is_charged_whatever_it_says_and_is_nobodys_guest() -> None:
    best_effort = occupant_of(a_pod(requests={}, node="n1", scheduler="default-scheduler"), "DaemonSet/proxy")
    assert best_effort.qos is QosClass.RECLAIMED
    assert not may_leave(best_effort)
    named = {"annotations": {"katalyst.kubewharf.io/qos_level": "reclaimed_cores"}}
    guest = occupant_of(a_pod(requests={"neap.io/reclaimed-millicpu": "500"}, metadata=named), "")
    assert guest.requests == {RECLAIMED_CPU: 500}
    assert may_leave(guest)
    odd = {"annotations": {"neap.io/qos-level": "golden_cores"}}
    spread = [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "Never"}]
    strange = a_pod(metadata=odd, topologySpreadConstraints=spread)
    assert occupant_of(strange, "").requests == {CPU: 1000, MEMORY: GIB}
    with pytest.raises(InputError, match="golden_cores"):
        workload_of(strange, "")


def test_a_chain_of_owners_ends_at_the_deployment_or_the_cron_job() -> None:
    owners = Owners()
    owners.learn(meta("cart-7d9", "rs", owner("Deployment", "cart", "d")))
    owners.learn(meta("night-281", "job", owner("CronJob", "night", "c")))
    assert owners.of(meta("p", "p", owner("ReplicaSet", "cart-7d9", "rs"))) == "Deployment/cart"
    assert owners.of(meta("p", "p", owner("Job", "night-281", "job"))) == "CronJob/night"
    assert owners.of(meta("p", "p", owner("StatefulSet", "db", "s"))) == "StatefulSet/db"
    assert owners.of(meta("p", "p")) == ""
    owners.learn(meta("bare", "bare"))
    assert owners.of(meta("p", "p", owner("ReplicaSet", "bare", "bare"))) == "ReplicaSet/bare"


def test_a_replica_set_is_known_by_its_hash_before_it_is_seen() -> None:
    pod = a_pod(owner=owner("ReplicaSet", "cart-7d9f", "rs"), metadata={"labels": {"pod-template-hash": "7d9f"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "cart-7d9f", "uid": "rs", "controller": True}]})  # fmt: skip
    assert Owners().of(pod.metadata) == "Deployment/cart"
    assert Owners().knows(pod.metadata)
    assert not Owners().knows(meta("p", "p", owner("Job", "j", "j")))


def test_owners_that_own_each_other_and_endless_chains_come_to_an_end() -> None:
    owners = Owners()
    owners.learn(meta("a", "a", owner("ReplicaSet", "b", "b")))
    owners.learn(meta("b", "b", owner("ReplicaSet", "a", "a")))
    owners.learn(meta("self", "self", owner("Job", "self", "self")))
    for i in range(50):
        owners.learn(meta(f"c{i}", f"c{i}", owner("ReplicaSet", f"c{i + 1}", f"c{i + 1}")))
    assert owners.of(meta("p", "p", owner("ReplicaSet", "a", "a"))) == "ReplicaSet/b"
    assert owners.of(meta("p", "p", owner("Job", "self", "self"))) == "Job/self"
    assert owners.of(meta("p", "p", owner("ReplicaSet", "c0", "c0"))) == f"ReplicaSet/c{DEPTH}"


def test_an_older_view_of_a_pod_takes_nothing_back() -> None:
    facts = PodFacts("u", "shop", "cart-1", 0.0)
    facts.learn(a_pod(node="n1", phase="Running", deleting=True), asks=True)
    assert facts.ids == (("main", "4f3a"),)  # as the cgroup is called, without the runtime's scheme
    facts.learn(a_pod(), asks=True)
    assert (facts.node, facts.deleting) == ("n1", True)


def test_a_resize_asks_for_what_differs_and_for_nothing_else() -> None:
    def asked(text: str) -> dict[str, object]:
        return resize_of(a_pod(metadata={"annotations": {"neap.io/resize": text}}))

    assert asked('{"main": {"requests": {"cpu": "1", "memory": "1Gi"}}}') == {}
    assert asked('{"main": {"requests": {"cpu": "1000m", "memory": "2Gi"}}}') == {
        "main": {"resources": {"requests": {"memory": "2Gi"}}}
    }
    assert asked('{"main": {"limits": {"cpu": "2"}}}') == {"main": {"resources": {"limits": {"cpu": "2"}}}}
    for text, says in (
        ("{", "resize='{'"),
        ('{"side": {}}', "no container 'side'"),
        ('{"main": {"requests": {"neap.io/gpu-core": "1"}}}', "only cpu, memory"),
        ('{"main": {"requests": {"cpu": "much"}}}', "not a quantity"),
        ('{"main": {"wishes": {}}}', "unknown field"),
    ):
        with pytest.raises(InputError, match=says):
            asked(text)
