"""What a scheduler would have decided with other settings: a recorded life lived again on a ledger of its own.

A recorded life holds what the world did (machines, reports, offers, submissions, time) and what came of the
scheduler's own decisions (answers to appends, its entries heard again). The first is handed over as it was; the second
is worked out anew, at the place in the life where the recorded answer stood, so that equal settings give the very same
life. What cannot be known is assumed, and said:

    a run lasts as long as it did, wherever it is        ended at = placed at + (ended then − placed then)
    a run that never was starts after the usual time, and stays
    a deletion comes when it came; nodes use, offer and refuse what they did (refusals of devices are left out)
    other schedulers' entries stand as they were; every append is answered after the usual time and stored

Memory: O(workloads). Cost: that of the scheduler's decisions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import heappop, heappush
from statistics import median
from typing import Any, Final, TypeAlias

import msgspec

from neap.common.bus.port import LostRace, Stored
from neap.common.contract.catalogue import PLACEMENTS, WORKLOAD
from neap.common.model.device import DeviceState
from neap.common.model.lifecycle import Ended, EndReason, Preemption, Started, Submitted
from neap.common.model.placement import Checkpoint, Placed, Released
from neap.common.model.workload import Workload
from neap.common.runtime.journal import plain
from neap.common.runtime.machine import Append, Arrived, Decide, Done, Emit, Event, Failed, Machine, Synced
from neap.common.runtime.recorded import Asked, Step
from neap.common.units import Seconds

Run: TypeAlias = tuple[str, int]  # uid, attempt
Told: TypeAlias = tuple[str, str, int]  # type of the message, uid (of a checkpoint: node), attempt
FOR_EVER: Final = (EndReason.DELETED, EndReason.INVALID)
MOST_LATENCIES: Final = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """One decision: where, when, how good, by which terms (score of each plugin)."""

    name: str
    node: str
    at: Seconds
    score: float
    terms: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Outcome:
    """What a life came to."""

    events: int = 0
    nodes: set[str] = field(default_factory=set)
    submitted: dict[Run, tuple[Seconds, str]] = field(default_factory=dict)  # when, namespace/name
    placed: dict[Run, Place] = field(default_factory=dict)
    preempted: int = 0  # guests asked to leave; nobody does so in a re-run
    first: Seconds = 0.0
    last: Seconds = 0.0


@dataclass(slots=True)
class Facts:
    """What a re-run has to know of the whole life beforehand. Places are numbers of steps."""

    own: set[str] = field(default_factory=set)  # ledger entries this scheduler appended
    answered: dict[str, int] = field(default_factory=dict)  # place of an append's last answer, by id
    heard: dict[Told, int] = field(default_factory=dict)  # place where an own entry or event was heard again
    said: set[Told] = field(default_factory=set)  # events of workloads it emitted itself
    placed_at: dict[Run, Seconds] = field(default_factory=dict)
    lives: dict[Run, list[tuple[Seconds, Started | Ended]]] = field(default_factory=dict)  # after its placement
    latency: Seconds = 0.0  # of an append, in the middle
    start: Seconds = 0.0  # from a placement to its start, in the middle
    outcome: Outcome = field(default_factory=Outcome)


def survey(steps: Iterable[Step]) -> Facts:
    """Read a life through once."""
    facts, issued, latencies = Facts(), dict[str, Seconds](), deque[Seconds](maxlen=MOST_LATENCIES)
    for number, step in enumerate(steps):
        _see(facts.outcome, step.event)
        for told in step.do:
            _tell(facts.outcome, told)
            if told["is"] == "Append":
                facts.own.add(_text(told["entry"]))
                issued[told["id"]] = step.event.at
                if told["entry"]["type"] == "placed":
                    _, uid, attempt = _about("", told["entry"])
                    facts.placed_at.setdefault((uid, attempt), told["entry"]["at"])  # again when it is resized
            elif told["is"] == "Emit" and told.get("of") in ("Submitted", "Ended"):
                facts.said.add(_about(told["of"], told["message"]))
        match step.event:
            case Done(at=at, instruction=Asked() as asked):
                facts.answered[asked.id] = number
                latencies.append(at - issued.get(asked.id, at))
            case Arrived(message=Placed() | Released() | Checkpoint() as entry):
                facts.heard[told_of(entry)] = number
            case Arrived(message=Submitted() | Started() | Ended() as event):
                facts.heard[told_of(event)] = number
                _note_life(facts, event)
    facts.latency = median(latencies) if latencies else 0.0
    starts = [after for lives in facts.lives.values() for after, said in lives if isinstance(said, Started)]
    facts.start = median(starts) if starts else 0.0
    return facts


def _note_life(facts: Facts, event: Submitted | Started | Ended) -> None:
    if isinstance(event, Submitted) or (isinstance(event, Ended) and event.reason in FOR_EVER):
        return
    run = (event.uid, event.attempt)
    if run in facts.placed_at:
        facts.lives.setdefault(run, []).append((event.at - facts.placed_at[run], event))


def told_of(message: Any) -> Told:
    """What is said of whom; the same in both lives."""
    return _about(type(message).__name__, msgspec.to_builtins(message))


def _about(of: str, message: Mapping[str, Any]) -> Told:
    about = message.get("placement", message)
    about = about.get("workload", about)
    return of, about.get("uid", about.get("node", "")), about.get("attempt", 0)


def _run(workload: Workload) -> Run:
    return workload.uid, workload.attempt


def _text(entry: Any) -> str:
    return msgspec.json.encode(msgspec.to_builtins(entry), order="sorted").decode()


def _see(outcome: Outcome, event: Event) -> None:
    outcome.events += 1
    outcome.first, outcome.last = outcome.first or event.at, event.at
    message = getattr(event, "message", None)
    if isinstance(message, Submitted):
        run = (message.workload.uid, message.workload.attempt)
        outcome.submitted.setdefault(run, (message.at, message.workload.key))
    elif message is not None and (node := getattr(message, "node", "")):
        outcome.nodes.add(node)


def _tell(outcome: Outcome, told: Mapping[str, Any]) -> None:
    """A recorded or a new instruction, as the journal writes it."""
    match told:
        case {"is": "Append", "entry": {"type": "placed", "placement": {"workload": workload}} as entry}:
            run = (workload["uid"], workload["attempt"])
            name = f"{workload['namespace']}/{workload['name']}"
            outcome.placed[run] = Place(name, entry["node"], entry["at"], entry.get("score", 0.0))
        case {"is": "Decide", "entry": {"what": "placed", "id": id, "numbers": numbers}}:
            uid, attempt, _ = id.rsplit(".", 2)
            run = (uid, int(attempt))
            terms = {n["metric"].removeprefix("score."): n["value"] for n in numbers}
            if run in outcome.placed and terms:
                outcome.placed[run] = replace(outcome.placed[run], terms=terms)


class Rerun:
    """Lives a life again with a fresh machine; see module docstring."""

    def __init__(self, machine: Machine, facts: Facts) -> None:
        self._machine, self._facts = machine, facts
        self.outcome = Outcome()
        self._seq, self._last = 0, dict[str, int]()  # of the ledger's stream, and by node
        self._ids: dict[str, int] = {}  # of what was appended
        self._open: dict[str, tuple[Append, Stored | LostRace]] = {}  # by id: not yet answered
        self._unheard: deque[tuple[int, str, Any]] = deque()  # own entries: sequence, subject, entry
        self._emitted: dict[Told, tuple[str, Any]] = {}  # own events of workloads, not yet heard: subject, event
        self._due: list[tuple[Seconds, int, Callable[[Seconds], None]]] = []
        self._step, self._count, self._at = 0, 0, 0.0
        self._moved = set[Run]()  # runs that began at another time than they did
        self._live = False  # the ledger was read to its end

    def live(self, steps: Iterable[Step]) -> Outcome:
        """The whole life."""
        for number, step in enumerate(steps):
            self._step = number
            _see(self.outcome, step.event)
            while self._due and self._due[0][0] <= step.event.at:
                at, _, happen = heappop(self._due)
                self._at = max(self._at, at)
                happen(self._at)
            self._at = max(self._at, step.event.at)
            self._hand_over(step.event)
        return self.outcome

    def _hand_over(self, event: Event) -> None:
        """What the world did, as it was; what came of own decisions, as it is now."""
        match event:
            case Done(instruction=Asked() as asked) | Failed(instruction=Asked() as asked):
                self._answer(asked.id, event.at)
            case Arrived(message=Placed() | Released() | Checkpoint() as entry):
                self._entry(event, entry)
            case Synced(channel=channel, seq=seq) if channel == PLACEMENTS:
                self._hear(len(self._unheard), event.at)
                self._seq, self._live = self._seq if self._live else max(self._seq, seq), True
                self._feed(replace(event, seq=self._seq))
            case Arrived(message=Submitted() | Ended() as said) if told_of(said) in self._facts.said:
                self._say(told_of(said), event.at)
            case Arrived(message=Started() | Ended() as said) if (said.uid, said.attempt) in self._facts.lives:
                self._lived(event, said)
            case Arrived(message=DeviceState() as state):
                self._feed(msgspec.structs.replace(event, message=msgspec.structs.replace(state, refused={})))
            case _:
                self._feed(event)

    def _lived(self, event: Arrived[Any], said: Started | Ended) -> None:
        """It comes now if the run began when it did, wherever; else after its own placement (`_begin`)."""
        run = (said.uid, said.attempt)
        placed = self.outcome.placed.get(run)
        if isinstance(said, Ended) and said.reason in FOR_EVER:
            self._feed(event)
        elif placed is None:
            self._moved.add(run)
        elif run not in self._moved:
            self._feed(msgspec.structs.replace(event, message=msgspec.structs.replace(said, node=placed.node)))

    def _entry(self, event: Arrived[Any], entry: Placed | Released | Checkpoint) -> None:
        if _text(entry) in self._facts.own:
            told = told_of(entry)
            place = next((i for i, (_, _, own) in enumerate(self._unheard) if told_of(own) == told), -1)
            self._hear(place + 1, event.at)
        elif not self._live:
            self._seq = self._last[entry.node] = event.seq
            self._feed(event)
        elif not isinstance(entry, Checkpoint):  # of another scheduler: it may tell of this one's entries
            self._hear(len(self._unheard), event.at)
            self._seq += 1
            self._last[entry.node] = self._seq
            self._feed(msgspec.structs.replace(event, seq=self._seq))

    # -- the own ledger ----------------------------------------------------------------------------------------------

    def _feed(self, event: Event) -> None:
        for instruction in self._machine.handle(event):
            match instruction:
                case Append():
                    self._append(instruction)
                case Emit(to=to, message=Submitted() | Ended() as message):
                    told = told_of(message)
                    self._emitted[told] = (to.subject, message)
                    self._later(self._facts.heard.get(told, -1), partial(self._say, told))
                case Emit(message=Preemption() as preemption):
                    self.outcome.preempted += len(preemption.victims)
                case Decide():
                    _tell(self.outcome, plain(instruction))

    def _append(self, append: Append) -> None:
        node, entry = append.entry.node, append.entry
        if append.id in self._ids:
            outcome: Stored | LostRace = Stored(self._ids[append.id], duplicate=True)
        elif append.seen != self._last.get(node, 0):
            outcome = LostRace(append.seen, self._last.get(node, 0))
        else:
            self._seq += 1
            self._ids[append.id] = self._last[node] = self._seq
            outcome = Stored(self._seq)
            self._unheard.append((self._seq, append.to.subject, entry))
            self._later(self._facts.heard.get(told_of(entry), -1), partial(self._hear_until, self._seq))
            _tell(self.outcome, plain(append))
            if isinstance(entry, Placed):
                self._begin(_run(entry.placement.workload), entry)
        self._open[append.id] = (append, outcome)
        self._later(self._facts.answered.get(append.id, -1), partial(self._answer, append.id))

    def _begin(self, run: Run, entry: Placed) -> None:
        """A run that began at another time than it did starts and ends at another time; a new one starts, and stays."""
        workload = entry.placement.workload
        lives = self._facts.lives.get(run)
        if lives is None:
            started = Started(at=entry.at, source=entry.source, uid=run[0], node=entry.node, attempt=run[1])
            lives = [(self._facts.start, started)] if run not in self._facts.placed_at else []
        elif entry.at == self._facts.placed_at[run] and run not in self._moved:
            return
        self._moved.add(run)
        subject = WORKLOAD.at(namespace=workload.namespace, name=workload.name).subject
        for after, said in lives:
            self._at_time(entry.at + after, partial(self._go_on, said, entry.node, subject))

    def _go_on(self, said: Started | Ended, node: str, subject: str, at: Seconds) -> None:
        self._feed(Arrived(at, msgspec.structs.replace(said, at=at, node=node), subject))

    def _later(self, place: int, happen: Callable[[Seconds], None]) -> None:
        """In its recorded place if that is to come, else after the usual time."""
        if place <= self._step:
            self._at_time(self._at + self._facts.latency, happen)

    def _at_time(self, at: Seconds, happen: Callable[[Seconds], None]) -> None:
        self._count += 1
        heappush(self._due, (at, self._count, happen))

    def _answer(self, id: str, at: Seconds) -> None:
        append, outcome = self._open.pop(id, (None, None))
        if append is not None:
            self._feed(Done(at, append, outcome))

    def _hear_until(self, seq: int, at: Seconds) -> None:
        self._hear(sum(mine <= seq for mine, _, _ in self._unheard), at)

    def _hear(self, count: int, at: Seconds) -> None:
        """The first of the own entries, in the order in which they were stored."""
        for _ in range(count):
            seq, subject, entry = self._unheard.popleft()
            self._feed(Arrived(at, entry, subject, seq))

    def _say(self, told: Told, at: Seconds) -> None:
        subject, message = self._emitted.pop(told, ("", None))
        if message is not None:
            self._feed(Arrived(at, message, subject))
