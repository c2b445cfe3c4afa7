"""How the pods of services fare, as their nodes report it: what the guard compares before and after a change.

    throttled   share of a report's period that a container spent throttled
    stalled     share of the time in which some task of it waited for a CPU (PSI, 60 s where nothing newer is known)
    starved     the same for memory

Means over containers and reports, in two windows that follow each other; O(1) per service. A short report lists only
what changed, so both windows lean towards the busy, alike.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from sys import intern
from typing import Final

from neap.common.model.recommendation import Health
from neap.common.model.usage import ContainerUsage, NodeUsage, Stall
from neap.common.units import Seconds

MEASURES: Final = 3
AT_ONCE: Final = 2000  # looked at in one sweep


class Window:
    """Sums and counts of one window, by measure; and which pods were seen in it. 300 bytes for a service of one pod."""

    __slots__ = ("_first", "_others", "since", "sums")

    def __init__(self, since: Seconds) -> None:
        self.since = since
        self.sums = array("d", bytes(16 * MEASURES))  # and after them the counts
        self._first, self._others = "", None

    _others: set[str] | None

    def add(self, usage: ContainerUsage) -> None:
        """Count one container of one report."""
        if not self._first:
            self._first = intern(usage.uid)
        elif usage.uid != self._first:
            if self._others is None:
                self._others = set()
            self._others.add(usage.uid)
        for place, value in enumerate((usage.throttled, _some(usage.cpu_stall), _some(usage.memory_stall))):
            if value is not None and 0 <= value <= 1:
                self.sums[place] += value
                self.sums[MEASURES + place] += 1

    @property
    def uids(self) -> set[str]:
        """Of the pods that were seen."""
        return {self._first, *(self._others or ())} - {""}


@dataclass(slots=True)
class Fare:
    """The window before, and the one under way."""

    now: Window
    before: Window | None = None
    pods: int = 0  # that count for it

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
        self._keys, self._uids = deque[str](), deque[str]()  # to be swept in this round

    def hear(self, usage: NodeUsage, at: Seconds) -> None:
        """Fold a report."""
        for container in usage.containers:
            if container.uid not in self._of_uid:
                self._meet(intern(container.uid), at)
            fare = self._of_uid[container.uid]
            if fare is not None:
                fare.now.add(container)

    def of(self, key: str, at: Seconds) -> Fare:
        """The fare of a service."""
        return self._fares.setdefault(key, Fare(Window(at)))

    def sweep(self, at: Seconds, window: Seconds, held: Container[str]) -> None:
        """Turn windows that are over, but for services that are `held`; forget pods that are gone. Some at a time."""
        for uid in some(self._uids, self._of_uid):
            fare = self._of_uid.get(uid)
            if fare is None or not self._key_of(uid):
                self._of_uid.pop(uid, None)
                if fare is not None:
                    fare.pods -= 1
        for key in some(self._keys, self._fares):
            known = self._fares.get(key)
            if known is None or key in held:
                continue
            if at - known.now.since >= window:
                known.turn(at)
            if known.pods <= 0:
                del self._fares[key]

    def _meet(self, uid: str, at: Seconds) -> None:
        key = self._key_of(uid)
        fare = self._of_uid[uid] = self.of(key, at) if key else None
        if fare is not None:
            fare.pods += 1


def some(left: deque[str], all_: Iterable[str]) -> Iterator[str]:
    """The next of a round through all; a round that is over begins anew, at the next call."""
    if not left:
        left.extend(all_)
    for _ in range(min(AT_ONCE, len(left))):
        yield left.popleft()


def _some(stall: Stall | None) -> float | None:
    return None if stall is None else stall.some60 if stall.some is None else stall.some


def _mean(windows: list[Window], place: int) -> float | None:
    count = sum(window.sums[MEASURES + place] for window in windows)
    return sum(window.sums[place] for window in windows) / count if count else None
