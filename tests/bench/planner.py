"""The whole planner, every desk wired as in service: 100,000 services of one container on 2,500 nodes, no server.

Everything is on: over-commitment on every node, tides in every pool, scaling for as many services as it takes; with
NEAP_BENCH_DESKS=default all is as it is set where nobody set anything. The clock is virtual. What is stored is read; a
report of each node makes the rows, and the history's rings are filled as after two weeks; an hour of reports is folded;
then the desks tick at their own paces, while nodes go on reporting, until every service was reviewed and sized. What
the planner says is encoded, and what it says to a STATE channel it hears again, decoded, as its watch would tell it.
Rates are of CPU time, memory is that of the process.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from neap.common.contract.catalogue import NODE_USAGE
from neap.common.model.profile import ServiceProfile
from neap.common.model.recommendation import Recommendation
from neap.common.runtime.machine import Arrived, Event, Instruction, Put, Synced, Tick
from neap.common.runtime.main import COLLECT_EVERY
from neap.common.runtime.service import Every, Outside
from neap.common.units import HOUR, MINUTE, Seconds
from neap.planner.core.overcommitting.settings import Overcommit
from neap.planner.core.profiling.judging import Judged
from neap.planner.core.profiling.measured import Kept, Past
from neap.planner.core.tides.settings import TideSettings
from neap.planner.settings import Settings
from neap.planner.wiring import STORED, wire
from tests.bench.history import FOLD_GOAL, MEMORY_GOAL, NOW, PER_NODE, SERVICES, fill, resident
from tests.bench.measure import Row
from tests.bench.planner_world import stored, told

OUT: Final = Path(__file__).resolve().parents[2] / "build" / "planner.json"
EVERYTHING: Final = os.environ.get("NEAP_BENCH_DESKS", "all") == "all"  # else as it is set where nobody set anything
REPORTS: Final = 12  # of a node in the hour that is folded: what a window needs
LATE: Final = 16 * MINUTE  # after the hour it is closed
ROUND: Final = HOUR  # of all services
FREQUENT: Final = 10  # seconds of a report a second
LONG_TICK: Final = 50.0  # milliseconds


class Outcome(msgspec.Struct, kw_only=True):
    """What one life measured."""

    resident: dict[str, float] = {}  # GiB, after each stage
    peak: float = 0.0
    held: dict[str, float] = {}  # MiB of objects that no part before it holds
    full: float = 0.0  # samples/s, decoded
    from_bytes: float = 0.0
    short: float = 0.0  # seconds of CPU in a second in which every node reports, most of them what changed
    ticks: dict[str, float] = {}  # longest, milliseconds
    ticking: dict[str, float] = {}  # seconds of CPU, in all
    events: dict[str, float] = {}  # longest, milliseconds, by desk, and by kind of message
    whole: dict[str, float] = {}  # longest handling of one event by what it is
    told: dict[str, int] = {}
    hours: float = 0.0  # virtual
    collections: list[float] = []  # milliseconds that searches for cycles took, the five longest


def rows() -> Iterator[Row]:
    """One life, a process of its own."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.bench.planner"], stdout=subprocess.PIPE, check=True,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    OUT.write_bytes(msgspec.json.format(told.stdout))
    one = msgspec.json.decode(told.stdout, type=Outcome)
    how = "every desk on" if EVERYTHING else "as set by default"
    note = f"{SERVICES:,} services on {SERVICES // PER_NODE:,} nodes, {how}"
    yield Row(name="planner: samples folded, all desks listening", value=one.full, unit="samples/s", at_least=FOLD_GOAL,
              note=note)  # fmt: skip
    yield Row(name="planner: the same from bytes", value=one.from_bytes, unit="samples/s", at_least=FOLD_GOAL)
    yield Row(name="planner: CPU while every node reports every second", value=one.short, unit="cores")
    for stage, gib in one.resident.items():
        yield Row(name=f"planner: memory, {stage}", value=gib, unit="GiB", at_most=MEMORY_GOAL)
    yield Row(name="planner: memory, at most", value=one.peak, unit="GiB", at_most=MEMORY_GOAL)
    for part, mib in one.held.items():
        yield Row(name=f"planner: held by {part}", value=mib, unit="MiB")
    for desk, most in one.ticks.items():
        yield Row(name=f"planner: longest tick of {desk}", value=most, unit="ms", at_most=LONG_TICK,
                  note=f"{one.ticking[desk]:.1f} s of CPU in {one.hours:.1f} h; longest event {one.events[desk]:.1f} ms")  # fmt: skip
    yield Row(name="planner: longest search for cycles", value=max(one.collections, default=0.0), unit="ms")
    for what, most in one.whole.items():
        yield Row(name=f"planner: longest {what}", value=most, unit="ms")


# -- a life --------------------------------------------------------------------------------------------------------------


class _Timed:
    """A desk with a clock at its side."""

    def __init__(self, desk: Any) -> None:
        self.desk, self.news = desk, desk.news
        self.longest = self.tick = self.ticking = 0.0

    def hear(self, event: Event) -> Sequence[Instruction]:
        began = time.thread_time()
        said: Sequence[Instruction] = self.desk.hear(event)
        self.longest = max(self.longest, time.thread_time() - began)
        return said

    def plan(self, at: Seconds) -> Sequence[Instruction]:
        began = time.thread_time()
        said = list(self.desk.plan(at))
        passed = time.thread_time() - began
        self.tick, self.ticking = max(self.tick, passed), self.ticking + passed
        return said

    def validate(self) -> None:
        self.desk.validate()


class _Life:
    """The planner, and what was seen of it."""

    def __init__(self) -> None:
        self.settings = Settings()
        if EVERYTHING:
            self.settings = Settings(overcommit=Overcommit(cpu=1.5, memory=1.2), tide=TideSettings(enabled=True))
        service = wire(self.settings, cast(Outside, None))  # it opens nothing
        self.machine = cast(Any, service.machine)
        self.desks = {name: _Timed(desk) for name, desk in self.machine._desks.items()}
        self.machine._desks = self.desks
        self.periods = {route.name: route.period for route in service.routes if isinstance(route, Every)}
        self.whole: dict[str, float] = {}
        self.told = Counter[str]()
        self.outcome = Outcome()
        self.pauses: list[float] = []
        self.at: Seconds = NOW
        self.reviewed, self.sized = bytearray(SERVICES), bytearray(SERVICES)  # 1: it was

    def see(self, stage: str) -> None:
        """How much memory it takes now."""
        self.outcome.resident[stage] = resident()
        sys.stderr.write(f"{time.process_time():7.1f} s  {resident():.3f} GiB  {stage}\n")

    def collected(self, phase: str, _: object) -> None:
        """The garbage collector begins, or ends."""
        if phase == "start":
            self.pauses.append(-time.thread_time())
        elif self.pauses:
            self.pauses[-1] += time.thread_time()
            self.pauses = sorted(self.pauses)[-5:]

    def handle(self, event: Event) -> None:
        """One event, and what comes of it."""
        name = f"tick of {event.name}" if isinstance(event, Tick) else "event of "
        if isinstance(event, Arrived):
            name += type(event.message).__name__
        began = time.thread_time()
        said = self.machine.handle(event)
        self.whole[name] = max(self.whole.get(name, 0.0), 1000 * (time.thread_time() - began))
        for one in said:
            self.told[type(one).__name__] += 1
            if isinstance(one, Put):
                self._echo(one, event.at)

    def _echo(self, put: Put, at: Seconds) -> None:
        channel = put.key.channel
        message = channel.decode(channel.encode(put.value))
        self.told[type(message).__name__] += 1
        if isinstance(message, ServiceProfile) and message.key.startswith("team-"):
            self.reviewed[int(message.key.rpartition("-")[2])] = 1
        if isinstance(message, Recommendation) and message.containers:
            self.sized[int(message.name.rpartition("-")[2])] = 1
        self.handle(Arrived(at, message, put.key.subject))

    def fold(self, payloads: Iterable[bytes], at: Seconds) -> tuple[float, float]:
        """Seconds of CPU for decoding, and for folding."""
        decoding = folding = 0.0
        for payload in payloads:
            began = time.thread_time()
            report = NODE_USAGE.decode(payload)
            read = time.thread_time()
            self.handle(Arrived(at, report))
            decoding, folding = decoding + read - began, folding + time.thread_time() - read
        return decoding, folding

    def tick(self, at: Seconds) -> None:
        """Every desk whose time it is."""
        for name, period in self.periods.items():
            if at % period < 1:
                self.handle(Tick(at, name))


def _live() -> Outcome:
    life = _Life()
    life.see("empty")
    for message in stored(SERVICES):
        life.handle(Arrived(NOW, message))
    for channel in STORED:
        life.handle(Synced(NOW, channel))
    gc.collect()
    gc.freeze()  # as a service does once it is ready
    gc.set_threshold(COLLECT_EVERY)
    gc.callbacks.append(life.collected)
    life.see("everything stored is read")
    nodes = range(SERVICES // PER_NODE)
    life.fold((told(node, NOW + 1, 1.0) for node in nodes), NOW + 1)
    fill(life.machine._desks["history"].desk)
    life.see("every report folded once, rings full")
    _hour(life, nodes)
    _days(life)
    life.see("an hour folded")
    _round(life, nodes)
    life.see("every service reviewed and sized")
    _often(life, nodes)
    life.see("reports of a second")
    return _summed(life)


def _hour(life: _Life, nodes: range) -> None:
    decoding = folding = 0.0
    for turn in range(REPORTS):
        at = NOW + 60 + turn * 295
        read, fold = life.fold((told(node, at, 1.0) for node in nodes), at)
        decoding, folding = decoding + read, folding + fold
        life.handle(Tick(at + MINUTE, "history"))
    count = REPORTS * SERVICES
    life.outcome.full, life.outcome.from_bytes = count / folding, count / (decoding + folding)


def _days(life: _Life) -> None:
    """As after a week: of every service the busiest hours of the days before."""
    measured, hour = life.machine._desks["profiling"].desk._measured, int(NOW // HOUR)
    for number, lines in enumerate(measured.lines.values()):
        judged = [Judged((("main", 1e7 + number * day),), None, True) for day in range(1, 7)]
        days = tuple(Kept(hour - 24 * (6 - i), one) for i, one in enumerate(judged))
        for line in lines:
            line.keep({kind.name: Past(6.0, days) for kind in measured._kinds})


def _round(life: _Life, nodes: range) -> None:
    """Desks at their paces; every node reports every five minutes, in turns."""
    at, groups = NOW + HOUR + LATE, 300
    end = at + 2 * ROUND
    began = at
    while at < end and not (all(life.sized) and all(life.reviewed) and at - began >= ROUND):
        life.fold((told(node, at, 1.0) for node in nodes[int(at) % groups :: groups]), at)
        life.tick(at)
        at += 1.0
    life.outcome.hours = (at - began) / HOUR
    life.at = at
    assert all(life.sized), f"{sum(life.sized)} services were sized"
    assert all(life.reviewed), f"{sum(life.reviewed)} services were reviewed"


def _often(life: _Life, nodes: range) -> None:
    """A report a second of every node: a full one first, then what changed."""
    at = life.at + MINUTE // 1
    life.fold((told(node, at, 1.0) for node in nodes), at)
    spent, since = 0.0, int(at)
    for second in range(1, FREQUENT + 1):
        spent += sum(life.fold((told(node, at + second, 1.0, since=since) for node in nodes), at + second))
    life.outcome.short = spent / FREQUENT


def _summed(life: _Life) -> Outcome:
    found = life.outcome
    found.peak = resident("VmHWM")
    found.ticks = {name: 1000 * desk.tick for name, desk in life.desks.items()}
    found.ticking = {name: desk.ticking for name, desk in life.desks.items()}
    found.events = {name: 1000 * desk.longest for name, desk in life.desks.items()}
    found.collections = [1000 * pause for pause in life.pauses]
    found.whole, found.told = dict(life.whole), dict(life.told)
    seen: set[int] = {id(life)}
    machine = life.machine
    for name, part in (("the wishes", machine._wishes), ("the cluster", machine._cluster), *life.desks.items()):
        found.held[name] = _held(getattr(part, "desk", part), seen) / (1 << 20)
    return found


def _held(thing: Any, seen: set[int]) -> int:
    """Bytes of all objects that can be reached and were not seen; of arrays, as much as they could take."""
    left, total = [thing], 0
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, (type, _MODULE, *_CODE)):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        left += gc.get_referents(one)
    return total


_MODULE: Final = type(sys)
_CODE: Final = (type(_held), type(_held.__code__), type(len))

if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_live()))
