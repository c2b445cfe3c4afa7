"""Reclaimed CPU is oversold: the node lends less than guests were promised.

    sold = Σ request(guest)      beyond:  sold > ratio × offer      calm:  sold ≤ calm × offer      [milli-cores]

`offer` is the advisor's headroom for all guests of the node. Guests are throttled at once when it shrinks (advice);
they leave only if it stays small, because they are better off elsewhere then. A small offer keeps others away by
itself.
Not judged without a fresh offer.
Source: katalyst-core evictionmanager/plugin/resource (idea: Σ requests against allocatable, with tolerance).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import Meta

from neap.common.model.resource import LARGEST, RECLAIMED_CPU
from neap.common.units import Ratio
from neap.evictor.core.rank import in_order
from neap.evictor.core.rule import Rule, RuleSettings
from neap.evictor.core.view import Guest, Level, Victim, View


class Settings(RuleSettings, frozen=True, kw_only=True):
    """When sold is too much."""

    ratio: Annotated[Ratio, Meta(ge=1, le=1000)] = 1.25  # of the offer: beyond
    calm: Annotated[Ratio, Meta(ge=0)] = 1.0  # of the offer: over


def pressure(view: View, settings: Settings) -> Sequence[Level]:
    """Sold against offered."""
    lent = None if view.offer is None else view.offer.get(RECLAIMED_CPU)
    if lent is None:
        return ()
    offer = min(max(lent, 0), LARGEST)
    sold = sum(guest.requests.get(RECLAIMED_CPU, 0) for guest in view.guests)
    threshold = int(offer * settings.ratio)
    why = f"guests asked for {sold / 1000:.1f} cores, {settings.ratio:g} × the {offer / 1000:.1f} lent is allowed"
    return (
        Level(
            metric="reclaimed cores sold",
            value=sold / 1000,
            threshold=threshold / 1000,
            need=sold - threshold,
            calm=sold <= min(settings.calm, settings.ratio) * offer,
            why=why,
            unit="milli-cores",
        ),
    )


def rank(_: View, level: Level, candidates: Sequence[Guest]) -> Sequence[Victim]:
    """By what their requests free."""
    asked = ((guest, guest.requests.get(RECLAIMED_CPU, 0)) for guest in candidates)
    return in_order((Victim(guest, cpu, f"asked for {cpu / 1000:.1f} cores") for guest, cpu in asked), level.need)


PLUGIN: Final = Rule(Settings, pressure, rank)
