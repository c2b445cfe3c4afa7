"""Appending to ledgers: per node one entry in flight, the others wait behind it, and nobody guesses an outcome.

    waiting ─► sent ─┬─► stored                          decided
                     ├─► lost the race                   decided; the node rests until its ledger was heard further
                     ├─► failed, may retry ─► sent       the same append again, same id, until it is known
                     └─► duplicate                       decided by what the ledger holds, once it was heard that far

An own entry heard through the ledger confirms itself, whatever the answer to the append. After a retry even a lost
race proves nothing (the first try may be what won), so it too is decided by the ledger. A placement waits for its
outcome and is never tried elsewhere; the same id everywhere makes the stream itself refuse a second copy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Annotated

import msgspec
from msgspec import Meta

from neap.common.bus.port import LostRace, Stored
from neap.common.contract.catalogue import PLACEMENTS
from neap.common.model.placement import Checkpoint, Placed, Released
from neap.common.runtime.machine import Append
from neap.common.units import Seconds
from neap.scheduler.core.choice.cycle import Decision
from neap.scheduler.core.flow.ledger import Ledger, Ledgers
from neap.scheduler.core.nodes.table import NodeTable

Positive = Annotated[Seconds, Meta(gt=0)]


class AppendSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How ledgers are written."""

    checkpoint_every: Annotated[int, Meta(ge=8, le=2048)] = 256  # entries of a node after which its whole state is told
    waiting: Annotated[int, Meta(ge=1, le=256)] = (
        8  # placements of a node, in flight and waiting; then others are chosen
    )
    retry_first: Positive = 0.2  # before an append of unknown outcome is sent again
    retry_most: Positive = 5.0  # between two such tries; doubles from the first
    rest_most: Positive = 30.0  # a node whose race was lost rests until its ledger was heard, at most this long


class Fate(StrEnum):
    """What is known of an append."""

    WAITING = "waiting"
    SENT = "sent"
    UNKNOWN = "unknown"  # failed; try again
    LOST = "lost"  # said to be lost, after a retry
    DUPLICATE = "duplicate"


@dataclass(slots=True, eq=False)
class Op:
    """One entry to append. `decision` is what a placement came from; `again`: it is held, and only its size changes."""

    node: str
    uid: str
    attempt: int
    entry: Placed | Released | Checkpoint
    id: str
    decision: Decision | None = None
    again: bool = False
    fate: Fate = Fate.WAITING
    append: Append | None = None
    tries: int = 0
    until: Seconds = inf  # when an undecided fate is tried again
    heard_at: int = 0  # sequence that decides a duplicate


@dataclass(frozen=True, slots=True)
class Outcome:
    """The fate of an op is decided."""

    op: Op
    stored: bool


@dataclass(slots=True)
class _Lane:
    ledger: Ledger
    flight: Op | None = None
    releases: deque[Op] = field(default_factory=deque)
    placements: deque[Op] = field(default_factory=deque)
    rests_until: Seconds = -inf


class Appends:
    """See module docstring."""

    def __init__(self, ledgers: Ledgers, table: NodeTable, settings: AppendSettings) -> None:
        self._ledgers, self._table, self._settings = ledgers, table, settings
        self._lanes: dict[str, _Lane] = {}
        self._busy: dict[str, None] = {}  # nodes that have something under way, or rest
        self._due: dict[str, None] = {}  # those of them to look at now
        self._timed: dict[str, None] = {}  # those of them for which time has to pass
        self._behind: dict[str, None] = {}  # nodes whose ledger is known to go on behind what was heard
        self._ops: dict[str, Op] = {}  # by uid
        self._flights: dict[str, Op] = {}  # by id
        self._undecided: dict[str, Op] = {}  # of these, what the ledger will decide

    def of(self, uid: str) -> Op | None:
        """What is under way for a workload."""
        return self._ops.get(uid)

    def add(self, op: Op, at: Seconds) -> None:
        """Line up; releases go before placements."""
        lane = self._lane(op.node)
        (lane.releases if isinstance(op.entry, Released) else lane.placements).append(op)
        self._ops[op.uid] = op
        self._stir(lane)
        self._tell_ready(lane, at)

    def cancel(self, uid: str) -> Op | None:
        """Take back a placement that was not sent yet."""
        op = self._ops.get(uid)
        if op is None or op.fate is not Fate.WAITING or not isinstance(op.entry, Placed):
            return None
        lane = self._lanes[op.node]
        lane.placements.remove(op)
        del self._ops[uid]
        self._stir(lane)
        return op

    def tick(self) -> None:
        """Time has passed: the next pump looks at every node that waits for that."""
        self._due |= self._timed

    @property
    def is_due(self) -> bool:
        """Whether the next pump has anything to look at."""
        return bool(self._due)

    def pump(self, at: Seconds) -> Iterator[Append]:
        """What can be sent now, and what must be sent again."""
        due, self._due = self._due, {}
        for node in due:
            lane = self._lanes[node]
            if lane.flight is not None and at >= lane.flight.until:
                yield self._again(lane.flight)
            if lane.flight is None and at >= lane.rests_until:
                yield from self._next(lane, at)
            self._tell_ready(lane, at)
            if at >= lane.rests_until and (lane.flight is None or lane.flight.until == inf):
                self._timed.pop(node, None)
            else:
                self._timed[node] = None
            if lane.flight is None and not lane.releases and not lane.placements and at >= lane.rests_until:
                self._busy.pop(node, None)

    def answered(self, append: Append, outcome: Stored | LostRace, at: Seconds) -> list[Outcome]:
        """An append was executed."""
        op = self._flying(append)
        if op is None:
            return []
        ledger = self._ledgers.of(op.node)
        match outcome:
            case Stored(duplicate=False, seq=seq):
                self._ledgers.fold(op.entry, seq, at)
                return self._decide(op, stored=True)
            case Stored(seq=seq):
                op.heard_at = seq
                self._leave_open(op, Fate.DUPLICATE, at + self._settings.rest_most)
            case LostRace(last=last):
                ledger.ahead = max(ledger.ahead, last)
                if not ledger.passed(self._ledgers.followed):
                    self._behind[op.node] = None
                if ledger.seq <= append.seen:
                    self._lane(op.node).rests_until = at + self._settings.rest_most
                if op.tries == 1 and not self._holds(op):
                    return self._decide(op, stored=False)
                self._leave_open(op, Fate.LOST, at + self._settings.rest_most)
        return self._look(op, at)

    def failed(self, append: Append, at: Seconds, *, may_retry: bool) -> list[Outcome]:
        """An append could not be executed, or nobody knows whether it was."""
        op = self._flying(append)
        if op is None:
            return []
        if isinstance(op.entry, Checkpoint):  # worth nothing by itself: the next one comes
            self._ledgers.of(op.node).since_checkpoint = 0
            return self._decide(op, stored=False)
        if not may_retry and op.tries == 1:
            self._lane(op.node).rests_until = at + self._settings.retry_most
            return self._decide(op, stored=False)
        delay = self._settings.retry_first * 2 ** min(op.tries - 1, 16)
        self._leave_open(op, Fate.UNKNOWN, at + min(delay, self._settings.retry_most))
        return []

    def heard(self, node: str, uids: tuple[str, ...], at: Seconds, *, freed: bool = False) -> list[Outcome]:
        """An entry that changed `uids` was folded: what that decides; `freed`: it only gave something back."""
        decided: list[Outcome] = []
        lane = self._lanes.get(node)
        if lane is not None:
            lane.rests_until = -inf
            own = lane.flight is not None and lane.flight.uid in uids
            if lane.flight is not None:
                decided += self._look(lane.flight, at)
            if uids and not own and not freed:
                decided += self._unsent(lane)  # somebody else took of the node: choose again
            self._stir(lane)
        return decided

    def followed(self, at: Seconds) -> list[Outcome]:
        """The ledgers' stream was heard further: what that decides."""
        for node in list(self._behind):
            lane = self._lanes[node]
            if lane.ledger.passed(self._ledgers.followed):
                lane.rests_until = -inf
                self._stir(lane)
            if lane.ledger.seq >= lane.ledger.ahead:
                del self._behind[node]
        open_ = list(self._undecided.values())
        return [outcome for op in open_ if op.id in self._undecided for outcome in self._look(op, at)]

    def validate(self) -> None:
        """One flight per node; every op is where its fate says."""
        for node, lane in self._lanes.items():
            assert lane.flight is None or self._flights.get(lane.flight.id) is lane.flight, f"{node}: a lost flight"
            ops = [*lane.releases, *lane.placements, *([lane.flight] if lane.flight else [])]
            assert not ops or node in self._busy, f"{node}: nobody will send {[op.id for op in ops]}"
            is_timed = lane.flight is not None and lane.flight.until < inf
            assert not is_timed or node in self._timed | self._due, f"{node}: nobody will look when time has passed"
            for op in ops:
                assert op.node == node
                assert isinstance(op.entry, Checkpoint) or self._ops.get(op.uid) is op

    def _flying(self, append: Append) -> Op | None:
        """The op this append was sent for, if it is still undecided; an id may have been on another node before."""
        op = self._flights.get(append.id)
        return op if op is not None and op.append == append else None

    def _lane(self, node: str) -> _Lane:
        lane = self._lanes.get(node)
        if lane is None:
            lane = self._lanes[node] = _Lane(self._ledgers.of(node))
        return lane

    def _stir(self, lane: _Lane) -> None:
        self._busy[lane.ledger.node] = self._due[lane.ledger.node] = None

    def _tell_ready(self, lane: _Lane, at: Seconds) -> None:
        full = len(lane.placements) + (lane.flight is not None) >= self._settings.waiting
        self._table.set_ready(lane.ledger.node, not full and at >= lane.rests_until)

    def _next(self, lane: _Lane, at: Seconds) -> Iterator[Append]:
        ledger, node = lane.ledger, lane.ledger.node
        if lane.releases:
            op = lane.releases.popleft()
        elif ledger.since_checkpoint >= self._settings.checkpoint_every:
            placements = tuple(held.placement for held in ledger.held.values())
            entry = Checkpoint(at=at, source="scheduler", node=node, placements=placements)
            op = Op(node, "", 0, entry, f"{node}.{ledger.seq}.checkpoint")
        elif lane.placements:
            op = lane.placements.popleft()
        else:
            return
        op.append = Append(PLACEMENTS.at(node=node), op.entry, seen=ledger.seq, id=op.id)
        lane.flight = self._flights[op.id] = op
        yield self._again(op)

    def _again(self, op: Op) -> Append:
        assert op.append is not None
        op.fate, op.until, op.tries = Fate.SENT, inf, op.tries + 1
        self._undecided.pop(op.id, None)
        return op.append

    def _holds(self, op: Op) -> bool:
        """Whether the ledger, as far as it was heard, shows that this op was stored."""
        held = self._ledgers.of(op.node).held.get(op.uid)
        match op.entry:
            case Placed(placement=placement) if op.again:
                return held is not None and held.placement == placement
            case Placed():
                return held is not None and held.attempt == op.attempt
            case Released():
                return held is None or held.attempt > op.attempt
        return False

    def _look(self, op: Op, at: Seconds) -> list[Outcome]:
        """Decide by the ledger, if it can."""
        assert op.append is not None
        if self._holds(op):
            return self._decide(op, stored=True)
        if op.fate is Fate.LOST and self._ledgers.of(op.node).seq > op.append.seen:
            return self._decide(op, stored=False)
        if op.fate is Fate.DUPLICATE and self._ledgers.followed >= op.heard_at:
            self._lane(op.node).rests_until = at + self._settings.retry_first  # it was there and is gone: no hurry
            return self._decide(op, stored=False)
        return []

    def _leave_open(self, op: Op, fate: Fate, until: Seconds) -> None:
        """Not decided yet; tried again at `until`, unless the ledger decides before."""
        op.fate, op.until = fate, until
        self._timed[op.node] = None
        if fate is not Fate.UNKNOWN:
            self._undecided[op.id] = op

    def _decide(self, op: Op, *, stored: bool) -> list[Outcome]:
        lane = self._lanes[op.node]
        assert lane.flight is op
        lane.flight = None
        self._stir(lane)
        del self._flights[op.id]
        self._undecided.pop(op.id, None)
        self._ops.pop(op.uid, None)
        return [Outcome(op, stored), *([] if stored else self._unsent(lane))]

    def _unsent(self, lane: _Lane) -> list[Outcome]:
        """Placements that wait were chosen for a node as it is no more."""
        dropped, lane.placements = list(lane.placements), deque()
        for op in dropped:
            del self._ops[op.uid]
        return [Outcome(op, stored=False) for op in dropped]
