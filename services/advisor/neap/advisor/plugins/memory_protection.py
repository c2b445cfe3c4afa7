"""Memory of owners that the kernel should not reclaim for anybody else.

    low(pod)    = min(request, peak working set × margin);  as before, or the request, while unknown       [bytes]
    low         ≤ capacity − reserved in total: scaled down in proportion where the sum is more, and said
    low(class)  = Σ low of the owners in it;  of the root of all pods: Σ low of all owners
    min         = low for dedicated and system pods where `minimum` is 1; for nobody else

Protection is hierarchical: what a cgroup may keep is at most its part of what each ancestor may keep, so classes and
root must carry the sum of their pods, and the kernel hands a pod's part down to its containers only where cgroup2 is
mounted with memory_recursiveprot (systemd does). Of what owners leave of the root's part, guests may get some: no
more than the margin. A value stays as long as it covers the working set and is not far beyond it.

Use always: it costs nothing while memory is plenty. `minimum` only where a kernel OOM kill of somebody else is
better than one slow page of a dedicated pod: memory.min is kept even then.
Source: kernel Documentation/admin-guide/cgroup-v2.rst (memory.low, memory.min, memory_recursiveprot),
mm/page_counter.c (effective_protection); KEP-2570 (kubelet sets memory.min of pods, classes and root alike).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.advisor.core.policy import MemoryPod, MemoryPolicy, MemoryProposal, MemoryView
from neap.common.model.advice import Knobs
from neap.common.units import MIB, Bytes, Ratio, format_bytes

ROOT: Final = "class/guaranteed"  # guaranteed pods hang from the root of all pods, so it is the root that is meant
HARD_POOLS: Final = frozenset({"dedicated", "system"})


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is protected, and how hard."""

    margin: Annotated[Ratio, Meta(ge=1, le=10)] = 1.1  # room to grow until the next report
    minimum: Annotated[int, Meta(ge=0, le=1)] = 0  # 1: dedicated and system pods get memory.min as well


def advise(view: MemoryView, settings: Settings) -> MemoryProposal:
    """memory.low (and min) of owners and of what they live in.

    Laws: Σ low ≤ capacity − reserved; low ≤ request; a class carries exactly the sum of its pods.
    """
    owners = [pod for pod in view.pods if not pod.guest and pod.target and pod.request > 0]
    if not owners or view.capacity <= 0:
        return MemoryProposal()
    want = {pod.uid: _low(pod, view.before.get(pod.target, Knobs()).memory_low, settings) for pod in owners}
    asked, most = sum(want.values()), max(0, view.capacity - view.reserved)
    if asked > most:
        want = {uid: _whole(low * most // asked) for uid, low in want.items()}
    low, hard = _carried(owners, want), {}
    if settings.minimum:
        hard = _carried([pod for pod in owners if pod.pool in HARD_POOLS], want)
    knobs = {target: Knobs(memory_low=bytes_, memory_min=hard.get(target)) for target, bytes_ in low.items()}
    short = f", scaled down from {format_bytes(asked)}: the machine has {format_bytes(most)}" if asked > most else ""
    return MemoryProposal(knobs=knobs, reason=f"owners keep {format_bytes(sum(want.values()))}{short}")


def _low(pod: MemoryPod, before: Bytes | None, settings: Settings) -> Bytes:
    seen = [held for held in (pod.peak, pod.working) if held is not None]
    if not seen:
        return pod.request if before is None else min(before, pod.request)
    working = max(seen)
    if before is not None and min(working, pod.request) <= before <= min(pod.request, working * settings.margin**2):
        return before
    return min(pod.request, _whole(int(working * settings.margin) + MIB - 1))


def _carried(owners: list[MemoryPod], want: Mapping[str, Bytes]) -> dict[str, Bytes]:
    """By target: pods, their classes, the root."""
    carried: dict[str, Bytes] = {}
    for pod in owners:
        for target in dict.fromkeys((ROOT, f"class/{pod.home}", pod.target)):
            carried[target] = carried.get(target, 0) + want[pod.uid]
    return carried


def _whole(amount: Bytes) -> Bytes:
    return amount // MIB * MIB


PLUGIN: Final = MemoryPolicy(settings=Settings, advise=advise)
