"""A node goes back from work that can wait to online services: its guests are asked to leave before the rush.

    beyond: the planner calls the node's side online, and draining or blocked
    calm:   it does not, or said so too long ago

The planner begins early enough (its forecast and lead time), so nobody hurries here: each guest leaves with its grace,
and under the budgets of every eviction. Who is protected is never asked; the planner names it as a blocker and gives
another node back instead. One level for all guests; those who lose least go first, as always.
Source: model/tide.py (the contract of a turn); Katalyst's TideNodePool drains by taint, without budgets or grace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import Meta

from neap.evictor.core.rank import in_order
from neap.evictor.core.rule import Rule, RuleSettings
from neap.evictor.core.view import Guest, Level, Victim, View


class Settings(RuleSettings, frozen=True, kw_only=True):
    """When guests of a node that goes back leave."""

    reports: Annotated[int, Meta(ge=1)] = 2  # reports in a row at which the planner still says so


def pressure(view: View, _: Settings) -> Sequence[Level]:
    """How many guests are still there."""
    if view.returns is None:
        return ()
    left = len(view.guests)
    why = f"the node goes back to online services with the tide, and {left} guests are on it"
    return (Level("guests on a node that goes back", left, 0, left, left == 0, why, crowded=True),)


def rank(_: View, level: Level, candidates: Sequence[Guest]) -> Sequence[Victim]:
    """Everybody who may leave; each of them helps alike."""
    return in_order((Victim(guest, 1, level.why) for guest in candidates), level.need)


PLUGIN: Final = Rule(Settings, pressure, rank)
