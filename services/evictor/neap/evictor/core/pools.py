"""Pools of owners as the newest advice has them, with what runs in them.

    load = Σ over the members' containers of cpu + run delay      [tasks that run or wait for a CPU, on average]

That is what a load average counts, less sleepers in the disk, over exactly one report.
Source: kernel documentation, scheduler/sched-stats (run delay).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from neap.common.model.advice import NodeAdvice
from neap.common.model.usage import ContainerUsage
from neap.evictor.core.tried import POOL, cpus_of
from neap.evictor.core.view import Pool, sane

POD: Final = "pod/"


def pools_of(advice: NodeAdvice | None, containers: Mapping[str, Sequence[ContainerUsage]]) -> tuple[Pool, ...]:
    """None if nothing is advised; the pool of guests is no pool of owners."""
    if advice is None:
        return ()
    members: dict[str, list[str]] = {}
    for cgroup in advice.cgroups:
        if cgroup.target.startswith(POD):
            members.setdefault(cgroup.pool, []).append(cgroup.target.removeprefix(POD))
    return tuple(
        Pool(
            pool.name,
            cpus_of(pool.cpus),
            _load([one for uid in members.get(pool.name, ()) for one in containers.get(uid, ())]),
        )
        for pool in advice.pools
        if pool.name != POOL and pool.cpus
    )


def _load(containers: Sequence[ContainerUsage]) -> float | None:
    total = 0.0
    for one in containers:
        running, waiting = sane(one.cpu), sane(one.run_delay)
        if running is None or waiting is None:
            return None
        total += running + waiting
    return sane(total)
