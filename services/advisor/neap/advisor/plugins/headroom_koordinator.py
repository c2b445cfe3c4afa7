"""The peer: what Koordinator would lend on this node, and how it would suppress its guests.

batch    = capacity × reclaim − max(system used, reserved) − Σ high-priority used, at least 0       [cores, or bytes]
suppress = capacity × threshold − owners' use now − max(system used, reserved), at least `floor`    [cores]

`suppress` is a quota on the class of guests; it grows by at most `advisor.grow_step` of the node per report
(Koordinator: 10 %, and it skips changes below 1 %, which only saves writes). High-priority use is smoothed by the provision policy
(Koordinator aggregates 300 s: smoothing 1/3 at one report a minute); dedicated pods count by request, as its LSE pods do.

Use it to compare, with provision_koordinator: the same day, the same rooms, the peer's rules with its documented
defaults. Not a copy: nothing here but the two formulas.
Source: Koordinator documentation and repository a7a1b76 (2026-07), batch resource calculator and CPU suppress:
reclaim thresholds CPU 60 %, memory 65 %; suppress threshold 65 %, floor 2 cores.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.advisor.core.policy import Claim, HeadroomPolicy, HeadroomView, Offer
from neap.common.model.resource import RECLAIMED_MEMORY
from neap.common.units import GIB, Cores, Ratio


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The peer's documented defaults."""

    cpu_reclaim: Annotated[Ratio, Meta(gt=0, le=1)] = 0.60  # of all CPUs may be promised and used
    memory_reclaim: Annotated[Ratio, Meta(gt=0, le=1)] = 0.65  # of the memory
    suppress: Annotated[Ratio, Meta(gt=0, le=1)] = 0.65  # of all CPUs may be busy before guests are suppressed
    floor: Annotated[Cores, Meta(gt=0)] = 2.0  # guests keep so much whatever happens


def advise(view: HeadroomView, settings: Settings) -> Offer:
    """The offer, its sum, and for CPUs the cap.

    Laws: 0 ≤ offer ≤ capacity; cap ≥ floor; both non-increasing in what owners use.
    """
    memory = view.kind == RECLAIMED_MEMORY
    reclaim = settings.memory_reclaim if memory else settings.cpu_reclaim
    system = max(view.reserved, view.system or 0.0)
    margin = Claim(view.capacity * (1 - reclaim), "margin")
    claims = (margin, Claim(system, "system"), *view.claims)
    left = view.capacity - sum(claim.total for claim in claims)
    unit = GIB if memory else 1
    terms = "".join(f" − {claim.total / unit:.1f} {claim.name}" for claim in claims if claim.amount > 0)
    total = f"{left / unit:.1f} = {view.capacity / unit:.1f} capacity{terms}"
    text = total if left >= 0 else f"0.0, because {total}"
    return Offer(max(left, 0.0), text, None if memory else _cap(view, settings, system))


def _cap(view: HeadroomView, settings: Settings, system: Cores) -> Cores:
    if view.used is None:
        return settings.floor
    return max(settings.floor, view.capacity * settings.suppress - view.used - system)


PLUGIN: Final = HeadroomPolicy(settings=Settings, advise=advise)
