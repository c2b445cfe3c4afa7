"""What became of every workload, folded from its lifecycle events in any order, any number of times.

    submitted            ->  pending, attempt 1; placed already by somebody else: pending on that node
    evicted, refused     ->  pending, attempt + 1, not before its back-off is over
    finished, deleted, invalid  ->  over
    started with a size  ->  that size, until a later word is heard; of an attempt that is past it means nothing

    back-off(attempt) = min(most, first · 2^(attempt − 2))        from the second attempt on

An event about an attempt that is over changes nothing; deleted and invalid end every attempt. What is over and
settled is remembered by uid up to a limit, so that late duplicates change nothing either.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from neap.common.model.lifecycle import Ended, EndReason, LifecycleEvent, Started, Submitted
from neap.common.model.workload import Size, Workload
from neap.common.units import Seconds

BACK_TO_QUEUE: Final = frozenset({EndReason.EVICTED, EndReason.REFUSED})
FOR_EVER: Final = frozenset({EndReason.DELETED, EndReason.INVALID})


class Backoff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a workload waits after it was evicted or refused."""

    first: Annotated[Seconds, Meta(ge=0)] = 10.0  # before the second attempt
    most: Annotated[Seconds, Meta(ge=0)] = 300.0  # before any attempt


class Given(NamedTuple):
    """What a node said it has given to an attempt, and when."""

    attempt: int
    at: Seconds
    size: Size


@dataclass(slots=True)
class Record:
    """One workload. `workload` is None while only its end is known."""

    uid: str
    attempt: int
    submitted_at: Seconds
    workload: Workload | None = None
    name: tuple[str, str] = ("", "")  # namespace, name
    subject: str = ""  # where its events are
    announced: int = 0  # the last attempt somebody submitted
    told: int = 0  # the last attempt whose waiting was explained
    gathered: int = 0  # the last attempt whose waiting for its gang was told
    started: int = 0  # the last attempt a node said it runs
    ready_at: Seconds = 0.0
    node: str = ""  # it runs there already: nobody asked us
    given: Given | None = None  # another size than it was submitted with
    ended: EndReason | None = None
    detail: str = ""  # of the last end

    @property
    def pending(self) -> bool:
        """Wants a node, or has one."""
        return self.ended is None and self.workload is not None

    def over(self, attempt: int) -> bool:
        """Whether this attempt is past."""
        return self.ended is not None or attempt < self.attempt


class Book:
    """See module docstring."""

    def __init__(self, backoff: Backoff, *, remember: int) -> None:
        self._backoff, self._remember = backoff, remember
        self.records: dict[str, Record] = {}
        self._settled: OrderedDict[str, None] = OrderedDict()
        self._named: dict[tuple[str, str], str] = {}

    def named(self, namespace: str, name: str) -> Record | None:
        """The latest workload of a name."""
        return self.records.get(self._named.get((namespace, name), ""))

    def fold(self, event: LifecycleEvent, subject: str = "") -> Record | None:
        """Take one event over; returns the record if it changed."""
        match event:
            case Submitted():
                return self._submitted(event, subject)
            case Started():
                return self._started(event, subject)
            case Ended():
                return self._ended(event, subject)

    def know(self, workload: Workload) -> None:
        """A workload seen on a ledger only (its submission is older than the stream remembers)."""
        record = self.records.get(workload.uid)
        if record is None:
            record = self.records[workload.uid] = Record(workload.uid, workload.attempt, 0.0)
        if record.workload is None and record.ended is None:
            self._learn(record, workload)

    def settle(self, uid: str) -> None:
        """Nothing is left to do about an ended workload: keep only that it ended, and that not for ever."""
        self.records[uid].workload = None
        self._settled[uid] = None
        while len(self._settled) > self._remember:
            oldest = self.records.pop(self._settled.popitem(last=False)[0])
            if self._named.get(oldest.name) == oldest.uid:
                del self._named[oldest.name]

    def refuse(self, uid: str, reason: str) -> None:
        """It never could run; said by ourselves."""
        self.records[uid].ended, self.records[uid].detail = EndReason.INVALID, reason
        self.settle(uid)

    def _submitted(self, event: Submitted, subject: str) -> Record | None:
        workload, at = event.workload, event.at
        record = self.records.get(workload.uid)
        if record is None:
            record = self.records[workload.uid] = Record(workload.uid, workload.attempt, at, subject=subject)
        elif record.ended is not None or (workload.attempt <= record.attempt and record.workload is not None):
            record.announced = max(record.announced, workload.attempt)
            if record.ended is not None or not event.node or record.node == event.node:
                return None
        elif record.workload is None:
            record.submitted_at = at
        record.attempt = max(record.attempt, workload.attempt)
        record.announced = max(record.announced, workload.attempt)
        record.subject = subject or record.subject
        record.node = event.node or record.node
        self._learn(record, workload)
        return record

    def _started(self, event: Started, subject: str) -> Record | None:
        """It runs; a size is kept even of whom only a ledger tells."""
        record, size = self.records.get(event.uid), event.size
        if record is None:
            if size is None:
                return None
            record = self.records[event.uid] = Record(event.uid, event.attempt, event.at, subject=subject)
        record.started = max(record.started, event.attempt)
        if size is None or record.over(event.attempt):
            return None
        if record.given is not None and (event.attempt, event.at) <= record.given[:2]:
            return None
        record.given = Given(event.attempt, event.at, size)
        return record

    def _ended(self, event: Ended, subject: str) -> Record | None:
        record = self.records.get(event.uid)
        if record is None:
            record = self.records[event.uid] = Record(event.uid, event.attempt, event.at, subject=subject)
        if record.ended is not None or (event.attempt < record.attempt and event.reason not in FOR_EVER):
            return None
        record.detail = event.detail
        if event.reason in BACK_TO_QUEUE:
            record.attempt = event.attempt + 1
            record.node = ""
            record.ready_at = event.at + self._delay(record.attempt)
            if record.workload is not None:
                self._learn(record, record.workload)
        else:
            record.ended = event.reason
        return record

    def _learn(self, record: Record, workload: Workload) -> None:
        record.workload = (
            workload
            if workload.attempt == record.attempt
            else msgspec.structs.replace(workload, attempt=record.attempt)
        )
        record.name = (workload.namespace, workload.name)
        self._named[record.name] = workload.uid

    def _delay(self, attempt: int) -> Seconds:
        doublings = min(attempt - 2, 62)
        return float(min(self._backoff.most, self._backoff.first * 2**doublings))
