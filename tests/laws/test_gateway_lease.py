"""Never two leaders, whatever is late, lost or dead, and however clocks run; and in the end always one."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from neap.common.errors import Conflict, Unavailable
from neap.common.kube.objects import Lease
from neap.gateway.core.asking.lease import (
    Elector,
    Follows,
    Leads,
    LeaseSettings,
    Leave,
    Look,
    Looked,
    Missed,
    Sleep,
    Tell,
    What,
    Woke,
    Write,
    Wrote,
)

SETTINGS = LeaseSettings(duration=15, renew_within=10.0, retry_every=2.0, drift=0.1)


@dataclass
class Replica:
    """An elector with a clock that runs a bit too fast or too slow, and shows some time of its own."""

    name: str
    rate: float
    offset: float
    life: int = 0
    turn: int = 0  # of what it waits for; answers to what it has given up are thrown away
    until: float = -1.0  # on its own clock
    elector: Elector = field(init=False)

    def __post_init__(self) -> None:
        self.elector = Elector(f"{self.name}.{self.life}", SETTINGS)

    def clock(self, real: float) -> float:
        return self.offset + real * self.rate

    def real(self, clock: float) -> float:
        return (clock - self.offset) / self.rate + 1e-6  # a clock wakes nobody too early, however it rounds


class World:
    """Real time runs here; requests take time, are lost, or their answers are."""

    def __init__(self, replicas: list[Replica], random: Random, plan: list[tuple[float, int, str]]) -> None:
        self.replicas, self.random = replicas, random
        self.lease: Lease | None = None
        self.version = 0
        self.now = 0.0
        self.calm_from = max((at for at, _, _ in plan), default=0.0) + 30.0
        self.queue: list[tuple[float, int, Any]] = []
        self._order = itertools.count()
        self.tokens: dict[int, str] = {}
        for one in replicas:
            self.at(0.0, (one, one.turn, Woke()))
        for when, who, what in plan:
            self.at(when, (replicas[who % len(replicas)], what))

    def at(self, when: float, what: Any) -> None:
        heapq.heappush(self.queue, (max(when, self.now), next(self._order), what))

    def run(self, until: float) -> None:
        while self.queue and self.queue[0][0] <= until:
            self.now, _, what = heapq.heappop(self.queue)
            self.check()
            match what:
                case (Replica() as one, int() as turn, event):
                    if turn == one.turn:
                        self.hand(one, event)
                case (Replica() as one, "dies"):
                    one.life += 1
                    one.turn += 1
                    one.elector, one.until = Elector(f"{one.name}.{one.life}", SETTINGS), -1.0
                    self.at(self.now + self.random.uniform(0, 20), (one, one.turn, Woke()))
                case (Replica() as one, "leaves"):
                    one.turn += 1
                    self.hand(one, Leave())
                case ("arrives", Write() as write, one, turn, is_lost):
                    self.arrive(write, one, turn, is_lost=is_lost)
            self.check()

    def check(self) -> None:
        leading = [one for one in self.replicas if one.elector.leads(one.clock(self.now))]
        assert len(leading) <= 1, [(one.name, one.elector.state(one.clock(self.now))) for one in leading]

    def hand(self, one: Replica, event: What) -> None:
        clock = one.clock(self.now)
        one.turn += 1
        *said, do = one.elector.handle(event, clock)
        for tell in said:
            assert isinstance(tell, Tell)
            match tell.role:
                case Leads(token=token, until=until):
                    assert until > clock
                    assert self.tokens.setdefault(token, one.elector.identity) == one.elector.identity
                    assert token == max(self.tokens), "tokens only grow"
                case Follows(holder=holder):
                    assert holder != one.elector.identity
        match do:
            case Sleep(until=until):
                self.at(one.real(until), (one, one.turn, Woke()))
            case Look(by=by):
                self.ask(one, by, None)
            case Write(by=by) as write:
                self.ask(one, by, write)

    def ask(self, one: Replica, by: float, write: Write | None) -> None:
        """A request: lost, late, or answered late; whoever asked gives up at its deadline."""
        calm = self.now >= self.calm_from
        fate = "" if calm else self.random.choice(["", "", "", "", "lost", "unanswered", "slow"])
        slow = 0.05 if calm else self.random.choice([0.01, 0.5, 3.0, 9.0]) if fate == "slow" else 0.1
        self.at(one.real(by), (one, one.turn, Missed(Unavailable("no answer in time"))))
        if fate == "lost":
            return
        if write is not None:
            self.at(self.now + slow, ("arrives", write, one, one.turn, fate == "unanswered"))
        elif fate != "unanswered":
            self.at(self.now + slow, (one, one.turn, Looked(self.lease)))

    def arrive(self, write: Write, one: Replica, turn: int, *, is_lost: bool) -> None:
        version = self.lease.metadata.resource_version if self.lease is not None else ""
        answer: What = Missed(Conflict("somebody was faster"))
        if write.lease.metadata.resource_version == version:
            self.version += 1
            metadata = msgspec.structs.replace(write.lease.metadata, resource_version=str(self.version))
            self.lease = msgspec.structs.replace(write.lease, metadata=metadata)
            answer = Wrote(self.lease)
        back = 0.05 if self.now >= self.calm_from else self.random.choice([0.01, 0.2, 4.0, 8.0])
        if not is_lost:
            self.at(self.now + back, (one, turn, answer))


clocks = st.lists(st.tuples(st.floats(0.9, 1.1), st.floats(0, 1e6)), min_size=1, max_size=4)
plans = st.lists(
    st.tuples(st.floats(0, 300), st.integers(0, 3), st.sampled_from(["dies", "dies", "leaves"])), max_size=8
)


@given(clocks, plans, st.integers(0, 2**32))
def test_never_two_lead_and_in_the_end_one_does(
    clocks: list[tuple[float, float]], plan: list[tuple[float, int, str]], seed: int
) -> None:
    replicas = [Replica(f"r{number}", rate, offset) for number, (rate, offset) in enumerate(clocks)]
    gone = {who % len(replicas) for _, who, what in plan if what == "leaves"}
    lives = {
        who: max((at for at, each, what in plan if what == "dies" and each % len(replicas) == who), default=-1.0)
        for who in range(len(replicas))
    }
    left = {who: max(at for at, each, what in plan if what == "leaves" and each % len(replicas) == who) for who in gone}
    staying = [who for who in range(len(replicas)) if who not in gone or lives[who] > left[who]]
    world = World(replicas, Random(seed), plan)
    world.run(world.calm_from + 60.0)
    if staying:
        assert sum(one.elector.leads(one.clock(world.now)) for one in replicas) == 1
    world.check()
