"""Laws of the virtual kernel: who gets CPU, where it is done, and that its counters behave like a kernel's."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from math import inf
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.common.host.port import Refused
from neap.common.model.qos import KubeQos
from neap.common.units import GIB, MIB
from neap.virtual.cgroup import Cgroup, CgroupTree
from neap.virtual.flow import Flow
from neap.virtual.kernel import VirtualHost
from neap.virtual.pod import Curve, Demand, Idle, Memory, ServiceModel, VirtualContainer, VirtualPod, Work
from neap.virtual.protection import protected
from neap.virtual.queueing import LONGEST, p99_latency
from neap.virtual.sharing import Layout, Share
from neap.virtual.snapshot import NumaShare, Snapshot
from neap.virtual.stall import Stall

CPUS = 6
NEAR = 1e-6

cores = st.floats(0, 8, allow_nan=False).map(lambda x: round(x, 3))
weights = st.integers(1, 1000).map(float)
cpusets = st.frozensets(st.integers(0, CPUS - 1), min_size=1)
quotas = st.one_of(st.just(inf), st.floats(0.01, 6).map(lambda x: round(x, 3)))


@st.composite
def leaf(draw: st.DrawFn, places: st.SearchStrategy[frozenset[int]] = cpusets, limit: bool = True) -> Share:
    share = Share(draw(weights), cpus=draw(places), wants=draw(cores))
    share.quota = draw(quotas) if limit else inf
    return share


def group(children: st.SearchStrategy[Share], *, limit: bool = True) -> st.SearchStrategy[Share]:
    def build(weight: float, quota: float, below: list[Share]) -> Share:
        share = Share(weight)
        share.quota, share.children = quota, below
        return share

    return st.builds(build, weights, quotas if limit else st.just(inf), st.lists(children, max_size=4))


trees = group(st.one_of(leaf(), group(st.one_of(leaf(), group(leaf())))))
free = leaf(st.just(frozenset(range(CPUS))), limit=False)  # anywhere, without a quota
free_trees = group(st.one_of(free, group(st.one_of(free, group(free, limit=False)), limit=False)), limit=False)


def laid_out(root: Share) -> Layout:
    layout = Layout(root)
    layout.share()
    return layout


def siblings(share: Share) -> list[list[Share]]:
    return [[c for c in share.children if not c.children and c.cpus], *(s for c in share.children for s in siblings(c))]


def is_short(share: Share) -> bool:
    return share.gets < share.allowed - NEAR


@given(trees)
def test_nobody_gets_more_than_wanted_and_all_together_not_more_than_there_is(root: Share) -> None:
    layout = laid_out(root)
    for share in layout.leaves:
        assert -NEAR <= share.gets <= min(share.wants, share.quota) + NEAR
    for union in layout.unions:
        assert sum(share.gets for share in union.leaves) <= union.size + NEAR
    assert sum(share.gets for share in layout.leaves) <= CPUS + NEAR


@given(trees)
def test_no_quota_above_is_exceeded(root: Share) -> None:
    laid_out(root)

    def check(share: Share) -> None:
        assert sum(below.gets for below in share.leaves()) <= share.quota + NEAR
        for child in share.children:
            check(child)

    check(root)


@given(trees)
def test_no_cpu_idles_while_somebody_allowed_on_it_wants_more(root: Share) -> None:
    layout = laid_out(root)
    before = [share.gets for share in layout.leaves]
    for cpus, busy in layout.busy():
        assert -NEAR <= busy <= len(cpus) + NEAR
        if busy < len(cpus) - 1e-5:
            for share in layout.leaves:
                assert not (set(cpus) & share.cpus and is_short(share))
    assert [share.gets for share in layout.leaves] == before  # everything that was promised found its place


@given(trees)
def test_what_siblings_get_is_fair_by_weight(root: Share) -> None:
    """Who is short gets as much per weight as any sibling that could run on its CPUs: the others are shut out."""
    laid_out(root)
    for family in siblings(root):
        for short in filter(is_short, family):
            limit = short.limit
            if limit is None:
                continue  # kept down by a quota above, not by CPUs
            assert sum(share.gets for share in limit.leaves) == pytest.approx(limit.size, abs=1e-5)
            for other in family:
                if other.limit is limit and is_short(other):
                    assert other.gets / other.weight == pytest.approx(short.gets / short.weight, rel=1e-4, abs=1e-9)


@given(st.lists(leaf(), min_size=1, max_size=8))
def test_without_groups_it_is_weighted_max_min_fairness(leaves: list[Share]) -> None:
    """Everybody short has a bottleneck: a full set of CPUs where nobody has more per weight (Bertsekas, Gallager)."""
    root = Share()
    root.children = leaves
    layout = laid_out(root)
    for short in filter(is_short, leaves):
        level = short.gets / short.weight
        assert any(
            short.cpus <= frozenset().union(*(share.cpus for share in union.leaves))
            and sum(share.gets for share in union.leaves) >= union.size - 1e-5
            and all(share.gets / share.weight <= level * (1 + 1e-5) + 1e-9 for share in union.leaves)
            for union in layout.unions
        )


@given(
    st.lists(st.tuples(weights, st.lists(st.tuples(weights, cores), min_size=1, max_size=4)), min_size=2, max_size=4)
)
def test_groups_on_the_same_cpus_share_by_their_own_weights(
    groups: list[tuple[float, list[tuple[float, float]]]],
) -> None:
    root = Share()
    everywhere = range(CPUS)
    for weight, below in groups:
        parent = Share(weight)
        parent.children = [Share(w, cpus=everywhere, wants=wants) for w, wants in below]
        root.children.append(parent)
    laid_out(root)
    short = [parent for parent in root.children if any(is_short(child) for child in parent.children)]
    levels = [sum(child.gets for child in parent.children) / parent.weight for parent in short]
    for one, two in pairwise(levels):
        assert one == pytest.approx(two, rel=1e-4)


@given(free_trees, st.data())
def test_what_a_service_could_have_at_once_is_what_it_gets_when_it_asks_for_everything(
    root: Share, data: st.DataObject
) -> None:
    layout = laid_out(root)
    if layout.leaves:
        chosen = data.draw(st.sampled_from(layout.leaves))
        could = layout.at_once(chosen)
        chosen.wants = 100.0
        layout.share()
        assert could == pytest.approx(chosen.gets, rel=1e-6, abs=1e-6)


@given(trees)
def test_what_a_service_could_have_at_once_is_at_least_what_it_has_and_at_most_its_cpus(root: Share) -> None:
    layout = laid_out(root)
    for share in layout.leaves:
        assert share.gets <= layout.at_once(share) <= len(share.cpus) + NEAR


@given(st.lists(cpusets, min_size=1, max_size=6, unique=True), st.data())
def test_work_is_laid_onto_cpus_whenever_it_fits(parts: list[frozenset[int]], data: st.DataObject) -> None:
    """What fits is generated by filling CPUs first, so a place for everything exists."""
    parts.sort(key=lambda part: (len(part), sorted(part)))
    amounts = [0.0] * len(parts)
    for cpu in range(CPUS):
        left = 1.0
        for i, part in enumerate(parts):
            if cpu in part:
                piece = data.draw(st.floats(0, left))
                amounts[i] += piece
                left -= piece
    placed, missing = Flow(parts).place(amounts)
    assert sum(missing) <= 1e-5
    assert sum(placed) == pytest.approx(sum(amounts), abs=1e-5)


# -- latency ---------------------------------------------------------------------------------------------------------

loads = st.floats(0.0, 64.0)
means = st.floats(0.001, 1.0)


@given(loads, st.floats(0.05, 64), means, st.floats(0, 100), st.floats(0, 10), st.floats(0, 10))
def test_latency_grows_with_load_and_backlog_and_shrinks_with_cores(
    load: float, servers: float, mean: float, backlog: float, more: float, extra: float
) -> None:
    latency = p99_latency(load, servers, mean, backlog)
    assert 0 < latency <= LONGEST
    assert p99_latency(load + more, servers, mean, backlog) >= latency - 1e-9
    assert p99_latency(load, servers, mean, backlog + more) >= latency - 1e-9
    assert p99_latency(load, servers + extra, mean, backlog) <= latency + 1e-9


# -- pressure --------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0.01, 400), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=10))
def test_pressure_totals_never_go_back_and_averages_stay_shares(steps: list[tuple[float, float, float]]) -> None:
    stall, at, before = Stall(0.0), 0.0, [0, 0]
    for passed, some, full in steps:
        stall.set(at, some, full)
        at += passed
        numbers = re.findall(r"avg\d+=([\d.]+)", stall.text(at))
        assert all(0 <= float(number) <= 100 for number in numbers)
        totals = [int(total) for total in re.findall(r"total=(\d+)", stall.text(at))]
        assert all(now >= then for now, then in zip(totals, before, strict=True))
        before = totals


# -- a whole host ----------------------------------------------------------------------------------------------------

MACHINE = Snapshot(
    name="small",
    tree={"sys": {"devices": {"system": {"node": {"node0": {}, "node3": {}}}}}},
    cpus=frozenset(range(CPUS)),
    present=frozenset(range(CPUS + 1)),
    numa={0: NumaShare(frozenset(range(4)), 3 * GIB), 3: NumaShare(frozenset({4, 5}), GIB)},
    memory=4 * GIB,
)
PODS = "/sys/fs/cgroup/kubepods"
demands: st.SearchStrategy[Demand] = st.one_of(
    st.just(Idle()),
    st.builds(lambda work, width: Work(core_seconds=work, width=width), st.floats(0, 2000), st.floats(0.1, 8)),
    st.builds(
        lambda points, seed: Curve(points=tuple(points), step=60.0, scale=4.0, noise=0.2, seed=seed),
        st.lists(st.floats(0, 1.5), min_size=1, max_size=5),
        st.integers(0, 9),
    ),
)
memories = st.builds(
    lambda start, growth, cache: Memory(start=start * MIB, per_second=growth * MIB, cache=cache * MIB),
    *(st.integers(0, 800), st.sampled_from([0, 0, 1, 20]), st.integers(0, 900)),
)
limits = st.sampled_from([{}, {}, {"cpu": 500}, {"memory": 512 * MIB}, {"cpu": 2000, "memory": GIB}])


WRITES = [
    *((name, text) for name, text in zip(["cpuset.cpus"] * 4, ["0-1", "1-4", "", "77"], strict=True)),
    *(("cpu.weight", "500"), ("cpu.weight", "0"), ("cpu.idle", "1"), ("cpu.max", "150000 100000"), ("cpu.max", "max")),
    *(("memory.high", "600M"), ("memory.high", "max"), ("memory.reclaim", "10M"), ("cpuset.mems", "3")),
]
containers = st.lists(
    st.builds(
        lambda milli, limit, demand, memory: VirtualContainer(
            id="", requests={"cpu": milli}, limits=limit, demand=demand, memory=memory
        ),
        *(st.sampled_from([0, 100, 1000, 3000]), limits, demands, memories),
    ),
    min_size=1,
    max_size=2,
)
pods = st.builds(
    lambda uid, qos, inside, service: VirtualPod(
        uid=uid,
        qos=qos,
        containers=tuple(msgspec.structs.replace(c, id=f"{uid}-{k}") for k, c in enumerate(inside)),
        service=service,
    ),
    *(st.sampled_from("abcdef"), st.sampled_from(KubeQos), containers),
    st.sampled_from([None, ServiceModel(mean=0.01, objective=0.2)]),
)
Act = tuple[str, Any]
# A life of a host as data: pods come and go, files are written, time passes.
lives: st.SearchStrategy[list[Act]] = st.lists(
    st.one_of(
        st.tuples(st.just("start"), pods),
        st.tuples(st.just("start"), pods),
        st.tuples(st.just("stop"), st.sampled_from("abcdef")),
        st.tuples(
            st.just("write"), st.tuples(st.sampled_from(["", "/besteffort", "/burstable"]), st.sampled_from(WRITES))
        ),
        st.tuples(st.just("advance"), st.one_of(st.floats(0, 200), st.just(60.0))),
        st.tuples(st.just("advance"), st.just(60.0)),
    ),
    max_size=15,
)


def live(host: VirtualHost, life: list[Act], look: Callable[[VirtualHost], None]) -> list[str]:
    """Play a life, with a look after each act; a diary of what the host said."""
    diary: list[str] = []
    at = 0.0
    for act, what in life:
        match act:
            case "start" if what.uid not in host.pods:
                host.start(what)
            case "stop":
                host.stop(what)
            case "write":
                group, (name, text) = what
                try:
                    host.write(f"{PODS}{group}/{name}", text)
                except Refused as error:
                    diary.append(str(error))
            case "advance":
                at += what
                diary += [str(host.advance(at)), str(host.observe())]
        look(host)
    return diary


def contents(host: VirtualHost, folder: str) -> list[str]:
    """Every file's path and text."""
    found: list[str] = []
    for name in host.list(folder):
        path = f"{folder}/{name}"
        if "." in name or folder.startswith("/proc"):
            found.append(f"{path} {host.read_all([path])}")
        else:
            found += contents(host, path)
    return found


def check(host: VirtualHost) -> None:
    """What holds at any time."""
    ticks = round(host.now * 100)
    lines = [line.split() for line in host.read("/proc/stat").splitlines() if line.startswith("cpu")]
    for name, *numbers in lines:
        assert sum(map(int, numbers)) == ticks * (CPUS if name == "cpu" else 1)
        assert all(int(number) >= 0 for number in numbers)
    seen = host.observe()
    assert seen.used <= CPUS + NEAR
    busy = sum(int(numbers[0]) + int(numbers[2]) for name, *numbers in lines if name != "cpu") / 100
    usage = int(host.read(f"{PODS}/cpu.stat").split()[1]) / 1e6
    assert usage == pytest.approx(busy, abs=0.01 * CPUS + 1e-3)
    rows = {line.split()[0]: int(line.split()[1]) for line in host.read("/proc/meminfo").splitlines()}
    assert rows["MemFree:"] <= rows["MemAvailable:"] <= rows["MemTotal:"]
    assert int(host.read(f"{PODS}/memory.current")) == sum(container.memory for container in seen.containers)


LOWS = st.none() | st.integers(0, 3 * GIB)  # None: memory.low is "max"


@given(LOWS, st.lists(st.tuples(LOWS, st.lists(st.tuples(LOWS, st.integers(0, GIB)), max_size=3)), max_size=3))
def test_nobody_is_protected_beyond_what_it_holds_or_what_the_cgroups_above_carry(
    low: int | None, classes: list[tuple[int | None, list[tuple[int | None, int]]]]
) -> None:
    tree = CgroupTree(MACHINE, 0.0)
    top = tree.add(tree.root, "kubepods")
    top.limits["low"] = low
    for index, (carried, leaves) in enumerate(classes):
        group = tree.add(top, f"class{index}")
        group.limits["low"] = carried
        for number, (wanted, held) in enumerate(leaves):
            leaf = tree.add(group, f"pod{number}")
            leaf.limits["low"], leaf.anon = wanted, held
    kept = protected(tree.root, "low")
    held_in_all = sum(top.memory())
    assert all(0 <= part <= sum(leaf.memory()) for leaf, part in kept.items())
    assert sum(kept.values()) <= (held_in_all if low is None else min(low, held_in_all))
    if low is None:
        for group in top.below.values():
            asked = [leaf.limits["low"] for leaf in group.below.values()]
            if group.limits["low"] is None and all(limit is None for limit in asked):
                assert all(kept[leaf] == leaf.anon for leaf in group.below.values())


def test_a_pod_is_protected_only_as_far_as_its_class_and_the_root_carry_it() -> None:
    tree = CgroupTree(MACHINE, 0.0)
    top = tree.add(tree.root, "kubepods")
    owners, guests = tree.add(top, "burstable"), tree.add(top, "besteffort")
    a, b, g = tree.add(owners, "a"), tree.add(owners, "b"), tree.add(guests, "g")
    a.anon = b.anon = g.anon = GIB

    def kept(group: Cgroup, low: int) -> tuple[int, int, int]:
        group.limits["low"] = low
        parts = protected(tree.root, "low")
        return parts[a], parts[b], parts[g]

    assert kept(a, GIB) == (0, 0, 0)
    assert kept(owners, GIB) == (0, 0, 0), "the root of all pods carries nothing yet"
    assert kept(top, GIB) == (GIB, 0, 0)
    assert kept(b, GIB) == (GIB // 2, GIB // 2, 0), "two ask for what one can have"
    assert kept(top, 2 * GIB) == (3 * GIB // 4, 3 * GIB // 4, GIB // 2), "what nobody claims is for all, by use"
    assert kept(owners, 2 * GIB) == (GIB, GIB, 0)


COUNTERS = re.compile(r"^(?:\w*_usec|nr_\w+|oom_kill|max|high|pgsteal) (\d+)$|total=(\d+)", re.MULTILINE)


@given(lives)
def test_time_and_memory_add_up_at_every_moment_of_any_life(life: list[Act]) -> None:
    live(VirtualHost(MACHINE, node="n"), life, check)


@given(lives)
def test_after_a_step_the_sum_of_what_containers_used_is_what_the_machine_did(life: list[Act]) -> None:
    host = VirtualHost(MACHINE, node="n")
    live(host, life, lambda _: None)
    host.advance(host.now + 60.0)
    seen = host.observe()
    assert sum(container.used for container in seen.containers) == pytest.approx(seen.used, abs=1e-5)
    assert sum(container.memory for container in seen.containers) <= MACHINE.memory


@given(lives)
def test_the_same_life_leaves_the_same_bytes(life: list[Act]) -> None:
    hosts = [VirtualHost(MACHINE, node="n") for _ in range(2)]
    diaries = [live(host, life, lambda _: None) for host in hosts]
    assert diaries[0] == diaries[1]
    for folder in (PODS, "/proc/pressure"):
        assert contents(hosts[0], folder) == contents(hosts[1], folder)
    for path in ("/proc/stat", "/proc/meminfo", "/proc/loadavg", "/sys/devices/system/node/node3/meminfo"):
        assert hosts[0].read(path) == hosts[1].read(path)


@given(lives)
def test_counters_never_go_backwards(life: list[Act]) -> None:
    names = ("cpu.stat", "memory.events", "cpu.pressure", "memory.pressure")
    paths = [f"{PODS}{group}/{name}" for group in ("", "/burstable", "/besteffort") for name in names]
    before: dict[str, list[int]] = {}

    def look(host: VirtualHost) -> None:
        stat = [line.split() for line in host.read("/proc/stat").splitlines() if line.startswith("cpu")]
        now = {path: [int(one or two) for one, two in COUNTERS.findall(host.read(path))] for path in paths}
        now |= {line[0]: [int(number) for number in line[1:]] for line in stat}
        for name, numbers in now.items():
            assert all(new >= old for new, old in zip(numbers, before.get(name, numbers), strict=True)), name
        before.update(now)

    live(VirtualHost(MACHINE, node="n"), life, look)
