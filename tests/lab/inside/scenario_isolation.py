"""Rows 4 and 7: CPUs of a dedicated pod, and what a killed enforcer leaves behind."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from neap.common.cpuset import format_cpuset
from neap.common.model.advice import CgroupAdvice
from tests.lab.inside.enforcing import an_enforcer, of_class, of_pod
from tests.lab.inside.kernel import allowed, not_given_back, sets_of, settings_of
from tests.lab.inside.pods import Kubelet, Pod
from tests.lab.inside.sampler import apart, looking, never_without

RESIZES = 50
KILLS = 30
NAP = 0.004  # seconds between two writes: the middle is wide enough to be hit
GUESTS, OWNERS = 3, 2
EVERY_CPU = frozenset(range(8))
HOME = frozenset({4, 5})  # of the dedicated pod
NODES = 4
SIZES = HOME, HOME | {3, 6}, HOME | {2, 3}, frozenset({1, 2})  # of it while pools jump: it grows, shrinks and moves


def population(kubelet: Kubelet) -> tuple[Pod, list[Pod], list[Pod]]:
    """A dedicated pod, owners, guests; a task in each container."""
    dedicated = kubelet.pod("dedicated-1", "guaranteed")
    owners = [kubelet.pod(f"owner-{n}", "burstable") for n in range(OWNERS)]
    guests = [kubelet.pod(f"guest-{n}", "besteffort") for n in range(GUESTS)]
    for pod in (dedicated, *owners, *guests):
        pod.start("main", "hold", "1")
    return dedicated, owners, guests


def cut(chance: random.Random, free: frozenset[int]) -> tuple[frozenset[int], frozenset[int]]:
    """Owners' and guests' CPUs of those that are free: anywhere."""
    first, last = min(free), max(free)
    rest = sorted(free - {first, last})
    chance.shuffle(rest)
    place = chance.randint(0, len(rest))
    shared, lent = frozenset(rest[:place]), frozenset(rest[place:])
    if chance.random() < 0.5:
        return shared | {first}, lent | {last}
    return shared | {last}, lent | {first}


def advice(
    dedicated: Pod, owners: list[Pod], guests: list[Pod], sets: tuple[frozenset[int], frozenset[int], frozenset[int]]
) -> list[CgroupAdvice]:
    """CPUs for all of them."""
    mine, shared, lent = (format_cpuset(cpus) for cpus in sets)
    told = [of_class("besteffort", "reclaimed", cpus=lent), of_pod(dedicated.uid, "dedicated", cpus=mine)]
    told += [of_pod(pod.uid, "share", cpus=shared) for pod in owners]
    return told + [of_pod(pod.uid, "reclaimed", cpus=lent) for pod in guests]


def test_nobody_else_runs_on_a_dedicated_pods_cpus_while_pools_resize(
    kubelet: Kubelet, journal: Path, figures: dict[str, Any]
) -> None:
    dedicated, owners, guests = population(kubelet)
    others = [pid for pod in (*owners, *guests) for pid in pod.cgroup.processes()]
    mine, chance = dedicated.cgroup.processes(), random.Random(4)
    with an_enforcer(journal, nap=NAP) as enforcer:
        first = cut(chance, EVERY_CPU - HOME)
        enforcer.applied(enforcer.advise(*advice(dedicated, owners, guests, (HOME, *first))))
        took = []
        with looking(apart(mine, others)) as sampler:
            for _ in range(RESIZES):
                own = chance.choice(SIZES)
                sets = (own, *cut(chance, EVERY_CPU - own))
                start = time.monotonic()
                enforcer.applied(enforcer.advise(*advice(dedicated, owners, guests, sets)))
                took.append(time.monotonic() - start)
                for pods, cpus in zip(([dedicated], owners, guests), sets, strict=True):
                    assert all(pod.cgroup.cpus() == cpus for pod in pods), "the kernel has not what was advised"
                    assert all(allowed(pid) == cpus for pod in pods for pid in pod.cgroup.processes())
        seen = sampler.seen()
    figures.update(
        resizes=RESIZES, samples=seen.samples, torn=seen.torn, sets_of_others_seen=seen.sets,
        violations=len(seen.violations), resize_seconds_median_with_naps=round(sorted(took)[RESIZES // 2], 3),
    )  # fmt: skip
    assert not seen.violations, "\n".join(seen.violations)
    assert seen.samples > RESIZES
    assert seen.sets > 5, "the sampler has not seen the pools change"


def test_a_killed_enforcer_leaves_no_task_without_cpus_and_the_next_one_puts_the_tree_back(
    kubelet: Kubelet, journal: Path, figures: dict[str, Any]
) -> None:
    dedicated, owners, guests = population(kubelet)
    everybody = kubelet.root.processes()
    before, chance = settings_of(kubelet.root), random.Random(7)
    sizes = (HOME, frozenset({0, 1, 2, 3}), frozenset({6, 7})), (frozenset({2, 3}), frozenset({0, 6, 7}), HOME | {1})
    wishes = [advice(dedicated, owners, guests, sets) for sets in sizes]
    with an_enforcer(journal, nap=NAP) as enforcer, looking(never_without(everybody)) as sampler:
        enforcer.applied(enforcer.advise(*wishes[0]))
        start = time.monotonic()
        enforcer.applied(enforcer.advise(*wishes[1]))
        whole = time.monotonic() - start
        states = []
        for wish in wishes:
            enforcer.applied(enforcer.advise(*wish))
            states.append(sets_of(kubelet.root))
        midway = restored = 0
        for turn in range(KILLS):
            wish, state = wishes[turn % 2], states[turn % 2]
            enforcer.advise(*wish)
            time.sleep(chance.uniform(0, whole))
            enforcer.kill()
            midway += sets_of(kubelet.root) not in states
            enforcer.start()
            if turn % 3 == 0:  # restarted and stopped, with no advice in between: all goes back
                assert enforcer.stop() == 0
                left, _ = not_given_back(before, settings_of(kubelet.root))
                assert not left, f"kill {turn}: {left}"
                restored += 1
                enforcer.start()
            enforcer.applied(enforcer.advise(*wish))
            assert sets_of(kubelet.root) == state, f"kill {turn}: the advice does not hold afterwards"
        assert enforcer.stop() == 0
    seen = sampler.seen()
    left, kept = not_given_back(before, settings_of(kubelet.root))
    everywhere = {pid for pid in everybody if allowed(pid) == EVERY_CPU and len(allowed(pid, "Mems")) == NODES}
    figures.update(
        kills=KILLS, in_the_middle_of_the_writes=midway, stopped_and_compared=restored + 1, samples=seen.samples,
        sets_seen=seen.sets, without_cpus=len(seen.violations), settings_compared=len(before), settings_left=len(left),
        sets_this_kernel_does_not_let_anybody_empty=kept,
    )  # fmt: skip
    assert not seen.violations, "\n".join(seen.violations)
    assert not left, "\n".join(left)
    assert everywhere == set(everybody), "a task may not run or allocate everywhere again"
    assert midway, "no kill came in the middle of the writes: the scenario has not shown what it is for"
