"""Kernel settings per pod and for the class of guests.

Guests: their class gets the reclaimed pool and cpu.idle, so that a guest starting between two rounds inherits
both (the kernel refuses cpu.weight on an idle group, so it is one or the other); below it each guest gets a
small weight in proportion to its request, and a memory limit. Owners: their pool's CPUs and the weight kubelet
would give them.

Source: kernel Documentation/admin-guide/cgroup-v2.rst (cpu.idle, cpu.weight, memory.high, memory.max);
kubelet's conversion of shares to weights, 1 + (shares − 2) × 9999 / 262142 with shares = milli-cores × 1.024.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from neap.advisor.core.assign import CpuSet
from neap.advisor.core.layout import Layout
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


def cgroups(pods: Sequence[Pod], plan: Plan, layout: Layout, settings: Settings) -> tuple[CgroupAdvice, ...]:
    """The class of guests first, then every pod by uid."""
    lists = {name: format_cpuset(cpus) or None for name, cpus in plan.cut.shared.items()}
    lists[RECLAIMED] = format_cpuset(plan.cut.reclaimed) or None
    lists[SYSTEM] = format_cpuset(layout.system) or None
    quota = guest_quota(plan.cut.reclaimed, layout, settings)
    advice = [CgroupAdvice(target=GUESTS, pool=RECLAIMED, knobs=_class_knobs(lists[RECLAIMED], settings))]
    for pod in pods:
        pool = plan.pool_of[pod.uid]
        cpus = format_cpuset(plan.cut.dedicated[pod.uid]) if pool == DEDICATED else lists[pool]
        knobs = _guest(pod, cpus, quota, settings) if pool == RECLAIMED else _owner(pod, cpus, pool)
        attempt = pod.workload.attempt
        advice.append(CgroupAdvice(target=f"pod/{pod.uid}", pool=pool, knobs=knobs, about=pod.about, attempt=attempt))
    return tuple(advice)


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


def _owner(pod: Pod, cpus: str | None, pool: str) -> Knobs:
    return Knobs(cpus=cpus, cpu_weight=weight(pod.request), oom_score_adj=OOM_SCORE.get(pool, OOM_SCORE[SHARE]))
