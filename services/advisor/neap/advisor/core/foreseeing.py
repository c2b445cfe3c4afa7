"""What the profiles of the owners on a node foretell: the highest hour of their sum, and how far each pod goes up.

    peak        = max over the hours from now to now + horizon of  Σ over owners of portrait[hour of the day, UTC]
    swing(pod)  = max over the hours from now to now + AHEAD of swing[hour]
    most(pod)   = the same of portrait[hour] × swing[hour], × (1 + UNLIKE)                                       [cores]

A pod was foretold rightly if it used at most its level × swing, and at most `most`: a day that is not like the others.
A profile is believed after it was right for `believe` on end, and not from the first report on in which it is wrong.

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
from neap.advisor.core.pod import DEDICATED, Foretold, Pod, Track
from neap.advisor.core.policy import Forecast, HeadroomView
from neap.advisor.core.refusing import refuse
from neap.common.errors import InputError
from neap.common.model.profile import ServiceProfile, profile_key
from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU
from neap.common.runtime.machine import Instruction
from neap.common.units import HOUR, Ratio, Seconds

HOURS: Final = 24
AHEAD: Final[Seconds] = 600.0  # the pools follow every report: what comes after that is not theirs to provide
UNLIKE: Final[Ratio] = 0.25  # above what it ever used at this time: as far as pods may differ that are alike


class Profiles:
    """Those that were told, by profile_key. Nobody waits until all are read; what is not there yet is not known."""

    def __init__(self) -> None:
        self.are_read = False  # all that are stored
        self.known: dict[str, ServiceProfile] = {}
        self._keys: dict[str, str] = {}  # by subject

    def learn(self, profile: ServiceProfile, subject: str) -> Sequence[Instruction]:
        """One that cannot be used is refused, and the last good one stays."""
        if flaw := portrait_flaw(profile):
            return refuse("profiles", f"profile of {profile.key}", InputError(flaw))
        self.known[profile.key], self._keys[subject] = profile, profile.key
        return ()

    def forget(self, subject: str) -> None:
        """It was taken back."""
        self.known.pop(self._keys.pop(subject, ""), None)

    def foretell(self, pods: Sequence[Pod], tracks: Mapping[str, Track], at: Seconds, believe: int) -> None:
        """Tell the tracks of owners what to expect until the next report. `believe`: reports. Cost: O(pods)."""
        for pod in pods:
            track = tracks[pod.uid]
            profile = self.known.get(profile_key(pod.workload)) if pod.is_owner else None
            track.foretold = None if profile is None else foretold(profile, at)
            if track.foretold is None and (profile is not None or self.are_read):
                track.right = 0
            track.believed = track.right >= believe

    def foreseen(
        self, views: tuple[HeadroomView, ...], facts: Facts, *, at: Seconds, horizon: Seconds
    ) -> tuple[HeadroomView, ...]:
        """The same with their forecasts."""
        if not self.known:
            return views
        return tuple(foreseen(view, facts, self.known, at=at, horizon=horizon) for view in views)


def foretold(profile: ServiceProfile, at: Seconds) -> Foretold | None:
    """Of one pod's CPU; None where the profile does not say."""
    portrait, swing = (_usable(amounts.get(CPU, ())) for amounts in (profile.portrait, profile.swing))
    if portrait is None or swing is None:
        return None
    hours = {int(moment // HOUR) % HOURS for moment in (at, at + AHEAD)}
    return Foretold(
        profile.version,
        max(1.0, *(swing[hour] for hour in hours)),
        max(portrait[hour] * max(1.0, swing[hour]) for hour in hours) / 1000 * (1 + UNLIKE),
    )


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
    parts = (("portrait", profile.portrait), ("swing", profile.swing))
    odd = [(name, kind) for name, of in parts for kind in (CPU, MEMORY) if kind in of and _usable(of[kind]) is None]
    return f"{', '.join(f'{name} of {kind}' for name, kind in odd)}: not {HOURS} amounts of at least 0" if odd else ""


def _usable(portrait: Sequence[float]) -> tuple[float, ...] | None:
    good = len(portrait) == HOURS and all(math.isfinite(amount) and amount >= 0 for amount in portrait)
    return tuple(portrait) if good else None


def _guess(pod: Pod, track: Track, *, cpu: bool) -> float:
    seen: Sequence[float] = track.cpu if cpu else track.memory
    return max(seen, default=pod.request if cpu else float(pod.memory))
