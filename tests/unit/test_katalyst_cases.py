"""Every acceptance case of Katalyst's node side that is about QoS, provision, headroom, memory or eviction: where it is.

One row per case of the reference (shared/reference/katalyst-node.md §8, groups A1 to A25): what goes in and comes out
there, the module here, and the id or the name of the test. `ours` is empty where the same numbers come out; else it is
why ours differs on purpose, and the test shows what comes out instead. What is not in this table is not reproduced.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import pytest

from neap.advisor.core.assign import Cut
from neap.advisor.core.layout import Layout
from neap.advisor.core.plan import Recall, Round, plan
from neap.advisor.core.pod import Pod, Track
from neap.advisor.core.policy import Policy
from neap.advisor.core.tuning import chosen
from neap.advisor.settings import Settings
from neap.common.model.usage import ContainerUsage
from neap.common.runtime.plugins import load
from tests.conftest import ROOT, SHARED
from tests.unit.test_advisor_node import a_topology
from tests.unit.test_advisor_numa import BOUND, RECLAIMED, a_pod

UNIT: Final = ROOT / "tests" / "unit"
PROVISION, POOLS, HEADROOM = "test_advisor_provision", "test_advisor_pools", "test_advisor_headroom"
ALONE, BALANCE, MEMORY, TAKING = (
    "test_advisor_alone",
    "test_advisor_balance",
    "test_advisor_memory",
    "test_advisor_offloading",
)
EVICTING, BUDGETS, GUESTS, HERE = (
    "test_evictor_cases",
    "test_evictor_budgets",
    "test_evictor_machine",
    "test_katalyst_cases",
)


class Row(NamedTuple):
    """One case."""

    case: str
    module: str
    test: str  # its id, or the name of the function
    ours: str = ""


CASES: Final = (
    # -- A1 PID --------------------------------------------------------------------------------------------------------
    Row("A1 sched_wait 800 for 400 -> 46.238", PROVISION, "A1 share_ramp_up"),
    Row("A1 sched_wait 4 for 400 -> 38", PROVISION, "A1 share_ramp_down"),
    Row("A1 sched_wait 401 for 400 -> 40", PROVISION, "A1 share_deadband"),
    Row("A1 cpi 2 for 1 and latency 4 for 40 -> 46.238", PROVISION, "A1 dedicated_numa_exclusive"),
    # -- A2 canonical provision ----------------------------------------------------------------------------------------
    Row("A2 ramping up -> its request of 4", PROVISION, "A2 ramping up"),
    Row("A2 usage 2 -> 2.5", PROVISION, "A2 1.25 x usage"),
    Row("A2 exclusive on 4 CPUs, no metrics -> 4", ALONE, "A2 exclusive, no metrics: it needs its request of 4, of 4"),
    # -- A3 dynamic quota ----------------------------------------------------------------------------------------------
    Row("A3 4 CPUs lent -> 2.8", PROVISION, "A3 4 CPUs lent"),
    Row("A3 none lent, 44 CPUs -> 10.8", PROVISION, "A3 none lent, 44 CPUs on the node"),
    Row(
        "A3 usage of guests missing -> error",
        PROVISION,
        "A3 guests not measured",
        "the pool is held, and says why: an error would leave it with no number at all",
    ),
    Row("A3 CPUs lent on other NUMA nodes do not count", HERE, "test_cpus_lent_on_other_numa_nodes_do_not_count"),
    Row(
        "A3 bound to no NUMA node -> no knob",
        PROVISION,
        "A3 bound to no node",
        "it is estimated as usual: a pool always has a size",
    ),
    # -- A4 pool sizes -------------------------------------------------------------------------------------------------
    Row("A4 test1 6 -> 6, 18 lent", POOLS, "A4 test1 share"),
    Row("A4 test1 8 -> 8, 16 lent", POOLS, "A4 test1 share-NUMA1"),
    Row("A4 test2 reclaim off 6 -> 20, 4", POOLS, "A4 test2 share"),
    Row("A4 test2 reclaim off 8 -> 20, 4", POOLS, "A4 test2 share-NUMA1"),
    Row("A4 test3 8 and one isolation -> 8, 8, 8", POOLS, "A4 test3"),
    Row("A4 test4 the same, reclaim off -> 12, 8, 4", POOLS, "A4 test4"),
    Row("A4 test5 15 and one isolation, reclaim off -> 16, 4, 4", POOLS, "A4 test5 the upper size does not fit"),
    Row("A4 test6 15 and one isolation -> 15, 4, 5", POOLS, "A4 test6"),
    Row("A4 test7 4 and two isolations -> 4, 8, 8, 4", POOLS, "A4 test7"),
    Row("A4 test8 8 and two isolations -> 8, 4, 4, 8", POOLS, "A4 test8"),
    Row("A4 test9 the same, reclaim off -> 12, 4, 4, 4", POOLS, "A4 test9"),
    Row("A4 overlap 6 of 24 -> 24, 18 behind", POOLS, "A4 overlap share"),
    Row("A4 overlap and two isolations -> 8, 8, 8, 4 behind", POOLS, "A4 overlap share-NUMA1 with two isolations"),
    Row("A4 overlap 8 of 24 -> 24, 16 behind", POOLS, "A4 overlap second unbound pool"),
    Row("A4 no regions -> 48 lent", POOLS, "test_without_any_pool_everything_is_lent"),
    Row(
        "A4 reserve of 4 CPUs for guests",
        POOLS,
        "test_owners_who_need_the_floor_get_it_and_guests_run_behind_them",
        "owners who need it get it, guests run behind them: promise 1 comes first",
    ),
    # -- A5 shrinking in proportion ------------------------------------------------------------------------------------
    Row("A5 give 30 of 24 -> error", POOLS, "test_nobody_gives_more_than_there_is"),
    Row("A5 give 2 -> 1, 1", POOLS, "A5 give 2"),
    Row("A5 give 4 -> 2, 2", POOLS, "A5 give 4"),
    Row("A5 give 8 -> 3, 3, 2", POOLS, "A5 give 8"),
    # -- A6 isolation --------------------------------------------------------------------------------------------------
    Row("A6 base -> uid2, uid5, uid6", POOLS, "A6 all that are loud, but nobody alone in its pool"),
    Row("A6 isolation disabled", POOLS, "test_nobody_is_isolated_by_default_or_where_owners_need_all_cpus"),
    Row("A6 pool share disabled -> uid2", POOLS, "A6 pool share disabled"),
    Row("A6 ratio 1.3 size 1 -> the same three", POOLS, "A6 ratio 1.3 size 1"),
    Row("A6 ratio 5 size 4 -> uid6", POOLS, "A6 ratio 5 size 4: only 9 > 8"),
    Row("A6 lock-in 2, first round -> nobody", POOLS, "A6 lock-in 2, first round"),
    Row("A6 resource ratio .4 -> uid5", POOLS, "A6 resource ratio .4"),
    Row("A6 resource ratio .6 -> uid2, uid6", POOLS, "A6 resource ratio .6"),
    Row("A6 resource ratio .8 -> all three", POOLS, "A6 resource ratio .8"),
    Row("A6 isolated, ratio 30, lock-out 0 -> nobody", POOLS, "test_who_is_calm_again_shares_again"),
    # -- A7, A8 CPU headroom -------------------------------------------------------------------------------------------
    Row("A7 normal report -> 13", HEADROOM, "A7 normal report"),
    Row("A7 limited by quota -> 8", HEADROOM, "A7 limited by quota"),
    Row("A7 overlap with share -> 5", HEADROOM, "A7 overlap with share"),
    Row("A7 util option disabled -> 10", HEADROOM, "test_the_plain_supply_is_the_canonical_sum_of_what_is_there"),
    Row("A7 all idle, oversold 1.2 -> 12", HEADROOM, "A7 all idle"),
    Row("A7 usage over max -> 14", HEADROOM, "A7 usage over max"),
    Row("A7 limited by capacity rate -> 96", HEADROOM, "A7 limited by capacity rate, all CPUs lent"),
    Row("A8 region, no estimate -> 90", HEADROOM, "A8 no estimate"),
    Row("A8 region, reserved for allocation -> 80", HEADROOM, "A8 reserved for allocate"),
    Row("A8 region, reserved for reclaim -> 100", HEADROOM, "A8 reserved for reclaim"),
    Row("A8 held alone, no estimate -> 90", ALONE, "A8 exclusive, no estimate"),
    Row("A8 held alone, reserved for allocation -> 80", ALONE, "A8 exclusive, reserved for allocation"),
    Row("A8 held alone, reserved for reclaim -> 100", ALONE, "A8 exclusive, reserved for reclaim: part of its CPUs here"),
    Row("A8 held alone, scaled by a score", ALONE, "a score of half is half of it", "waiting is the score: theirs is always 100"),
    Row(
        "A8 held alone, reclaim off -> 0",
        ALONE,
        "test_nothing_is_lent_of_nodes_held_alone_unless_somebody_says_so",
    ),
    # -- A9 memory headroom --------------------------------------------------------------------------------------------
    Row("A9 buffer off -> 64", HEADROOM, "A9 buffer off"),
    Row("A9 buffer on, free 60 -> 88", HEADROOM, "A9 buffer off", "64: 20 GiB and 0.6 x free on top are not there to keep"),
    Row("A9 buffer on, free 30 -> 84", HEADROOM, "A9 buffer off", "64, for the same reason"),
    Row("A9 cache part on -> 85", HEADROOM, "A9 more cache, before its buffers", "53, for the same reason"),
    Row("A9 half a machine held alone -> 246", HEADROOM, "A9 half a machine held alone"),
    Row("A9 TestUpdate no pods -> 996", HEADROOM, "A9 no pods"),
    Row("A9 TestUpdate two pods without metrics -> 980", HEADROOM, "A9 two pods without metrics, 8 asked for each"),
    Row("A9 TestUpdate a pod that asks for 200 -> 796", HEADROOM, "A9 a pod that asks for 200"),
    Row(
        "A9 TestUpdate metrics not synced -> error",
        HEADROOM,
        "test_usage_that_is_stale_is_an_emergency",
        "nothing is offered, and it is said why: readers need a number",
    ),
    # -- A10 memory plugins --------------------------------------------------------------------------------------------
    Row(
        "A10 a 500, free 30: caches of 60 and 20 dropped",
        TAKING,
        "test_caches_of_katalyst_a10_a",
        "what is lacking, largest first, a bounded step a report: dropping whole caches makes a storm of reads",
    ),
    Row("A10 b guard 120 x 4, free 60, used 6 -> 240", MEMORY, "test_katalyst_a10_b_on_a_machine_without_page_cache"),
    Row("A10 b high is .95 of the limit", MEMORY, "test_setting_the_hard_limit_kills_nobody", "max lies behind high by half the reserve"),
    Row(
        "A10 b from zone info: low 20 -> 184",
        MEMORY,
        "test_a_kernel_that_reclaims_early_has_a_larger_reserve",
        "twice as far from the watermark: at it kswapd runs already",
    ),
    Row(
        "A10 b a metric is missing -> no advice",
        MEMORY,
        "test_without_measurements_guests_get_what_they_asked_for_and_never_more_than_before",
        "no advice would leave the last limit for ever",
    ),
    Row("A10 c PSI policy -> 96636764", TAKING, "A10 c PSI policy"),
    Row("A10 c cgroup of 4 GiB -> 38654705", TAKING, "A10 c cgroup of 4 GiB"),
    Row("A10 c no swap and cache == mapped -> 0", TAKING, "test_without_swap_only_idle_cache_goes_and_with_it_more"),
    Row(
        "A10 c swap flag is the text true or false",
        TAKING,
        "test_without_swap_only_idle_cache_goes_and_with_it_more",
        "swap is a setting of the policy: the level it comes to is what the enforcer gets",
    ),
    Row("§4.8.2 NUMA balance: its thresholds", BALANCE, "force above 80 ns: near nodes first, then far ones"),
    Row("§4.8.2 NUMA balance: who moves", BALANCE, "test_guests_come_first_the_smallest_first_and_three_gib_of_them_are_enough"),
    # -- A11 smoothing -------------------------------------------------------------------------------------------------
    Row("A11 average of 3, steps .3 to 4", HEADROOM, "test_average_window_of_katalyst_a11"),
    Row("A11 percentile 100 of 5", HEADROOM, "A11 p100"),
    Row("A11 percentile 0 of 5", HEADROOM, "A11 p0"),
    Row("A11 percentile 20 of 10", HEADROOM, "A11 p20"),
    # -- A21 candidates ------------------------------------------------------------------------------------------------
    Row(
        "A21 order of twelve pods",
        EVICTING,
        "test_a21_of_the_twelve_pods_only_guests_stand_for_election_and_the_lowest_priority_goes_first",
        "owners never stand for election; among guests the same one leaves first",
    ),
    Row("A21 system and critical pods never", GUESTS, "test_owners_and_the_protected_never_leave"),
    Row(
        "A21 queue of victims, rate 2",
        BUDGETS,
        "test_a_guest_that_is_protected_meanwhile_stays",
        "no queue: each report chooses anew within budgets, so that nobody leaves for a pressure that is over",
    ),
    # -- A22 NUMA memory -----------------------------------------------------------------------------------------------
    Row(
        "A22 seven rounds of two NUMA nodes",
        EVICTING,
        "test_a22_a_numa_node_runs_out_of_memory",
        "the same nodes at the same rounds; where Katalyst takes all, only guests leave; after calm patience begins anew",
    ),
    Row(
        "A22 ranking of eight pods",
        EVICTING,
        "test_a22_guests_that_are_bound_there_go_by_priority_then_by_what_helps",
        "of equals the one nearest to what is needed, not the largest",
    ),
    # -- A23 over-use --------------------------------------------------------------------------------------------------
    Row("A23 10 asked, 9 held, .8 -> evict", EVICTING, "request 10, holds 9, own ratio .8"),
    Row("A23 the same without annotation -> keep", EVICTING, "request 10, holds 9"),
    Row("A23 no request -> never", EVICTING, "no request"),
    Row("A23 one container without a request -> never", EVICTING, "one container without a request"),
    Row("A23 14 asked, 12 held, .8 -> evict", EVICTING, "14 requested, holds 12, own ratio .8"),
    Row("A23 14 asked, 7 held -> keep", EVICTING, "14 requested, holds 7"),
    Row("A23 dedicated -> never", EVICTING, "test_a23_owners_are_not_judged"),
    Row("A23 default .1", EVICTING, "default .1", "of the four pods those that are guests: owners are not judged"),
    Row("A23 label filter", EVICTING, "label filter, has it"),
    Row("A23 feature off -> none", EVICTING, "test_a23_the_rule_switched_off_evicts_nobody"),
    Row("A23 two of 5000m where 1000m are lent -> one", EVICTING, "test_a23_two_guests_of_five_cores_where_one_core_is_lent"),
    # -- A24 CPU pressure ----------------------------------------------------------------------------------------------
    Row("A24 load 1, 11, 50 of 10 CPUs", EVICTING, "test_a24_load_of_a_pool_of_ten_cpus", "a guest leaves, not a pod of the pool"),
    Row("A24 suppression 15 and 4 of 10 -> the one of 15", EVICTING, "15 and 4 of 10"),
    Row("A24 suppression, quota 5 -> the same", EVICTING, "quota 5"),
    Row("A24 suppression, requests of 2 -> none", EVICTING, "requests of 2"),
    Row("A24 score, gap .5 usage .7 -> 20", EVICTING, "test_a24_usage_score"),
    Row("A24 order by score", EVICTING, "test_a24_guests_by_score"),
    Row("A24 eviction frequency 14, 100, -5000", EVICTING, "test_a24_eviction_frequency"),
    # -- A25, what of it is QoS ----------------------------------------------------------------------------------------
    Row("A25 OOM priority -150, 100, 300, 210, unset", EVICTING, "test_a25_oom_priority_stays_in_the_range_of_its_class"),
)  # fmt: skip

# Groups about something else: placement on NUMA nodes and hints, network, GPU, memory bandwidth control, over-commitment.
ELSEWHERE: Final = frozenset({f"A{number}" for number in range(12, 21)})


@pytest.mark.parametrize("row", CASES, ids=[row.case for row in CASES])
def test_the_test_of_every_case_is_there(row: Row) -> None:
    text = (UNIT / f"{row.module}.py").read_text()
    found = f"def {row.test}(" if row.test.startswith("test_") else f'"{row.test}"'
    assert found in text, f"{row.case}: no {row.test} in {row.module}"


def test_no_case_is_named_twice() -> None:
    assert len({row.case for row in CASES}) == len(CASES)


def test_every_group_of_the_reference_is_here_or_about_something_else() -> None:
    reference = SHARED / "reference" / "katalyst-node.md"
    if not reference.exists():
        pytest.skip("the reference is not part of the project")
    groups = set(re.findall(r"^\*\*(A\d+) ", reference.read_text(), re.MULTILINE))
    told = {row.case.split()[0] for row in CASES} - {"§4.8.2"}
    assert told | ELSEWHERE == groups
    assert not told & ELSEWHERE


def test_every_id_that_names_a_case_is_in_the_table() -> None:
    """Who adds a case adds its row."""
    listed = {(row.module, row.test) for row in CASES}
    for module in dict.fromkeys(row.module for row in CASES if row.module != HERE):
        text = (UNIT / f"{module}.py").read_text()
        for name in re.findall(r'id="(A\d+ [^"]+)"', text):
            assert (module, name) in listed, f"{module}: {name} has no row"


# -- cases that have no better place -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lent", "guests", "quota"),
    [
        pytest.param({10, 11, 12, 13}, 2.0, 2.8, id="4 CPUs lent on its NUMA node"),
        pytest.param({10, 11, 12, 13, 20, 21, 22, 23}, 4.0, 2.8, id="and as many on another, used alike"),
        pytest.param({20, 21, 22, 23}, 4.0, 2.8, id="only on another: all 14 CPUs of its own count"),
    ],
)
def test_cpus_lent_on_other_numa_nodes_do_not_count(lent: set[int], guests: float, quota: float) -> None:
    """A3: a bound pool uses its node of 14 CPUs to 40 %, guests what they use of the CPUs lent there."""
    its = 2.0 if 10 in lent else 0.0
    uses = {"b": 0.4 * 14 - its, "g": guests}
    pods = [Pod.of(a_pod("b", cores=8, numa=(0,), asks=BOUND)), Pod.of(a_pod("g", RECLAIMED, 4))]
    tracks = {pod.uid: Track(10) for pod in pods}
    for uid, cores in uses.items():
        tracks[uid].observe([ContainerUsage(uid=uid, container="c", cgroup="c", cpu=cores)], 0.3, 32.0)
    settings = Settings(node="n", provision="provision_dynamic_quota")
    view = Round(Layout.of(a_topology()), pods, tracks, fresh=True, stale=False)
    recall = Recall(Cut({}, {"share@numa0": frozenset(range(2, 10))}, frozenset(lent)), lent=len(lent))
    made = plan(view, recall, chosen(load("neap.advisor.plugins", Policy), settings), settings)
    quota = quota if its else 14 * 0.2
    assert (
        f"= 14 − {quota:.1f} for guests: NUMA node 0 is used to 40% for 60%" in made.requirements["share@numa0"].reason
    )
