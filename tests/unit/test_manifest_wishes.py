"""What a manifest says of where its pods run is read whole, or refused with document, pod, field and value."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from neap.common.errors import InputError
from neap.common.model.affinity import DeviceAsk, Strength
from neap.common.model.bounds import MOST_ANNOTATIONS
from neap.common.model.device_tree import Level
from neap.common.model.manifest import workloads_of
from neap.common.model.scheduling import (
    NOBODY,
    Expression,
    Gang,
    NodeTerm,
    Operator,
    PodTerm,
    Spread,
    Toleration,
)
from neap.common.model.workload import Workload

ZONE = "topology.kubernetes.io/zone"


def pod(text: str = "", *, annotations: dict[str, str] | None = None, labels: dict[str, str] | None = None, cards: int = 0) -> dict[str, Any]:  # fmt: skip
    limits = {"cpu": 1, "memory": "1Gi"} | ({"neap.io/gpu-core": 100 * cards} if cards else {})
    containers = [{"name": "main", "image": "registry.k8s.io/pause:3.8", "resources": {"limits": limits}}]
    return {
        "kind": "Pod",
        "metadata": {"name": "cart-1", "namespace": "shop", "annotations": annotations or {}, "labels": labels or {}},
        "spec": {"containers": containers, **(yaml.safe_load(text) or {})},
    }


def read(text: str = "", **more: Any) -> Workload:
    [workload], _ = workloads_of([pod(text, **more)], where="x.yaml")
    return workload


def test_the_node_affinity_example_of_the_documentation() -> None:
    """Source: Kubernetes, "Assigning Pods to Nodes", pod-with-node-affinity."""
    wish = read(
        """
        affinity:
          nodeAffinity:
            requiredDuringSchedulingIgnoredDuringExecution:
              nodeSelectorTerms:
              - matchExpressions:
                - {key: topology.kubernetes.io/zone, operator: In, values: [antarctica-east1, antarctica-west1]}
            preferredDuringSchedulingIgnoredDuringExecution:
            - weight: 1
              preference:
                matchExpressions:
                - {key: another-node-label-key, operator: In, values: [another-node-label-value]}
        """
    ).constraints
    zones = Expression(key=ZONE, operator=Operator.IN, values=("antarctica-east1", "antarctica-west1"))
    other = Expression(key="another-node-label-key", operator=Operator.IN, values=("another-node-label-value",))
    assert wish.node_required == (NodeTerm(expressions=(zones,)),)
    assert wish.node_preferred == (NodeTerm(expressions=(other,), weight=1),)


def test_the_pod_affinity_example_of_the_documentation() -> None:
    """Source: Kubernetes, "Assigning Pods to Nodes", pod-with-pod-affinity."""
    wish = read(
        """
        affinity:
          podAffinity:
            requiredDuringSchedulingIgnoredDuringExecution:
            - labelSelector: {matchExpressions: [{key: security, operator: In, values: [S1]}]}
              topologyKey: topology.kubernetes.io/zone
          podAntiAffinity:
            preferredDuringSchedulingIgnoredDuringExecution:
            - weight: 100
              podAffinityTerm:
                labelSelector: {matchExpressions: [{key: security, operator: In, values: [S2]}]}
                topologyKey: topology.kubernetes.io/zone
        """
    ).constraints
    one, two = (Expression(key="security", operator=Operator.IN, values=(value,)) for value in ("S1", "S2"))
    assert wish.near == (PodTerm(topology=ZONE, selector=(one,)),)
    assert wish.apart_preferred == (PodTerm(topology=ZONE, selector=(two,), weight=100),)


def test_a_spread_and_tolerations_are_read() -> None:
    wish = read(
        """
        tolerations:
        - {operator: Exists}
        - {key: key1, operator: Equal, value: value1, effect: NoExecute, tolerationSeconds: 3600}
        topologySpreadConstraints:
        - {maxSkew: 1, minDomains: 3, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {foo: bar}}}
        - {maxSkew: 2, topologyKey: node, whenUnsatisfiable: ScheduleAnyway}
        """
    ).constraints
    assert wish.tolerations == (Toleration(exists=True), Toleration(key="key1", value="value1", effect="NoExecute"))
    foo = Expression(key="foo", operator=Operator.IN, values=("bar",))
    assert wish.spread == (
        Spread(topology="zone", selector=(foo,), least_domains=3),
        Spread(topology="node", skew=2, hard=False),
    )


def test_match_label_keys_are_the_pods_own_values() -> None:
    wish = read(
        """
        affinity:
          podAffinity:
            requiredDuringSchedulingIgnoredDuringExecution:
            - {topologyKey: zone, labelSelector: {}, matchLabelKeys: [hash, gone], mismatchLabelKeys: [tenant]}
        topologySpreadConstraints:
        - {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: a}}, matchLabelKeys: [hash]}
        """,
        labels={"hash": "1", "tenant": "t", "app": "a"},
    ).constraints
    own, other = (
        Expression(key="hash", operator=Operator.IN, values=("1",)),
        Expression(key="tenant", operator=Operator.NOT_IN, values=("t",)),
    )
    assert wish.near[0].selector == (own, other)
    assert wish.spread[0].selector == (Expression(key="app", operator=Operator.IN, values=("a",)), own)


def test_a_null_selector_selects_no_pod_and_an_empty_one_all() -> None:
    wish = read(
        """
        affinity:
          podAntiAffinity:
            requiredDuringSchedulingIgnoredDuringExecution:
            - {topologyKey: zone}
            - {topologyKey: zone, labelSelector: {}}
        """
    ).constraints
    assert [term.selector for term in wish.apart] == [(NOBODY,), ()]


def test_annotations_say_the_rest() -> None:
    workload = read(
        "priorityClassName: system-node-critical",
        cards=2,
        annotations={
            "neap.io/gang": "train",
            "neap.io/gang-size": "4",
            "neap.io/gang-domain": "example.com/switch",
            "neap.io/gang-strength": "soft",
            "neap.io/datasets": "imagenet, coco",
            "neap.io/gpu-models": "H20,A100",
            "neap.io/device-affinity": '{"nics":1,"level":"numa","strength":"hard","nic_percent":50}',
        },
    )
    assert workload.gang == Gang(name="train", least=4, domain="example.com/switch", hard=False)
    assert workload.datasets == ("imagenet", "coco")
    assert workload.gpu_models == ("H20", "A100")
    assert workload.devices == DeviceAsk(gpus=2, nics=1, level=Level.NUMA, strength=Strength.HARD, nic_percent=50)
    assert workload.images == ("registry.k8s.io/pause:3.8",)
    assert workload.priority == 2_000_001_000
    assert read("{priorityClassName: '1000'}").priority == 1000
    assert read("{priorityClassName: high, priority: -5}").priority == -5
    assert read("priorityClassName: high").priority == 0


def test_a_pod_group_in_the_same_file_says_how_many_its_members_are() -> None:
    group = {"kind": "PodGroup", "metadata": {"name": "train", "namespace": "shop"}, "spec": {"minMember": 3}}
    member = pod(labels={"scheduling.x-k8s.io/pod-group": "train"})
    [workload], passed = workloads_of([{"kind": "List", "items": [group, member]}], where="x")
    assert workload.gang == Gang(name="train", least=3)
    assert passed == ["PodGroup"]


TERM = "{key: zone, operator: In, values: [a]}"


def required(term: str) -> str:
    return f"affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{term}]}}}}}}"  # fmt: skip


def near(term: str, side: str = "podAffinity") -> str:
    return f"affinity: {{{side}: {{requiredDuringSchedulingIgnoredDuringExecution: [{term}]}}}}"


def over(spread: str) -> str:
    return f"topologySpreadConstraints: [{{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, {spread}}}]"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("tolerations: [{operator: Lt, key: a, value: '1'}]", "operator 'Lt' of 'a' is neither Equal nor Exists"),
        ("tolerations: [{key: a, effect: NoWay}]", "effect 'NoWay' of 'a'"),
        ("tolerations: [{value: a}]", "without a key the operator must be Exists"),
        ("tolerations: [{key: a, value: true}]", "tolerations[0].value: Expected `str | null`, got `bool`, found True"),
        ("tolerations: [{key: a, operator: Exists, value: b}]", "'a' Exists, and has a value 'b'"),
        ("tolerations: {key: a}", "tolerations: Expected `array`, got `object`"),
        (required(""), "nodeSelectorTerms is empty"),
        (required("{matchExpressions: [{key: zone, operator: Near}]}"), "Invalid enum value 'Near'"),
        (required("{matchExpressions: [{key: zone, operator: In}]}"), "zone In () needs values"),
        (required("{matchExpressions: [{key: zone, operator: Gt, values: [ten]}]}"), "zone Gt ('ten',) needs one whole number"),
        (required("{matchExpressions: [{key: zone, operator: Exists, values: [a]}]}"), "zone Exists ('a',) takes no values"),
        (required("{matchExpressions: [{key: 'a b', operator: Exists}]}"), "key 'a b' is no legal label"),
        (required("{matchFields: [{key: spec.name, operator: In, values: [n1]}]}"), "matchFields key 'spec.name'"),
        (required("{matchFields: [{key: metadata.name, operator: In, values: [n1, n2]}]}"), "needs In or NotIn and one name"),
        (required(f"{{matchExpressions: [{', '.join([TERM] * 65)}]}}"), "65 of them, at most 64"),
        (required(", ".join([f"{{matchExpressions: [{TERM}]}}"] * 65)), "65 of them, at most 64"),
        ("affinity: {nodeAffinity: {requiredDuringSchedulingRequiredDuringExecution: {}}}", "unknown field `requiredDuringSchedulingRequiredDuringExecution`"),
        ("affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 101, preference: {}}]}}", "weight 101 is not 1..100"),
        (near("{topologyKey: zone, namespaceSelector: {}}"), "namespaceSelector {} is not supported"),
        (near("{topologyKey: ''}"), "topologyKey '' is no legal label"),
        (near("{topologyKey: zone, labelSelector: {matchExpressions: [{key: a, operator: Gt, values: ['1']}]}}"), "labels of pods are not compared"),
        (near("{labelSelector: {}}", "podAntiAffinity"), "missing required field `topologyKey`"),
        (over("nodeAffinityPolicy: Ignore"), "nodeAffinityPolicy 'Ignore' is not supported"),
        (over("nodeTaintsPolicy: Honor"), "nodeTaintsPolicy 'Honor' is not supported"),
        (over("minDomains: 0"), "minDomains 0 is not 1 or more"),
        ("topologySpreadConstraints: [{maxSkew: 0, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]", "maxSkew 0 is not 1 or more"),
        ("topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: Never}]", "'Never' is neither DoNotSchedule"),
        ("nodeName: n1", "spec.nodeName 'n1'"),
        ("schedulingGates: [{name: later}]", "spec.schedulingGates"),
    ],
)  # fmt: skip
def test_a_constraint_that_cannot_be_kept_is_refused_by_name(spec: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        workloads_of([{"kind": "Service"}, pod(spec)], where="bad.yaml")
    assert says in str(caught.value)
    assert "bad.yaml, document 2: pod shop/cart-1" in str(caught.value)


@pytest.mark.parametrize(
    ("annotations", "says"),
    [
        ({"neap.io/gang": "g"}, "gang 'g': neap.io/gang-size is missing"),
        ({"neap.io/gang": "g", "neap.io/gang-size": "none"}, "neap.io/gang-size='none' is not 1..10000"),
        ({"neap.io/gang": "g", "neap.io/gang-size": "2", "neap.io/gang-strength": "firm"}, "'firm' is neither hard nor soft"),
        ({"neap.io/gang-size": "2"}, "without neap.io/gang"),
        ({"neap.io/datasets": "a,,b"}, "an empty name"),
        ({"neap.io/datasets": ",".join(map(str, range(65)))}, "datasets: 65 of them, at most 64"),
        ({"neap.io/device-affinity": "{"}, "neap.io/device-affinity='{'"),
        ({"neap.io/device-affinity": '{"gpus": "two"}'}, "Expected `int | null`, got `str` - at `$.gpus`"),
        ({"neap.io/device-affinity": '{"gpu": 2}'}, "unknown field `gpu`"),
        ({"neap.io/device-affinity": '{"level": "shelf"}'}, "Invalid enum value 'shelf'"),
        ({"neap.io/device-affinity": '{"gpus": 2}'}, "2 GPUs, and the containers ask for 0 cards"),
        ({"neap.io/device-affinity": '{"gpus": 0}'}, "neither GPUs nor network cards"),
        ({"neap.io/numa-exclusive": "true"}, "numa_exclusive without numa_binding"),
        ({"neap.io/numa-binding": "maybe"}, "neither 'true' nor 'false'"),
        ({"note": "x" * 10_000_000}, f"annotations have 10000004 bytes, {MOST_ANNOTATIONS} are allowed (the largest is 'note'"),
        ({"neap.io/device-affinity": "[" * 10_000_000}, "annotations have 10000023 bytes"),
    ],
)  # fmt: skip
def test_an_annotation_that_cannot_be_read_is_refused_with_its_value(annotations: dict[str, str], says: str) -> None:
    with pytest.raises(InputError) as caught:
        read(annotations=annotations)
    assert says in str(caught.value)
    assert "x.yaml, document 1: pod shop/cart-1" in str(caught.value)
    assert len(str(caught.value)) < 600
