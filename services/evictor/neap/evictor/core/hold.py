"""Patience with a metric: rising slowly, falling slowly.

A pressure has risen after `reports` reports in a row beyond the threshold, `hold` seconds apart at least; a hard
one at once. It has fallen when the metric is calm, not merely below the threshold. In between nobody leaves, but
the next report beyond the threshold counts at once: one spike evicts nobody, a saw-tooth does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from neap.common.units import Seconds
from neap.evictor.core.rule import RuleSettings
from neap.evictor.core.rules import Asked
from neap.evictor.core.view import Level, View


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One metric's history, as far as it matters."""

    since: Seconds = 0.0  # first report of this run beyond the threshold
    reports: int = 0  # of this run
    risen: bool = False
    crowded: int = 0  # reports in a row beyond the soft threshold, or the other


class Due(NamedTuple):
    """A level of a rule to act on."""

    rule: str
    level: Level
    held: Held


class Felt(NamedTuple):
    """What one report comes to: levels to act on, those of rules on a dry run, and by rule why the node is closed."""

    due: Sequence[Due]  # hard ones first, then in the order of the rules
    dry: Sequence[Due]
    closes: dict[str, str]


class Holds:
    """The histories of all rules, by rule and scope."""

    def __init__(self, rules: Asked, known: Mapping[str, Mapping[str, Held]]) -> None:
        self._rules = rules
        self.of = {name: known.get(name, {}) for name in rules}

    def feel(self, view: View) -> Felt:
        """After one more report."""
        due: list[Due] = []
        dry: list[Due] = []
        closes: dict[str, str] = {}
        for name, (rule, settings) in self._rules.items():
            levels = rule.pressure(view, settings)
            after, acts = felt(self.of[name], levels, settings, view.at)
            self.of[name] = after
            (dry if settings.dry_run else due).extend(Due(name, level, held) for level, held in acts)
            crowded = [one for one in levels if after[one.scope].crowded >= settings.reports]
            if not settings.dry_run and (full := [*(level for level, _ in acts), *crowded]):
                closes[name] = full[0].why
        return Felt(sorted(due, key=lambda one: not one.level.hard), dry, closes)


def felt(
    before: Mapping[str, Held], levels: Sequence[Level], settings: RuleSettings, at: Seconds
) -> tuple[dict[str, Held], list[tuple[Level, Held]]]:
    """The histories of one rule, by scope, after one more report, and the levels to act on.

    Scopes that are no longer reported are forgotten; of one that is reported twice the last word counts.
    """
    after: dict[str, Held] = {}
    due = []
    for level in levels:
        held = after[level.scope] = _next(before.get(level.scope, Held()), level, settings, at)
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
