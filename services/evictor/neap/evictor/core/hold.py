"""Patience with a metric: rising slowly, falling slowly.

A pressure has risen after `reports` reports in a row beyond the threshold, `hold` seconds apart at least; a hard
one at once. It has fallen when the metric is calm, not merely below the threshold. In between nobody leaves, but
the next report beyond the threshold counts at once: one spike evicts nobody, a saw-tooth does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neap.common.units import Seconds
from neap.evictor.core.rule import RuleSettings
from neap.evictor.core.view import Level


@dataclass(slots=True)
class Held:
    """One metric's history, as far as it matters."""

    since: Seconds = 0.0  # first report of this run beyond the threshold
    reports: int = 0  # of this run
    risen: bool = False


class Hold:
    """The histories of one rule, by scope."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}

    def feel(self, levels: Sequence[Level], settings: RuleSettings, at: Seconds) -> list[tuple[Level, Held]]:
        """Take in one report; the levels to act on. Scopes that are no longer reported are forgotten."""
        self._held = {level.scope: self._held.get(level.scope) or Held() for level in levels}
        due = []
        for level in levels:
            held = self._held[level.scope]
            if level.need > 0:
                held.since = held.since if held.reports else at
                held.reports += 1
                held.risen |= level.hard or (held.reports >= settings.reports and at - held.since >= settings.hold)
                if held.risen:
                    due.append((level, held))
            else:
                held.reports = 0
                held.risen &= not level.calm
        return due
