"""What a broker in memory keeps: logs with their durables, and buckets. Only the loop's time, no tasks.

Kept equal to JetStream by the contract suite: sequences per log, one dedupe window, the expected sequence checked
before the dedupe id, limits that drop the oldest, redelivery after `ack_wait`, revisions per bucket.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from neap.common.bus.port import LostRace, Stored
from neap.common.contract.channel import Delivery, State, Stream
from neap.common.contract.subject import covers
from neap.common.units import Seconds

T = TypeVar("T")

MSG_ID: Final = "Nats-Msg-Id"
SUBJECTS_CACHED: Final = 65_536


class Routes(Generic[T]):
    """Who hears which subject, in the order they came."""

    def __init__(self) -> None:
        self._all: list[tuple[str, T]] = []
        self._cache: dict[str, tuple[T, ...]] = {}

    def add(self, pattern: str, who: T) -> None:
        """Hear from now on."""
        self._all.append((pattern, who))
        self._cache.clear()

    def remove(self, who: T) -> None:
        """Hear no more."""
        self._all = [(pattern, each) for pattern, each in self._all if each is not who]
        self._cache.clear()

    def hearing(self, subject: str) -> tuple[T, ...]:
        """Everybody who hears this subject."""
        found = self._cache.get(subject)
        if found is None:
            if len(self._cache) >= SUBJECTS_CACHED:
                self._cache.clear()
            found = tuple(who for pattern, who in self._all if covers(pattern, subject))
            self._cache[subject] = found
        return found


class Filter:
    """Whether subjects match one pattern, remembered."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._known: dict[str, bool] = {}

    def __call__(self, subject: str) -> bool:
        """Whether this one does."""
        verdict = self._known.get(subject)
        if verdict is None:
            if len(self._known) >= SUBJECTS_CACHED:
                self._known.clear()
            verdict = self._known[subject] = covers(self._pattern, subject)
        return verdict


@dataclass(slots=True)
class Entry:
    """One stored message; `payload` None is the marker of a deleted key."""

    seq: int
    subject: str
    payload: bytes | None
    headers: Mapping[str, str]
    at: Seconds


class Log:
    """One stream. `wake` listeners are called after every append they hear."""

    def __init__(self, stream: Stream, now: Callable[[], Seconds]) -> None:
        self.stream, self._now = stream, now
        self.entries: dict[int, Entry] = {}
        self.last = 0
        self.wake: Routes[Callable[[], None]] = Routes()
        self.durables: dict[str, Durable] = {}
        self._of: dict[str, deque[int]] = {}
        self._newest: dict[str, int] = {}
        self._ids: dict[str, tuple[int, Seconds]] = {}
        self._bytes = 0

    def append(
        self, subject: str, payload: bytes, headers: Mapping[str, str], *, id: str = "", expected: int | None = None
    ) -> Stored | LostRace:
        """Store one message."""
        now = self._now()
        if expected is not None and expected != self._newest.get(subject, 0):
            return self._ours(subject, expected, id) or LostRace(expected, self._newest.get(subject, 0))
        before = self._ids.get(id) if id else None
        if before is not None and now - before[1] <= self.stream.dedupe_window:
            return Stored(before[0], duplicate=True)
        self.last += 1
        self.entries[self.last] = Entry(self.last, subject, payload, {**headers, MSG_ID: id} if id else headers, now)
        self._of.setdefault(subject, deque()).append(self.last)
        self._newest[subject] = self.last
        self._bytes += len(payload)
        if id:
            self._remember(id, now)
        self._limit(subject, now)
        for tell in self.wake.hearing(subject):
            tell()
        return Stored(self.last)

    def behind(self, seq: int, only: Filter) -> Iterator[Entry]:
        """Entries with a higher sequence that match, oldest first."""
        for each in range(seq + 1, self.last + 1):
            entry = self.entries.get(each)
            if entry is not None and only(entry.subject):
                yield entry

    def drop(self, seq: int) -> None:
        """Forget one entry."""
        entry = self.entries.pop(seq, None)
        if entry is not None:
            self._bytes -= len(entry.payload or b"")
            self._of[entry.subject].remove(seq)

    def _ours(self, subject: str, seen: int, id: str) -> Stored | None:
        """The append with this id, if it is the first of its subject behind `seen`."""
        first = next((seq for seq in self._of.get(subject, ()) if seq > seen), None)
        if first is not None and id and self.entries[first].headers.get(MSG_ID) == id:
            return Stored(first, duplicate=True)
        return None

    def _remember(self, id: str, now: Seconds) -> None:
        """One in, at most two out: the ids of one window stay, and nothing ever stalls."""
        self._ids.pop(id, None)
        self._ids[id] = (self.last, now)
        for _ in range(2):
            oldest = next(iter(self._ids))
            if now - self._ids[oldest][1] > self.stream.dedupe_window:
                del self._ids[oldest]

    def _limit(self, subject: str, now: Seconds) -> None:
        mine = self._of[subject]
        if 0 < self.stream.max_per_subject < len(mine):
            self.drop(mine[0])
        while self.entries:
            oldest = next(iter(self.entries.values()))
            too_old = self.stream.max_age and now - oldest.at > self.stream.max_age
            if not too_old and self._bytes <= self.stream.max_bytes:
                break
            self.drop(oldest.seq)


@dataclass(slots=True)
class _Out:
    due: Seconds
    deliveries: int


@dataclass
class Durable:
    """The memory of a durable consumer: what was handed out and not answered comes back when it is due."""

    log: Log
    only: Filter
    ack_wait: Seconds
    now: Callable[[], Seconds]
    seq: int = 0
    wakes: list[Callable[[], None]] = field(default_factory=list)
    _out: dict[int, _Out] = field(default_factory=dict)
    _due: list[tuple[Seconds, int]] = field(default_factory=list)

    def take(self, most: int) -> tuple[Entry, int] | None:
        """The next message and how often it was delivered with this time."""
        now = self.now()
        while self._due and self._due[0][0] <= now:
            due, seq = heapq.heappop(self._due)
            out = self._out.get(seq)
            if out is None or out.due != due:
                continue
            entry = self.log.entries.get(seq)
            if entry is None:
                del self._out[seq]
                continue
            return self._hand_out(entry, out.deliveries + 1, now)
        if len(self._out) >= most:
            return None
        entry = next(self.log.behind(self.seq, self.only), None)
        self.seq = self.log.last if entry is None else entry.seq
        return None if entry is None else self._hand_out(entry, 1, now)

    def next_due(self) -> Seconds | None:
        """When the next unanswered message comes back."""
        while self._due and ((out := self._out.get(self._due[0][1])) is None or out.due != self._due[0][0]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def done(self, seq: int) -> None:
        """Never again."""
        if self._out.pop(seq, None) is not None and self.log.stream.delivery is Delivery.WORK:
            self.log.drop(seq)
        self._tell()

    def later(self, seq: int, delay: Seconds) -> None:
        """Again after `delay`."""
        out = self._out.get(seq)
        if out is not None:
            out.due = self.now() + delay
            heapq.heappush(self._due, (out.due, seq))
        self._tell()

    def _tell(self) -> None:
        """There is room, or something comes back at another time."""
        for wake in self.wakes:
            wake()

    def _hand_out(self, entry: Entry, deliveries: int, now: Seconds) -> tuple[Entry, int]:
        self._out[entry.seq] = _Out(now + self.ack_wait, deliveries)
        heapq.heappush(self._due, (now + self.ack_wait, entry.seq))
        return entry, deliveries


class Bucket:
    """One KV bucket: the newest entry of every key, markers included. `changed` hears keys."""

    def __init__(self, bucket: State[Any], now: Callable[[], Seconds]) -> None:
        self.ttl, self._now = bucket.ttl, now
        self.entries: dict[str, Entry] = {}
        self.last = 0
        self.changed: Routes[Callable[[str], None]] = Routes()

    def value(self, key: str) -> Entry | None:
        """What the key holds, if anything."""
        entry = self.entries.get(key)
        return entry if entry is not None and entry.payload is not None else None

    def write(self, key: str, payload: bytes | None, headers: Mapping[str, str]) -> int:
        """Put a value, or None to delete."""
        self.last += 1
        self.entries.pop(key, None)  # so that iteration follows revisions
        self.entries[key] = Entry(self.last, key, payload, headers, self._now())
        for tell in self.changed.hearing(key):
            tell(key)
        return self.last
