"""The canonical estimate, with no more margin than the owners' profiles say is of use.

need(pod)    = min(canonical need, max(now × (1 + floor), level × swing × (1 + error)))                     [cores]
level        = recent peak, or smoothed use where that is higher
swing        = highest sample of an hour over its mean, at this hour and the next few minutes, the highest of all days
               known: what one pod of this service did above its level within a whole hour, noise and bursts included
requirement  = Σ need(pod) + reserve, as there

The canonical margin stands for all services that nobody knows: with it a pod may want half more than its recent peak
until the next report. A service whose hours never rose by a tenth does not need that, and one that doubles at eight in
the morning keeps it until nine. The swing is a ratio within one day, so it holds on a day of another level as well; a
profile counts only while it is right (core/foreseeing.py), and not for who is saturated, waits for CPU, or is still
settling: then, and without any profile, this is the canonical policy.
Replaying minutes of seven days each of the Alibaba 2018 and Google 2019 curves with three days known (one sample per
five minutes), demand of the next two reports came to at most 1.00 and 0.93 of it, without reserve, at 1.45 and 1.21 times
what was used (canonical: 1.71 and 1.69). With one day known it was exceeded in two minutes a day, by 6 % at most, which
reserve and rounding hold; `error` 0.05 leaves none and costs 1.52 and 1.26. A fixed margin of 0.3 on use costs 1.32 of
both, and is exceeded on the steeper one.

Use where a planner tells profiles; it is the canonical policy where none does.
Source: requirements 1.5 (004-31, 004-38: what profiles foretell bounds what is held back); provision_canonical.py.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta
from msgspec.structs import replace

from neap.advisor.core.estimate import is_saturated, need
from neap.advisor.core.policy import PodView, PoolView, ProvisionPolicy, Requirement
from neap.advisor.plugins import provision_canonical as canonical
from neap.common.units import Cores, Ratio

MOST_NAMED: Final = 4  # versions in a sentence


class Settings(canonical.Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Those of the canonical estimate, and how far a profile is trusted."""

    floor: Annotated[Ratio, Meta(ge=0, le=10)] = 0.15  # on top of what a pod uses now, whatever is foretold
    error: Annotated[Ratio, Meta(ge=0, le=10)] = 0.0  # on top of what is foretold; level and swing both count noise


def advise(view: PoolView, settings: Settings, memory: canonical.Memory) -> tuple[Requirement, canonical.Memory]:
    """The pool's requirement and the next memory.

    Laws: at most the canonical requirement, and equal to it where no pod has a profile that counts; at least what the
    pods use now, with the floor, and the reserve. Cost: O(pods).
    """
    plain, memory = canonical.advise(view, settings, memory)
    known = [pod for pod in view.pods if _counts(pod)]
    if not known or memory[0] or is_saturated(view, settings.full):
        return plain, memory
    guess, wanted = plain.estimate, plain.cores - plain.reserve
    for pod in known:
        measured, held = need(pod, settings.growth, 1 + settings.margin)
        level, told = _foretold(pod, settings)
        if told < held:
            guess, wanted = guess + level - measured, wanted + told - held
    ratio, cores = wanted / guess if guess > 0 else 1.0, wanted + plain.reserve
    by = _cited(known, len(view.pods) - len(known))
    less = f", {plain.cores - cores:.1f} less" if plain.cores - cores >= 0.05 else ""
    reason = f"{cores:.1f} = {guess:.1f} online x {ratio:.2f} + {plain.reserve:.1f} reserve{less} {by}"
    return replace(plain, cores=cores, estimate=guess, ratio=ratio, reason=reason, by=by), memory


def _counts(pod: PodView) -> bool:
    return pod.swing is not None and pod.settled and pod.now is not None and pod.level is not None


def _foretold(pod: PodView, settings: Settings) -> tuple[Cores, Cores]:
    """(level, need), at most its limit."""
    now, level, swing = pod.now or 0.0, pod.level or 0.0, pod.swing or 1.0
    told = max(now * (1 + settings.floor), level * swing * (1 + settings.error))
    return (level, told) if pod.limit is None else (min(level, pod.limit), min(told, pod.limit))


def _cited(known: list[PodView], without: int) -> str:
    """Whose profiles, and how many owners have none that counts."""
    versions = sorted({pod.profile for pod in known})
    more = f" and {len(versions) - MOST_NAMED} more" if len(versions) > MOST_NAMED else ""
    rest = f", {without} without" if without else ""
    return f"by profiles {' '.join(versions[:MOST_NAMED])}{more} ({len(known)} owners{rest})"


PLUGIN: Final = ProvisionPolicy(settings=Settings, advise=advise, start=canonical.START)
