"""How much memory all guests together may hold: what they hold, and what the node can spare.

    reserve  = max(reserve share × capacity, 2 × Σ low watermarks)                                            [bytes]
    room     = Σ guests (used − cache) + available − Σ owners (cache they keep) − apart − reserve, in the machine
    high(t)  = room at once where that is less;  min(room, high(t−1) + growth × capacity) where it is more
    max(t)   = high + reserve / 2, or as far as guests have got already (no further than max(t−1))

memory.high of the guests' class is set ahead of need, so a guest that fills page cache or allocates reclaims and
waits within its own class, before the kernel's reclaim wakes for the whole node; memory.max behind it only stops
what throttling cannot, and setting it kills nobody. `available` counts page cache of guests as free, so of guests
only the rest is added to it; it counts cache of owners as free, too: what they used lately, or what memory.low
protects, is taken off again, so guests may displace only cache that owners left idle. Changes within the dead band
leave the limit alone. A guest whose memory or cache is unknown adds nothing. Without
`available`, or blind: what the guests asked for, and never more than before.

Use always. Per NUMA node only as far as nodes are held exclusively (`apart`); guests roam over the others.
Source: katalyst-core sysadvisor qosaware/resource/memory/plugin (memory guard: reclaimed used + max(free −
max(4 GiB, watermark) × factor, 0), memory.high = 0.95 × limit; reference §4.8, acceptance case A10 b); kernel
Documentation/admin-guide/cgroup-v2.rst (memory.high), filesystems/proc.rst (MemAvailable).
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.advisor.core.policy import MemoryPod, MemoryPolicy, MemoryProposal, MemoryView
from neap.common.model.advice import Knobs
from neap.common.units import MIB, Bytes, Ratio, format_bytes

GUESTS: Final = "class/besteffort"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares of the machine's memory."""

    reserve: Annotated[Ratio, Meta(ge=0, le=1)] = 0.05  # kept free of guests: an owner's growth between two reports
    least: Annotated[Ratio, Meta(gt=0, le=1)] = 0.01  # what guests may always hold, so that they can end
    growth: Annotated[Ratio, Meta(gt=0, le=1)] = 0.05  # of the limit per report
    dead_band: Annotated[Ratio, Meta(ge=0, le=1)] = 0.01  # a change of no more than this is none


def advise(view: MemoryView, settings: Settings) -> MemoryProposal:
    """Limits of the class of guests.

    Laws: least ≤ high ≤ capacity; high falls at once and rises by growth; non-increasing in what owners hold.
    """
    if view.capacity <= 0:
        return MemoryProposal(reason="memory of guests not limited: the machine's is unknown")
    reserve = max(int(settings.reserve * view.capacity), 2 * (view.watermark or 0))
    before = view.before.get(GUESTS, Knobs())
    least = int(settings.least * view.capacity)
    if view.blind or view.available is None:
        room, reason = _asked(view)
    else:
        room, reason = _measured(view, view.available, reserve)
    room = _whole(min(max(room, least), view.capacity))
    high = max(_whole(least), _step(room, before.memory_high, view, settings))
    most = min(view.capacity, max(high + reserve // 2, _reached(view, before)))
    if high != room:
        reason += f", now {format_bytes(high)}"
    knobs = Knobs(memory_high=high, memory_max=max(high, _whole(most)))
    return MemoryProposal(knobs={GUESTS: knobs}, reason=f"memory of all guests up to {reason}")


def _reached(view: MemoryView, before: Knobs) -> Bytes:
    """What guests hold, or may have taken since the report under the limit of before."""
    held = _whole(sum(pod.used or 0 for pod in view.pods if pod.guest) + MIB)
    last = before.memory_max
    reached = max(held, before.memory_high or 0)
    return reached if last is None or last < 0 else min(reached, last)


def _measured(view: MemoryView, available: Bytes, reserve: Bytes) -> tuple[Bytes, str]:
    guests = [pod for pod in view.pods if pod.guest]
    held = sum(max(0, pod.used - pod.cache) for pod in guests if pod.used is not None and pod.cache is not None)
    unknown = sum(pod.used is None or pod.cache is None for pod in guests)
    kept = sum(_kept_cache(pod, view) for pod in view.pods if not pod.guest)
    room = held + available - kept - view.apart - reserve
    terms = f"{_signed(room)} = {format_bytes(held)} held + {format_bytes(available)} available"
    for amount, name in ((kept, "owners' cache"), (view.apart, "on nodes of their own"), (reserve, "reserve")):
        terms += f" − {format_bytes(amount)} {name}" if amount else ""
    return room, terms + (f" ({unknown} of {len(guests)} guests unknown)" if unknown else "")


def _asked(view: MemoryView) -> tuple[Bytes, str]:
    room = sum(pod.request for pod in view.pods if pod.guest)
    last = view.before.get(GUESTS, Knobs()).memory_high
    why = view.blind or "available memory is unknown"
    return (room if last is None or last < 0 else min(room, last)), f"their requests, because {why}"


def _kept_cache(pod: MemoryPod, view: MemoryView) -> Bytes:
    """Page cache of an owner that is not spare: used lately, or protected; all of it where guests cannot go."""
    if pod.cache is None or pod.apart:
        return pod.cache or 0
    low = view.before.get(pod.target, Knobs()).memory_low or 0
    protected = low - (pod.used - pod.cache) if pod.used is not None else 0
    return min(pod.cache, max(pod.cache - pod.idle_cache, protected, 0))


def _step(room: Bytes, before: Bytes | None, view: MemoryView, settings: Settings) -> Bytes:
    if before is None or before < 0:
        return room
    band = int(settings.dead_band * view.capacity)
    if room < before - band:
        return room
    if room > before + band and view.fresh and not view.blind:
        return min(room, before + _whole(max(MIB, int(settings.growth * view.capacity))))
    return min(before, view.capacity)


def _whole(amount: Bytes) -> Bytes:
    return max(MIB, amount // MIB * MIB)


def _signed(amount: Bytes) -> str:
    return format_bytes(amount) if amount >= 0 else f"−{format_bytes(-amount)}"


PLUGIN: Final = MemoryPolicy(settings=Settings, advise=advise)
