"""A guest disturbs an owner, and holding it back was not enough: the advisor says that it should go.

    beyond: the advice names it and says `leave`      calm: the advice does not name it

The advisor has measured, throttled, and waited (its interference.*); here it is only asked whether the guest may go,
with the budgets and rights of every rule. One level per guest that is named; nobody else can help.
Source: Zhang et al., CPI² (EuroSys 2013): who is capped again and again is moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import Meta

from neap.evictor.core.rank import the_one
from neap.evictor.core.rule import Rule, RuleSettings
from neap.evictor.core.view import Guest, Level, Victim, View


class Settings(RuleSettings, frozen=True, kw_only=True):
    """When a guest that was throttled in vain leaves."""

    reports: Annotated[int, Meta(ge=1)] = 3  # reports in a row at which the advice says so
    dry_run: bool = True  # only count and log who would leave


def pressure(view: View, _: Settings) -> Sequence[Level]:
    """One level per guest that is named."""
    here = {guest.uid: guest.workload.attempt for guest in view.guests}
    return tuple(
        Level(
            metric=f"{one.signal} of {one.owner}",
            value=one.value,
            threshold=one.threshold,
            need=int(one.leave),
            calm=False,
            why=one.reason,
            scope=one.uid,
        )
        for one in view.noisy
        if here.get(one.uid) == one.attempt
    )


def rank(_: View, level: Level, candidates: Sequence[Guest]) -> Sequence[Victim]:
    """The one it is about."""
    return the_one(level, candidates, lambda _: 1)


PLUGIN: Final = Rule(Settings, pressure, rank)
