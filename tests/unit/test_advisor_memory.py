"""Memory advice: how much guests may hold, what is taken back from them, what owners keep. Numbers by hand."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from neap.advisor.core.policy import MemoryPod, MemoryView
from neap.advisor.plugins import memory_guard as guard
from neap.advisor.plugins import memory_protection as protection
from neap.advisor.plugins import memory_reaper as reaper
from neap.common.contract.catalogue import HEADROOM
from neap.common.model.advice import Knobs
from neap.common.model.placement import Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.usage import ContainerUsage, NodeUsage, NumaUsage
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Instruction, Put, Tick
from neap.common.units import GIB, MIB
from tests.unit.policy_world import a_policy, an_edition
from tests.unit.test_advisor_node import PERIOD, Node
from tests.unit.test_advisor_numa import ALONE

DEDICATED, SHARED, RECLAIMED = QosClass.DEDICATED, QosClass.SHARED, QosClass.RECLAIMED
GUESTS, ROOT = "class/besteffort", "class/guaranteed"


def a_guest(uid: str = "g", **held: Any) -> MemoryPod:
    return MemoryPod(uid=uid, target=f"pod/{uid}", home="besteffort", pool="reclaimed", guest=True, **held)


def an_owner(uid: str = "s", **held: Any) -> MemoryPod:
    return MemoryPod(**{"uid": uid, "target": f"pod/{uid}", "home": "burstable", "pool": "share"} | held)


def a_view(*pods: MemoryPod, **more: Any) -> MemoryView:
    given: dict[str, Any] = {"capacity": 100 * GIB, "available": 60 * GIB, "free": 50 * GIB, "pods": pods}
    return MemoryView(**given | more)


def high(view: MemoryView, **tuning: float) -> int:
    limit = guard.advise(view, guard.Settings(**tuning)).knobs[GUESTS].memory_high
    assert limit is not None
    return limit


# -- the guard -------------------------------------------------------------------------------------------------------


def test_guests_may_hold_what_they_hold_and_what_can_be_spared_and_the_sum_is_printed() -> None:
    guest = a_guest(used=12 * GIB, working=5 * GIB, cache=8 * GIB)
    owner = an_owner(used=30 * GIB, working=28 * GIB, cache=6 * GIB)
    said = guard.advise(a_view(guest, owner), guard.Settings())
    assert said.knobs == {GUESTS: Knobs(memory_high=55 * GIB, memory_max=57 * GIB + GIB // 2)}
    assert said.reason == (
        "memory of all guests up to 55Gi = 4Gi held + 60Gi available − 4Gi owners' cache − 5Gi reserve"
    )


def test_katalyst_a10_b_on_a_machine_without_page_cache() -> None:
    """4 NUMA nodes of 120, 60 free, guests use 6, watermark 5 %: 240. From its watermarks we keep twice as far."""
    guests = [a_guest(f"g{i}", used=6 * GIB, working=6 * GIB, cache=0) for i in range(4)]
    view = a_view(*guests, capacity=480 * GIB, available=240 * GIB)
    assert high(view) == 240 * GIB
    assert high(replace(view, watermark=80 * GIB)) == (24 + 240 - 2 * 80) * GIB


def test_page_cache_of_guests_does_not_raise_their_limit() -> None:
    small = a_guest(used=3 * GIB, working=2 * GIB, cache=2 * GIB)
    large = a_guest(used=43 * GIB, working=2 * GIB, cache=42 * GIB)
    assert high(a_view(small)) == high(a_view(large))


def test_the_limit_falls_at_once_rises_in_steps_and_ignores_small_change() -> None:
    before = {GUESTS: Knobs(memory_high=40 * GIB)}
    assert high(a_view(available=25 * GIB, before=before)) == 20 * GIB
    assert high(a_view(available=90 * GIB, before=before)) == 45 * GIB
    assert high(a_view(available=90 * GIB, before=before, fresh=False)) == 40 * GIB
    for available in (44.1, 45.9):
        assert high(a_view(available=int(available * GIB), before=before)) == 40 * GIB


def test_a_kernel_that_reclaims_early_has_a_larger_reserve() -> None:
    assert high(a_view(watermark=4 * GIB)) == high(a_view()) - 3 * GIB


def test_setting_the_hard_limit_kills_nobody() -> None:
    guest = a_guest(used=50 * GIB, working=50 * GIB, cache=0)
    before = {GUESTS: Knobs(memory_high=52 * GIB)}
    knobs = guard.advise(a_view(guest, available=2 * GIB, before=before), guard.Settings()).knobs[GUESTS]
    assert knobs.memory_high == 47 * GIB
    assert knobs.memory_max == 52 * GIB, "guests may have grown to the old limit since the report"


def test_guests_always_keep_a_little_and_never_get_more_than_there_is() -> None:
    assert high(a_view(available=0)) == GIB
    assert high(a_view(available=500 * GIB)) == 100 * GIB


@pytest.mark.parametrize("more", [{"available": None}, {"blind": "no usage for 11m"}])
def test_without_measurements_guests_get_what_they_asked_for_and_never_more_than_before(more: dict[str, Any]) -> None:
    view = a_view(a_guest(request=30 * GIB), **more)
    assert high(view) == 30 * GIB
    assert high(replace(view, before={GUESTS: Knobs(memory_high=10 * GIB)})) == 10 * GIB
    reason = guard.advise(view, guard.Settings()).reason
    assert more.get("blind", "available memory is unknown") in reason


def test_guests_nobody_can_measure_add_nothing_and_it_is_said() -> None:
    known, unknown = a_guest("a", used=4 * GIB, working=4 * GIB, cache=0), a_guest("b", used=9 * GIB)
    assert high(a_view(known, unknown)) == 59 * GIB
    assert "(1 of 2 guests unknown)" in guard.advise(a_view(known, unknown), guard.Settings()).reason


def test_what_is_free_on_a_node_held_alone_is_not_for_guests() -> None:
    owner = an_owner(used=9 * GIB, working=2 * GIB, cache=8 * GIB, apart=True)
    assert high(a_view(owner, apart=12 * GIB)) == (60 - 12 - 8 - 5) * GIB


# -- taking cache back -----------------------------------------------------------------------------------------------


def levels(view: MemoryView, **tuning: float) -> dict[str, int | None]:
    said = reaper.advise(view, reaper.Settings(**tuning))
    return {target: knobs.memory_down_to for target, knobs in said.knobs.items()}


def test_the_largest_idle_cache_is_taken_first_and_only_a_step_of_it() -> None:
    guests = (
        a_guest("a", used=10 * GIB, working=7 * GIB, cache=4 * GIB),
        a_guest("b", used=20 * GIB, working=19 * GIB, cache=4 * GIB),
        a_guest("c", used=9 * GIB, working=9 * GIB, cache=GIB),
    )
    view = a_view(*guests, free=4 * GIB)
    assert levels(view) == {"pod/a": 8 * GIB}
    assert levels(view, low=0.08, step=1, keep=0) == {"pod/a": 7 * GIB, "pod/b": 19 * GIB}
    assert levels(view, low=0.08, step=1, keep=0.01) == {"pod/a": 7 * GIB}
    reason = reaper.advise(view, reaper.Settings()).reason
    assert reason == "2Gi of guests' idle cache taken back: 4Gi free, below 10Gi"


def test_no_more_is_taken_than_is_short() -> None:
    guest = a_guest(used=30 * GIB, working=GIB, cache=29 * GIB)
    assert levels(a_view(guest, free=9 * GIB)) == {"pod/g": 29 * GIB}
    assert levels(a_view(guest, free=10 * GIB)) == {}


@pytest.mark.parametrize("more", [{"free": None}, {"fresh": False}, {"blind": "no usage"}])
def test_nothing_is_taken_on_a_guess(more: dict[str, Any]) -> None:
    assert levels(a_view(a_guest(used=30 * GIB, working=GIB, cache=29 * GIB), **{"free": GIB} | more)) == {}


# -- what owners keep ------------------------------------------------------------------------------------------------


def kept(view: MemoryView) -> dict[str, int | None]:
    said = protection.advise(view, protection.Settings())
    return {target: knobs.memory_low for target, knobs in said.knobs.items()}


def test_owners_keep_their_working_set_and_a_margin_and_every_cgroup_above_carries_the_sum() -> None:
    small = an_owner("a", request=8 * GIB, peak=2 * GIB)
    tight = an_owner("b", request=4 * GIB, peak=6 * GIB)
    new = an_owner("c", request=3 * GIB, home="guaranteed", pool="dedicated")
    low = kept(a_view(small, tight, new, a_guest(request=9 * GIB)))
    part = 2253 * MIB  # 2 GiB x 1.1 in whole MiB
    total = part + 7 * GIB
    assert low == {
        "pod/a": part,
        "pod/b": 4 * GIB,
        "pod/c": 3 * GIB,
        "class/burstable": part + 4 * GIB,
        ROOT: total,
    }


def test_a_value_stays_while_it_covers_the_working_set_and_is_not_far_beyond() -> None:
    before = {"pod/a": Knobs(memory_low=2253 * MIB)}
    for peak, low in ((2253, 2253), (1900, 2253), (2254, 2480), (1700, 1870)):
        owner = an_owner("a", request=8 * GIB, peak=peak * MIB)
        assert kept(a_view(owner, before=before))["pod/a"] == low * MIB


def test_more_than_the_machine_has_is_scaled_down_and_said() -> None:
    owners = [an_owner(uid, request=60 * GIB, peak=60 * GIB) for uid in "ab"]
    view = a_view(*owners, reserved=10 * GIB)
    assert kept(view) == {"pod/a": 45 * GIB, "pod/b": 45 * GIB, "class/burstable": 90 * GIB, ROOT: 90 * GIB}
    assert "owners keep 90Gi, scaled down from 120Gi: the machine has 90Gi" in (
        protection.advise(view, protection.Settings()).reason
    )


def test_only_dedicated_and_system_pods_are_kept_hard_and_only_where_it_is_set() -> None:
    view = a_view(an_owner("a", request=GIB), an_owner("d", request=2 * GIB, home="guaranteed", pool="dedicated"))
    soft, hard = (protection.advise(view, protection.Settings(minimum=minimum)).knobs for minimum in (0, 1))
    assert {knobs.memory_min for knobs in soft.values()} == {None}
    assert {target: knobs.memory_min for target, knobs in hard.items() if knobs.memory_min} == {
        "pod/d": 2 * GIB,
        ROOT: 2 * GIB,
    }


# -- the machine -----------------------------------------------------------------------------------------------------


def a_placement(uid: str, qos: QosClass = SHARED, memory: int = 4 * GIB) -> Placement:
    guest = qos is RECLAIMED
    size = {RECLAIMED_CPU if guest else CPU: 2000, RECLAIMED_MEMORY if guest else MEMORY: memory}
    workload = Workload(
        uid=uid, namespace="shop", name=uid, qos=qos, containers=(Container(name="main", requests=size),)
    )
    return Placement(workload=workload, charged=size)


def report(node: Node, available: float | None = 80, free: float | None = 50, rounds: int = 1, **held: Any) -> None:
    """`held` by uid: (used, working set, cache) in GiB."""
    classes = {"g": "besteffort", "h": "besteffort", "stray": "besteffort"}
    for _ in range(rounds):
        node.at += PERIOD
        containers = tuple(
            ContainerUsage(
                uid=uid,
                container="c",
                cgroup=f"kubepods/{classes.get(uid, 'burstable')}/pod{uid}/c",
                cpu=1.0,
                memory=int(used * GIB),
                working_set=int(working * GIB),
                file_cache=int(cache * GIB),
            )
            for uid, (used, working, cache) in held.items()
        )
        each = None if free is None else int(free / 2 * GIB)
        node.hear(
            NodeUsage(
                at=node.at,
                source="r",
                node="n",
                seq=int(node.at),
                period=PERIOD,
                cpu=3.0,
                memory_available=None if available is None else int(available * GIB),
                numa=(NumaUsage(index=0, memory_free=each), NumaUsage(index=1, memory_free=each)),
                containers=containers,
            )
        )


def test_advice_limits_the_class_of_guests_and_protects_owners_up_to_the_root() -> None:
    node = Node(a_placement("s"), a_placement("g", RECLAIMED))
    report(node, s=(3, 2, 1), g=(2, 2, 0.5))
    group = node.knobs(GUESTS).knobs
    assert group.cpu_idle
    assert group.memory_high == int((1.5 + 80 - 128 * 0.05) * GIB) // MIB * MIB
    assert node.knobs("pod/g").knobs.memory_max == int(4.8 * GIB), "a guest's own limit is another matter"
    assert node.knobs("pod/g").knobs.memory_low is None
    low = node.knobs("pod/s").knobs.memory_low
    assert low == 2253 * MIB
    assert node.knobs("class/burstable").knobs.memory_low == node.knobs(ROOT).knobs.memory_low == low
    assert "memory of all guests up to" in node.why("reclaimed")
    assert "owners keep 2.2Gi" in node.why("reclaimed")


def test_more_memory_available_than_the_machine_has_is_not_believed() -> None:
    node = Node(a_placement("s"), a_placement("g", RECLAIMED))
    report(node, 1000, s=(3, 2, 1), g=(2, 2, 0.5))
    assert node.knobs(GUESTS).knobs.memory_high == 4 * GIB, "what they asked for"
    assert "available memory is unknown" in node.why("reclaimed")


def test_a_node_held_alone_with_less_than_nothing_free_leaves_guests_no_more() -> None:
    alone = replace(a_placement("x", DEDICATED), numa=(1,))
    alone = replace(alone, workload=replace(alone.workload, annotations=ALONE))
    limits = []
    for free in (0, -100):
        node = Node(alone, a_placement("g", RECLAIMED))
        node.at += PERIOD
        each = (NumaUsage(index=0, memory_free=40 * GIB), NumaUsage(index=1, memory_free=free * GIB))
        node.hear(
            NodeUsage(
                at=node.at, source="r", node="n", seq=1, period=PERIOD, cpu=3.0, memory_available=60 * GIB, numa=each
            )
        )
        limits.append(node.knobs(GUESTS).knobs.memory_high or 0)
    assert limits[1] <= limits[0]


def test_a_quiet_node_is_advised_once() -> None:
    node = Node(a_placement("s"), a_placement("g", RECLAIMED))
    report(node, rounds=9, s=(3, 2, 1), g=(2, 2, 0.5))
    seq = node.advice.seq
    report(node, s=(3.1, 2.05, 1.05), g=(2.3, 1.9, 0.4), available=79.5)
    assert node.advice.seq == seq


def test_guests_outside_the_ledger_count_as_guests_but_get_no_knobs_of_their_own() -> None:
    node = Node(a_placement("s"))
    report(node, s=(3, 2, 1), stray=(9, 9, 0))
    assert node.knobs(GUESTS).knobs.memory_high == int((9 + 80 - 128 * 0.05) * GIB) // MIB * MIB
    assert "pod/stray" not in {cgroup.target for cgroup in node.advice.cgroups}


def test_short_free_memory_is_won_back_from_the_guest_with_idle_cache() -> None:
    node = Node(a_placement("s"), a_placement("g", RECLAIMED), a_placement("h", RECLAIMED))
    report(node, s=(3, 2, 1), g=(30, 4, 27), h=(3, 3, 0.1), free=6)
    assert node.knobs("pod/g").knobs.memory_down_to == int((30 - 128 * 0.02) * GIB) + 1
    assert node.knobs("pod/h").knobs.memory_down_to is None
    report(node, s=(3, 2, 1), g=(20, 4, 17), h=(3, 3, 0.1), free=16)
    assert node.knobs("pod/g").knobs.memory_down_to is None


def test_after_a_restart_limits_go_on_from_where_they_were() -> None:
    pods = a_placement("s"), a_placement("g", RECLAIMED)
    node = Node(*pods)
    report(node, s=(3, 2, 1), g=(2, 2, 0.5), available=40)
    again = Node(*pods, last=node.advice, at=node.at)
    for life in (node, again):
        report(life, s=(3, 2, 1), g=(2, 2, 0.5), available=90)
    assert again.knobs(GUESTS).knobs == node.knobs(GUESTS).knobs
    assert again.advice.cgroups == node.advice.cgroups


def test_blind_the_limit_does_not_grow_and_what_owners_keep_stays() -> None:
    node = Node(a_placement("s"), a_placement("g", RECLAIMED))
    report(node, s=(3, 2, 1), g=(2, 2, 0.5))
    node.at += 11 * PERIOD
    node.tell(Tick(node.at, "advise"))
    assert node.advice.stale
    assert node.knobs(GUESTS).knobs.memory_high == 4 * GIB
    assert "their requests, because no usage" in node.why("reclaimed")
    assert (node.knobs("pod/s").knobs.memory_low or 0) >= 2 * GIB


def test_a_policy_switched_off_lifts_what_it_had_set() -> None:
    node = Node(a_placement("s"), a_placement("g", RECLAIMED))
    report(node, s=(3, 2, 1), g=(2, 2, 0.5))
    node.hear(a_policy("off", an_edition({"memory": []})))
    report(node, s=(3, 2, 1), g=(2, 2, 0.5))
    group = node.knobs(GUESTS).knobs
    assert (group.memory_high, group.memory_max) == (-1, -1)
    assert node.knobs("pod/s").knobs.memory_low == 0
    node.hear(a_policy("on", an_edition({"memory": ["provision_canonical"]})))
    assert "no memory policies" in node.refused[-1].why


def test_owners_that_left_leave_no_protection_behind() -> None:
    node = Node(a_placement("s"), a_placement("t"))
    report(node, s=(3, 2, 1), t=(3, 2, 1))
    node.hear(Released(at=node.at, source="s", node="n", uid="t", reason=""))
    assert node.knobs(ROOT).knobs.memory_low == node.knobs("pod/s").knobs.memory_low
    node.hear(Released(at=node.at, source="s", node="n", uid="s", reason=""))
    assert ROOT not in {cgroup.target for cgroup in node.advice.cgroups}, "who is not named goes back"


def a_short(node: Node, since: int, **cores: float) -> list[Instruction]:
    node.at += PERIOD
    containers = tuple(
        ContainerUsage(uid=uid, container="c", cgroup=f"kubepods/burstable/pod{uid}/c", cpu=cpu, working_set=GIB)
        for uid, cpu in cores.items()
    )
    return node.hear(
        NodeUsage(
            at=node.at,
            source="r",
            node="n",
            seq=int(node.at),
            period=PERIOD,
            since=since,
            cpu=sum(cores.values()),
            memory_available=80 * GIB,
            containers=containers,
        )
    )


def test_a_short_report_stands_on_the_full_one_it_names_or_else_on_what_is_known() -> None:
    for since in (6 * int(PERIOD), 1):
        node = Node(a_placement("s"), a_placement("t"))
        report(node, s=(3, 2, 1), t=(3, 2, 1), rounds=6)
        narrow = len(node.cpus("share"))
        a_short(node, since, s=5.0)
        assert len(node.cpus("share")) > narrow, "an owner's rise is not waited with"
        assert node.headroom.offer[RECLAIMED_MEMORY] > 0


def test_after_a_restart_short_reports_make_pools_grow_and_nothing_shrink() -> None:
    pods = a_placement("s"), a_placement("t"), a_placement("g", RECLAIMED)
    node = Node(*pods)
    report(node, s=(3, 2, 1), t=(3, 2, 1), g=(2, 2, 0), rounds=30)
    again = Node(*pods, last=node.advice, at=node.at)
    held = len(node.cpus("share"))
    said = a_short(again, 1, s=0.2)
    assert not [put for put in said if isinstance(put, Put) and put.key.channel == HEADROOM], "not yet known"
    assert again.cpus("share") == node.cpus("share")
    assert again.knobs(GUESTS) == node.knobs(GUESTS)
    a_short(again, 1, s=9.0)
    assert len(again.cpus("share")) > held + 6
    report(again, s=(3, 2, 1), t=(3, 2, 1), g=(2, 2, 0), rounds=40)
    assert again.headroom.offer[RECLAIMED_CPU] > 0
    assert len(again.cpus("share")) == held


def test_without_an_earlier_life_short_reports_leave_the_rest_to_requests() -> None:
    node = Node(a_placement("s"), a_placement("t"))
    a_short(node, 1, s=0.2)
    assert len(node.cpus("share")) >= 4
