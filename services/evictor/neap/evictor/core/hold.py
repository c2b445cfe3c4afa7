"""Patience with a metric: rising slowly, falling slowly.

A pressure has risen after `reports` reports in a row beyond the threshold, `hold` seconds apart at least; a hard
one at once. It has fallen when the metric is calm, not merely below the threshold. In between nobody leaves, but
the next report beyond the threshold counts at once: one spike evicts nobody, a saw-tooth does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from neap.common.units import Seconds
from neap.evictor.core.rule import RuleSettings
from neap.evictor.core.view import Level


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One metric's history, as far as it matters."""

    since: Seconds = 0.0  # first report of this run beyond the threshold
    reports: int = 0  # of this run
    risen: bool = False
    crowded: int = 0  # reports in a row beyond the soft threshold, or the other


def felt(
    before: Mapping[str, Held], levels: Sequence[Level], settings: RuleSettings, at: Seconds
) -> tuple[dict[str, Held], list[tuple[Level, Held]]]:
    """The histories of one rule, by scope, after one more report, and the levels to act on.

    Scopes that are no longer reported are forgotten.
    """
    after: dict[str, Held] = {}
    due = []
    for level in levels:
        held = after[level.scope] = _next(
            after.get(level.scope) or before.get(level.scope, Held()), level, settings, at
        )
        if level.need > 0 and held.risen:
            due.append((level, held))
    return after, due


def _next(held: Held, level: Level, settings: RuleSettings, at: Seconds) -> Held:
    crowded = held.crowded + 1 if level.crowded or level.need > 0 else 0
    if level.need <= 0:
        return Held(since=held.since, risen=held.risen and not level.calm, crowded=crowded)
    since, reports = held.since if held.reports else at, held.reports + 1
    risen = held.risen or level.hard or (reports >= settings.reports and at - since >= settings.hold)
    return Held(since=since, reports=reports, risen=risen, crowded=crowded)
