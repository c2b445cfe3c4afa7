"""What a node can lend until the owners' next peak, as their profiles foretell it.

    offer = capacity − margin − max(system used, system reserved) − Σ other claims − peak × ratio         [cores, or bytes]
    peak  = highest hour of the sum of the owners' profiles over the horizon; who has none counts with what it uses

Where owners claim more now than was foretold, what they claim counts, and the sum says by how much the profile was
wrong: so an offer shrinks within one report. Without any profile it is the canonical sum.

    8.0 = 32.0 capacity − 2.0 system − 20.0 online peak x 1.10; over 1h, by profiles v41

Use for services whose days are alike: guests are not promised what the next rush takes back. It never offers more
than the canonical policy does with the same ratio.
Source: requirements 1.5 (004-38: online peak of the next hour 20 of 32 cores, margin 10 %, system 2 → 8).
"""

from __future__ import annotations

import math
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.advisor.core.policy import Claim, HeadroomPolicy, HeadroomView, Offer
from neap.advisor.core.sums import left_over, written
from neap.common.model.resource import RECLAIMED_MEMORY
from neap.common.units import Ratio, format_duration

ONLINE: Final = frozenset({"online", "reserve", "requested"})  # what a forecast stands for


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a forecast is trusted."""

    ratio: Annotated[Ratio, Meta(ge=1, le=10)] = 1.10  # of the foretold peak
    memory_margin: Annotated[Ratio, Meta(ge=0, le=1)] = 0.05  # of the memory that nobody is given


def advise(view: HeadroomView, settings: Settings) -> Offer:
    """The offer and its sum.

    Laws: 0 ≤ offer ≤ capacity; non-increasing in every claim and in the peak; never more than without a forecast.
    """
    margin = settings.memory_margin if view.kind == RECLAIMED_MEMORY else 0.0
    first = (Claim(view.capacity * margin, "margin"), Claim(max(view.reserved, view.system or 0.0), "system"))
    told = view.forecast
    if told is None or not math.isfinite(told.peak) or told.peak < 0:
        return left_over(view, (*first, *view.claims))
    foretold = Claim(told.peak, "online peak", settings.ratio)
    claimed = sum(claim.total for claim in view.claims if claim.name in ONLINE)
    source = f"over {format_duration(told.horizon)}, by profiles {' '.join(told.versions)}"
    if told.without:
        source += f", {told.without} owners without"
    if claimed > foretold.total:
        said = left_over(view, (*first, *view.claims))
        wrong = f"{written(claimed - foretold.total, view.kind)} more than foretold {source}"
        return Offer(said.amount, f"{said.arithmetic}; {wrong}")
    others = (claim for claim in view.claims if claim.name not in ONLINE)
    said = left_over(view, (*first, *others, foretold))
    return Offer(said.amount, f"{said.arithmetic}; {source}")


PLUGIN: Final = HeadroomPolicy(settings=Settings, advise=advise, within=True)
