"""What every hour of the day will bring a node: the portraits of the services whose pods are placed there.

    portrait(row, hour) = Σ over placed owners of their portrait, or of their guess where the service has none

Columns `portrait/cpu`, `portrait/memory`, float64 (rows, 24), milli-cores and bytes, whole numbers; the guesses, the
same at every hour, are summed apart in `guessed/cpu`, `guessed/memory`, so that a pod without portrait costs two
additions. Guests do not count: owners take back what they use.
Source: Katalyst load-aware scheduling with portraits (PR654), there by the hours of one fixed time zone, here UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np

from neap.common.model.placement import Placement
from neap.common.model.profile import ServiceProfile, profile_key
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.workload import Workload
from neap.scheduler.core.nodes.columns import Columns
from neap.scheduler.core.nodes.keeper import Keeper
from neap.scheduler.core.pods.estimate import HOURS, Estimate, Guess, estimate

PORTRAITS: Final = ("portrait/cpu", "portrait/memory")
GUESSED: Final = ("guessed/cpu", "guessed/memory")
_KINDS: Final[tuple[str, ...]] = (CPU, MEMORY)


class Portraits(Keeper):
    """Keeps the columns above, and the portraits of all services by `profile_key`."""

    def __init__(self, columns: Columns, guess: Guess) -> None:
        self._columns, self._guess = columns, guess
        for portrait, guessed in zip(PORTRAITS, GUESSED, strict=True):
            columns.add(portrait, np.float64, width=HOURS)
            columns.add(guessed, np.float64)
        self._told: dict[str, Mapping[str, tuple[float, ...]]] = {}
        self._held: dict[str, dict[tuple[int, str], tuple[Workload, Estimate]]] = {}  # owners, by service
        self._last: tuple[Workload | None, Estimate] = (None, Estimate(0, 0))

    def expected(self, workload: Workload) -> Estimate:
        """What a pod will use: by the portrait of its service if there is one, else by guess."""
        if workload is not self._last[0]:
            portrait = self._told.get(profile_key(workload)) if self._told else None
            self._last = (workload, estimate(workload, self._guess, portrait))
        return self._last[1]

    def learn(self, profile: ServiceProfile) -> Iterable[int]:
        """A service's profile came or changed; one without observations or portrait takes the portrait back."""
        told = {kind: profile.portrait[kind] for kind in _KINDS if kind in profile.portrait}
        if told == self._told.get(profile.key, {}):
            return ()
        self._last = (None, Estimate(0, 0))
        if told:
            self._told[profile.key] = told
        else:
            del self._told[profile.key]
        held = self._held.get(profile.key, {})
        for (row, uid), (workload, before) in held.items():
            now = estimate(workload, self._guess, told)
            self._add(row, before, -1)
            self._add(row, now, 1)
            held[row, uid] = (workload, now)
        return {row for row, _ in held}

    def charge(self, row: int, placement: Placement, sign: int) -> Iterable[int]:
        """An owner's portrait is added, or exactly what was added is taken away."""
        workload = placement.workload
        if workload.qos is QosClass.RECLAIMED:
            return ()
        key, cell = profile_key(workload), (row, workload.uid)
        if sign > 0:
            expected = self.expected(workload)
            self._held.setdefault(key, {})[cell] = (workload, expected)
            self._add(row, expected, 1)
        else:
            held = self._held[key]
            self._add(row, held.pop(cell)[1], -1)
            if not held:
                del self._held[key]
        return ()

    def _add(self, row: int, expected: Estimate, sign: int) -> None:
        columns, portrait = self._columns, expected.portrait
        if portrait is None:
            for name, amount in zip(GUESSED, expected.amounts, strict=True):
                columns[name][row] += sign * amount
        else:
            for name, hours in zip(PORTRAITS, portrait, strict=True):
                columns[name][row] += np.multiply(hours, sign, dtype=np.float64)
