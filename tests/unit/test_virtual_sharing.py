"""Who gets how much CPU: examples worked out by hand."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from neap.virtual.cgroup import IDLE_WEIGHT
from neap.virtual.flow import Flow
from neap.virtual.sharing import UNIONS_LIMIT, Layout, Share


def leaf(weight: float = 100, cpus: range = range(4), wants: float = 100.0, quota: float = inf) -> Share:
    share = Share(weight, cpus=cpus, wants=wants)
    share.quota = quota
    return share


def group(*children: Share, weight: float = 100, quota: float = inf) -> Share:
    share = Share(weight)
    share.quota, share.children = quota, list(children)
    return share


def cores(*leaves: Share, root: Share | None = None) -> list[Any]:
    Layout(root or group(*leaves)).share()
    return [pytest.approx(share.gets) for share in leaves]


def test_weights_100_and_300_on_four_cpus_give_one_and_three() -> None:
    assert cores(leaf(100), leaf(300)) == [1, 3]


def test_what_one_does_not_want_goes_to_the_others_by_weight() -> None:
    # 4 cores: the third wants only 0.5 of its 2; 3.5 are left for 1:3
    assert cores(leaf(100), leaf(300), leaf(400, wants=0.5)) == [0.875, 2.625, 0.5]


def test_enough_for_all_means_everybody_gets_what_they_want() -> None:
    assert cores(leaf(1, wants=1.5), leaf(10_000, wants=2.5)) == [1.5, 2.5]


def test_a_quota_holds_even_on_an_idle_machine() -> None:
    assert cores(leaf(quota=0.5), leaf(wants=1)) == [0.5, 1]


def test_a_quota_of_a_group_is_split_inside_by_weight() -> None:
    one, two, other = leaf(100), leaf(200), leaf(wants=1)
    assert cores(one, two, other, root=group(group(one, two, quota=1.5), other)) == [0.5, 1, 1]


def test_groups_compete_with_their_own_weight_however_many_are_inside() -> None:
    # burstable 300 with two pods, besteffort 100 with three: 3 cores and 1 core
    pods, guests = [leaf(100), leaf(200)], [leaf(), leaf(), leaf()]
    root = group(group(group(*pods, weight=300), group(*guests, weight=100)))
    third = pytest.approx(1 / 3)
    assert cores(*pods, *guests, root=root) == [1, 2, third, third, third]


def test_an_idle_cgroup_gets_crumbs_beside_a_busy_one_and_everything_beside_nobody() -> None:
    guest, owner = leaf(IDLE_WEIGHT), leaf(100, wants=3.0)
    assert cores(guest, owner) == [1, 3]
    owner.wants = 100.0
    assert cores(guest, owner)[0] == pytest.approx(4 * IDLE_WEIGHT / (100 + IDLE_WEIGHT))


def test_a_narrow_cpuset_is_shared_with_those_who_can_go_elsewhere() -> None:
    # A (weight 1) only on CPU 0-3, B (weight 9) on 0-15: 1.6 and 14.4 is fair everywhere, 12 of B's are outside
    assert cores(leaf(1, range(4)), leaf(9, range(16))) == [1.6, 14.4]


def test_who_can_go_elsewhere_makes_room_for_who_cannot() -> None:
    # equal weights would give 5 and 5 of ten cores, but the first has only two CPUs
    assert cores(leaf(cpus=range(2)), leaf(cpus=range(10))) == [2, 8]


def test_overlapping_cpusets_share_the_middle() -> None:
    # 0-2 and 1-3: each has a CPU of its own and half of the two in the middle
    layout = Layout(group(one := leaf(cpus=range(3)), two := leaf(cpus=range(1, 4))))
    layout.share()
    assert (one.gets, two.gets) == (2, 2)
    assert [busy for _, busy in layout.busy()] == pytest.approx([1, 2, 1])


def test_disjoint_cpusets_do_not_disturb_each_other() -> None:
    assert cores(leaf(1, range(2)), leaf(10_000, range(2, 4)), leaf(1, range(2))) == [1, 2, 1]


def test_what_could_be_had_at_once_counts_idle_cores_and_what_weights_would_take() -> None:
    owner, guest = leaf(300, wants=1), leaf(100, wants=2)
    layout = Layout(group(owner, guest))
    layout.share()
    assert layout.at_once(owner) == pytest.approx(3)  # 1 of its own, 1 idle, and 1 taken from the guest (3:1)
    assert layout.at_once(guest) == pytest.approx(3)  # the owner needs no more than 1


def test_a_group_could_have_at_once_what_its_containers_have_and_the_rest() -> None:
    pod, guest = group(leaf(wants=0.5), leaf(wants=0.25), weight=100), leaf(100, wants=1)
    layout = Layout(group(pod, guest))
    layout.share()
    assert layout.at_once(pod) == pytest.approx(3)
    assert layout.at_once(group()) == 0.0


def test_work_already_placed_moves_over_when_it_blocks_the_way() -> None:
    # 0-1 wants 1 core, 1-2 wants 2: all of the first must go to CPU 0
    placed, missing = Flow([frozenset({0, 1}), frozenset({1, 2})]).place([1.0, 2.0])
    assert placed == pytest.approx([1, 1, 1])
    assert missing == pytest.approx([0, 0])


def test_absurdly_many_overlapping_cpusets_still_give_no_more_than_there_is() -> None:
    cpus = range(64)
    leaves = [Share(cpus={i, (i * 7 + 1) % 64, (i * 13 + 5) % 64}, wants=3.0) for i in cpus]
    layout = Layout(group(*leaves))
    layout.share()
    busy = layout.busy()
    assert len(layout.unions) <= UNIONS_LIMIT + len(leaves)
    assert all(cores <= len(atom) + 1e-6 for atom, cores in busy)
    assert sum(share.gets for share in leaves) == pytest.approx(sum(cores for _, cores in busy))
