"""What was tried before anybody has to leave: are guests throttled already, and is their memory taken back?

    squeezed when  size(now) < most,  most = the largest size of the guests' CPUs since they last had all of it   [CPUs]
    size           = min(CPUs of the pool of guests, quota of the guests' class)

The evictor hears it from the advice for its own node. Advice that has expired says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import msgspec

from neap.common.cpuset import parse_cpuset
from neap.common.errors import InputError
from neap.common.model.advice import Knobs, NodeAdvice
from neap.common.model.lifecycle import Tried
from neap.common.units import Seconds, format_bytes, format_duration

POOL: Final = "reclaimed"
CLASS: Final = "class/besteffort"
THROTTLE, RECLAIM = "throttle", "reclaim"


class Squeeze(msgspec.Struct, frozen=True, kw_only=True):
    """How the CPUs of guests have shrunk; `since` is 0 while they have not."""

    most: float = 0.0
    now: float = 0.0
    since: Seconds = 0.0


def squeezed(before: Squeeze, advice: NodeAdvice, at: Seconds) -> Squeeze:
    """After one more advice."""
    size = _size(advice)
    if size is None:
        return before
    if size >= before.most:
        return Squeeze(most=size, now=size)
    return Squeeze(most=before.most, now=size, since=before.since or at)


@lru_cache(maxsize=1024)
def cpus_of(text: str) -> frozenset[int]:
    """A CPU list; empty if it is none."""
    try:
        return parse_cpuset(text)
    except InputError:
        return frozenset()


def tried(uid: str, squeeze: Squeeze, advice: NodeAdvice | None, at: Seconds) -> tuple[Tried, ...]:
    """For one guest, in words."""
    if advice is None:
        unknown = "not known: no advice is valid"
        return Tried(what=THROTTLE, says=unknown), Tried(what=RECLAIM, says=unknown)
    if squeeze.since:
        ago = format_duration(max(0.0, at - squeeze.since))
        says = f"guests' CPUs cut from {squeeze.most:g} to {squeeze.now:g}, first {ago} ago"
    else:
        says = f"no: guests have all their {squeeze.now:g} CPUs"
    since = squeeze.since
    for noisy in advice.noisy:
        if noisy.uid == uid:
            since = noisy.since
            says = (
                f"its quota cut to {noisy.quota:.3g} cores, first {format_duration(max(0.0, at - since))} ago; " + says
            )
    limits = "; ".join(_limits(advice, uid))
    return Tried(what=THROTTLE, says=says, since=since), Tried(
        what=RECLAIM, says=limits or "no: no limit is set", since=advice.at if limits else 0.0
    )


def _size(advice: NodeAdvice) -> float | None:
    sizes = [float(len(cpus_of(pool.cpus))) for pool in advice.pools if pool.name == POOL]
    for cgroup in advice.cgroups:
        quota = cgroup.knobs.cpu_max
        if cgroup.target == CLASS and quota is not None and math.isfinite(quota):
            sizes.append(quota)
    return min(sizes, default=None)


def _limits(advice: NodeAdvice, uid: str) -> Iterator[str]:
    for cgroup in advice.cgroups:
        if cgroup.target in (CLASS, f"pod/{uid}"):
            knobs: Knobs = cgroup.knobs
            of = "guests'" if cgroup.target == CLASS else "its"
            for name, value in (("memory.high", knobs.memory_high), ("memory.reclaim down to", knobs.memory_down_to)):
                if value is not None and value >= 0:
                    yield f"{of} {name} {format_bytes(value)}"
