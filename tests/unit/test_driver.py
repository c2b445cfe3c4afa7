"""The loop around a machine: what it promises when the bus is away, a process dies, or time passes too fast."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from neap.common.bus.memory import MemoryBroker, MemoryBus
from neap.common.bus.port import CaughtUp, Received
from neap.common.contract.catalogue import CHANNELS, HEADROOM, STREAMS, TRAIL, WORKLOAD
from neap.common.contract.channel import Channel
from neap.common.errors import PortError, Unavailable
from neap.common.host.memory import MemoryHost
from neap.common.model.advice import Headroom
from neap.common.model.lifecycle import Ended, EndReason
from neap.common.model.trail import ObjectRef, TrailEntry
from neap.common.runtime.clock import loop_clock
from neap.common.runtime.machine import (
    Arrived,
    Aside,
    Decide,
    Done,
    Emit,
    Event,
    Failed,
    Instruction,
    Later,
    Put,
    Stopping,
    Tick,
)
from neap.common.runtime.run import Running
from neap.common.runtime.service import Outside, Route, Service, consume, every
from neap.common.telemetry.span import NoTracer
from neap.common.testing.simloop import simulate

OFFER = HEADROOM.at(node="n1")


def offer(**amounts: int) -> Headroom:
    return Headroom(at=0.0, source="probe", node="n1", offer=amounts, arithmetic={})


@dataclass(frozen=True, slots=True)
class Work(Instruction):
    """Something that takes a while, or fails."""

    seconds: float = 0.0
    error: type[PortError] | None = None


@dataclass(frozen=True, slots=True)
class Errand(Aside):
    """The same, beside the machine."""

    seconds: float = 0.0
    error: type[PortError] | None = None


async def work(asked: Work | Errand) -> str:
    await asyncio.sleep(asked.seconds)
    if asked.error is not None:
        raise asked.error("the host says no")
    return "done"


Answer = Callable[[Event], Sequence[Instruction]]


class Machine:
    """Answers as it is told, and remembers what it heard."""

    def __init__(self, answer: Answer) -> None:
        self.seen: list[Event] = []
        self._answer = answer

    def handle(self, event: Event) -> Sequence[Instruction]:
        self.seen.append(event)
        return self._answer(event)

    def validate(self) -> None:
        assert all(event.at >= 0 for event in self.seen)

    def heard(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.seen if isinstance(event, kind)]


class World:
    """A broker, and services that are started, stopped and killed on it."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.bus: MemoryBus = self.broker.bus("looking on")

    @asynccontextmanager
    async def service(self, answer: Answer, *routes: Route) -> AsyncIterator[Live]:
        await self.bus.ensure(STREAMS, CHANNELS)
        bus, machine, stop = self.broker.bus("probe"), Machine(answer), asyncio.Event()
        loop = asyncio.get_running_loop()
        outside = Outside(bus, loop_clock(loop, epoch=loop.time()), MemoryHost(), NoTracer())
        service = Service("probe", "", machine, routes, {Work: work, Errand: work})
        running = Running(service, outside, count=lambda *_: None, validate=True)
        live = Live(self.broker, bus, machine, running, asyncio.ensure_future(running.run(stop)), stop)
        try:
            yield live
        finally:
            await live.stop()

    async def stored(self, channel: Channel[Any]) -> list[Any]:
        found: list[Any] = []
        async with self.bus.follow(channel.only()) as items:
            async for item in items:
                if isinstance(item, CaughtUp):
                    return found
                found.append(item.message)
        raise AssertionError("the stream ended")


@dataclass
class Live:
    broker: MemoryBroker
    bus: MemoryBus
    machine: Machine
    running: Running
    task: asyncio.Future[None]
    stopping: asyncio.Event

    async def stop(self) -> None:
        self.stopping.set()
        with suppress(asyncio.CancelledError):
            await self.task

    async def crash(self) -> None:
        self.broker.disconnect(self.bus)
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


def an_end(name: str = "cart-1", attempt: int = 1) -> Ended:
    return Ended(at=0.0, source="virtual", uid=name, node="n1", attempt=attempt, reason=EndReason.FINISHED)


def emit(name: str = "cart-1", attempt: int = 1) -> Emit:
    return Emit(WORKLOAD.at(namespace="shop", name=name), an_end(name, attempt), f"{name}.{attempt}.ended")


async def tell(world: World, name: str = "cart-1") -> None:
    """Somebody else stores a workload event."""
    await world.bus.ensure(STREAMS, CHANNELS)
    await world.bus.emit(WORKLOAD.at(namespace="shop", name=name), an_end(name), id=name)


def on_ticks(answer: Callable[[int], Sequence[Instruction]]) -> Answer:
    """Answer the n-th tick, and nothing else."""
    count = iter(range(1, 1_000_000))
    return lambda event: answer(next(count)) if isinstance(event, Tick) else ()


def on_arrival(*instructions: Instruction) -> Answer:
    return lambda event: instructions if isinstance(event, Arrived) else ()


HEARS = consume(WORKLOAD.only(), durable="probe", ack_wait=20.0)


def run(main: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def in_a_world() -> None:
        async with asyncio.timeout(100_000):
            await main(World())

    simulate(in_a_world())


# -- acknowledgement -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("crash_at", "comes_back"), [(3.0, True), (6.0, False)])
def test_an_event_is_acknowledged_only_after_everything_it_led_to_is_done(crash_at: float, comes_back: bool) -> None:
    async def main(world: World) -> None:
        await tell(world)
        async with world.service(on_arrival(Work(seconds=5.0)), HEARS) as first:
            await asyncio.sleep(crash_at)
            await first.crash()
        async with world.service(on_arrival(), HEARS) as second:
            await asyncio.sleep(60)
            again = second.machine.heard(Arrived)
        assert len(first.machine.heard(Arrived)) == 1
        assert [event.redelivered for event in again] == ([True] if comes_back else [])

    run(main)


def test_an_event_whose_message_is_not_stored_yet_comes_back_after_a_crash() -> None:
    """Handled, what it led to waits in the outbox, and then the connection and the process are gone."""

    def answer(event: Event) -> Sequence[Instruction]:
        return [emit("pay-1")] if isinstance(event, Arrived) and event.message.uid == "cart-1" else ()

    async def main(world: World) -> None:
        await tell(world)
        async with world.service(answer, HEARS) as first:
            while not first.machine.seen:  # noqa: ASYNC110  until it is handled, and not one turn longer
                await asyncio.sleep(0)
            await first.crash()
        assert [message.uid for message in await world.stored(WORKLOAD)] == ["cart-1"], "it was not in time to crash"
        async with world.service(answer, HEARS):
            await asyncio.sleep(60)
        assert [message.uid for message in await world.stored(WORKLOAD)] == ["cart-1", "pay-1"]

    run(main)


def test_an_event_that_led_to_something_refused_comes_back_and_the_machine_is_told_why() -> None:
    async def main(world: World) -> None:
        await tell(world)
        async with world.service(on_arrival(Put(OFFER, offer(a=1), revision=99)), HEARS) as live:
            await asyncio.sleep(3.5)
            arrived, failed = live.machine.heard(Arrived), live.machine.heard(Failed)
        assert len(arrived) >= 3
        assert [event.redelivered for event in arrived[:3]] == [False, True, True]
        assert not failed[0].may_retry
        assert "revision 99" in failed[0].error

    run(main)


def test_an_event_put_off_by_its_machine_comes_back_after_the_delay_it_named() -> None:
    async def main(world: World) -> None:
        await tell(world)
        async with world.service(on_arrival(Later(7.0)), HEARS) as live:
            await asyncio.sleep(16)
            times = [event.at for event in live.machine.heard(Arrived)]
        assert [round(later - times[0], 3) for later in times] == [0.0, 7.0, 14.0]

    run(main)


# -- the bus is away -----------------------------------------------------------------------------------------------


def test_what_is_emitted_during_an_outage_is_stored_once_and_in_order_however_long_it_lasts() -> None:
    async def main(world: World) -> None:
        async with world.service(on_ticks(lambda n: [emit(attempt=n)]), every(10.0, "say")) as live:
            await asyncio.sleep(15)
            world.broker.disconnect(live.bus)
            await asyncio.sleep(400)  # longer than one call to the bus tries
            world.broker.reconnect(live.bus)
            await asyncio.sleep(30)
        attempts = [message.attempt for message in await world.stored(WORKLOAD)]
        assert attempts == list(range(1, len(live.machine.heard(Tick)) + 1))
        assert len(attempts) > 40
        assert not live.machine.heard(Failed)

    run(main)


def test_the_newest_state_replaces_the_one_that_waits_for_the_bus() -> None:
    async def main(world: World) -> None:
        async with world.service(on_ticks(lambda n: [Put(OFFER, offer(tick=n))]), every(1.0, "say")) as live:
            await asyncio.sleep(2.5)
            world.broker.disconnect(live.bus)
            await asyncio.sleep(300)
            assert live.running.driver.backlog[1] <= 3, "an outage costs memory"
            world.broker.reconnect(live.bus)
            await asyncio.sleep(0.1)
            found, ticks = await world.bus.get(OFFER), len(live.machine.heard(Tick))
        assert isinstance(found, Received)
        assert found.message == offer(tick=ticks)
        assert ticks > 300
        assert found.seq < 10, "every old value was written as well"
        assert all(event.may_retry for event in live.machine.heard(Failed))

    run(main)


def test_a_line_of_the_trail_told_twice_is_stored_once() -> None:
    about = ObjectRef(namespace="shop", name="cart-1", uid="u1")
    entry = TrailEntry(at=0.0, source="probe", id="u1.1.placed", about=about, what="placed", why="it fits")

    async def main(world: World) -> None:
        async with world.service(on_ticks(lambda _: [Decide(entry)]), every(1.0, "say")) as live:
            await asyncio.sleep(5.5)
        assert len(live.machine.heard(Tick)) >= 5
        assert await world.stored(TRAIL) == [entry]

    run(main)


# -- effects -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "may_retry"), [(Unavailable, True), (PortError, False)])
def test_a_machine_hears_what_became_of_its_own_effects(error: type[PortError], may_retry: bool) -> None:
    async def main(world: World) -> None:
        asked = {1: Work(seconds=1.0), 2: Work(error=error)}
        async with world.service(on_ticks(lambda n: [asked[n]] if n in asked else ()), every(10.0, "act")) as live:
            await asyncio.sleep(25)
            done, failed = live.machine.heard(Done), live.machine.heard(Failed)
        assert [(event.instruction, event.outcome) for event in done] == [(asked[1], "done")]
        assert [(event.instruction, event.may_retry, event.error) for event in failed] == [
            (asked[2], may_retry, "the host says no")
        ]

    run(main)


def test_errands_run_side_by_side_and_nobody_waits_for_them() -> None:
    async def main(world: World) -> None:
        errands = [Errand(seconds=8.0), Errand(seconds=8.0), Errand(seconds=1.0)]
        async with world.service(on_ticks(lambda n: errands if n == 1 else ()), every(2.0, "act")) as live:
            await asyncio.sleep(13)
            done, ticks = live.machine.heard(Done), live.machine.heard(Tick)
        assert [event.instruction.seconds for event in done] == [1.0, 8.0, 8.0]
        assert [round(event.at - ticks[0].at, 3) for event in done] == [1.0, 8.0, 8.0]
        assert len(ticks) >= 6

    run(main)


@pytest.mark.parametrize(("error", "comes_back"), [(None, False), (Unavailable, True), (PortError, True)])
def test_an_event_is_acknowledged_once_its_errand_is_done_and_comes_back_if_it_failed(
    error: type[PortError] | None, comes_back: bool
) -> None:
    async def main(world: World) -> None:
        await tell(world)
        async with world.service(on_arrival(Errand(seconds=2.0, error=error)), HEARS) as live:
            await asyncio.sleep(25)
            arrived = live.machine.heard(Arrived)
        assert (len(arrived) > 1) == comes_back

    run(main)


def test_a_service_that_stops_finishes_its_errands_first() -> None:
    async def main(world: World) -> None:
        async with world.service(
            on_ticks(lambda n: [Errand(seconds=3.0)] if n == 1 else ()), every(2.0, "act")
        ) as live:
            await asyncio.sleep(3)
        assert len(live.machine.heard(Done)) == 1

    run(main)


def test_an_invariant_that_does_not_hold_ends_the_service_with_its_story() -> None:
    async def main(world: World) -> None:
        await world.bus.ensure(STREAMS, CHANNELS)
        machine = Machine(lambda _: ())
        machine.validate = lambda: pytest.fail("two pods on one core")  # type: ignore[method-assign]
        outside = Outside(world.broker.bus("probe"), loop_clock(asyncio.get_running_loop()), MemoryHost(), NoTracer())
        running = Running(
            Service("probe", "", machine, (every(1.0, "look"),)), outside, count=lambda *_: None, validate=True
        )
        await running.run(asyncio.Event())

    with pytest.raises(BaseExceptionGroup) as raised:
        run(main)
    assert raised.group_contains(pytest.fail.Exception, match="two pods on one core")


# -- time ----------------------------------------------------------------------------------------------------------


def test_ticks_come_at_multiples_of_the_period_plus_the_phase() -> None:
    async def main(world: World) -> None:
        await asyncio.sleep(4.2)
        async with world.service(lambda _: (), every(10.0, "look", phase=3.0), every(7.0, "other")) as live:
            await asyncio.sleep(40)
            ticks = live.machine.heard(Tick)
        assert [round(event.at, 5) for event in ticks if event.name == "look"] == [13.0, 23.0, 33.0, 43.0]
        assert [round(event.at, 5) for event in ticks if event.name == "other"] == [7.0, 14.0, 21.0, 28.0, 35.0, 42.0]

    run(main)


def test_ticks_that_come_too_late_are_skipped_and_not_piled_up() -> None:
    """One effect hangs for 95 periods; then the machine goes on as if it had looked away, not 95 times in a row."""

    async def main(world: World) -> None:
        hang = on_ticks(lambda n: [Work(seconds=95.0)] if n == 2 else ())
        async with world.service(hang, every(1.0, "look")) as live:
            await asyncio.sleep(100.5)
            ticks = [event.at for event in live.machine.heard(Tick)]
        assert ticks[:2] == [1.0, 2.0]
        assert ticks[-3:] == [98.0, 99.0, 100.0]
        assert len(ticks) <= 2 + 1 + 4, f"{len(ticks)} ticks"

    run(main)


# -- the end -------------------------------------------------------------------------------------------------------


def test_the_last_instructions_of_a_service_are_done_before_it_ends() -> None:
    def last_words(event: Event) -> Sequence[Instruction]:
        match event:
            case Stopping():
                return [Put(OFFER, offer(stopped=1)), emit(), Work(seconds=1.0)]
            case Done(instruction=Work()):
                return [emit("pay-1")]
        return ()

    async def main(world: World) -> None:
        async with world.service(last_words) as live:
            await asyncio.sleep(1)
            await live.stop()
            found = await world.bus.get(OFFER)
            assert found is not None
            assert found.message == offer(stopped=1)
            assert [message.uid for message in await world.stored(WORKLOAD)] == ["cart-1", "pay-1"]

    run(main)


def test_a_service_that_cannot_finish_ends_all_the_same_within_its_grace() -> None:
    async def main(world: World) -> None:
        async with world.service(lambda event: [emit()] if isinstance(event, Stopping) else ()) as live:
            await asyncio.sleep(1)
            world.broker.disconnect(live.bus)
            began = asyncio.get_running_loop().time()
            await live.stop()
            assert asyncio.get_running_loop().time() - began <= 10.1

    run(main)
