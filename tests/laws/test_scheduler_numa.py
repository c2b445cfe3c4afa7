"""Laws of NUMA placement: no NUMA node is ever over-allocated, the search finds what brute force finds."""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neap.common.model.placement import Placement
from neap.common.model.profile import KINDS, MEMORY_BANDWIDTH, POWER
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.topology import NodeTopology
from neap.common.model.workload import Workload
from neap.scheduler.core.choice.cycle import Cycle
from neap.scheduler.core.nodes.table import TOLD, VERSION, NodeTable
from neap.scheduler.core.nodes.zones import POLICIES
from neap.scheduler.core.pods.demand import Demand, profiled
from neap.scheduler.core.pods.pod import Pod, pod_of
from neap.scheduler.plugins import numa
from tests.unit.numa_world import ALONE, BIND, a_cluster_node, a_machine, a_pod, passes, place, policies

NAMES = ("a", "b")
NODE_POLICIES = ("", *POLICIES[1:])


@st.composite
def machines(draw: st.DrawFn, name: str) -> NodeTopology:
    """One to six NUMA nodes, some without CPUs, some unlike the others, over one or two packages."""
    sizes = draw(st.lists(st.sampled_from([(2, 4), (4, 8), (4, 8), (3, 8), (0, 16)]), min_size=1, max_size=6))
    limits = [draw(st.sampled_from([1000, 1000, 600])) for _ in sizes]
    kinds = {MEMORY_BANDWIDTH: limits} if draw(st.booleans()) else None
    numbers = sorted(draw(st.sets(st.integers(0, 99), min_size=len(sizes), max_size=len(sizes))))
    packages = draw(st.sampled_from([1, 2]))
    return a_machine(name, *sizes, packages=packages, kinds=kinds, numbers=numbers, whole={POWER: 5000})


@st.composite
def pods(draw: st.DrawFn) -> Pod:
    """Bound, alone, native, shared, of one or two containers, with a profile or without."""
    asks = draw(st.sampled_from([{}, BIND, BIND, ALONE, BIND | {"neap.io/numa-nodes": "2"}]))
    qos = QosClass.DEDICATED if asks is ALONE else draw(st.sampled_from([QosClass.DEDICATED, QosClass.SHARED]))
    size = st.tuples(st.sampled_from([0.5, 1, 2, 3, 5]), st.sampled_from([1, 3, 6]))
    containers = draw(st.lists(size, min_size=1, max_size=2))
    pod = pod_of(a_pod(f"u{draw(st.integers(0, 12))}", *containers, qos=qos, asks=asks))
    if draw(st.booleans()):
        return pod
    demands = [Demand(KINDS[MEMORY_BANDWIDTH], (), draw(st.sampled_from([200, 501, 1200])))]
    return profiled(pod, [*demands, Demand(KINDS[POWER], (), 1500)])


@st.composite
def steps(draw: st.DrawFn) -> tuple[str, Any]:
    node = draw(st.sampled_from(NAMES))
    match draw(st.sampled_from(["machine", "policy", *["decide"] * 6, "leave", "leave"])):
        case "machine":
            return "machine", draw(machines(node))
        case "policy":
            ratios = draw(st.sampled_from([{}, {}, {CPU: 1.5}]))
            told = {"pinned_cpu": draw(st.booleans()), "ratios": ratios}
            return "policy", a_cluster_node(node, draw(st.sampled_from(NODE_POLICIES)), **told)
        case "decide":
            return "decide", draw(pods())
    return "leave", (node, f"u{draw(st.integers(0, 12))}")


def play(table: NodeTable, cycle: Cycle, what: str, with_: Any) -> None:
    match what:
        case "machine":
            table.describe(with_)
        case "policy":
            table.register(with_)
        case "decide" if not any(with_.uid in table.charges(node) for node in NAMES):
            cycle.decide(with_)
        case "leave":
            table.discharge(*with_)


def check(machine: NodeTopology, held: list[Placement]) -> None:
    """Nothing is over-allocated on any NUMA node, worked out from the placements alone."""
    limits = {zone.index: zone for package in machine.machine.children for zone in package.children}
    cpus = {node.index: 1000 * (len(node.cpus) and _count(node.cpus)) for node in machine.numa}
    for number, zone in limits.items():
        here = [placement for placement in held if number in placement.numa]
        if any(placement.exclusive for placement in here):
            assert len(here) == 1, "somebody has it alone"
            continue
        amounts = {CPU: cpus[number]} | zone.allocatable
        for kind, limit in amounts.items():
            bearing = [-(-p.charged.get(kind, 0) // len(p.numa)) for p in here if p.charged.get(kind)]
            assert sum(bearing) <= limit or (kind == MEMORY_BANDWIDTH and len(bearing) == 1), f"{kind} on NUMA {number}"
    for placement in held:
        assert all(cpus[number] for number in placement.numa), "no CPU there"
    assert sum(p.charged.get(POWER, 0) for p in held) <= 5000


def _count(cpus: str) -> int:
    low, _, high = cpus.partition("-")
    return int(high or low) - int(low) + 1


@given(
    st.tuples(*map(machines, NAMES)), st.lists(st.one_of(pods(), st.tuples(st.sampled_from(NAMES), st.integers(0, 12))))
)
def test_no_numa_node_is_over_allocated_at_any_prefix_of_any_history(
    nodes: tuple[NodeTopology, ...], history: list[Any]
) -> None:
    table = NodeTable()
    for node in nodes:
        table.describe(node)
    cycle = Cycle(table, policies())
    for step in history:
        if isinstance(step, Pod):
            play(table, cycle, "decide", step)
        else:
            table.discharge(step[0], f"u{step[1]}")
        for node in nodes:
            held = list(table.charges(node.node).values())
            check(node, held)
            assert sum(p.charged.get(CPU, 0) for p in held) <= node.allocatable[CPU]
            assert sum(p.charged.get(MEMORY, 0) for p in held) <= node.allocatable[MEMORY]


def columns_of(table: NodeTable) -> dict[str, bytes]:
    return {name: table.columns[name].tobytes() for name in table.columns.names if name not in (VERSION, TOLD)}


@given(st.lists(steps(), max_size=30), pods())
def test_charge_and_uncharge_leave_every_byte_as_it_was(history: list[tuple[str, Any]], asked: Pod) -> None:
    table = NodeTable()
    cycle = Cycle(table, policies())
    for what, with_ in history:
        play(table, cycle, what, with_)
    for node in NAMES:
        table.discharge(node, asked.uid)
    before = columns_of(table)
    decision = cycle.decide(asked)
    if decision.placement is not None:
        table.discharge(decision.node, asked.uid)
    after = columns_of(table)
    assert {name: after[name] for name in before} == before
    table.validate()


@given(st.lists(steps(), max_size=20))
def test_columns_are_those_of_a_table_that_was_told_everything_at_once(history: list[tuple[str, Any]]) -> None:
    table = NodeTable()
    cycle, told = Cycle(table, policies()), dict[str, NodeTopology]()
    for what, with_ in history:
        play(table, cycle, what, with_)
        told |= {with_.node: with_} if what == "machine" else {}
    fresh = NodeTable()
    for node in table.names:
        fresh.row(node)
        for placement in table.charges(node).values():
            fresh.charge(node, placement, 0.0)
    for what, with_ in history:
        if what in ("machine", "policy"):
            play(fresh, cycle, what, with_)
    kept = ("zone", "allocatable/", "overcommit", "physical")
    for name in set(table.columns.names) & set(fresh.columns.names):
        if name.startswith(kept):
            assert np.array_equal(
                table.columns[name], fresh.columns[name], equal_nan=name.startswith(("zone", "phys"))
            ), name


@given(st.lists(steps(), max_size=25), pods())
def test_a_kept_evaluation_is_the_one_from_scratch(history: list[tuple[str, Any]], asked: Pod) -> None:
    table = NodeTable()
    cycle = Cycle(table, policies())
    for what, with_ in history:
        play(table, cycle, what, with_)
        kept, fresh = cycle.evaluate(asked), Cycle(table, policies()).evaluate(asked)
        filters = len(kept.reasons) - sum(policy.plugin.reserve is not None for policy in policies())
        divided = kept.codes >= filters
        assert kept.reasons == fresh.reasons
        assert (kept.codes[~divided] == fresh.codes[~divided]).all()
        assert (kept.scores == fresh.scores).all()


@given(st.lists(steps(), max_size=15), pods())
def test_every_miss_is_named_with_its_numbers(history: list[tuple[str, Any]], asked: Pod) -> None:
    table = NodeTable()
    cycle = Cycle(table, policies())
    for what, with_ in history:
        play(table, cycle, what, with_)
    for policy in policies("numa", "profile_rating", "overcommit"):
        assert policy.plugin.filter is not None
        for rule in policy.plugin.filter(asked, table.view(), policy.settings):
            assert rule.near is not None
            near = rule.near()
            assert ((near.missing > 0) == ~rule.passes).all()
            assert all(near.tell(int(row)) for row in np.flatnonzero(~rule.passes))


# -- the numeric policy against brute force --------------------------------------------------------------------------


def oracle(
    cells: list[tuple[int, int, int, int]], per_package: int, cpu: int, gib: int, *, alone: bool
) -> set[tuple[int, ...]]:
    """Katalyst's rules, mask by mask. A cell: (CPUs, GiB, package, placements bound there, CPUs and GiB of which gone)."""
    masks = list(chain.from_iterable(combinations(range(len(cells)), k) for k in range(1, len(cells) + 1)))

    def least(place: int, amount: int) -> int:
        return min((len(mask) for mask in masks if sum(cells[i][place] for i in mask) >= amount), default=99)

    smallest = max(least(0, cpu), least(1, gib))
    found = set()
    for mask in masks:
        some = [cells[i] for i in mask]
        packages = {cell[2] for cell in some}
        if not alone and len(mask) > 1:
            continue
        if alone and (len(mask) != smallest or any(cell[3] for cell in some)):
            continue
        if len(packages) > 1 and len(mask) <= per_package:
            continue
        free = [(cell[0] - cell[3], cell[1] - cell[3]) for cell in some]  # who is bound uses 1 CPU and 1 GiB
        if any(cell[0] == 0 for cell in some):
            continue
        if sum(f[0] for f in free) >= cpu and sum(f[1] for f in free) >= gib:
            found.add(mask)
    return found


@given(
    st.lists(st.sampled_from([(2, 4), (4, 8), (3, 8)]), min_size=1, max_size=6),
    st.sampled_from([1, 2]),
    st.sets(st.integers(0, 5)),
    st.integers(1, 10),
    st.integers(1, 20),
    st.booleans(),
)
def test_the_numeric_policy_is_what_brute_force_says(
    sizes: list[tuple[int, int]], packages: int, used: set[int], cpu: int, gib: int, alone: bool
) -> None:
    packages = min(packages, len(sizes))
    table = NodeTable()
    machine = a_machine("n", *sizes, packages=packages)
    table.describe(machine)
    for number in used & set(range(len(sizes))):
        place(table, "n", a_pod(f"u{number}", (1, 1), asks=BIND), number)
    each = -(-len(sizes) // packages)
    cells = [(c, g, i // each, int(i in used)) for i, (c, g) in enumerate(sizes)]
    right = oracle(cells, len(sizes) // len({cell[2] for cell in cells}), cpu, gib, alone=alone)
    workload = a_pod("p", (cpu, gib), asks=ALONE if alone else BIND)
    rule = numa.held_together(pod_of(workload), table.view(), numa.Settings())[0]
    assert bool(rule.passes[0]) == bool(right)
    decision = Cycle(table, policies("numa")).decide(pod_of(workload))
    if decision.placement is not None:
        same = [mask for mask in right if len({cells[i][2] for i in mask}) == 1]
        assert decision.placement.numa == min(same or right), "the lowest, in one package where that is possible"


@given(st.lists(pods(), max_size=12), st.permutations(range(4)), pods())
def test_other_numbers_for_the_numa_nodes_of_a_symmetric_machine_change_no_feasibility(
    history: list[Pod], order: list[int], asked: Pod
) -> None:
    def judge(numbers: list[int]) -> tuple[list[str], list[bool]]:
        table = NodeTable()
        machine = a_machine("n", *[(4, 8)] * 4, packages=1, kinds={MEMORY_BANDWIDTH: [1000] * 4})
        table.describe(machine)
        cycle, placed = Cycle(table, policies()), []
        for pod in history:
            if pod.uid not in table.charges("n"):
                decision = cycle.decide(pod)
                placed.append(decision.node)
        held = [(p, tuple(sorted(numbers[i] for i in p.numa))) for p in table.charges("n").values()]
        again = NodeTable()
        again.describe(machine)
        for placement, cells in held:
            moved = Placement(
                workload=placement.workload, charged=placement.charged, numa=cells, exclusive=placement.exclusive
            )
            again.charge("n", moved, 0.0)
        rules = [
            rule
            for policy in policies()
            if policy.plugin.filter is not None
            for rule in policy.plugin.filter(asked, again.view(), policy.settings)
        ]
        return placed, passes(rules, 1)

    assert judge(order) == judge([0, 1, 2, 3])


@given(st.lists(pods(), max_size=12), pods(), st.data())
def test_who_leaves_never_makes_a_node_infeasible(history: list[Pod], asked: Pod, data: st.DataObject) -> None:
    table = NodeTable()
    for name in NAMES:
        table.describe(data.draw(machines(name)))
    cycle = Cycle(table, policies())
    for pod in history:
        play(table, cycle, "decide", pod)

    def fits() -> list[bool]:
        rules = [
            rule
            for policy in policies()
            if policy.plugin.filter is not None
            for rule in policy.plugin.filter(asked, table.view(), policy.settings)
        ]
        return passes(rules, len(table))

    before = fits()
    for node in NAMES:
        for uid in sorted(table.charges(node)):
            if data.draw(st.booleans()):
                table.discharge(node, uid)
    assert all(after or not was for was, after in zip(before, fits(), strict=True))


@given(st.lists(st.tuples(st.sampled_from([1, 2, 5]), st.sampled_from(list(QosClass)[:2]), st.booleans()), max_size=15))
def test_an_over_committed_node_never_sells_owned_cores_twice(asked: list[tuple[int, QosClass, bool]]) -> None:
    table = NodeTable()
    table.describe(a_machine("n", (8, 512)))
    table.register(a_cluster_node("n", "none", ratios={CPU: 1.5}, pinned_cpu=True))
    cycle, owned, others = Cycle(table, policies("fit", "overcommit")), 0, 0
    for number, (cores, qos, whole) in enumerate(asked):
        workload: Workload = a_pod(f"u{number}", (cores if whole else cores - 0.5, 1), qos=qos)
        if cycle.decide(pod_of(workload)).node:
            amount = workload.requests[CPU]
            is_owner = qos is QosClass.DEDICATED or whole
            owned, others = owned + amount * is_owner, others + amount * (not is_owner)
        assert owned <= 8000
        assert others <= (8000 - owned) * 1.5
