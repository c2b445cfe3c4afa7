"""How a service's decisions become spans: linked to what led to them, recorded once, and free without a collector."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from neap.common.bus.memory import MemoryBroker
from neap.common.contract.catalogue import CHANNELS, HEADROOM, PRESSURE, STREAMS, TRAIL, WORKLOAD
from neap.common.host.memory import MemoryHost
from neap.common.model.advice import Headroom
from neap.common.model.lifecycle import Ended, EndReason
from neap.common.model.trail import ObjectRef, TrailEntry
from neap.common.model.usage import Pressure, PressureKind
from neap.common.runtime.clock import wall_clock
from neap.common.runtime.driver import LINKS
from neap.common.runtime.machine import Arrived, Decide, Done, Emit, Event, Instruction, Put, Synced
from neap.common.runtime.run import Running
from neap.common.runtime.service import Outside, Route, Service, consume, watch
from neap.common.telemetry.span import Span, SpanContext, current, decision_context, object_context
from tests.conftest import SOON

ABOUT = ObjectRef(namespace="shop", name="cart-1", uid="u1")
HOME = object_context(ABOUT)


class Recorder:
    """A tracer whose spans can be looked at."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled, self.spans = enabled, list[Span]()

    def record(self, span: Span) -> None:
        self.spans.append(span)


OFFER = Headroom(at=0.0, source="probe", node="n1", offer={}, arithmetic={})


@dataclass(frozen=True, slots=True)
class Look(Instruction):
    """An effect that answers."""


class Machine:
    """What it does on each event is the test's."""

    def __init__(self, react: Callable[[Event], Sequence[Instruction]]) -> None:
        self.react, self.validate = react, lambda: None
        self.handled: asyncio.Queue[Event] = asyncio.Queue()

    def handle(self, event: Event) -> Sequence[Instruction]:
        self.handled.put_nowait(event)
        return self.react(event)

    async def saw(self, kind: type[Event]) -> Any:
        async with asyncio.timeout(SOON):
            while not isinstance(event := await self.handled.get(), kind):
                pass
        return event


def decided(id: str, *, cause: str = "", at: float = 1.0) -> Decide:
    entry = TrailEntry(at=at, source="probe", id=id, about=ABOUT, what="looked at", why="it was time", cause=cause)
    return Decide(entry)


def pressure(number: int, source: str = "other", node: str = "n1") -> Pressure:
    return Pressure(
        at=1.0,
        source=source,
        node=node,
        kind=PressureKind.CPU,
        metric=f"m{number}",
        value=1.0,
        threshold=0.5,
        risen=True,
    )


@pytest.fixture
async def broker() -> MemoryBroker:
    broker = MemoryBroker()
    await broker.bus("first").ensure(STREAMS, CHANNELS)
    return broker


@asynccontextmanager
async def running(
    broker: MemoryBroker, machine: Machine, tracer: Recorder, *routes: Route, name: str = "probe"
) -> AsyncIterator[None]:
    async def look(_: Look) -> str:
        return "seen"

    service = Service(name, "n1", machine=machine, routes=routes, effects={Look: look})
    outside = Outside(bus=broker.bus(name), clock=wall_clock(), host=MemoryHost(), tracer=tracer)
    stop = asyncio.Event()
    task = asyncio.ensure_future(Running(service, outside, count=lambda *_: None).run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, SOON)


async def say(broker: MemoryBroker, message: Pressure, context: SpanContext) -> None:
    token = current.set(context)
    await broker.bus("sender").emit(PRESSURE.at(node="n1"), message, id=message.metric)
    current.reset(token)


def context_of(number: int) -> SpanContext:
    return SpanContext(f"{number:032x}", f"{number:016x}")


def operations(tracer: Recorder) -> list[Span]:
    return [span for span in tracer.spans if span.name.startswith("process ")]


HEAR = consume(PRESSURE.only(), durable="probe")


async def test_a_decision_is_linked_to_its_operation_and_that_to_the_message_over_an_effect(
    broker: MemoryBroker,
) -> None:
    def react(event: Event) -> Sequence[Instruction]:
        match event:
            case Arrived():
                return [Look()]
            case Done(instruction=Look()):
                return [decided("u1.1.looked")]
        return []

    tracer, machine = Recorder(), Machine(react)
    async with running(broker, machine, tracer, HEAR):
        await say(broker, pressure(1), context_of(7))
        await machine.saw(Done)
    [operation] = operations(tracer)
    [decision] = [span for span in tracer.spans if span.context.trace == HOME.trace]
    assert operation.links == (context_of(7),)
    assert operation.name == "process done Look"
    assert decision.links == (operation.context,)
    assert (decision.context, decision.parent) == (decision_context(HOME.trace, "u1.1.looked"), HOME.span)


async def test_what_a_service_sends_carries_its_operation(broker: MemoryBroker) -> None:
    def react(event: Event) -> Sequence[Instruction]:
        return [Put(HEADROOM.at(node="n1"), OFFER, answer=True)] if isinstance(event, Arrived) else []

    tracer, machine = Recorder(), Machine(react)
    async with running(broker, machine, tracer, HEAR):
        await say(broker, pressure(1), context_of(7))
        await machine.saw(Done)
    stored = await broker.bus("reader").get(HEADROOM.at(node="n1"))
    assert stored is not None
    assert stored.headers["traceparent"] == operations(tracer)[0].context.traceparent


async def test_an_answer_comes_back_under_the_operation_that_asked(broker: MemoryBroker) -> None:
    def react(event: Event) -> Sequence[Instruction]:
        match event:
            case Arrived():
                return [Put(HEADROOM.at(node="n1"), OFFER, answer=True)]
            case Done(instruction=Put()):
                return [decided("u1.1.stored")]
        return []

    tracer, machine = Recorder(), Machine(react)
    async with running(broker, machine, tracer, HEAR):
        await say(broker, pressure(1), context_of(7))
        await machine.saw(Done)
    first, second = operations(tracer)
    assert (first.links, second.links) == ((context_of(7),), (first.context,))


async def test_what_led_to_nothing_at_once_is_linked_by_the_next_operation_and_only_by_that(
    broker: MemoryBroker,
) -> None:
    def react(event: Event) -> Sequence[Instruction]:
        match event:
            case Arrived(message=Pressure(metric="m3" | "m4" as metric)):
                return [decided(f"u1.1.{metric}")]
        return []

    tracer, machine = Recorder(), Machine(react)
    async with running(broker, machine, tracer, HEAR):
        for number in (1, 2, 3, 4):
            await say(broker, pressure(number), context_of(number))
            await machine.saw(Arrived)
    assert [span.links for span in operations(tracer)] == [
        (context_of(1), context_of(2), context_of(3)),
        (context_of(4),),
    ]


async def test_what_was_said_of_an_object_is_linked_when_something_is_done_about_it_whatever_is_done_before(
    broker: MemoryBroker,
) -> None:
    def react(event: Event) -> Sequence[Instruction]:
        match event:
            case Arrived(message=Pressure(metric="m1")):
                return [Put(HEADROOM.at(node="n1"), OFFER)]
            case Arrived(message=Pressure(metric="m2")):
                return [decided("u1.1.looked")]
        return []

    ended = Ended(at=1.0, source="other", uid="u1", node="n1", attempt=1, reason=EndReason.FINISHED)
    tracer, machine = Recorder(), Machine(react)
    async with running(broker, machine, tracer, HEAR, consume(WORKLOAD.only(), durable="probe")):
        token = current.set(context_of(7))
        await broker.bus("sender").emit(WORKLOAD.at(namespace="shop", name="cart-1"), ended, id="ended")
        current.reset(token)
        await machine.saw(Arrived)
        for number in (1, 2):
            await say(broker, pressure(number), context_of(number))
            await machine.saw(Arrived)
    first, second = operations(tracer)
    assert first.links == (context_of(7), context_of(1))
    assert second.links == (context_of(2), context_of(7))


async def test_own_words_that_come_back_are_no_cause(broker: MemoryBroker) -> None:
    def react(event: Event) -> Sequence[Instruction]:
        return [decided("u1.1.looked")] if isinstance(event, Arrived) and event.message.source == "other" else []

    tracer, machine = Recorder(), Machine(react)
    async with running(broker, machine, tracer, HEAR):
        await say(broker, pressure(1, source="probe"), context_of(1))
        await say(broker, pressure(2), context_of(2))
        await machine.saw(Arrived)
        await machine.saw(Arrived)
    assert [span.links for span in operations(tracer)] == [(context_of(2),)]


async def test_an_operation_links_to_no_more_than_the_newest_messages(broker: MemoryBroker) -> None:
    last = 3 * LINKS

    def react(event: Event) -> Sequence[Instruction]:
        is_last = isinstance(event, Arrived) and event.message.metric == f"m{last}"
        return [decided("u1.1.looked")] if is_last else []

    tracer, machine = Recorder(), Machine(react)
    async with running(broker, machine, tracer, HEAR):
        for number in range(1, last + 1):
            await say(broker, pressure(number), context_of(number))
            await machine.saw(Arrived)
    [operation] = operations(tracer)
    assert operation.links == tuple(context_of(number) for number in range(last - LINKS + 1, last + 1))


async def test_a_decision_is_linked_to_the_one_about_the_same_object_that_led_to_it(broker: MemoryBroker) -> None:
    def react(event: Event) -> Sequence[Instruction]:
        if isinstance(event, Synced):
            return [
                decided("u1.1.first"),
                decided("u1.1.second", cause="u1.1.first"),
                decided("u1.1.third", cause="n1.usage.5"),
            ]
        return []

    tracer, machine = Recorder(), Machine(react)
    async with running(broker, machine, tracer, watch(HEADROOM.only())):
        await machine.saw(Synced)
    [operation] = operations(tracer)
    told = {span.attributes["neap.decision"]: span.links for span in tracer.spans if span is not operation}
    assert told["u1.1.second"] == (operation.context, decision_context(HOME.trace, "u1.1.first"))
    assert told["u1.1.first"] == told["u1.1.third"] == (operation.context,)


async def test_what_waited_is_linked_to_the_operation_that_let_it_wait(broker: MemoryBroker) -> None:
    def react(event: Event) -> Sequence[Instruction]:
        return [decided(f"u1.1.{event.message.metric}")] if isinstance(event, Arrived) else []

    tracer, machine = Recorder(), Machine(react)
    async with running(broker, machine, tracer, HEAR):
        for number in (1, 2):
            await say(broker, pressure(number), context_of(number))
            await machine.saw(Arrived)
    first, second = operations(tracer)
    told = {span.attributes["neap.decision"]: span.links for span in tracer.spans if span.parent}
    assert told == {"u1.1.m1": (first.context,), "u1.1.m2": (second.context, first.context)}


async def test_a_decision_repeated_after_a_restart_is_no_second_span_and_no_second_line(broker: MemoryBroker) -> None:
    tracer = Recorder()
    for _ in range(2):
        machine = Machine(lambda event: [decided("u1.1.looked")] if isinstance(event, Synced) else [])
        async with running(broker, machine, tracer, watch(HEADROOM.only())):
            await machine.saw(Synced)
    assert [span.context.trace for span in tracer.spans].count(HOME.trace) == 1
    async with broker.bus("reader").follow(TRAIL.only()) as lines:
        first, second = await anext(lines), await anext(lines)
    assert (type(first).__name__, type(second).__name__) == ("Received", "CaughtUp")


async def test_without_a_collector_no_span_is_made_but_the_context_travels_on(broker: MemoryBroker) -> None:
    """Whoever submits names the pod's trace, so logs of everything it led to can be joined without any tracer."""

    def react(event: Event) -> Sequence[Instruction]:
        match event:
            case Arrived():
                return [Look()]
            case Done(instruction=Look()):
                return [decided("u1.1.looked"), Emit(PRESSURE.at(node="n2"), pressure(2, "probe", "n2"), id="next")]
        return []

    tracer, machine = Recorder(enabled=False), Machine(react)
    async with running(broker, machine, tracer, consume(PRESSURE.only(node="n1"), durable="probe")):
        await say(broker, pressure(1), HOME)
        await machine.saw(Done)
    assert tracer.spans == []
    async with broker.bus("reader").follow(PRESSURE.only(node="n2")) as told:
        item: Any = await anext(told)
    assert item.message == pressure(2, "probe", "n2")
    assert item.headers["traceparent"] == HOME.traceparent
