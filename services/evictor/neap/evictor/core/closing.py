"""Closing a node to guests while room is made, so that a place that came free is not filled at once.

It is closed by a rule while a level of it is acted on or crowded for long enough, and while anybody is leaving; it
opens `reopen` reports after the last reason, or when nobody says anything any more: what is said has an end.
"""

from __future__ import annotations

from collections.abc import Mapping

from neap.common.model.evicting import Closure, Evicting
from neap.common.units import Seconds
from neap.evictor.settings import Settings


class Closing:
    """See module docstring. `closed` is by rule; `is_told`: others are known to know, which is nothing at first."""

    def __init__(self, closed: Mapping[str, Closure], *, is_told: bool = True) -> None:
        self.closed = dict(closed)
        self._told: Evicting | None = None
        self._is_told = is_told

    def feel(self, reasons: Mapping[str, str], at: Seconds, lasts: Seconds) -> None:
        """What closes the node now, as a sentence by rule; each lasts for so long."""
        self.closed = {rule: closure for rule, closure in self.closed.items() if closure.until > at}
        for rule, why in reasons.items():
            self.closed[rule] = Closure(rule=rule, why=why, until=at + lasts)

    def untold(self) -> None:
        """What was said last is not known to be heard: it is said again."""
        self._is_told = False

    def news(self, settings: Settings, at: Seconds, lasts: Seconds) -> Evicting | None:
        """What to say, if it differs from what was said, or what was said ends soon."""
        is_paused = settings.pause_until > at
        said = Evicting(
            at=at,
            source="evictor",
            node=settings.node,
            closed=tuple(self.closed.values()),
            until=max((closure.until for closure in self.closed.values()), default=0.0),
            paused_until=settings.pause_until if is_paused else 0.0,
            pause_reason=settings.pause_reason if is_paused else "",
        )
        before = self._told or Evicting(at=at, source="evictor", node=settings.node)
        is_same = _gist(said) == _gist(before)
        lasts_on = not said.closed or said.until <= before.until or before.until > at + lasts / 2
        if is_same and lasts_on and self._is_told:
            return None
        self._told, self._is_told = said, True
        return said


def _gist(said: Evicting) -> tuple[tuple[str, ...], Seconds, str]:
    return tuple(closure.rule for closure in said.closed), said.paused_until, said.pause_reason
