"""Kubernetes' own examples of taints, affinity and spread, decided by columns; and what people are told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from neap.common.model.node import NodeObject
from neap.common.model.qos import QosClass
from neap.common.model.scheduling import (
    Constraints,
    Effect,
    Expression,
    NodeTerm,
    Operator,
    PodTerm,
    Spread,
    Taint,
    Toleration,
)
from neap.common.model.workload import Workload
from neap.common.units import MIB
from neap.console.shell.submitting import read_workloads
from neap.scheduler.core.choice.cycle import Cycle, Decision
from neap.scheduler.core.nodes.domains import MOST_TALLIES, Domains
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.pods.admission import refusal
from neap.scheduler.core.pods.pod import pod_of
from neap.scheduler.settings import Settings
from neap.scheduler.wiring import policies
from tests.unit.scheduler_world import a_guest, a_node, an_offer, an_owner

ORDER = ("taints", "node_selector", "node_affinity", "fit", "topology_spread", "pod_affinity", "dataset_locality", "image_locality")  # fmt: skip


def selects(key: str, *values: str) -> tuple[Expression, ...]:
    return (Expression(key=key, operator=Operator.IN, values=values),)


class Cluster:
    """Nodes by name with labels, and what is decided on them."""

    def __init__(self, nodes: dict[str, dict[str, str]]) -> None:
        self.table = NodeTable()
        for name, labels in nodes.items():
            self.table.describe(msgspec.structs.replace(a_node(name, cores=64, gib=64), labels=labels))
            self.table.offer(an_offer(name), 0.0)
        self.cycle = Cycle(self.table, policies(Settings(order=ORDER)))
        self._uids = iter(range(1000))

    def say(self, node: str, **said: Any) -> None:
        self.table.register(NodeObject(at=0.0, source="gateway", node=node, **said))

    def decide(self, workload: Workload) -> Decision:
        return self.cycle.decide(pod_of(workload))

    def owner(self, **more: Any) -> Workload:
        return an_owner(f"u{next(self._uids)}", cores=0.5, **more)

    def puts(self, times: int, **more: Any) -> list[str]:
        return [self.decide(self.owner(**more)).node for _ in range(times)]


def reasons(decision: Decision) -> dict[str, int]:
    return {verdict.reason: verdict.nodes for verdict in decision.rejected}


def test_the_taint_example_of_the_documentation() -> None:
    """Source: Kubernetes, "Taints and Tolerations": two of three taints are tolerated, and the third keeps pods off."""
    cluster = Cluster({"node1": {}})
    taints = (
        Taint(key="key1", value="value1"),
        Taint(key="key1", value="value1", effect=Effect.NO_EXECUTE),
        Taint(key="key2", value="value2"),
    )
    cluster.say("node1", taints=taints)
    two = tuple(Toleration(key="key1", value="value1", effect=effect) for effect in ("NoSchedule", "NoExecute"))
    decision = cluster.decide(cluster.owner(constraints=Constraints(tolerations=two)))
    assert reasons(decision) == {"taint key2=value2:NoSchedule": 1}
    assert cluster.decide(cluster.owner(constraints=Constraints(tolerations=(*two, Toleration(exists=True))))).node


def test_a_taint_for_guests_leaves_owners_alone() -> None:
    cluster = Cluster({"n1": {}})
    cluster.say("n1", taints=(Taint(key="neap.io/agent-lost", qos=(QosClass.RECLAIMED,)),))
    assert cluster.decide(cluster.owner()).node == "n1"
    decision = cluster.decide(a_guest())
    assert reasons(decision) == {"taint neap.io/agent-lost:NoSchedule for reclaimed_cores": 1}


def test_a_cordoned_node_takes_no_new_pods_and_an_avoided_one_comes_last() -> None:
    cluster = Cluster({"n1": {}, "n2": {}, "n3": {}})
    cluster.say("n1", cordoned=True)
    cluster.say("n2", taints=(Taint(key="slow", effect=Effect.PREFER_NO_SCHEDULE),))
    assert set(cluster.puts(10)) == {"n3"}
    cluster.say("n3", cordoned=True)
    assert set(cluster.puts(2)) == {"n2"}
    cluster.say("n2", cordoned=True)
    assert reasons(cluster.decide(cluster.owner())) == {"cordoned": 3}


def test_node_affinity_compares_numbers_as_numbers() -> None:
    cluster = Cluster({"small": {"cpus": "9"}, "large": {"cpus": "10"}, "odd": {"cpus": "many"}, "none": {}})
    more = NodeTerm(expressions=(Expression(key="cpus", operator=Operator.GREATER, values=("9",)),))
    assert set(cluster.puts(3, constraints=Constraints(node_required=(more,)))) == {"large"}


def test_a_preferred_term_wins_where_nothing_else_differs() -> None:
    cluster = Cluster({f"n{i}": {"zone": "ab"[i % 2]} for i in range(6)})
    wish = Constraints(node_preferred=(NodeTerm(expressions=selects("zone", "b"), weight=1),))
    assert {"n1", "n3", "n5"} >= set(cluster.puts(6, constraints=wish))


def test_web_servers_stay_apart_and_beside_their_caches() -> None:
    """Source: Kubernetes, "Assigning Pods to Nodes", the redis-cache and web-store example on three nodes."""
    cluster = Cluster({"node-1": {}, "node-2": {}, "node-3": {}})
    host = "kubernetes.io/hostname"
    apart = Constraints(apart=(PodTerm(topology=host, selector=selects("app", "store")),))
    caches = cluster.puts(3, labels={"app": "store"}, constraints=apart)
    assert sorted(caches) == ["node-1", "node-2", "node-3"]
    with_cache = Constraints(
        apart=(PodTerm(topology=host, selector=selects("app", "web-store")),),
        near=(PodTerm(topology=host, selector=selects("app", "store")),),
    )
    assert sorted(cluster.puts(3, labels={"app": "web-store"}, constraints=with_cache)) == [
        "node-1",
        "node-2",
        "node-3",
    ]
    fourth = cluster.decide(cluster.owner(labels={"app": "web-store"}, constraints=with_cache))
    assert reasons(fourth) == {f"pods to keep away from in its {host}": 3}


def test_the_first_pod_of_a_kind_may_start_and_the_others_follow() -> None:
    cluster = Cluster({f"n{i}": {"zone": "ab"[i % 2]} for i in range(4)} | {"lost": {}})
    wish = Constraints(near=(PodTerm(topology="zone", selector=selects("app", "a")),))
    zones = [node and int(node[1]) % 2 for node in cluster.puts(4, labels={"app": "a"}, constraints=wish)]
    assert len(set(zones)) == 1
    stranger = cluster.decide(cluster.owner(labels={"app": "b"}, constraints=wish, namespace="elsewhere"))
    assert reasons(stranger) == {"no pod to be near to in its zone": 5}


@pytest.mark.parametrize(
    ("skew", "least_domains", "where"),
    [(1, 1, {"zoneB"}), (2, 1, {"zoneA", "zoneB"}), (1, 5, set())],
)
def test_the_zone_example_of_the_documentation(skew: int, least_domains: int, where: set[str]) -> None:
    """Source: Kubernetes, "Pod Topology Spread Constraints", one constraint: three pods foo:bar, two in zone A."""
    cluster = Cluster(
        {"node1": {"zone": "zoneA"}, "node2": {"zone": "zoneA"}, "node3": {"zone": "zoneB"}, "node4": {"zone": "zoneB"}}
    )
    for name, node in (("one", "node1"), ("two", "node2"), ("three", "node3")):
        pin = Constraints(node_required=(NodeTerm(names=(selects("metadata.name", node)[0],)),))
        assert cluster.decide(an_owner(name, labels={"foo": "bar"}, constraints=pin)).node == node
    spread = Spread(topology="zone", skew=skew, selector=selects("foo", "bar"), least_domains=least_domains)
    asked = pod_of(cluster.owner(labels={"foo": "bar"}, constraints=Constraints(spread=(spread,))))
    found = cluster.cycle.evaluate(asked)
    zone = {"node1": "zoneA", "node2": "zoneA", "node3": "zoneB", "node4": "zoneB"}
    assert {zone[name] for name, row in cluster.table.rows.items() if found.codes[row] == 0} == where


def test_conflicting_spreads_leave_a_pod_pending() -> None:
    """Source: Kubernetes, the same page, conflicting constraints: zone asks for zone B, host for node 2."""
    cluster = Cluster({"node1": {"zone": "zoneA"}, "node2": {"zone": "zoneA"}, "node3": {"zone": "zoneB"}})
    for name, node in (("1", "node1"), ("2", "node1"), ("3", "node2"), ("4", "node3"), ("5", "node3")):
        pin = Constraints(node_required=(NodeTerm(names=(selects("metadata.name", node)[0],)),))
        assert cluster.decide(an_owner(f"p{name}", labels={"foo": "bar"}, constraints=pin)).node == node
    both = tuple(Spread(topology=key, selector=selects("foo", "bar")) for key in ("zone", "kubernetes.io/hostname"))
    decision = cluster.decide(cluster.owner(labels={"foo": "bar"}, constraints=Constraints(spread=both)))
    assert decision.node == ""
    assert reasons(decision) == {"skew over zone above 1": 2, "skew over kubernetes.io/hostname above 1": 1}


def test_a_soft_spread_balances_zones_of_different_size() -> None:
    cluster = Cluster({f"n{i}": {"zone": "a" if i < 8 else "b"} for i in range(10)})
    soft = Constraints(spread=(Spread(topology="zone", hard=False, selector=selects("app", "a")),))
    nodes = cluster.puts(8, labels={"app": "a"}, constraints=soft)
    assert sum(node in ("n8", "n9") for node in nodes) == 4


def test_a_miss_is_told_with_its_numbers() -> None:
    cluster = Cluster({"n1": {"zone": "a"}, "n2": {"zone": "b"}, "n3": {}})
    spread = Constraints(spread=(Spread(topology="zone", selector=selects("app", "a")),))
    pin = Constraints(node_required=(NodeTerm(names=(selects("metadata.name", "n1")[0],)),))
    cluster.decide(cluster.owner(labels={"app": "a"}, constraints=pin))
    pod = pod_of(cluster.owner(labels={"app": "a"}, constraints=spread))
    cluster.table.ask(pod)
    [policy] = [policy for policy in cluster.cycle.policies if policy.name == "topology_spread"]
    assert policy.plugin.filter is not None
    [rule] = policy.plugin.filter(pod, cluster.table.view(), policy.settings)
    assert rule.near is not None
    near = rule.near()
    assert list(near.missing) == [1.0, 0.0, float("inf")]
    assert near.tell(0) == "{node} has 1 matching pods in zone=a, 0 in the least: skew 2, 1 allowed"
    assert near.tell(2) == "{node} has no label zone"


def test_images_count_as_far_as_they_are_spread() -> None:
    """Source: kube-scheduler ImageLocality: 250 MiB on one of two nodes weigh 125; 100 · (125 − 23) / (1000 − 23)."""
    cluster = Cluster({"n1": {}, "n2": {}})
    cluster.say("n1", images={"web:latest": 250 * MIB})
    pod = pod_of(cluster.owner(images=("web",)))
    found = cluster.cycle.evaluate(pod)
    by_plugin = dict(zip((policy.name for policy in found.scorers), found.scores, strict=True))
    assert list(by_plugin["image_locality"]) == [10.0, 0.0]
    cluster.say("n1", images={"web:latest": 40 * MIB})
    assert "image_locality" not in [policy.name for policy in cluster.cycle.evaluate(pod).scorers]


def test_a_reader_goes_where_its_data_is() -> None:
    cluster = Cluster({f"n{i}": {} for i in range(5)})
    cluster.say("n3", datasets=("imagenet",))
    assert set(cluster.puts(3, datasets=("imagenet", "coco"))) == {"n3"}


def test_pods_without_wishes_ask_nothing_and_share_one_evaluation() -> None:
    cluster = Cluster({f"n{i}": {"zone": "ab"[i % 2]} for i in range(4)})
    domains = next(keeper for keeper in cluster.table.keepers if isinstance(keeper, Domains))
    plain = pod_of(cluster.owner(labels={"app": "plain"}))
    assert domains.ask(plain) is None
    spread = Constraints(spread=(Spread(topology="zone", selector=selects("app", "a")),))
    cluster.puts(4, labels={"app": "a"}, constraints=spread)
    assert domains.ask(plain) is None


def test_services_spread_over_the_same_zones_share_evaluations() -> None:
    cluster = Cluster({f"n{i:02}": {"zone": "abc"[i % 3]} for i in range(30)})
    before = cluster.cycle.evaluations
    for service in range(20):
        spread = Constraints(spread=(Spread(topology="zone", selector=selects("app", f"s{service}")),))
        nodes = cluster.puts(3, labels={"app": f"s{service}"}, constraints=spread)
        assert {int(node[1:]) % 3 for node in nodes} == {0, 1, 2}
    assert len(cluster.cycle._kept) <= 7, "one per set of open zones"
    assert cluster.cycle.evaluations - before <= 60


def test_forgotten_tallies_are_counted_anew() -> None:
    table = NodeTable()
    domains = Domains(table.columns, table.changes, most=2)
    table.keepers = (domains,)
    for name, zone in (("n1", "a"), ("n2", "b")):
        table.describe(a_node(name, zone=zone))
    cycle = Cycle(table, policies(Settings(order=("topology_spread", "fit"))))
    for turn in range(2):
        for service in range(5):
            spread = Constraints(spread=(Spread(topology="zone", selector=selects("app", f"s{service}")),))
            nodes = [
                cycle.decide(pod_of(an_owner(f"{turn}.{service}.{i}", cores=0.1, labels={"app": f"s{service}"}, constraints=spread))).node
                for i in range(2)
            ]  # fmt: skip
            assert sorted(nodes) == ["n1", "n2"]
    assert MOST_TALLIES > 2


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"constraints": Constraints(spread=(Spread(topology="zone", skew=0),))}, "maxSkew 0"),
        ({"constraints": Constraints(near_preferred=(PodTerm(topology="zone", weight=0),))}, "weight 0 is not 1..100"),
        ({"annotations": {"note": "x" * 10_000_000}}, "annotations have 10000004 bytes"),
        ({"labels": {f"l{i}": "" for i in range(300)}}, "labels: 300 of them"),
        ({"datasets": ("",)}, "dataset '' has 0 characters"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_though_no_manifest_was_read(wish: dict[str, Any], says: str) -> None:
    assert says in refusal(an_owner(**wish))


def test_what_neap_submit_reads_is_placed_as_written(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text("""
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 4
  template:
    metadata: {labels: {app: web}}
    spec:
      tolerations: [{key: dedicated, operator: Equal, value: shop, effect: NoSchedule}]
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: web}}}
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}
      containers: [{name: main, image: web, resources: {requests: {cpu: 100m, memory: 64Mi}}}]
""")
    workloads, _ = read_workloads(file, salt="1")
    assert not any(refusal(workload) for workload in workloads)
    cluster = Cluster({f"n{i}": {"zone": "ab"[i % 2]} for i in range(6)})
    for i in range(6):
        cluster.say(f"n{i}", taints=(Taint(key="dedicated", value="shop" if i else "lab"),))
    nodes = [cluster.decide(workload).node for workload in workloads]
    assert "n0" not in nodes
    assert len(set(nodes)) == 4
    assert sum(int(node[1:]) % 2 for node in nodes) == 2
