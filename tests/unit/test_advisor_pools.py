"""Katalyst's acceptance cases A4 and A5: how large pools become. In its words, mapped to ours by `parts`."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from neap.advisor.core.isolation import Part, Runner, Watches, isolate
from neap.advisor.core.isolation import Rules as Loudness
from neap.advisor.core.sizing import Bounds, Rules, Sizes, Wish, give, size
from neap.common.errors import InputError
from tests.unit.test_advisor_node import DEDICATED, PERIOD, Node, a_pod, a_topology

# Where ours differs on purpose, beside the numbers of the tables below, which are all Katalyst's:
ON_PURPOSE = {
    "A4 floor": "Katalyst keeps 4 CPUs for guests even where owners need them; ours go to the owners, guests overlap",
    "A4 request": "with lending off Katalyst sizes by request, we by need: what pods ask for says little",
    "A4 unbound": "Katalyst keeps unbound pools off NUMA nodes where a pool is bound; ours may use what is left there",
    "A6 order": "where not all may be isolated Katalyst goes by uid, descending; we take the noisiest first",
    "A6 parts": "reports do not name containers, so the advisor judges pods; the function judges containers",
}
ON_NODE = 24  # CPUs of each NUMA node in A4


class Case(NamedTuple):
    """One test of A4: the shared pool of a part of the machine, and isolated pools by (lower, upper)."""

    share: int | None
    isolated: tuple[Bounds, ...] = ()
    lend: bool = True
    overlap: bool = False


def parts(case: Case, cpus: int = ON_NODE) -> Sizes:
    """A part of the machine that a region owns alone: its CPUs are what is free."""
    rules = Rules(
        unit=1, pool_minimum=1, reclaimed_minimum=4, step=100, dead_band=0, lend=case.lend, overlap=case.overlap
    )
    wish = {} if case.share is None else {"share": Wish(case.share, case.share, case.share, rising=False)}
    apart = {f"isolated-{index}": bounds for index, bounds in enumerate(case.isolated)}
    return size(wish, cpus, None, rules, growing=True, isolated=apart)


ISO = Bounds(4, 8)


@pytest.mark.parametrize(
    ("case", "share", "isolated", "reclaimed"),
    [
        pytest.param(Case(6), 6, [], 18, id="A4 test1 share"),
        pytest.param(Case(8), 8, [], 16, id="A4 test1 share-NUMA1"),
        pytest.param(Case(6, lend=False), 20, [], 4, id="A4 test2 share"),
        pytest.param(Case(8, lend=False), 20, [], 4, id="A4 test2 share-NUMA1"),
        pytest.param(Case(8, (ISO,)), 8, [8], 8, id="A4 test3"),
        pytest.param(Case(8, (ISO,), lend=False), 12, [8], 4, id="A4 test4"),
        pytest.param(Case(15, (ISO,), lend=False), 16, [4], 4, id="A4 test5 the upper size does not fit"),
        pytest.param(Case(15, (ISO,)), 15, [4], 5, id="A4 test6"),
        pytest.param(Case(4, (ISO, ISO)), 4, [8, 8], 4, id="A4 test7"),
        pytest.param(Case(8, (ISO, ISO)), 8, [4, 4], 8, id="A4 test8"),
        pytest.param(Case(8, (ISO, ISO), lend=False), 12, [4, 4], 4, id="A4 test9"),
    ],
)
def test_pool_sizes_of_katalyst(case: Case, share: int, isolated: list[int], reclaimed: int) -> None:
    sizes = parts(case)
    assert sizes.shared == {"share": share} | {f"isolated-{index}": cpus for index, cpus in enumerate(isolated)}
    assert (sizes.reclaimed, sizes.overlap) == (reclaimed, 0)


@pytest.mark.parametrize(
    ("case", "shared", "over"),
    [
        pytest.param(Case(6, overlap=True), {"share": 24}, 18, id="A4 overlap share"),
        pytest.param(
            Case(4, (ISO, ISO), overlap=True),
            {"share": 8, "isolated-0": 8, "isolated-1": 8},
            4,
            id="A4 overlap share-NUMA1 with two isolations",
        ),
        pytest.param(Case(8, overlap=True), {"share": 24}, 16, id="A4 overlap second unbound pool"),
    ],
)
def test_guests_on_cpus_of_shared_pools(case: Case, shared: dict[str, int], over: int) -> None:
    sizes = parts(case)
    assert sizes.shared == shared
    assert (sizes.reclaimed, sizes.over) == (0, {"share": over})


def test_without_any_pool_everything_is_lent() -> None:
    assert parts(Case(None), 2 * ON_NODE).reclaimed == 48, "A4 no regions"
    assert parts(Case(None, overlap=True), 2 * ON_NODE).reclaimed == 48, "A4 no regions, overlap"


def test_owners_who_need_the_floor_get_it_and_guests_run_behind_them() -> None:
    full = parts(Case(24))
    assert (full.shared, full.reclaimed, full.overlap) == ({"share": 24}, 0, 4), ON_PURPOSE["A4 floor"]


@pytest.mark.parametrize(
    ("count", "each"),
    [
        pytest.param(2, {"share": 1, "bmq": 1, "flink": 0}, id="A5 give 2"),
        pytest.param(4, {"share": 2, "bmq": 2, "flink": 0}, id="A5 give 4"),
        pytest.param(8, {"share": 3, "bmq": 3, "flink": 2}, id="A5 give 8"),
    ],
)
def test_who_is_largest_gives_next(count: int, each: dict[str, int]) -> None:
    assert give({"share": 9, "bmq": 8, "flink": 7}, count) == each


def test_nobody_gives_more_than_there_is() -> None:
    with pytest.raises(InputError, match="30 CPUs are asked for, all pools together have 24"):
        give({"share": 9, "bmq": 8, "flink": 7}, 30)


# -- A6: who is isolated ---------------------------------------------------------------------------------------------

A6_LOADS = {
    "share": {"uid1": (3, 2), "uid5": (5.1, 8), "uid6": (9, 7, 4)},
    "batch": {"uid2": (6, 2, 7), "uid7": (2.1,), "uid8": (1.1,)},
    "flink": {"uid3": (2, 4.1)},  # dedicated uid4 {18} is in no shared pool, so it never gets here
}
A6_RUNNERS = [
    Runner(uid, pool, tuple(Part(load, 4.0) for load in loads))
    for pool, pods in A6_LOADS.items()
    for uid, loads in pods.items()
]
A6_RULES = Loudness(ratio=1, surplus=0, lock_in=1, most_room=1, most_pods=1)


def isolated(rules: Loudness, before: Watches | None = None) -> set[str]:
    return {uid for uid, watch in isolate(A6_RUNNERS, before or {}, rules).items() if watch.isolated}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        pytest.param(A6_RULES, {"uid2", "uid5", "uid6"}, id="A6 all that are loud, but nobody alone in its pool"),
        pytest.param(A6_RULES._replace(spared=frozenset({"share"})), {"uid2"}, id="A6 pool share disabled"),
        pytest.param(A6_RULES._replace(ratio=1.3, surplus=1), {"uid2", "uid5", "uid6"}, id="A6 ratio 1.3 size 1"),
        pytest.param(A6_RULES._replace(ratio=5, surplus=4), {"uid6"}, id="A6 ratio 5 size 4: only 9 > 8"),
        pytest.param(A6_RULES._replace(lock_in=2), set(), id="A6 lock-in 2, first round"),
        pytest.param(A6_RULES._replace(most_room=0.4), {"uid5"}, id="A6 resource ratio .4"),
        pytest.param(A6_RULES._replace(most_room=0.6), {"uid2", "uid6"}, id="A6 resource ratio .6"),
        pytest.param(A6_RULES._replace(most_room=0.8), {"uid2", "uid5", "uid6"}, id="A6 resource ratio .8"),
    ],
)
def test_isolation_of_katalyst(rules: Loudness, expected: set[str]) -> None:
    assert isolated(rules) == expected


def test_who_is_calm_again_shares_again() -> None:
    before = isolate(A6_RUNNERS, {}, A6_RULES)
    assert isolated(A6_RULES._replace(ratio=30, surplus=30, lock_out=0), before) == set(), "A6 lock-out period 0"
    patient = A6_RULES._replace(ratio=30, surplus=30, lock_out=2)
    once = isolate(A6_RUNNERS, before, patient)
    assert {uid for uid, watch in once.items() if watch.isolated} == {"uid2", "uid5", "uid6"}
    assert isolate(A6_RUNNERS, once, patient) == {}


# -- in the advisor --------------------------------------------------------------------------------------------------

QUIET = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0, "e": 1.0}


def a_node(**tuning: Any) -> Node:
    return Node(*(a_pod(uid, cores=2) for uid in "abcdef"), **tuning)


def test_a_noisy_owner_gets_a_pool_of_its_own_and_shares_again_when_it_is_calm() -> None:
    node = a_node(isolate=True, isolate_until=2, peak_reports=1, peak_seconds=0.0)
    node.report(2, f=7.0, **QUIET)
    assert [pool.name for pool in node.advice.pools] == ["system", "share", "reclaimed"]
    node.report(1, f=7.0, **QUIET)
    assert node.knobs("pod/f").pool == "isolated-f"
    assert len(node.cpus("isolated-f")) == 2, "it is held to what it asked for"
    assert not node.cpus("isolated-f") & node.cpus("share")
    assert node.knobs("pod/a").pool == "share"
    node.report(2, f=1.0, **QUIET)
    assert node.knobs("pod/f").pool == "share"


def test_nobody_is_isolated_by_default_or_where_owners_need_all_cpus() -> None:
    node = a_node()
    node.report(6, f=7.0, **QUIET)
    assert "isolated-f" not in [pool.name for pool in node.advice.pools]
    full = Node(*(a_pod(uid, cores=2) for uid in "abcdef"), topology=a_topology(12), isolate=True, isolate_after=1)
    full.report(6, f=7.0, **QUIET)
    assert "isolated-f" not in [pool.name for pool in full.advice.pools]


def test_a_pool_that_is_called_as_if_it_were_of_one_loud_owner_has_room_for_all_who_name_it() -> None:
    node = Node(*(a_pod(uid, cores=4, pool="isolated-web") for uid in "abc"))
    node.report(6, a=4.0, b=4.0, c=4.0)
    assert len(node.cpus(node.knobs("pod/a").pool)) >= 12


def test_a_node_that_lends_nothing_says_so_and_gives_owners_all_but_the_least() -> None:
    node = a_node(lend=False)
    node.report(6, f=1.0, **QUIET)
    assert node.headroom.offer == {"neap.io/reclaimed-cpu": 0, "neap.io/reclaimed-memory": 0}
    assert node.headroom.arithmetic["neap.io/reclaimed-cpu"] == "0.0, because lending is switched off"
    assert not node.headroom.stale
    assert (len(node.cpus("share")), len(node.cpus("reclaimed"))) == (28, 2)


def test_in_overlap_mode_owners_have_all_cpus_and_guests_run_behind_them_on_what_is_idle() -> None:
    node = Node(a_pod("a", cores=8), a_pod("d", DEDICATED, cores=4), overlap=True)
    node.report(12, a=4.0, d=2.0)
    share, guests = node.cpus("share"), node.cpus("reclaimed")
    assert len(share) == 26
    assert guests < share
    assert len(share - guests) == 8, "4.0 of them in use: 1.25 x 4.0 x 1.35 + 0.5, up to whole CPUs"
    node.report(1, a=4.1, d=2.0)
    assert len(node.cpus("reclaimed")) >= len(guests) - 1, "a rise that fits is no reason to leave"
    node.report(1, a=9.0, d=2.0)
    assert node.cpus("share") == share
    assert node.cpus("reclaimed") < guests
    assert node.at > PERIOD


def test_in_overlap_mode_a_restart_takes_no_cpu_from_guests() -> None:
    first = Node(a_pod("a", cores=8), overlap=True)
    first.report(12, a=4.0)
    again = Node(a_pod("a", cores=8), overlap=True, last=first.advice, at=first.at)
    again.report(1, a=4.0)
    assert again.cpus("reclaimed") == first.cpus("reclaimed")
    assert len(first.cpus("reclaimed")) > 8
