"""Kernel settings per pod and for the class of guests.

Guests: their class gets the reclaimed pool and cpu.idle, so that a guest starting between two rounds inherits
both (the kernel refuses cpu.weight on an idle group, so it is one or the other); below it each guest gets a
small weight in proportion to its request, and a memory limit. Owners: their pool's CPUs and the weight kubelet
would give them. What the memory policies say comes on top, and so do memory nodes once somebody holds one alone.

Source: kernel Documentation/admin-guide/cgroup-v2.rst (cpu.idle, cpu.weight, memory.high, memory.max);
kubelet's conversion of shares to weights, 1 + (shares − 2) × 9999 / 262142 with shares = milli-cores × 1.024.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Final, NamedTuple

from msgspec.structs import replace

from neap.advisor.core.assign import CpuSet
from neap.advisor.core.layout import Layout
from neap.advisor.core.memory import MemoryPlan, merged
from neap.advisor.core.plan import Plan
from neap.advisor.core.pod import DEDICATED, RECLAIMED, SHARE, SYSTEM, Pod
from neap.advisor.settings import Settings
from neap.common.cpuset import format_cpuset
from neap.common.model.advice import CgroupAdvice, Knobs
from neap.common.units import Cores

GUESTS: Final = "class/besteffort"
LEAST_WEIGHT: Final = 1
MOST_WEIGHT: Final = 10_000
HIGH_OF_MAX: Final = 0.95  # memory.high relative to memory.max; katalyst-core memory-guard
# Whom the kernel kills first: guests, then owners, daemons last. 1000 is kubelet's value for best effort.
OOM_SCORE: Final[Mapping[str, int]] = {RECLAIMED: 1000, SHARE: 100, DEDICATED: -500, SYSTEM: -900}


class Limits(NamedTuple):
    """What is on top of that.

    `narrowed`: targets that were given memory nodes before, so who may have all again must be told.
    `cap`: cores all guests together may use. `curbs`: of guests that disturb an owner, by uid.
    """

    narrowed: Set[str] = frozenset()
    cap: Cores | None = None
    curbs: Mapping[str, Knobs] = {}


def cgroups(
    pods: Sequence[Pod],
    plan: Plan,
    memory: MemoryPlan,
    layout: Layout,
    settings: Settings,
    limits: Limits,
) -> tuple[CgroupAdvice, ...]:
    """The class of guests first, then what other classes get, then every pod by uid."""
    narrowed = limits.narrowed
    lists = {name: format_cpuset(cpus) or None for name, cpus in plan.cut.shared.items()}
    lists[RECLAIMED] = format_cpuset(plan.cut.reclaimed) or None
    lists[SYSTEM] = format_cpuset(layout.system) or None
    group = replace(
        _class_knobs(lists[RECLAIMED], settings),
        cpu_max=limits.cap,
        mems=plan.binding.mems("", layout, narrowed=GUESTS in narrowed),
    )
    advice = [_advice(GUESTS, RECLAIMED, group, memory)]
    others = sorted(target for target in memory.knobs if target.startswith("class/") and target != GUESTS)
    advice += [_advice(target, SHARE, Knobs(), memory) for target in others]
    for pod in pods:
        pool = plan.pool_of[pod.uid]
        if pool == RECLAIMED:
            home = plan.cut.reclaimed & _within(pod, plan, layout)
            knobs = _guest(pod, format_cpuset(home) or None, guest_quota(home, layout, settings), settings)
            knobs = _curbed(knobs, limits.curbs.get(pod.uid))
        elif pool == DEDICATED:
            knobs = _owner(pod, format_cpuset(plan.cut.dedicated[pod.uid]), pool)
        else:
            knobs = _owner(pod, lists[pool], pool)
        target = f"pod/{pod.uid}"
        moved = memory.moved.get(target)
        held = plan.binding.mems(
            pod.uid, layout, narrowed=target in narrowed, moved=None if moved is None else frozenset(moved.to)
        )
        advice.append(_advice(target, pool, replace(knobs, mems=held), memory, pod))
    return tuple(advice)


def _advice(target: str, pool: str, knobs: Knobs, memory: MemoryPlan, pod: Pod | None = None) -> CgroupAdvice:
    knobs = merged(knobs, replace(memory.knobs.get(target, Knobs()), mems=None))  # binding comes first
    if pod is None:
        return CgroupAdvice(target=target, pool=pool, knobs=knobs)
    return CgroupAdvice(target=target, pool=pool, knobs=knobs, about=pod.about, attempt=pod.workload.attempt)


def _within(pod: Pod, plan: Plan, layout: Layout) -> CpuSet:
    nodes = plan.binding.nodes.get(pod.uid)
    return layout.lendable if nodes is None else layout.within(nodes)


def guest_quota(reclaimed: CpuSet, layout: Layout, settings: Settings) -> Cores:
    """Cores one guest may use: all there are, which is no limit; next to nothing while it has no CPU of its own.

    A number also where no limit is meant: infinity has no JSON.
    """
    return float(len(layout.usable)) if reclaimed else settings.starved_quota


def weight(cores: Cores) -> int:
    """cpu.weight for a request."""
    shares = max(2.0, cores * 1024)
    return min(MOST_WEIGHT, max(LEAST_WEIGHT, int(1 + (shares - 2) * 9999 / 262142)))


def _class_knobs(cpus: str | None, settings: Settings) -> Knobs:
    if settings.idle:
        return Knobs(cpus=cpus, cpu_idle=True)
    return Knobs(cpus=cpus, cpu_idle=False, cpu_weight=LEAST_WEIGHT)


def _guest(pod: Pod, cpus: str | None, quota: Cores, settings: Settings) -> Knobs:
    most = int(pod.memory * settings.memory_tolerance)
    return Knobs(
        cpus=cpus,
        cpu_weight=max(LEAST_WEIGHT, int(weight(pod.request) * settings.guest_weight)),
        cpu_max=quota,
        memory_high=int(most * HIGH_OF_MAX) if most else None,
        memory_max=most or None,
        oom_score_adj=OOM_SCORE[RECLAIMED],
    )


def _curbed(knobs: Knobs, curb: Knobs | None) -> Knobs:
    """The narrower quota of both."""
    if curb is None:
        return knobs
    quotas = [quota for quota in (knobs.cpu_max, curb.cpu_max) if quota is not None]
    return replace(merged(knobs, curb), cpu_max=min(quotas, default=None))


def _owner(pod: Pod, cpus: str | None, pool: str) -> Knobs:
    return Knobs(cpus=cpus, cpu_weight=weight(pod.request), oom_score_adj=OOM_SCORE.get(pool, OOM_SCORE[SHARE]))


def with_mems(advice: Iterable[CgroupAdvice]) -> frozenset[str]:
    """Targets that are given memory nodes."""
    return frozenset(cgroup.target for cgroup in advice if cgroup.knobs.mems is not None)
