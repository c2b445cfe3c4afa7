"""What the profiles of the owners on a node foretell: the highest hour of their sum.

    peak = max over the hours from now to now + horizon of  Σ over owners of portrait[hour of the day, UTC]

An owner whose service has no usable portrait counts with its recent peak, or its request while that is unknown.
Dedicated pods are left out: what they asked for is theirs, whatever they use.
Source: requirements 1.5 (004-38); hours as in the scheduler's portraits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from neap.advisor.core.memory import Facts
from neap.advisor.core.pod import DEDICATED, Pod, Track
from neap.advisor.core.policy import Forecast, HeadroomView
from neap.common.model.profile import ServiceProfile, profile_key
from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU
from neap.common.units import HOUR, Seconds

HOURS: Final = 24


def foresee(
    kind: str,
    pods: Sequence[Pod],
    tracks: Mapping[str, Track],
    profiles: Mapping[str, ServiceProfile],
    *,
    at: Seconds,
    horizon: Seconds,
) -> Forecast | None:
    """In cores for lent CPU, else in bytes; None where no owner has a portrait. `profiles`: by profile_key."""
    cpu = kind == RECLAIMED_CPU
    owners = [pod for pod in pods if pod.is_owner and not (cpu and pod.pool == DEDICATED)]
    hours = [0.0] * HOURS
    versions: set[str] = set()
    without = 0
    for pod in owners:
        profile = profiles.get(profile_key(pod.workload))
        portrait = None if profile is None else _usable(profile.portrait.get(CPU if cpu else MEMORY, ()))
        if profile is None or portrait is None:
            without += 1
            portrait = (_guess(pod, tracks[pod.uid], cpu=cpu),) * HOURS
        else:
            versions.add(profile.version)
            portrait = tuple(amount / 1000 for amount in portrait) if cpu else portrait
        hours = [sum(pair) for pair in zip(hours, portrait, strict=True)]
    if not versions:
        return None
    ahead = range(int(at // HOUR), int((at + min(horizon, HOURS * HOUR)) // HOUR) + 1)
    peak = max(hours[hour % HOURS] for hour in ahead)
    return Forecast(peak=peak, horizon=horizon, versions=tuple(sorted(versions)), without=without)


def foreseen(
    view: HeadroomView, facts: Facts, profiles: Mapping[str, ServiceProfile], *, at: Seconds, horizon: Seconds
) -> HeadroomView:
    """The same with its forecast."""
    told = foresee(view.kind, facts.pods, facts.tracks, profiles, at=at, horizon=horizon)
    return view if told is None else replace(view, forecast=told)


def portrait_flaw(profile: ServiceProfile) -> str:
    """Why nothing can be foretold from it, though it tries to; empty if something can, or it does not."""
    odd = sorted(kind for kind in (CPU, MEMORY) if kind in profile.portrait and _usable(profile.portrait[kind]) is None)
    return f"portrait of {', '.join(odd)}: not {HOURS} amounts of at least 0" if odd else ""


def _usable(portrait: Sequence[float]) -> tuple[float, ...] | None:
    good = len(portrait) == HOURS and all(math.isfinite(amount) and amount >= 0 for amount in portrait)
    return tuple(portrait) if good else None


def _guess(pod: Pod, track: Track, *, cpu: bool) -> float:
    seen: Sequence[float] = track.cpu if cpu else track.memory
    return max(seen, default=pod.request if cpu else float(pod.memory))
