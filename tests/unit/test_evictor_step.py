"""Advisor and evictor on one simulated machine: after a step of an owner's load guests shrink first, and leave late."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from neap.common.contract.catalogue import EVICTION_TOKENS, PLACEMENTS
from neap.common.model.advice import Headroom, NodeAdvice
from neap.common.model.lifecycle import Eviction
from neap.common.model.placement import Checkpoint
from neap.common.model.qos import QosClass
from neap.common.model.resource import RECLAIMED_CPU
from neap.common.runtime.machine import Arrived, Event, Instruction, Put, Synced
from neap.common.units import GIB, MIB, Cores, Ratio
from neap.virtual.pod import Memory, Work
from tests.unit.evictor_world import World
from tests.unit.test_advisor_loop import STEP_AT, Loop, a_step

CPUS = 64
WATCHED = 30.0  # the evictor begins when the offer has grown
GRACE = 5  # reports: the default patience of reclaimed_overuse


class Overheard:
    """The advisor, and what it says of the node as a whole."""

    def __init__(self, loop: Loop) -> None:
        self._machine = loop.machine
        self.said: list[Headroom | NodeAdvice] = []

    def handle(self, event: Event) -> Sequence[Instruction]:
        out = self._machine.handle(event)
        self.said += [one.value for one in out if isinstance(one, Put) and isinstance(one.value, Headroom | NodeAdvice)]
        return out

    def validate(self) -> None:
        self._machine.validate()


def live(asked: Cores, high: Ratio) -> tuple[list[Eviction], list[tuple[float, int, float]]]:
    """An owner of two thirds of the machine goes from 20 % of that to `high`; two guests ask for so much in all.

    Returns the evictions, and per second the time, the guests' CPUs and what is lent.
    """
    loop, demand = Loop(CPUS, 8 * GIB, offer_rise=1.0), a_step(CPUS * 2 / 3, 0.2, high)
    loop.start("s", QosClass.SHARED, CPUS * 2 / 3, 64 * MIB, demand, Memory(start=32 * MIB))
    for uid in ("a", "b"):
        work = Work(core_seconds=1e9, width=CPUS / 2)
        loop.start(uid, QosClass.RECLAIMED, asked / 2, 64 * MIB, work, Memory(start=32 * MIB))
    advisor = Overheard(loop)
    loop.machine = advisor  # type: ignore[assignment]
    world = World(node="n")
    world.live(
        Arrived(0.0, Checkpoint(at=0.0, source="s", node="n", placements=tuple(loop.placements)), seq=1),
        Synced(0.0, PLACEMENTS),
        Synced(0.0, EVICTION_TOKENS),
    )
    loop.begin()
    seen: list[tuple[float, int, float]] = []
    lent = 0.0
    for _ in range(80):
        loop.host.advance(loop.host.now + 1.0)
        report = loop.report()
        loop.hear(report)
        for message in advisor.said:
            lent = message.offer[RECLAIMED_CPU] / 1000 if isinstance(message, Headroom) else lent
            world.live(Arrived(loop.host.now, message))
        advisor.said.clear()
        if loop.host.now >= WATCHED:
            world.live(Arrived(loop.host.now, msgspec.structs.replace(report, seq=int(loop.host.now))))
        seen.append((loop.host.now, len(loop.guests), lent))
    return world.commands, seen


def test_guests_shrink_with_the_first_report_and_nobody_leaves_if_that_is_enough() -> None:
    evictions, seen = live(asked=6.0, high=0.4)
    before = next(size for at, size, _ in seen if at == STEP_AT)
    after = min(size for at, size, _ in seen if STEP_AT < at <= STEP_AT + 2)
    assert after < before
    assert min(lent for at, _, lent in seen if at > STEP_AT) * 1.25 >= 6.0
    assert evictions == []


def test_who_leaves_because_shrinking_was_not_enough_leaves_after_the_grace() -> None:
    evictions, seen = live(asked=40.0, high=0.9)
    short = next(at for at, _, lent in seen if at > STEP_AT and 1.25 * lent < 40.0)
    assert short <= STEP_AT + 3, "the offer fell late"
    assert [one.rule for one in evictions][:1] == ["reclaimed_overuse"]
    assert evictions[0].at == short + GRACE - 1
    assert evictions[0].tried[0].says.startswith("guests' CPUs cut from")
    assert evictions[0].tried[0].since <= STEP_AT + 2
