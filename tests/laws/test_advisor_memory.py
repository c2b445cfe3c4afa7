"""Laws of memory advice and of binding: any pods, any measurements, also absurd ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from neap.advisor.core.binding import node_of
from neap.advisor.core.layout import Layout
from neap.advisor.core.policy import MemoryPod, MemoryPolicy, MemoryProposal, MemoryView, Policy
from neap.advisor.plugins import memory_guard, memory_protection, memory_reaper
from neap.common.contract.catalogue import ADVICE
from neap.common.cpuset import parse_cpuset
from neap.common.model.advice import Knobs, NodeAdvice
from neap.common.model.placement import Placement
from neap.common.model.qos import QosClass
from neap.common.runtime.machine import Arrived, Put
from neap.common.runtime.plugins import load
from neap.common.units import GIB, MIB
from tests.laws.test_advisor_laws import PERIOD, a_machine, a_placement, a_report, a_topology

MEMORY = {
    name: policy for name, policy in load("neap.advisor.plugins", Policy).items() if isinstance(policy, MemoryPolicy)
}
AMOUNT = st.integers(0, 300 * GIB)
UNKNOWN = st.none() | AMOUNT
BEFORE = st.builds(
    lambda high, low: Knobs(memory_high=high, memory_low=low), st.none() | st.just(-1) | AMOUNT, st.none() | AMOUNT
)


@st.composite
def pods(draw: st.DrawFn) -> tuple[MemoryPod, ...]:
    found = []
    for uid in sorted(draw(st.sets(st.sampled_from("abcdef")))):
        guest = draw(st.booleans())
        found.append(
            MemoryPod(
                uid=uid,
                target=draw(st.sampled_from((f"pod/{uid}", f"pod/{uid}", ""))),
                home="besteffort" if guest else draw(st.sampled_from(("guaranteed", "burstable"))),
                pool=draw(st.sampled_from(("share", "dedicated", "system"))),
                guest=guest,
                apart=draw(st.booleans()),
                request=draw(AMOUNT),
                **{name: draw(UNKNOWN) for name in ("used", "working", "peak", "cache")},
            )
        )
    return tuple(found)


VIEWS = st.builds(
    MemoryView,
    capacity=st.sampled_from((0, 2 * GIB, 256 * GIB)),
    reserved=st.integers(0, GIB),
    available=UNKNOWN,
    free=UNKNOWN,
    apart=st.sampled_from((0, GIB)),
    watermark=st.none() | st.integers(0, GIB),
    pods=pods(),
    before=st.dictionaries(st.sampled_from(("class/besteffort", "pod/a", "pod/b", "class/guaranteed")), BEFORE),
    fresh=st.booleans(),
    blind=st.sampled_from(("", "", "no usage")),
)


def say(name: str, view: MemoryView) -> MemoryProposal:
    policy = MEMORY[name]
    return policy.advise(view, policy.settings())


def spoken(knobs: Knobs) -> dict[str, Any]:
    return {name: value for name, value in asdict(knobs).items() if value is not None}


def test_all_of_them_are_in_the_folder() -> None:
    assert sorted(MEMORY) == [
        "memory_balance",
        "memory_guard",
        "memory_offloading",
        "memory_protection",
        "memory_reaper",
    ]


@pytest.mark.parametrize("name", MEMORY)
@given(VIEWS)
def test_a_memory_policy_speaks_of_known_targets_in_amounts_that_can_be(name: str, view: MemoryView) -> None:
    targets = {pod.target for pod in view.pods if pod.target}
    said = say(name, view)
    assert said == say(name, view)
    for target, knobs in said.knobs.items():
        assert target in targets or target.startswith("class/")
        assert all(0 <= value <= max(view.capacity, 300 * GIB) for value in spoken(knobs).values()), knobs


@given(VIEWS)
def test_the_limit_of_guests_is_in_the_machine_and_never_wider_without_news(view: MemoryView) -> None:
    knobs = say("memory_guard", view).knobs.get("class/besteffort")
    assert (knobs is None) == (view.capacity == 0)
    if knobs is None or knobs.memory_high is None or knobs.memory_max is None:
        return
    assert min(MIB, view.capacity) <= knobs.memory_high <= knobs.memory_max <= view.capacity
    last = view.before.get("class/besteffort", Knobs()).memory_high
    if last is not None and last >= 0:
        step = 0 if view.blind or not view.fresh or view.available is None else int(0.05 * view.capacity) + MIB
        assert knobs.memory_high <= max(last + step, view.capacity // 100, MIB)


@given(VIEWS, st.sampled_from("abcdef"), AMOUNT)
def test_what_owners_take_guests_lose(view: MemoryView, uid: str, more: int) -> None:
    """An owner that grows takes from what is available; guests' limit does not rise for it."""
    if view.available is None or view.blind or all(pod.uid != uid or pod.guest for pod in view.pods):
        return
    left = replace(view, before={}, available=max(0, view.available - more))
    before = say("memory_guard", replace(view, before={})).knobs
    after = say("memory_guard", left).knobs
    assert [knobs.memory_high for knobs in after.values()] <= [knobs.memory_high for knobs in before.values()]


@given(VIEWS)
def test_protection_fits_the_machine_and_every_ancestor_carries_its_pods(view: MemoryView) -> None:
    said = say("memory_protection", view).knobs
    low = {target: knobs.memory_low or 0 for target, knobs in said.items()}
    of_pods = {pod.uid: low[pod.target] for pod in view.pods if pod.target in low}
    assert sum(of_pods.values()) <= max(0, view.capacity - view.reserved)
    assert sum(of_pods.values()) == low.get("class/guaranteed", 0)
    for pod in view.pods:
        assert not (pod.guest and pod.target in low), "a guest is protected"
        assert of_pods.get(pod.uid, 0) <= pod.request
    burstable = [of_pods.get(pod.uid, 0) for pod in view.pods if pod.home == "burstable"]
    assert sum(burstable) == low.get("class/burstable", 0)
    assert "class/besteffort" not in low


@given(VIEWS)
def test_no_more_is_taken_than_idle_cache_and_a_step(view: MemoryView) -> None:
    said = say("memory_reaper", view).knobs
    taken = {}
    for pod in view.pods:
        if pod.target in said:
            level = said[pod.target].memory_down_to
            assert pod.guest
            assert level is not None
            assert pod.used is not None
            taken[pod.uid] = pod.used - level
            assert 0 < taken[pod.uid] <= pod.idle_cache
    assert sum(taken.values()) <= int(memory_reaper.Settings().step * view.capacity)
    assert not said or (view.free is not None and view.free < view.capacity)


@given(VIEWS, st.data())
def test_the_order_of_pods_does_not_matter(view: MemoryView, data: st.DataObject) -> None:
    shuffled = replace(view, pods=tuple(data.draw(st.permutations(view.pods))))
    for name in MEMORY:
        assert say(name, shuffled) == say(name, view)


@given(VIEWS)
def test_said_again_without_change_nothing_changes(view: MemoryView) -> None:
    for module in (memory_guard, memory_protection):
        once = module.advise(view, module.Settings()).knobs
        for _ in view.pods:  # what one round cuts off when it rounds, the next gives back to somebody
            once = module.advise(replace(view, before=once, fresh=False), module.Settings()).knobs
        again = module.advise(replace(view, before=once, fresh=False), module.Settings()).knobs
        assert {target: (knobs.memory_high, knobs.memory_low) for target, knobs in again.items()} == {
            target: (knobs.memory_high, knobs.memory_low) for target, knobs in once.items()
        }


# -- binding ---------------------------------------------------------------------------------------------------------

WORDS = ("", '{"numa_binding": "true"}', '{"numa_binding": "true", "numa_exclusive": "true"}', "nonsense")


def placed(uid: str, qos: QosClass, milli: int, numa: Sequence[int], words: str) -> Placement:
    plain = a_placement(uid, qos, milli)
    asks = {"katalyst.kubewharf.io/memory_enhancement": words} if words else {}
    return replace(plain, workload=replace(plain.workload, annotations=asks), numa=tuple(numa))


PLACED = st.lists(
    st.tuples(
        st.sampled_from(QosClass),
        st.integers(0, 9000),
        st.lists(st.integers(-1, 3), max_size=2, unique=True),
        st.sampled_from(WORDS),
    ),
    max_size=7,
)


@given(PLACED, st.lists(st.floats(0, 12), min_size=1, max_size=4), st.sets(st.integers(0, 11), max_size=4))
def test_whoever_is_bound_keeps_to_its_nodes_and_whoever_is_alone_is_alone(
    asked: list[tuple[QosClass, int, list[int], str]], uses: list[float], offline: set[int]
) -> None:
    topology = a_topology(12, offline=offline)
    layout = Layout.of(topology)
    pods = [placed(f"p{i}", *one) for i, one in enumerate(asked)]
    machine, again = (a_machine(topology, pods) for _ in range(2))
    for round_, use in enumerate(uses, start=1):
        at = round_ * PERIOD
        report = a_report(at, {pod.workload.uid: use for pod in pods})
        said = machine.handle(Arrived(at, report))
        assert again.handle(Arrived(at, report)) == said
        machine.validate()
        for put in said:
            if isinstance(put, Put) and put.key.channel == ADVICE:
                keeps_to_its_nodes(put.value, layout)


def keeps_to_its_nodes(advice: NodeAdvice, layout: Layout) -> None:
    pools = {pool.name: parse_cpuset(pool.cpus) for pool in advice.pools}
    for name, cpus in pools.items():
        if (node := node_of(name)) is not None:
            crowded = sum(cpus == other for other in pools.values()) > 1
            assert cpus <= layout.within(frozenset({node})) or crowded
    alone = next((pool.reason for pool in advice.pools if "alone on NUMA node" in pool.reason), "")
    held = parse_cpuset(alone.rpartition("NUMA node ")[2]) if alone else frozenset()
    for cgroup in advice.cgroups:
        cpus = parse_cpuset(cgroup.knobs.cpus or "")
        mems = parse_cpuset(cgroup.knobs.mems or "")
        assert cgroup.knobs.cpus != "" != cgroup.knobs.mems
        assert mems <= layout.all_memory
        if held and cgroup.pool != "dedicated":
            assert not cpus & layout.within(held), f"{cgroup.target} runs on a node that somebody has alone"
            assert not mems & held
    if held:
        assert layout.within(held) <= pools["dedicated"]
