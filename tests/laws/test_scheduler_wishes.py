"""Laws of Kubernetes' constraints: what the columns say is what its documentation says, whatever happened before."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.common.model.node import NodeObject
from neap.common.model.placement import Placement
from neap.common.model.qos import QosClass
from neap.common.model.scheduling import (
    NOBODY,
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
from neap.common.model.topology import NodeTopology
from neap.common.model.workload import Workload
from neap.common.units import MIB
from neap.scheduler.core.choice.cycle import Cycle
from neap.scheduler.core.choice.framework import Plugin, Policy
from neap.scheduler.core.nodes.domains import Domains
from neap.scheduler.core.nodes.labels import HOSTNAME, Labels
from neap.scheduler.core.nodes.locality import Locality
from neap.scheduler.core.nodes.table import VERSION, NodeTable
from neap.scheduler.core.nodes.taints import Taints
from neap.scheduler.core.pods.pod import Pod, pod_of
from neap.scheduler.plugins import (
    dataset_locality,
    image_locality,
    node_affinity,
    pod_affinity,
    taints,
    topology_spread,
)
from tests.laws import kube_oracle as oracle
from tests.unit.scheduler_world import a_node, an_owner

PLUGINS: dict[str, Plugin[Any]] = {
    "taints": taints.PLUGIN,
    "node_affinity": node_affinity.PLUGIN,
    "topology_spread": topology_spread.PLUGIN,
    "pod_affinity": pod_affinity.PLUGIN,
    "image_locality": image_locality.PLUGIN,
    "dataset_locality": dataset_locality.PLUGIN,
}
NAMES = [f"n{i}" for i in range(6)]
KEYS = ["zone", "rack", HOSTNAME, "size"]

node_labels = st.fixed_dictionaries(
    {"zone": st.sampled_from(["z1", "z2"])},
    optional={
        "rack": st.sampled_from(["r1", "r2", "r3", "r4"]),
        "size": st.sampled_from(["1", "2", "10", "-3", "+5", "big", "9223372036854775808"]),
    },
)
pod_labels = st.fixed_dictionaries(
    {"app": st.sampled_from(["a", "a", "b"])}, optional={"tier": st.sampled_from(["x", "y"])}
)
namespaces = st.sampled_from(["shop", "shop", "shop", "lab"])
node_expressions = st.one_of(
    st.builds(lambda v: Expression(key="zone", operator=Operator.IN, values=tuple(v)), st.lists(st.sampled_from(["z1", "z2", "z9"]), min_size=1, max_size=2)),
    st.builds(lambda v: Expression(key="zone", operator=Operator.NOT_IN, values=(v,)), st.sampled_from(["z1", "z9"])),
    st.builds(lambda k: Expression(key=k), st.sampled_from(["rack", "gone"])),
    st.builds(lambda k: Expression(key=k, operator=Operator.DOES_NOT_EXIST), st.sampled_from(["rack", "gone"])),
    st.builds(lambda o, v: Expression(key="size", operator=o, values=(v,)), st.sampled_from([Operator.GREATER, Operator.LESS]), st.sampled_from(["1", "2", "-3", "+5", "7"])),
)  # fmt: skip
name_expressions = st.builds(
    lambda o, v: Expression(key="metadata.name", operator=o, values=(v,)),
    st.sampled_from([Operator.IN, Operator.NOT_IN]),
    st.sampled_from(NAMES),
)
node_terms = st.builds(
    lambda e, n, w: NodeTerm(expressions=tuple(e), names=tuple(n), weight=w),
    st.lists(node_expressions, max_size=2),
    st.lists(name_expressions, max_size=1),
    st.integers(1, 100),
)
selectors = st.sampled_from(
    [
        (Expression(key="app", operator=Operator.IN, values=("a",)),),
        (Expression(key="app", operator=Operator.IN, values=("a",)),),
        (Expression(key="app", operator=Operator.IN, values=("a", "b")),),
        (Expression(key="app", operator=Operator.IN, values=("b",)), Expression(key="tier")),
        (Expression(key="tier", operator=Operator.NOT_IN, values=("x",)),),
        (Expression(key="tier", operator=Operator.DOES_NOT_EXIST),),
        (),
        (NOBODY,),
    ]
)
pod_terms = st.builds(
    lambda k, s, n, w: PodTerm(topology=k, selector=s, namespaces=n, weight=w),
    st.sampled_from(["zone", *KEYS]),
    selectors,
    st.sampled_from([(), (), ("lab",), ("lab", "shop")]),
    st.sampled_from([1, 10, 100]),
)
spreads = st.builds(
    lambda k, n, h, s, d: Spread(topology=k, skew=n, hard=h, selector=s, least_domains=d),
    st.sampled_from(["zone", "zone", *KEYS]),
    st.integers(1, 2),
    st.booleans(),
    st.one_of(selectors, st.just((Expression(key="app", operator=Operator.IN, values=("a", "b")),))),
    st.sampled_from([1, 1, 1, 2, 3]),
)
tolerations = st.builds(
    lambda k, x, v, e: Toleration(key=k, exists=x, value=v, effect=e),
    st.sampled_from(["", "gpu", "node.kubernetes.io/unschedulable"]),
    st.booleans(),
    st.sampled_from(["", "yes"]),
    st.sampled_from(["", *Effect]),
)
node_taints = st.builds(
    lambda k, v, e, q: Taint(key=k, value=v, effect=e, qos=q),
    st.sampled_from(["gpu", "old"]),
    st.sampled_from(["", "yes"]),
    st.sampled_from(list(Effect)),
    st.sampled_from([(), ("reclaimed_cores",), ("shared_cores", "dedicated_cores")]),
)


def lists(of: st.SearchStrategy[Any], most: int = 2, least: int = 0) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, min_size=least, max_size=most).map(tuple)


WISHES: dict[str, st.SearchStrategy[Any]] = {
    "tolerations": lists(tolerations, least=1),
    "node_required": st.one_of(st.just(()), lists(node_terms, least=1)),  # else hardly a domain is eligible
    "node_preferred": lists(node_terms, least=1),
    "near": lists(pod_terms, least=1),
    "near_preferred": lists(pod_terms, least=1),
    "apart": lists(pod_terms, least=1),
    "apart_preferred": lists(pod_terms, least=1),
    "spread": lists(spreads, least=1),
}


FIRM = ("tolerations", "node_required", "near", "apart", "spread")
FOND = ("tolerations", "node_preferred", "near_preferred", "apart_preferred", "spread")


@st.composite
def workloads(draw: st.DrawFn, *kinds: str) -> Workload:
    """With one or two wishes of every kind named; else of up to two kinds."""
    kinds = kinds or tuple(sorted(draw(st.sets(st.sampled_from(list(WISHES)), max_size=2))))
    return an_owner(
        f"u{draw(st.integers(0, 12))}",
        cores=0.1,
        namespace=draw(namespaces),
        labels=draw(pod_labels),
        constraints=Constraints(**{kind: draw(WISHES[kind]) for kind in kinds}),
        qos=draw(st.sampled_from([QosClass.SHARED, QosClass.DEDICATED])),
        node_selector=draw(st.sampled_from([{}, {}, {}, {}, {"zone": "z1"}])),
        images=draw(st.sampled_from([(), ("db", "web:1"), ("web:1", "web:1")])),
        datasets=draw(st.sampled_from([(), ("d1",), ("d1", "d2")])),
    )


def labelled(name: str, labels: dict[str, str]) -> NodeTopology:
    return msgspec.structs.replace(a_node(name, cores=100), labels=labels)


@st.composite
def objects(draw: st.DrawFn, node: str) -> NodeObject:
    return NodeObject(
        at=0.0,
        source="gateway",
        node=node,
        labels=draw(node_labels),
        taints=draw(lists(node_taints)),
        cordoned=draw(st.integers(0, 4)) == 0,
        images=draw(st.dictionaries(st.sampled_from(["db:latest", "web:1"]), st.sampled_from([10 * MIB, 400 * MIB]))),
        datasets=draw(st.sampled_from([(), ("d1",), ("d1", "d2")])),
    )


@st.composite
def steps(draw: st.DrawFn) -> tuple[str, Any]:
    node = draw(st.sampled_from(NAMES))
    what = draw(
        st.sampled_from(["node", "node", "object", "charge", "charge", "charge", "ask", "ask", "leave", "gone"])
    )
    match what:
        case "node":
            return what, labelled(node, draw(st.one_of(node_labels, node_labels, node_labels, st.just({}))))
        case "object":
            return what, draw(objects(node))
        case "charge":
            return what, (node, draw(workloads()))
        case "ask":
            return what, draw(workloads())
        case "leave":
            return what, (node, f"u{draw(st.integers(0, 12))}")
    return what, node


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Some nodes, then anything."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=4, unique=True))
    nodes = [("node", labelled(name, draw(node_labels))) for name in names]
    charges = [("charge", (draw(st.sampled_from(names)), draw(workloads()))) for _ in range(draw(st.integers(0, 9)))]
    return [*nodes, *charges, *draw(st.lists(steps(), min_size=3, max_size=10))]


class World:
    """A table, and the cluster as the oracle sees it."""

    def __init__(self, *, wide: bool, most: int = 4096) -> None:
        self.table = a_table(wide=wide, most=most)
        self.cycle = Cycle(self.table, [Policy(name, plugin) for name, plugin in PLUGINS.items()])
        self.machines: dict[str, Any] = {}
        self.objects: dict[str, NodeObject] = {}
        self.held: dict[tuple[str, str], Workload] = {}

    def play(self, what: str, with_: Any) -> None:
        match what:
            case "node":
                self.machines[with_.node] = with_
                self.table.describe(with_)
            case "object":
                self.objects[with_.node] = with_
                self.table.register(with_)
            case "charge":
                node, workload = with_
                self.held[node, workload.uid] = workload
                self.table.charge(node, Placement(workload=workload, charged=workload.requests), 0.0)
            case "ask":
                self.cycle.evaluate(pod_of(with_))
            case "leave":
                self.held.pop(with_, None)
                self.table.discharge(*with_)
            case "gone":
                self.machines.pop(with_, None)
                self.table.forget(with_)

    def again(self, *, wide: bool) -> NodeTable:
        """The same cluster, told at once, in another order."""
        table = a_table(wide=wide)
        for (node, _), workload in reversed(self.held.items()):
            table.charge(node, Placement(workload=workload, charged=workload.requests), 0.0)
        for told in self.objects.values():
            table.register(told)
        for machine in self.machines.values():
            table.describe(machine)
        return table

    def cluster(self) -> oracle.Cluster:
        nodes = []
        for name, machine in self.machines.items():
            told = self.objects.get(name, NodeObject(at=0.0, source="", node=name))
            labels = {HOSTNAME: name, **machine.labels, **told.labels}
            nodes.append(oracle.Node(name, labels, told.taints, told.cordoned))
        return oracle.Cluster(nodes, [seen(workload, node) for (node, _), workload in self.held.items()])


def a_table(*, wide: bool, most: int = 4096) -> NodeTable:
    table = NodeTable()
    labels = Labels(table.columns, domains=3 if wide else 0, crowd=1)
    domains = Domains(table.columns, table.changes, labels=labels, most=most)
    table.keepers = (Taints(table.columns), domains, Locality(table.columns))
    return table


def seen(workload: Workload, node: str = "") -> oracle.Pod:
    return oracle.Pod(
        workload.namespace, workload.labels, workload.constraints, workload.node_selector, workload.qos, node
    )


def passes(table: NodeTable, name: str, workload: Workload) -> np.ndarray[Any, Any]:
    pod = pod_of(workload)
    table.ask(pod)
    plugin, found = PLUGINS[name], np.ones(len(table), dtype=np.bool_)
    for rule in plugin.filter(pod, table.view(), plugin.settings()) if plugin.filter else ():
        found &= rule.passes
    return found


def score(table: NodeTable, name: str, workload: Workload) -> np.ndarray[Any, Any] | None:
    pod = pod_of(workload)
    table.ask(pod)
    plugin = PLUGINS[name]
    return plugin.score(pod, table.view(), plugin.settings()) if plugin.score else None


@given(histories(), workloads(*FIRM), st.booleans())
def test_every_node_is_accepted_or_rejected_as_kubernetes_documents(
    history: list[tuple[str, Any]], asked: Workload, wide: bool
) -> None:
    world = World(wide=wide)
    for step in history:
        world.play(*step)
    cluster, pod = world.cluster(), seen(asked)
    verdicts = {name: passes(world.table, name, asked) for name in PLUGINS if PLUGINS[name].filter}
    for node in cluster.nodes:
        row = world.table.rows[node.name]
        assert verdicts["taints"][row] == oracle.untainted(pod, node)
        assert verdicts["node_affinity"][row] == oracle.node_affinity(pod, node)
        assert verdicts["topology_spread"][row] == oracle.topology_spread(pod, node, cluster)
        fits = oracle.pod_affinity(pod, node, cluster) and oracle.pod_anti_affinity(pod, node, cluster)
        assert verdicts["pod_affinity"][row] == fits


@given(histories(), workloads(*FOND), st.booleans())
def test_every_preference_is_weighed_as_documented(history: list[tuple[str, Any]], asked: Workload, wide: bool) -> None:
    world = World(wide=wide)
    for step in history:
        world.play(*step)
    cluster, pod, table = world.cluster(), seen(asked), world.table
    taint, node_score, spread, near = (
        score(table, name, asked) for name in ("taints", "node_affinity", "topology_spread", "pod_affinity")
    )
    raw = {node.name: oracle.liking(pod, node, cluster) for node in cluster.nodes}
    for node in cluster.nodes:
        row = table.rows[node.name]
        assert (taint[row] if taint is not None else 100) == pytest.approx(oracle.avoidance(pod, node))
        expected = oracle.node_preference(pod, node)
        assert (node_score is None) == (expected is None)
        assert node_score is None or node_score[row] == pytest.approx(expected)
        expected = oracle.evenness(pod, node, cluster)
        assert (spread is None) == (expected is None)
        assert spread is None or spread[row] == pytest.approx(expected)
    if near is not None:  # the order is Kubernetes' own; the scale is over all domains
        pairs = [(liked, near[table.rows[node]]) for node, liked in raw.items()]
        for (a, a_score), (b, b_score) in itertools.product(pairs, pairs):
            assert a != b or a_score == b_score
            assert a <= b or a_score >= b_score
    elif raw:
        assert len(set(raw.values())) == 1, "somebody is liked better, and nobody says so"


@given(
    histories(),
    st.lists(workloads(*WISHES), min_size=1, max_size=2),
    st.booleans(),
    st.sampled_from([1, 3, 4096]),
)
def test_what_is_kept_under_any_history_is_what_a_restart_would_count(
    history: list[tuple[str, Any]], asked: list[Workload], wide: bool, most: int
) -> None:
    world = World(wide=wide, most=most)
    for step in history:
        world.play(*step)
        world.cycle.evaluate(pod_of(asked[0]))
    table, fresh = world.table, world.again(wide=not wide)
    policies = [Policy(name, plugin) for name, plugin in PLUGINS.items()]
    for workload in asked:
        pod = pod_of(workload)
        kept, anew, there = (
            cycle.evaluate(pod) for cycle in (world.cycle, Cycle(table, policies), Cycle(fresh, policies))
        )
        assert kept.reasons == anew.reasons
        assert (kept.codes == anew.codes).all()
        assert (kept.totals == anew.totals).all()
        for name in world.machines:
            a, b = table.rows[name], fresh.rows[name]
            assert kept.reasons[kept.codes[a]] == there.reasons[there.codes[b]]
            assert kept.totals[a] == there.totals[b]


@given(histories(), workloads(*WISHES), st.booleans())
def test_a_charge_taken_back_leaves_every_byte_as_it_was(
    history: list[tuple[str, Any]], asked: Workload, wide: bool
) -> None:
    world = World(wide=wide)
    for step in history:
        world.play(*step)
    table, pod = world.table, pod_of(asked)
    for node in NAMES:
        table.discharge(node, asked.uid)
        table.row(node)
    answer = table.ask(pod)
    before = {name: table.columns[name].tobytes() for name in table.columns.names if name != VERSION}
    for node in NAMES:
        table.charge(node, Placement(workload=asked, charged=asked.requests), 0.0)
        table.discharge(node, asked.uid)
    after = {name: table.columns[name].tobytes() for name in table.columns.names if name != VERSION}
    assert {name: after[name] for name in before} == before
    assert table.ask(pod) == answer


@given(history=histories(), asked=workloads(*WISHES), rows=st.sets(st.integers(0, 5)), wide=st.booleans())
def test_a_part_of_the_table_gives_what_the_whole_gives(
    history: list[tuple[str, Any]], asked: Workload, rows: set[int], wide: bool
) -> None:
    world = World(wide=wide)
    for step in history:
        world.play(*step)
    table, pod = world.table, pod_of(asked)
    table.ask(pod)
    some = np.array(sorted(row for row in rows if row < len(table)), dtype=np.intp)
    for plugin in PLUGINS.values():
        check_part(plugin, pod, table, some)


def check_part(plugin: Plugin[Any], pod: Pod, table: NodeTable, some: np.ndarray[Any, Any]) -> None:
    for whole, part in zip(
        plugin.filter(pod, table.view(), plugin.settings()) if plugin.filter else (),
        plugin.filter(pod, table.view(some), plugin.settings()) if plugin.filter else (),
        strict=True,
    ):
        assert whole.reason == part.reason
        assert (whole.passes[some] == part.passes).all()
        assert whole.wakes
        assert whole.wakes <= plugin.wakes
        assert whole.near is not None
        near = whole.near()
        assert ((near.missing > 0) == ~whole.passes).all(), "what is rejected misses something, and only that"
        for row in np.flatnonzero(~whole.passes):
            assert near.tell(int(row))
            assert near.change is None or near.change(int(row))
    scores = [
        plugin.score(pod, table.view(view), plugin.settings()) if plugin.score else None for view in (slice(None), some)
    ]
    assert (scores[0] is None) == (scores[1] is None)
    if scores[0] is not None:
        assert ((scores[0] >= 0) & (scores[0] <= 100)).all()
        assert (scores[0][some] == scores[1]).all()


@given(histories(), workloads("near", "apart", "spread"), st.booleans())
def test_whoever_is_rejected_for_other_pods_is_woken_when_they_move(
    history: list[tuple[str, Any]], asked: Workload, wide: bool
) -> None:
    world = World(wide=wide, most=2)
    table = world.table
    asked = msgspec.structs.replace(asked, uid="waits")
    for what, with_ in history:
        before = {name: passes(table, name, asked) for name in ("pod_affinity", "topology_spread")}
        table.changes.clear()
        world.play(what, with_)
        if what in ("charge", "leave"):
            for name, mask in before.items():
                now = passes(table, name, asked)[: len(mask)]
                if (now & ~mask).any():
                    wakes = PLUGINS[name].wakes
                    assert table.changes & wakes, f"{name} lets it pass after {what}, and nobody wakes it"


def test_the_oracle_sees_a_difference() -> None:
    """The laws above would hold of an oracle that accepts everything."""
    node = oracle.Node("n", {"zone": "a"}, (Taint(key="gpu"),))
    pod = oracle.Pod("shop", {"app": "a"}, Constraints())
    assert not oracle.untainted(pod, node)
    term = PodTerm(topology="zone", selector=(Expression(key="app", operator=Operator.IN, values=("a",)),))
    wish = replace(
        pod,
        constraints=Constraints(apart=(term,), near=(term,), spread=(Spread(topology="zone", selector=term.selector),)),
    )
    there = oracle.Cluster([node, oracle.Node("m", {"zone": "b"})], [replace(pod, node="n")])
    assert not oracle.pod_anti_affinity(wish, node, there)
    assert not oracle.topology_spread(wish, node, there)
    assert oracle.pod_affinity(wish, node, there)
    assert not oracle.pod_affinity(wish, there.nodes[1], there)
