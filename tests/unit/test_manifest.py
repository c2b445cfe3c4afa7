"""Real manifests become workloads as Kubernetes would read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from neap.common.errors import InputError
from neap.common.model.manifest import kube_qos, workloads_of
from neap.common.model.qos import KubeQos, QosClass
from neap.common.model.resource import CPU, GPU_CORE, GPU_MEMORY, MEMORY, RECLAIMED_CPU
from neap.common.model.workload import Container


def pod(resources: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "kind": "Pod",
        "metadata": {"name": "cart-1", "namespace": "shop", "annotations": annotations or {}},
        "spec": {"containers": [{"name": "main", "resources": resources}], **spec},
    }


def test_real_manifests_give_the_requests_kubernetes_would_charge(shared: Path) -> None:
    folder = shared / "data" / "k8s"
    expected = json.loads((folder / "expected.json").read_text())["workloads"]
    checked = 0
    for path in sorted(folder.rglob("*.yaml")):
        documents = list(yaml.safe_load_all(path.read_text()))
        workloads, _ = workloads_of(documents, where=path.name)
        for workload in workloads:
            wanted = expected[f"{workload.owner.split('/')[0]}/{workload.namespace}/{workload.owner.split('/')[1]}"]
            assert workload.requests.get(CPU, 0) == wanted["pod_request"].get("cpu_milli", 0)
            assert workload.requests.get(MEMORY, 0) == wanted["pod_request"].get("memory_bytes", 0)
            assert kube_qos(workload.containers) == wanted["qos"]
            assert workload.node_selector == (wanted.get("nodeSelector") or {})
            checked += 1
    assert checked >= len(expected)


def test_a_reclaimed_pod_asks_for_reclaimed_resources_by_either_name() -> None:
    for name, text in (
        ("neap.io/reclaimed-cpu", "1500m"),
        ("resource.katalyst.kubewharf.io/reclaimed_millicpu", "1500"),
    ):
        [workload], _ = workloads_of([pod({"requests": {name: text}})], where="x.yaml")
        assert workload.qos is QosClass.RECLAIMED
        assert workload.requests == {RECLAIMED_CPU: 1500}


def test_a_gpu_share_is_whole_percents_and_mebibytes() -> None:
    [workload], _ = workloads_of(
        [pod({"limits": {"neap.io/gpu-core": 30, "neap.io/gpu-memory": "20000Mi", "cpu": 1}})], where="x"
    )
    assert workload.requests[GPU_CORE] == 30
    assert workload.requests[GPU_MEMORY] == 20000


@pytest.mark.parametrize(
    ("resources", "annotations", "says"),
    [
        ({"requests": {"neap.io/gpu-core": "0.5"}}, {}, "neap.io/gpu-core=0.5 is finer than one unit"),
        ({"requests": {"neap.io/gpu-memory": "0.5Mi"}}, {}, "finer than one unit"),
        ({"requests": {"cpu": "-1"}}, {}, "cpu=-1 is negative"),
        ({"requests": {"memory": "9999999Ei"}}, {}, "memory=9999999Ei is beyond"),
        ({"requests": {"cpu": "much"}}, {}, "not a quantity: 'much'"),
        ({"requests": {"cpu": "1"}}, {"neap.io/qos-level": "golden_cores"}, "'golden_cores' is no QoS level"),
        ({"requests": {"cpu": "1"}}, {"neap.io/qos-level": "reclaimed_cores"}, "needs Kubernetes QoS BestEffort, the pod is Burstable"),
        ({"requests": {"cpu": "1"}}, {"katalyst.kubewharf.io/qos_level": "dedicated_cores"}, "needs Kubernetes QoS Guaranteed"),
    ],
)  # fmt: skip
def test_a_bad_pod_is_refused_naming_what_and_where(
    resources: dict[str, Any], annotations: dict[str, str], says: str
) -> None:
    with pytest.raises(InputError) as caught:
        workloads_of([{"kind": "Service"}, pod(resources, annotations)], where="bad.yaml")
    assert says in str(caught.value)
    assert "bad.yaml, document 2" in str(caught.value)
    assert "shop/cart-1" in str(caught.value)


def test_a_shape_that_is_no_object_is_refused_with_its_place() -> None:
    for bad in (
        "text",
        3,
        {"spec": {}},
        {"kind": "Pod", "metadata": {"name": "x"}},
        {"kind": "Deployment", "metadata": {}, "spec": {}},
    ):
        with pytest.raises(InputError, match="document 1"):
            workloads_of([bad], where="f.yaml")


def test_an_owner_becomes_its_replicas() -> None:
    template = pod({"requests": {"cpu": "2"}})
    document = {
        "kind": "Deployment",
        "metadata": {"name": "feed", "namespace": "shop"},
        "spec": {"replicas": 3, "template": template},
    }
    workloads, _ = workloads_of([{"kind": "List", "items": [document]}], where="f")
    assert [w.key for w in workloads] == ["shop/feed-0", "shop/feed-1", "shop/feed-2"]
    assert len({w.uid for w in workloads}) == 3
    assert {w.owner for w in workloads} == {"Deployment/feed"}


def test_the_larger_init_container_counts() -> None:
    init = [{"name": "init", "resources": {"requests": {"cpu": "3"}}}]
    [workload], _ = workloads_of([pod({"requests": {"cpu": "1", "memory": "1Gi"}}, initContainers=init)], where="f")
    assert workload.requests == {CPU: 3000, MEMORY: 1 << 30}


def test_kubernetes_qos_follows_requests_and_limits() -> None:
    both = {CPU: 1000, MEMORY: 1 << 30}
    assert kube_qos([Container(name="a", requests=both, limits=both)]) is KubeQos.GUARANTEED
    assert (
        kube_qos([Container(name="a", requests=both, limits=both), Container(name="b", requests={})])
        is KubeQos.BURSTABLE
    )
    assert kube_qos([Container(name="a", requests={RECLAIMED_CPU: 5})]) is KubeQos.BEST_EFFORT
