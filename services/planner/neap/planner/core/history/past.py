"""What others recorded, folded as if it had been seen: a line of a container, of a service, or of a node.

a container's line       its histogram and hours; with a replica's name also one part of its service's total
a service's line         the total itself
what we saw ourselves    is never told again: values of a time from which on a row has its own are left out
the same line twice      (a message delivered again, an export imported again or overlapping) counts once
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import Final, TypeAlias

import numpy as np

from neap.common.model.forecast import CLUSTER_SCOPE
from neap.common.model.past import PastUsage
from neap.common.units import Seconds
from neap.foresight.series import Series
from neap.planner.core.history.codes import MOST
from neap.planner.core.history.containers import Containers
from neap.planner.core.history.settings import Settings
from neap.planner.core.history.totals import Totals
from neap.planner.core.keys import key_of

Span: TypeAlias = tuple[Seconds, Seconds]

MOST_LINES: Final = 100_000  # remembered as told
MOST_SPANS: Final = 16  # of one line
SHORTEST: Final[Seconds] = 1.0  # step


class Past:
    """See module docstring."""

    def __init__(self, settings: Settings, containers: Containers, totals: Totals) -> None:
        self._settings, self._containers, self._totals = settings, containers, totals
        self.told: dict[int, tuple[Span, ...]] = {}  # line -> what of it was told; told last at the end

    def fold(self, message: PastUsage, now: Seconds) -> tuple[int, int, str]:
        """Values taken, values that are none, and why nothing was taken."""
        why = self._flaw(message, now)
        if why:
            return 0, len(message.values), why
        values = np.array([math.nan if value is None else value for value in message.values], float)
        ends = message.start + message.step * np.arange(1, len(values) + 1)
        with np.errstate(invalid="ignore"):
            values[(values < 0) | (values > MOST[message.resource]) | (ends > now + self._settings.skew)] = np.nan
        known = int(np.isfinite(values).sum())
        line, end = line_of(message), message.start + message.step * len(values)
        for before, after in self.told.get(line, ()):
            values[(ends - message.step / 2 > before) & (ends - message.step / 2 < after)] = np.nan
        taken = int(np.isfinite(values).sum())
        if not taken:
            return 0, len(values) - known, "told" if known else "empty"
        why = self._fold(message, Series(message.start, message.step, values), now)
        if why:
            return 0, len(values) - known, why
        self.told[line] = joined((*self.told.pop(line, ()), (message.start, end)))
        while len(self.told) > MOST_LINES:
            del self.told[next(iter(self.told))]
        return taken, len(values) - known, ""

    def _flaw(self, message: PastUsage, now: Seconds) -> str:
        if message.resource not in MOST or message.resource == "replicas":
            return "resource"
        if not (math.isfinite(message.start) and math.isfinite(message.step) and message.step >= SHORTEST):
            return "time"
        if message.start > now or message.start + message.step * len(message.values) <= 0:
            return "time"
        return "" if message.name and message.kind and message.namespace else "name"

    def _fold(self, message: PastUsage, series: Series, now: Seconds) -> str:
        resource = message.resource
        if message.namespace == CLUSTER_SCOPE:
            if message.kind != "Node":
                return "name"
            return self._totals.fold_past_node(message.name, resource, series, now)
        key = key_of(message)
        if not message.container:
            return self._totals.fold_past(key, resource, series, now, "")
        why = self._containers.fold_past((key, message.container), resource, series, now)
        if message.replica:
            total = self._totals.fold_past(key, resource, series, now, message.container)
            why = why and total
        return why


def line_of(message: PastUsage) -> int:
    """Whose line it is, in 64 bits."""
    told = (message.namespace, message.kind, message.name, message.container, message.replica, message.resource)
    return int.from_bytes(hashlib.blake2b("\0".join(told).encode(), digest_size=8).digest(), "big")


def joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans that touch are one; of too many, the nearest are as well."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    while len(found) > MOST_SPANS:
        place = min(range(len(found) - 1), key=lambda i: found[i + 1][0] - found[i][1])
        found[place : place + 2] = [(found[place][0], found[place + 1][1])]
    return tuple(found)
