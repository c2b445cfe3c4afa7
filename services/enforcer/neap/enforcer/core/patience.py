"""When a refused knob is tried again: after 1, 2, 4 ... periods, at most `limit`; at once for another text."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from neap.common.units import Seconds
from neap.enforcer.core.knob import Site
from neap.enforcer.core.plan import Aim


class _Refused(NamedTuple):
    text: str
    tries: int
    again_at: Seconds


class Patience:
    """Which sites to leave alone for now."""

    def __init__(self, period: Seconds, limit: int) -> None:
        self._period, self._limit = period, limit
        self._refused: dict[Site, _Refused] = {}

    def refused(self, site: Site, text: str, at: Seconds) -> None:
        """The kernel, or the plan, said no."""
        before = self._refused.get(site)
        tries = before.tries + 1 if before is not None and before.text == text else 0
        self._refused[site] = _Refused(text, tries, at + self._period * min(1 << min(tries, 30), self._limit))

    def accepted(self, site: Site) -> None:
        """The kernel took it."""
        self._refused.pop(site, None)

    def keep(self, sites: Collection[Site]) -> None:
        """Forget every other site."""
        self._refused = {site: refused for site, refused in self._refused.items() if site in sites}

    def still(self, aims: Mapping[Site, Aim], at: Seconds) -> frozenset[Site]:
        """Sites whose text was refused and whose time has not come."""
        return frozenset(
            site
            for site, refused in self._refused.items()
            if refused.again_at > at and site in aims and aims[site].text == refused.text
        )

    @property
    def refused_any(self) -> bool:
        """Whether any site is waiting at all."""
        return bool(self._refused)

    def is_due(self, at: Seconds) -> bool:
        """Whether a refused site is waiting to be tried now."""
        return any(refused.again_at <= at for refused in self._refused.values())
