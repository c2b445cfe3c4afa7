"""What is explained is so: a plain reading of the default plugins' docstrings, node by node, agrees with every number.

The oracle knows what the table was told (machines, ledgers, reports, offers) and none of its columns.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from math import inf

import pytest

from neap.common.model.explanation import Candidate
from neap.common.model.placement import Placement
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, GPU_CORE, GPU_MEMORY, MEMORY, RECLAIMED_CPU
from neap.common.model.topology import NodeTopology
from neap.common.model.workload import Container, Workload
from neap.common.units import GIB
from neap.scheduler.core.choice.cycle import Cycle
from neap.scheduler.core.choice.framework import Policy
from neap.scheduler.core.nodes.table import VERSION, NodeTable
from neap.scheduler.core.pods.pod import Pod, pod_of
from neap.scheduler.core.why.explain import MOST_CLASSES, MOST_REMEDIES, Verdict, explain
from tests.unit.scheduler_world import a_guest, a_node, a_usage, an_offer, an_owner, policies

CLUSTERS, ASKED = 50, 20  # 1,000 pods
NOW, LONG_AGO, WORTH_WAITING, QUANTUM = 200.0, 10.0, 20.0, 1e-6


@dataclass
class Node:
    """What was told of one machine."""

    topology: NodeTopology
    seed: int
    ready: bool = True
    held: list[Placement] = field(default_factory=list)
    offer: int = 0
    used: float | None = None  # cores; None: never measured
    free_memory: int = 0
    fresh: bool = True
    seen: dict[str, float] = field(default_factory=dict)  # cores by uid, of pods that a report has shown

    @property
    def name(self) -> str:
        return self.topology.node

    @property
    def order(self) -> int:
        digest = hashlib.blake2b(f"{self.seed}/{self.name}".encode(), digest_size=8).digest()
        return int.from_bytes(digest)

    def allocatable(self, kind: str) -> int:
        return self.offer if kind == RECLAIMED_CPU else self.topology.allocatable.get(kind, 0)

    def requested(self, kind: str) -> int:
        return sum(placement.charged.get(kind, 0) for placement in self.held)

    def free(self, kind: str) -> int:
        return self.allocatable(kind) - self.requested(kind)

    def cards(self) -> list[tuple[str, int, int, int]]:
        """Model, core left, memory left, containers."""
        shares = [share for placement in self.held for share in placement.gpus]
        found = []
        for card in self.topology.cards:
            mine = [share for share in shares if share.card == card.index]
            core, memory = sum(share.core for share in mine), sum(share.memory_mib for share in mine)
            found.append((card.model, 100 - core, card.memory_mib - memory, len(mine)))
        return found

    def load(self, kind: str, *, guests: bool) -> tuple[float, float]:
        """Used, and in flight: milli-cores or bytes, of everybody or of owners only."""
        lent = {p.workload.uid for p in self.held if p.workload.qos is QosClass.RECLAIMED}
        if kind == CPU:
            used = (self.used or 0.0) * 1000
            used -= 0 if guests else 1000 * sum(cores for uid, cores in self.seen.items() if uid in lent)
        else:
            used = self.allocatable(MEMORY) - self.free_memory if self.used is not None else 0
        flying = 0
        for placement in self.held:
            uid = placement.workload.uid
            if uid not in self.seen and (guests or uid not in lent):
                asked = [container.requests for container in placement.workload.containers]
                flying += sum(_expected(requests, kind) for requests in asked)
        return max(0.0, used), flying


def _expected(requests: dict[str, int], kind: str) -> int:
    if kind == CPU:
        request = requests.get(CPU, 0) + requests.get(RECLAIMED_CPU, 0)
        return round(request * 0.85) if request else 250
    return round(requests[MEMORY] * 0.7) if requests.get(MEMORY) else 200 << 20


@dataclass
class Read:
    """One rule: who says it, whether a node fails it, and by how much."""

    plugin: str
    fails: Callable[[Node], bool]
    miss: Callable[[Node], float]
    tell: Callable[[Node], str] | None = None


def rules(workload: Workload) -> Iterator[Read]:
    """The default plugins' filters, from their docstrings."""
    for key, value in sorted(workload.node_selector.items()):
        yield Read(
            "node_selector",
            lambda n, k=key, v=value: n.topology.labels.get(k) != v,
            lambda _: 1.0,
            lambda n, k=key, v=value: f"{n.name} does not carry {k}={v}",
        )
    for kind, amount in sorted(workload.requests.items()):
        if amount and kind not in (GPU_CORE, GPU_MEMORY):
            yield Read(
                "fit",
                lambda n, k=kind, a=amount: n.free(k) < a,
                lambda n, k=kind, a=amount: a - n.free(k) if n.allocatable(k) else inf,
                lambda n, k=kind, a=amount: _short(n, k, a),
            )
    yield from _card_rules(workload)
    yield Read("load_aware", lambda n: n.used is not None and not n.fresh, lambda _: inf)
    if workload.qos is not QosClass.RECLAIMED:
        for kind, limit in ((CPU, 0.65), (MEMORY, 0.95)):

            def over(node: Node, kind: str = kind, limit: float = limit) -> float:
                return node.load(kind, guests=False)[0] - limit * node.allocatable(kind)

            yield Read("load_aware", lambda n, over=over: n.used is not None and over(n) > 0, over)


def _short(node: Node, kind: str, asked: int) -> str:
    name = {CPU: "cores", RECLAIMED_CPU: "lent cores", MEMORY: "memory"}[kind]
    one = (lambda x: f"{x / GIB:g}Gi" if x else "0") if kind == MEMORY else (lambda x: f"{x / 1000:g}")
    if not node.allocatable(kind):
        return f"{node.name} has no {name}, {one(asked)} asked"
    return f"{node.name} has {one(node.free(kind))} of {one(node.allocatable(kind))} {name} free, {one(asked)} asked"


def asks(workload: Workload) -> list[tuple[int, int, int]]:
    """Per container that wants cards: whole cards, core, memory."""
    found = []
    for container in workload.containers:
        core, memory = container.requests.get(GPU_CORE, 0), container.requests.get(GPU_MEMORY, 0)
        if core:
            found.append((0, core, memory) if memory else (core // 100, core, 0))
    return found


def _card_rules(workload: Workload) -> Iterator[Read]:
    wanted, models = asks(workload), workload.gpu_models
    if not wanted:
        return

    def cards(node: Node) -> list[tuple[str, int, int, int]]:
        return [card for card in node.cards() if not models or card[0] in models]

    def short(node: Node, core: int, memory: int) -> float:
        """Percent that the best card lacks."""
        total = node.topology.cards[0].memory_mib if node.topology.cards else 0
        lacks = (
            max(core - left, 100 * (memory - room) / total, 1 if containers >= 16 else 0, 0)
            for _, left, room, containers in cards(node)
        )
        return min(lacks, default=inf)

    def count(have: Callable[[Node], int], asked: int) -> Read:
        return Read("gpu_share", lambda n: have(n) < asked, lambda n: asked - have(n) if n.cards() else inf)

    yield Read("gpu_share", lambda n: not n.cards(), lambda _: inf)
    if models:
        yield Read("gpu_share", lambda n: not cards(n), lambda _: inf)
    for core, memory in sorted({(core, memory) for whole, core, memory in wanted if not whole}):
        yield Read(
            "gpu_share",
            lambda n, c=core, m=memory: not any(x[1] >= c and x[2] >= m and x[3] < 16 for x in cards(n)),
            lambda n, c=core, m=memory: short(n, c, m),
        )
    whole = sum(count for count, _, _ in wanted)
    if whole:
        yield count(lambda n: sum(x[1] == 100 and x[3] == 0 for x in cards(n)), whole)
    if len(wanted) > 1:
        yield count(lambda n: sum(x[1] for x in cards(n)), sum(core for _, core, _ in wanted))


def divides(workload: Workload, node: Node) -> bool:
    """Whether the containers' asks can be dealt to the cards, by trying everything."""
    cards = [card for card in node.cards() if not workload.gpu_models or card[0] in workload.gpu_models]
    slices = [(core, memory) for whole, core, memory in asks(workload) if not whole]
    whole = sum(count for count, _, _ in asks(workload))
    for dealt in product(range(len(cards)), repeat=len(slices)):
        left = [[core, memory, 16 - containers] for _, core, memory, containers in cards]
        for card, (core, memory) in zip(dealt, slices, strict=True):
            left[card] = [left[card][0] - core, left[card][1] - memory, left[card][2] - 1]
        free = sum(card[1] == 100 and card[3] == 0 and place not in dealt for place, card in enumerate(cards))
        if all(min(one) >= 0 for one in left) and free >= whole:
            return True
    return False


def scores(workload: Workload, node: Node) -> dict[str, float]:
    """The default plugins' scores, from their docstrings."""
    found, guest, wanted = {}, workload.qos is QosClass.RECLAIMED, asks(workload)
    if wanted:
        used = sum(100 - core for _, core, _, _ in node.cards()) + sum(core for _, core, _ in wanted)
        found["gpu_share"] = 100 * min(1.0, used / (100 * len(node.cards()))) if node.cards() else 0.0
    elif not guest:
        found["gpu_share"] = 0.0 if node.cards() else 100.0
    idle = 0.0
    for kind in (CPU, MEMORY):
        used, flying = node.load(kind, guests=guest)
        own = sum(_expected(container.requests, kind) for container in workload.containers)
        total = node.allocatable(kind)
        idle += min(100.0, max(0.0, 100 * (total - used - own - flying) / total)) / 2
    found["load_aware"] = idle if node.used is not None and node.fresh else 0.0
    kinds = {k: a for k, a in sorted(workload.requests.items()) if a and k not in (GPU_CORE, GPU_MEMORY)}
    shares = [
        max(0.0, 1 - (node.requested(kind) + amount) / node.allocatable(kind))
        for kind, amount in kinds.items()
        if node.allocatable(kind)
    ]
    if kinds:
        found["allocation"] = 100 * sum(shares) / len(shares) if shares else 0.0
    return found


def a_cluster(rng: random.Random, seed: int) -> tuple[NodeTable, dict[str, Node]]:
    """Machines, pods on them, reports, offers."""
    table, nodes = NodeTable(order_seed=seed), dict[str, Node]()
    for number in range(rng.randint(3, 20)):
        topology = a_node(
            f"n{number}", cores=rng.choice([4, 8, 16]), gib=rng.choice([8, 16, 64]), cards=rng.choice([0, 0, 1, 3]),
            model=rng.choice(["T4", "A10"]), zone=rng.choice("ab"), disk=rng.choice(["ssd", "hdd"]),
        )  # fmt: skip
        nodes[topology.node] = Node(topology, seed)
        table.describe(topology)
        if rng.random() < 0.7:
            nodes[topology.node].offer = 1000 * rng.randint(0, 6)
            table.offer(an_offer(topology.node, at=150.0, cores=nodes[topology.node].offer / 1000), 150.0)
    cycle = Cycle(table, policies())
    for number in range(rng.randint(0, 4 * len(nodes))):
        decision = cycle.decide(pod_of(a_workload(rng, f"held{number}")), 0.0)
        if decision.placement is not None:
            nodes[decision.node].held.append(decision.placement)
    for node in nodes.values():
        _report(rng, table, node)
    table.measure(a_usage("never-described"), 1.0)
    table.expire(NOW)
    return table, nodes


def _report(rng: random.Random, table: NodeTable, node: Node) -> None:
    if rng.random() < 0.7:
        node.fresh, cores = rng.random() < 0.8, node.allocatable(CPU) / 1000
        node.used, node.free_memory = cores * rng.choice([0.1, 0.5, 0.7]), rng.randint(0, node.allocatable(MEMORY))
        uids = [placement.workload.uid for placement in node.held]
        node.seen = {uid: rng.choice([0.0, 0.25]) for uid in rng.sample(uids, len(uids) // 2)}
        at = 150.0 if node.fresh else LONG_AGO
        table.measure(a_usage(node.name, at=at, cpu=node.used, free=node.free_memory, containers=node.seen), at)
    if rng.random() < 0.1:
        node.ready = False
        table.set_ready(node.name, False)


def a_workload(rng: random.Random, uid: str) -> Workload:
    kind = rng.random()
    selector = rng.choice([{}, {}, {"zone": "a"}, {"zone": "a", "disk": "ssd"}, {"zone": "c"}])
    if kind < 0.25:
        return a_guest(uid, cores=rng.choice([0.5, 1, 4]), node_selector=selector)
    cores, gib = rng.choice([0.5, 1, 3, 7.5, 20]), rng.choice([1, 3, 12])
    if kind < 0.6:
        return an_owner(uid, cores=cores, gib=gib, node_selector=selector)
    models = rng.choice([(), (), ("A10",)])
    gpu = rng.choice([(30, 5000), (70, 9000), (100, 0), (200, 0), (10, 15999)])
    workload = an_owner(uid, cores=1, gib=gib, gpu=gpu, node_selector=selector, gpu_models=models)
    if kind < 0.8:
        return workload
    second = Container(name="side", requests={CPU: 500, GPU_CORE: 60, GPU_MEMORY: 6000})
    return an_owner(uid, gpu=gpu, containers=(*workload.containers, second), gpu_models=models)


def check(pod: Pod, verdict: Verdict, nodes: dict[str, Node]) -> None:
    """Everything that is said, against the plain reading."""
    every, workload = list(nodes.values()), pod.workload
    assert verdict.nodes == len(every)
    read = list(rules(workload))
    failed = {node.name: [rule for rule in read if rule.fails(node)] for node in every}
    fits = sorted((node for node in every if not failed[node.name]), key=lambda node: node.order)
    points = {node.name: scores(workload, node) for node in fits}
    total = {name: sum(each.values()) / max(1, len(each)) for name, each in points.items()}
    ranked = sorted(fits, key=lambda node: (-round(total[node.name] / QUANTUM), node.order))
    ready, busy = [n for n in ranked if n.ready], [n for n in ranked if not n.ready]
    waits = busy and (not ready or total[busy[0].name] - total[ready[0].name] > WORTH_WAITING)
    assert verdict.waits_for == (busy[0].name if waits else "")
    good = [] if waits else [node for node in ready if divides(workload, node)]
    refused = [] if waits else ready[: ready.index(good[0])] if good else ready
    assert verdict.busy == len(busy)
    assert verdict.feasible == len(ready) - len(refused)
    check_candidate(verdict.best, good[0] if good else None, points)
    check_candidate(verdict.second, good[1] if len(good) > 1 else None, points)
    if verdict.best and verdict.second:
        said = verdict.best.score - verdict.second.score
        assert said == pytest.approx(total[good[0].name] - total[good[1].name], abs=1e-9)
    check_classes(verdict, every, read, failed, len(busy), len(refused))
    if verdict.best is None and not verdict.waits_for:
        check_remedies(verdict, every, read, failed)
    else:
        assert not verdict.remedies


def check_candidate(said: Candidate | None, node: Node | None, points: dict[str, dict[str, float]]) -> None:
    assert (said.node if said else "") == (node.name if node else "")
    if said is not None and node is not None:
        weights = len(points[node.name])
        assert {term.plugin: term.score for term in said.terms} == pytest.approx(points[node.name], abs=1e-9)
        for term in said.terms:
            assert term.contribution == pytest.approx(term.weight * term.score / weights, abs=1e-9)
        assert sum(term.contribution for term in said.terms) == pytest.approx(said.score, abs=1e-9)
        assert said.score == pytest.approx(sum(points[node.name].values()) / weights, abs=1e-9)


def nearest(rule: Read, among: list[Node]) -> Node:
    return min(among, key=lambda node: (rule.miss(node), node.order))


def check_classes(
    verdict: Verdict, every: list[Node], read: list[Read], failed: dict[str, list[Read]], busy: int, refused: int
) -> None:
    """Each class: who, how many, how many fail only this, which came nearest and with which numbers."""
    expected = []
    for rule in read:
        removed = [node for node in every if failed[node.name][:1] == [rule]]
        if removed:
            expected.append((rule, removed, sum(failed[node.name] == [rule] for node in every)))
    expected.sort(key=lambda one: -len(one[1]))
    mine = [one for one in verdict.rejected if one.plugin != "ledger" and one.reason != "no division of cards"]
    assert [(one.plugin, one.nodes, one.alone) for one in mine] == [
        (rule.plugin, len(removed), alone) for rule, removed, alone in expected
    ]
    assert len(verdict.rejected) <= MOST_CLASSES
    assert sum(one.nodes for one in verdict.rejected if one.plugin == "ledger") == busy
    assert sum(one.nodes for one in verdict.rejected if one.reason == "no division of cards") == refused
    assert sum(one.nodes for one in verdict.rejected) + verdict.feasible == verdict.nodes
    for one, (rule, removed, _) in zip(mine, expected, strict=True):
        assert one.example == nearest(rule, removed).name
        assert one.example in one.nearest
        if rule.tell is not None:
            assert one.nearest == rule.tell(nearest(rule, removed))


def check_remedies(verdict: Verdict, every: list[Node], read: list[Read], failed: dict[str, list[Read]]) -> None:
    alone = [(rule, [node for node in every if failed[node.name] == [rule]]) for rule in read]
    expected = sorted(((rule, found) for rule, found in alone if found), key=lambda one: -len(one[1]))
    assert [(one.plugin, one.nodes) for one in verdict.remedies] == [
        (rule.plugin, len(found)) for rule, found in expected
    ][:MOST_REMEDIES]
    for one, (rule, found) in zip(verdict.remedies, expected, strict=False):
        if rule.plugin == "fit":
            assert nearest(rule, found).name in one.says
    if not expected and any(failed.values()):
        fewest = min((node for node in every if failed[node.name]), key=lambda n: (len(failed[n.name]), n.order))
        assert verdict.closest.startswith(f"{fewest.name} fails fewest rules: ")


@pytest.mark.parametrize("seed", range(CLUSTERS))
def test_a_plain_reading_agrees_with_every_count_miss_term_and_margin(seed: int) -> None:
    rng = random.Random(seed)
    table, nodes = a_cluster(rng, seed)
    before = {name: table.columns[name].tobytes() for name in table.columns.names}
    for number in range(ASKED):
        pod = pod_of(a_workload(rng, f"asked{number}"))
        verdict = explain(pod, table, policies(), quantum=QUANTUM, worth_waiting=WORTH_WAITING)
        check(pod, verdict, nodes)
    assert {name: table.columns[name].tobytes() for name in before} == before


@pytest.mark.parametrize("seed", range(20))
def test_what_is_explained_is_what_is_decided(seed: int) -> None:
    rng = random.Random(f"decided {seed}")
    table, _ = a_cluster(rng, seed)
    weighted = [Policy(p.name, p.plugin, rng.choice([0.5, 1.0, 3.0])) for p in policies()]
    cycle = Cycle(table, weighted, worth_waiting=WORTH_WAITING)
    for number in range(ASKED):
        pod = pod_of(a_workload(rng, f"asked{number}"))
        verdict = explain(pod, table, weighted, worth_waiting=WORTH_WAITING)
        decision = cycle.decide(pod)
        assert decision.node == (verdict.best.node if verdict.best else "")
        if verdict.best is not None:
            assert verdict.best.score == pytest.approx(decision.score, abs=QUANTUM)
            if verdict.second is not None and verdict.second.node == decision.runner_up:  # it can be divided, too
                assert verdict.best.score - verdict.second.score == pytest.approx(decision.margin, abs=2 * QUANTUM)
            if rng.random() < 0.5:
                table.discharge(decision.node, pod.uid)
        elif not verdict.waits_for:
            assert decision.wakes <= verdict.wakes


@pytest.mark.parametrize("seed", range(20))
def test_asking_what_would_be_without_a_pod_leaves_every_byte_and_order_as_it_was(seed: int) -> None:
    rng = random.Random(f"without {seed}")
    table, nodes = a_cluster(rng, seed)
    before = {name: table.columns[name].tobytes() for name in table.columns.names if name != VERSION}
    changes, clock = set(table.changes), table.clock
    for node in nodes.values():
        charges = list(table.charges(node.name))
        for placement in node.held:
            with table.without(node.name, placement.workload.uid):
                assert placement.workload.uid not in table.charges(node.name)
                explain(pod_of(placement.workload), table, policies())
        assert list(table.charges(node.name)) == charges
    assert {name: table.columns[name].tobytes() for name in before} == before
    assert table.changes == changes
    assert table.clock >= clock, "rows were stamped: kept evaluations look again"
    table.validate()


def test_an_answer_is_whole_and_bounded_whatever_the_names_are() -> None:
    table = NodeTable(order_seed=1)
    for number in range(2_000):
        table.describe(a_node(f"n{number}", cores=8, zone=f"z{number % 7}"))
    pod = pod_of(an_owner(cores=9, node_selector={"zone": "z1" + "x" * 500}))
    verdict = explain(pod, table, policies())
    assert verdict.nodes == sum(one.nodes for one in verdict.rejected) == 2_000
    assert max(len(one.reason) for one in verdict.rejected) <= 240
    assert not verdict.remedies
    assert "fails fewest rules: node_selector" in verdict.closest
