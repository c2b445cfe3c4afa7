"""Emergencies: why an offer may fall at once. Per kind of resource one sentence with its numbers, or nothing.

    CPU     owners need more CPUs than there are;  an owners' pool uses `full` of the CPUs it had;  an owner waited
            for a CPU `stall` of the time or longer
    memory  less than `short` of the memory is available;  an owner waited for memory `stall` of the time or longer

Others are told where they are seen: a capacity that shrank or owners that arrived (lending.py), usage that is stale.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from neap.advisor.core.indicators import stalled
from neap.advisor.core.memory import Facts, capacity_of
from neap.advisor.core.plan import Plan
from neap.advisor.core.pod import Pod, Track
from neap.advisor.settings import Settings
from neap.common.model.resource import RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.units import Ratio, format_bytes


def alarms(made: Plan, facts: Facts, settings: Settings) -> dict[str, str]:
    """Only kinds for which there is an emergency. Cost: O(pods + containers)."""
    owners = [pod for pod in facts.pods if pod.is_owner]
    cpu = _crowded(made, owners, facts.tracks, settings) or _waited(
        "a CPU", ((pod.workload.key, facts.tracks[pod.uid].stall) for pod in owners), settings
    )
    memory = _short(facts, settings) or _waited("memory", _memory_stalls(owners, facts), settings)
    return {kind: why for kind, why in ((RECLAIMED_CPU, cpu), (RECLAIMED_MEMORY, memory)) if why}


def _crowded(made: Plan, owners: Sequence[Pod], tracks: Mapping[str, Track], settings: Settings) -> str:
    if made.squeezed:
        return "owners need more CPUs than there are"
    for name, cpus in sorted(made.held.shared.items()):
        used = sum(tracks[pod.uid].now or 0.0 for pod in owners if made.pool_of[pod.uid] == name)
        if cpus and used >= settings.offer_full * len(cpus):
            return f"pool {name} uses {used:.1f} of the {len(cpus)} CPUs it had"
    return ""


def _waited(what: str, stalls: Iterable[tuple[str, Ratio | None]], settings: Settings) -> str:
    worst, name = max(((stall, name) for name, stall in stalls if stall is not None), default=(0.0, ""))
    return f"{name} waited for {what} {worst:.0%} of the time" if worst >= settings.offer_stall else ""


def _memory_stalls(owners: Sequence[Pod], facts: Facts) -> Iterable[tuple[str, Ratio | None]]:
    names = {pod.uid: pod.workload.key for pod in owners}
    for container in facts.usage.containers if facts.usage is not None else ():
        if container.uid in names:
            yield names[container.uid], stalled(container.memory_stall)


def _short(facts: Facts, settings: Settings) -> str:
    capacity, left = capacity_of(facts.topology), facts.usage.memory_available if facts.usage is not None else None
    if left is None or left >= settings.offer_short * capacity:
        return ""
    return f"{format_bytes(max(0, left))} of {format_bytes(capacity)} memory available"
