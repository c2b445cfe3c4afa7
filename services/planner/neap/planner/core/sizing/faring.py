"""How the pods of services fare, as their nodes report it: what the guard compares before and after a change.

    throttled   share of a report's period that a container spent throttled
    stalled     share of the time in which some task of it waited for a CPU (PSI, 60 s where nothing newer is known)
    starved     the same for memory

Means over containers and reports, in two windows that follow each other; O(1) per service. A short report lists only
what changed, so both windows lean towards the busy, alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from neap.common.model.recommendation import Health
from neap.common.model.usage import ContainerUsage, NodeUsage, Stall
from neap.common.units import Seconds

MEASURES: Final = 3


@dataclass(slots=True)
class Window:
    """Sums and counts of one window."""

    since: Seconds
    sums: list[float] = field(default_factory=lambda: [0.0] * MEASURES)
    counts: list[int] = field(default_factory=lambda: [0] * MEASURES)
    uids: set[str] = field(default_factory=set)

    def add(self, usage: ContainerUsage) -> None:
        """Count one container of one report."""
        self.uids.add(usage.uid)
        for place, value in enumerate((usage.throttled, _some(usage.cpu_stall), _some(usage.memory_stall))):
            if value is not None and 0 <= value <= 1:
                self.sums[place] += value
                self.counts[place] += 1


@dataclass(slots=True)
class Fare:
    """The window before, and the one under way."""

    now: Window
    before: Window | None = None

    def turn(self, at: Seconds) -> None:
        """Begin another window."""
        self.before, self.now = self.now, Window(at)

    def health(self, at: Seconds, kills: int, *, whole: bool) -> Health:
        """What both windows come to, or only the one under way."""
        windows = [self.now] if self.before is None or not whole else [self.before, self.now]
        means = [_mean(windows, place) for place in range(MEASURES)]
        return Health(
            seconds=max(0.0, at - windows[0].since), pods=len(set().union(*(w.uids for w in windows))), oom_kills=kills,
            throttled=means[0], stalled=means[1], starved=means[2],
        )  # fmt: skip


class Faring:
    """The fares of services, by key. `key_of` names the service of a pod that is sized, or nothing."""

    def __init__(self, key_of: Callable[[str], str]) -> None:
        self._key_of = key_of
        self._fares: dict[str, Fare] = {}
        self._of_uid: dict[str, Fare | None] = {}  # None: nobody's, asked again after the next sweep

    def hear(self, usage: NodeUsage, at: Seconds) -> None:
        """Fold a report."""
        for container in usage.containers:
            if container.uid not in self._of_uid:
                key = self._key_of(container.uid)
                self._of_uid[container.uid] = self._fares.setdefault(key, Fare(Window(at))) if key else None
            fare = self._of_uid[container.uid]
            if fare is not None:
                fare.now.add(container)

    def of(self, key: str, at: Seconds) -> Fare:
        """The fare of a service."""
        return self._fares.setdefault(key, Fare(Window(at)))

    def sweep(self, at: Seconds, window: Seconds, held: Callable[[str], bool]) -> None:
        """Turn windows that are over, but for services that `held` names; forget pods that are gone."""
        for key, fare in self._fares.items():
            if at - fare.now.since >= window and not held(key):
                fare.turn(at)
        self._of_uid = {uid: fare for uid, fare in self._of_uid.items() if fare is not None and self._key_of(uid)}
        alive = {id(fare) for fare in self._of_uid.values()}
        self._fares = {key: fare for key, fare in self._fares.items() if id(fare) in alive or held(key)}


def _some(stall: Stall | None) -> float | None:
    return None if stall is None else stall.some60 if stall.some is None else stall.some


def _mean(windows: list[Window], place: int) -> float | None:
    count = sum(window.counts[place] for window in windows)
    return sum(window.sums[place] for window in windows) / count if count else None
