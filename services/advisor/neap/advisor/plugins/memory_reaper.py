"""Page cache that guests have not used lately is taken back before the node runs short of free memory.

    below   = max(low share × capacity, 4 × Σ low watermarks)                                             [bytes]
    taken   = min(below − free,  Σ idle cache of guests − keep share × capacity,  step share × capacity)
    level   = used − its part of taken, for the guests with most idle cache first           (memory.reclaim, a level)

Only while free < below. A bounded step per report, so that no single write keeps the kernel busy for long; a level
and not an amount, so that advice said twice takes nothing twice. Per guest and not for their class: what the class
holds beside its pods (cache of pods that are gone) is in no report, so a level for it could ask for anything.
Free memory is short on every machine that has read much, so guests may always keep a little of their cache.
Unknown free memory: nothing is taken; memory_guard still holds.

Use together with memory_guard: it stops guests at the reserve, this one gives back before that.
Source: katalyst-core sysadvisor qosaware/resource/memory/plugin (cache reaper: below the critical watermark, largest
cache first until the target is reached; reference §4.8, acceptance case A10 a); kernel
Documentation/admin-guide/cgroup-v2.rst (memory.reclaim).
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.advisor.core.policy import MemoryPolicy, MemoryProposal, MemoryView
from neap.common.model.advice import Knobs
from neap.common.units import MIB, Ratio, format_bytes


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares of the machine's memory."""

    low: Annotated[Ratio, Meta(ge=0, le=1)] = 0.10  # this little free: twice memory_guard's reserve, so it comes first
    keep: Annotated[Ratio, Meta(ge=0, le=1)] = 0.02  # idle cache that is left to guests
    step: Annotated[Ratio, Meta(gt=0, le=1)] = 0.02  # taken per report at most


def advise(view: MemoryView, settings: Settings) -> MemoryProposal:
    """Levels of guests.

    Laws: Σ taken ≤ step and ≤ idle cache − keep; nobody gives more than its idle cache.
    """
    if view.blind or not view.fresh or view.free is None or view.capacity <= 0:
        return MemoryProposal()
    below = max(int(settings.low * view.capacity), 4 * (view.watermark or 0))
    guests = sorted(
        (pod for pod in view.pods if pod.guest and pod.target and pod.idle_cache >= MIB),
        key=lambda pod: (-pod.idle_cache, pod.uid),
    )
    idle = sum(pod.idle_cache for pod in guests)
    bounds = (below - view.free, idle - int(settings.keep * view.capacity), int(settings.step * view.capacity))
    taken = left = min(bounds)
    if taken < MIB:
        return MemoryProposal()
    knobs: dict[str, Knobs] = {}
    for pod in guests:
        part = min(pod.idle_cache, left)
        if part < MIB or pod.used is None:
            break
        knobs[pod.target] = Knobs(memory_down_to=pod.used - part)
        left -= part
    reason = f"{format_bytes(taken)} of guests' idle cache taken back: {format_bytes(view.free)} free"
    return MemoryProposal(knobs=knobs, reason=f"{reason}, below {format_bytes(below)}")


PLUGIN: Final = MemoryPolicy(settings=Settings, advise=advise)
