"""A guest holds more memory than it asked for: eviction on RSS overuse.

    beyond:  working_set > ratio × request      calm:  working_set ≤ calm × request      [bytes, per guest]

A guest without a memory request, or without a measurement, is not judged.
Source: katalyst-core evictionmanager/plugin/memory/rss_overuse.go (idea); requirements 002-57 (1.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

from msgspec import Meta

from neap.common.model.resource import MEMORY, RECLAIMED_MEMORY
from neap.common.units import Ratio, format_bytes
from neap.evictor.core.rank import in_order
from neap.evictor.core.rule import Rule, RuleSettings
from neap.evictor.core.view import Guest, Level, Victim, View


class Settings(RuleSettings, frozen=True, kw_only=True):
    """How much more is too much."""

    reports: Annotated[int, Meta(ge=1)] = 3  # reports in a row beyond before the guest leaves
    ratio: Annotated[Ratio, Meta(ge=1)] = 1.2  # of the request: beyond
    calm: Annotated[Ratio, Meta(ge=0)] = 1.1  # of the request: over


def pressure(view: View, settings: Settings) -> Sequence[Level]:
    """One level per guest."""
    return tuple(_levels(view, settings))


def _levels(view: View, settings: Settings) -> Iterator[Level]:
    for guest in view.guests:
        request = guest.requests.get(RECLAIMED_MEMORY) or guest.requests.get(MEMORY, 0)
        held = guest.working_set
        if not request or held is None:
            continue
        beyond = held > settings.ratio * request
        yield Level(
            metric="working set",
            value=held,
            threshold=settings.ratio * request,
            need=int(beyond),
            calm=held <= min(settings.calm, settings.ratio) * request,
            why=_why(held, request, settings) if beyond else "",
            scope=guest.uid,
        )


def _why(held: int, request: int, settings: Settings) -> str:
    times = f"{held / request:.2f} × its request of {format_bytes(request)}"
    return f"working set {format_bytes(held)} is {times}, {settings.ratio:g} × is allowed"


def rank(_: View, level: Level, candidates: Sequence[Guest]) -> Sequence[Victim]:
    """The one it is about."""
    mine = (guest for guest in candidates if guest.uid == level.scope)
    return in_order((Victim(guest, guest.working_set or 0, level.why) for guest in mine), level.need)


PLUGIN: Final = Rule(Settings, pressure, rank)
