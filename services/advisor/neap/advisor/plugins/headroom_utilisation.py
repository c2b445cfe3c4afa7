"""What guests may be promised, steered so that the CPUs they run on are used to a target.

    supply  = max(cpus − busy, 0) + guests,  at most their quota                                          [cores]
    used    = guests / supply
    delta   = supply × (target − used)   below the target;   supply × (most − used)   above `most`, if there is one
    offer   = min(max(last + delta, supply), supply × oversold, capacity × share)

Guests ask for more than they use, so what they may ask for together may be more than there is: up to `oversold`. It
walks there from what was offered last, as long as guests leave their CPUs idle. A supply that is not known is the
canonical sum; memory is never oversold and always is.

    13.0 = 10.0 last + 10.0 supply x 0.30, at least 10.0, at most 15.0

Use where guests ask for much and use little; what they are promised is then not what they get at once. Not where
evictions of guests are expensive.
Source: katalyst-core sysadvisor cpu/assembler/headroomassembler (utilisation-based headroom; reference §4.7, acceptance
case A7). On purpose otherwise: whole cores there, milli-cores here, so nothing is rounded up to what is not there.
"""

from __future__ import annotations

import math
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.advisor.core.policy import Claim, HeadroomPolicy, HeadroomView, Offer, Supply
from neap.advisor.core.sums import left_over
from neap.common.model.resource import RECLAIMED_MEMORY
from neap.common.units import Cores, Ratio


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Target and bounds."""

    target: Annotated[Ratio, Meta(gt=0, le=1)] = 0.6  # of the supply that guests should use
    most: Annotated[Ratio, Meta(ge=0, le=1)] = 0.0  # of the supply in use: above it the offer falls; 0: never
    oversold: Annotated[Ratio, Meta(ge=1, le=10)] = 1.2  # offer over supply at most
    share: Annotated[Ratio, Meta(gt=0, le=1)] = 1.0  # of the capacity at most
    memory_margin: Annotated[Ratio, Meta(ge=0, le=1)] = 0.05  # of the memory that nobody is given


def advise(view: HeadroomView, settings: Settings) -> Offer:
    """The offer and its sum.

    Laws: 0 ≤ offer ≤ capacity × share; offer ≤ supply × oversold.
    """
    found = None if view.supply is None else supply(view.supply)
    if found is None:
        share = settings.memory_margin if view.kind == RECLAIMED_MEMORY else 0.0
        system = Claim(max(view.reserved, view.system or 0.0), "system")
        return left_over(view, (Claim(view.capacity * share, "margin"), system, *view.claims))
    used = (view.supply.guests or 0.0) / found if view.supply is not None and found > 0 else 0.0
    gap = 0.0
    if settings.target > used:
        gap = settings.target - used
    elif 0 < settings.most < used:
        gap = settings.most - used
    last = found if view.last is None or not math.isfinite(view.last) else view.last
    most = min(found * settings.oversold, view.capacity * settings.share)
    amount = max(0.0, min(max(last + found * gap, found), most))
    bounds = f"at least {found:.1f}, at most {most:.1f}"
    return Offer(amount, f"{amount:.1f} = {last:.1f} last + {found:.1f} supply x {gap:.2f}, {bounds}")


def supply(here: Supply) -> Cores | None:
    """Cores guests have or could have now; None while something is not known."""
    if here.busy is None or here.guests is None or not math.isfinite(here.busy + here.guests + here.cpus):
        return None
    found = max(here.cpus - here.busy, 0.0) + max(here.guests, 0.0)
    return found if here.quota is None else min(found, here.quota)


PLUGIN: Final = HeadroomPolicy(settings=Settings, advise=advise)
