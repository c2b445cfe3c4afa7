"""The auditor: what is stored of a cluster is held against the promises, entry by entry. Pure.

    ledger     at every sequence, per node and kind:  Σ charged ≤ allocatable      (lent kinds: the offer moves, not judged)
               per card:  Σ share ≤ 100 %,  Σ memory ≤ the card's,  Σ shares of a pod = its charge
               nobody is held twice, no attempt is placed twice, a checkpoint says what the entries before it say
    lives      placed after it was submitted; attempt n + 1 after attempt n was evicted or refused; an attempt starts
               only on the node it was placed on
    the end    every workload is over, held, or still in the scheduler's queue; what is held was started, what is over
               is held no longer
    twice      no line of the trail, no attempt submitted, started or ended

Each breach is a sentence that names stream, sequence and numbers. It needs whole streams, from their first entry; who
reads them is history.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final

from neap.common.bus.port import Received
from neap.common.contract.catalogue import PLACEMENTS
from neap.common.model.lifecycle import Ended, LifecycleEvent, Started, Submitted
from neap.common.model.placement import Checkpoint, LedgerEntry, Placed, Placement, Released, fold
from neap.common.model.resource import GPU_CORE, RECLAIMED_CPU, RECLAIMED_MEMORY, Resources, add
from neap.common.model.topology import NodeTopology
from neap.common.model.trail import TrailEntry
from neap.common.model.workload import Workload
from neap.common.units import Seconds
from neap.virtual.trail import RETURNS

LENT: Final = (RECLAIMED_CPU, RECLAIMED_MEMORY)
WHOLE_CARD: Final = 100  # percent


@dataclass(frozen=True)
class History:
    """What is stored, in the order of each stream; `queued` says why the scheduler has not placed whom (by uid)."""

    workloads: Sequence[Received[LifecycleEvent]]
    ledger: Sequence[Received[LedgerEntry]]
    trail: Sequence[Received[TrailEntry]]
    nodes: Mapping[str, NodeTopology]
    queued: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Lives:
    """What the workload events say of everybody, by uid or (uid, attempt)."""

    submitted: dict[str, Submitted] = field(default_factory=dict)  # the first time
    over: dict[str, Ended] = field(default_factory=dict)  # for good
    ended: dict[tuple[str, int], Ended] = field(default_factory=dict)
    started: dict[tuple[str, int], str] = field(default_factory=dict)  # node
    twice: list[str] = field(default_factory=list)  # sentences

    @classmethod
    def of(cls, events: Iterable[Received[LifecycleEvent]]) -> Lives:
        """Fold the stream."""
        lives, seen = cls(), dict[tuple[str, str, int], int]()
        for item in events:
            match item.message:
                case Submitted(workload=workload) as submitted:
                    uid, attempt = workload.uid, workload.attempt
                    lives.submitted.setdefault(uid, submitted)
                case Started(uid=uid, attempt=attempt, node=node):
                    lives.started.setdefault((uid, attempt), node)
                case Ended(uid=uid, attempt=attempt, reason=reason) as ended:
                    lives.ended.setdefault((uid, attempt), ended)
                    if reason not in RETURNS:
                        lives.over.setdefault(uid, ended)
            what = type(item.message).__name__.lower()
            first = seen.setdefault((what, uid, attempt), item.seq)
            if first != item.seq:
                lives.twice.append(f"workloads {item.seq}: {uid} attempt {attempt} {what} was told before, at {first}")
        return lives


def audit(history: History, *, now: Seconds = inf, patience: Seconds = 0.0) -> list[str]:
    """Every breach, as a sentence; none is what is promised.

    Args:
        history: whole streams.
        now: clock seconds at which they were read.
        patience: how long a workload may be held before it starts, and after it ended.
    """
    lives = Lives.of(history.workloads)
    ledger = _Ledger(history.nodes, lives)
    breaches = [breach for item in history.ledger for breach in ledger.take(item)]
    breaches += _starts(lives, ledger.placed)
    breaches += _lost(lives, ledger.node_of, history.queued)
    breaches += _left_behind(lives, ledger.held, since=now - patience)
    breaches += _idle(lives, ledger, since=now - patience)
    breaches += [*lives.twice, *_told_twice(history.trail)]
    return breaches


def unsettled(history: History) -> list[Workload]:
    """Who is neither over nor held: those the scheduler must have in its queue."""
    lives, held = Lives.of(history.workloads), {uid for node in held_by(history.ledger).values() for uid in node}
    return [told.workload for uid, told in lives.submitted.items() if uid not in lives.over and uid not in held]


def held_by(ledger: Iterable[Received[LedgerEntry]]) -> dict[str, dict[str, Placement]]:
    """Who is held where at the end of the ledgers, by node and uid."""
    held: dict[str, dict[str, Placement]] = {}
    for item in ledger:
        held[item.message.node] = fold(held.get(item.message.node, {}), item.message)
    return held


class _Ledger:
    """All ledgers up to one sequence."""

    def __init__(self, nodes: Mapping[str, NodeTopology], lives: Lives) -> None:
        self._nodes, self._lives = nodes, lives
        self.held: dict[str, dict[str, Placement]] = {}
        self.node_of: dict[str, str] = {}
        self.placed: dict[tuple[str, int], str] = {}
        self.placed_at: dict[tuple[str, int], Seconds] = {}

    def take(self, item: Received[LedgerEntry]) -> Iterator[str]:
        """Fold one entry; what it breaks."""
        entry, node = item.message, item.message.node
        said = f"ledger {item.seq} of {node}: "
        if PLACEMENTS.at(node=node).subject != item.subject:
            yield f"{said}stored under {item.subject}"
        before = self.held.get(node, {})
        match entry:
            case Placed(placement=placement):
                yield from (said + breach for breach in self._placed(entry, placement))
            case Released(uid=uid) if uid not in before:
                yield f"{said}{uid} is released and was not held"
            case Released(uid=uid):
                self.node_of.pop(uid, None)
            case Checkpoint(placements=placements):
                if {one.workload.uid: one for one in placements} != before:
                    yield f"{said}the checkpoint has {len(placements)} placements, not the {len(before)} told before"
        self.held[node] = fold(before, entry)
        yield from (said + breach for breach in _too_much(self.held[node].values(), self._nodes.get(node)))

    def _placed(self, entry: Placed, placement: Placement) -> Iterator[str]:
        workload = placement.workload
        uid, attempt, who = (
            workload.uid,
            workload.attempt,
            f"{workload.key} ({workload.uid}) attempt {workload.attempt}",
        )
        held = self.held.get(entry.node, {}).get(uid)
        if held is not None and held.workload.size != workload.size and held.workload.sized(workload.size) == workload:
            return  # resized in place: it is charged anew
        if uid in self.node_of:
            yield f"{who} is placed while it is held by {self.node_of[uid]}"
        if (uid, attempt) in self.placed:
            yield f"{who} is placed a second time, first on {self.placed[uid, attempt]}"
        first = self._lives.submitted.get(uid)
        if first is None or first.at > entry.at:
            yield f"{who} is placed and was not submitted before"
        last = self._lives.ended.get((uid, attempt - 1))
        if attempt > 1 and (last is None or last.reason not in RETURNS or last.at > entry.at):
            yield f"{who} is placed, and attempt {attempt - 1} was neither evicted nor refused before"
        short = [kind for kind, amount in workload.requests.items() if placement.charged.get(kind, 0) < amount]
        if short:
            yield f"{who} is charged less than it asks for: {', '.join(short)}"
        self.placed[uid, attempt] = self.node_of[uid] = entry.node
        self.placed_at[uid, attempt] = entry.at


def _too_much(placements: Iterable[Placement], node: NodeTopology | None) -> Iterator[str]:
    """What a node gives and does not have."""
    total: Resources = {}
    cards: dict[int, tuple[int, int]] = {}
    for placement in placements:
        total = add(total, placement.charged)
        for share in placement.gpus:
            core, memory = cards.get(share.card, (0, 0))
            cards[share.card] = (core + share.core, memory + share.memory_mib)
        given = sum(share.core for share in placement.gpus)
        if given != placement.charged.get(GPU_CORE, 0):
            yield f"{placement.workload.key} has {given} % of cards and is charged {placement.charged.get(GPU_CORE, 0)}"
    has = node.allocatable if node is not None else {}
    for kind in sorted(total.keys() - set(LENT)):
        if total[kind] > has.get(kind, 0):
            yield f"gives {total[kind]} of {has.get(kind, 0)} {kind}"
    there = {card.index: card.memory_mib for card in node.cards} if node is not None else {}
    for index, (core, memory) in sorted(cards.items()):
        if index not in there:
            yield f"gives {core} % and {memory} MiB of card {index}, which is not there"
        elif core > WHOLE_CARD or memory > there[index]:
            yield f"gives {core} % and {memory} MiB of card {index}, which has {there[index]} MiB"


def _starts(lives: Lives, placed: Mapping[tuple[str, int], str]) -> Iterator[str]:
    for (uid, attempt), node in lives.started.items():
        if placed.get((uid, attempt)) != node:
            yield f"{uid} attempt {attempt} started on {node} and was placed on {placed.get((uid, attempt), 'no node')}"


def _lost(lives: Lives, held: Mapping[str, str], queued: Mapping[str, str]) -> Iterator[str]:
    for uid, told in lives.submitted.items():
        if uid not in lives.over and uid not in held and uid not in queued:
            yield f"{told.workload.key} ({uid}) is lost: not over, not held, not queued"


def _left_behind(lives: Lives, held: Mapping[str, Mapping[str, Placement]], *, since: Seconds) -> Iterator[str]:
    for node, placements in held.items():
        for uid, placement in placements.items():
            ended = lives.over.get(uid) or lives.ended.get((uid, placement.workload.attempt))
            if ended is not None and ended.at <= since:
                yield f"{node} still holds {placement.workload.key}: {ended.reason} at {ended.at:.0f}"


def _idle(lives: Lives, ledger: _Ledger, *, since: Seconds) -> Iterator[str]:
    for node, placements in ledger.held.items():
        for uid, placement in placements.items():
            run = (uid, placement.workload.attempt)
            if run not in lives.started and run not in lives.ended and ledger.placed_at.get(run, inf) <= since:
                yield f"{node} holds {placement.workload.key} since {ledger.placed_at[run]:.0f} and never started it"


def _told_twice(trail: Iterable[Received[TrailEntry]]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for item in trail:
        first = seen.setdefault(item.message.id, item.seq)
        if first != item.seq:
            yield f"trail {item.seq}: {item.message.id} was told before, at {first}"
