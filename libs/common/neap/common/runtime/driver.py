"""The only loop: event -> machine.handle -> journal -> instructions -> answers as events.

Bus words go to the outbox, so the machine never waits for the bus; a service's own effects (read the host,
write knobs) run here, one after the other, but for those that run aside. An event from a durable consumer is acknowledged once everything it
led to is done, and comes back if something could not be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from neap.common.bus.port import Delivery, Stored
from neap.common.contract.catalogue import TRAIL
from neap.common.errors import NeapError, PortError, Unavailable
from neap.common.runtime.clock import stopwatch
from neap.common.runtime.inbox import Inbox, Overtakes, Waiting
from neap.common.runtime.journal import Journal, NoJournal
from neap.common.runtime.machine import (
    Append,
    Arrived,
    Aside,
    Count,
    Decide,
    Delete,
    Done,
    Emit,
    Event,
    Failed,
    Instruction,
    Later,
    Publish,
    Put,
    Stopping,
    Tick,
)
from neap.common.runtime.outbox import Batch, Outbox
from neap.common.runtime.service import Outside, Service
from neap.common.telemetry.span import SpanContext, current
from neap.common.telemetry.spanning import decision_span, operation_span
from neap.common.units import Seconds

NAK_DELAY: Final[Seconds] = 1.0
LINKS: Final = 64  # of one operation, to the newest messages that may have led to it
ABREAST: Final = 256  # effects that run aside at once
OBJECTS: Final = 4096  # whose last decision's operation is remembered
BUS_WORDS: Final = (Publish, Put, Delete, Emit, Append, Decide)


class Driver:
    """Drives one service's machine; see module docstring. `validate` checks its invariants after every event."""

    def __init__(
        self,
        service: Service,
        outside: Outside,
        *,
        count: Callable[[str, float, dict[str, str]], None],
        journal: Journal | None = None,
        validate: bool = False,
    ) -> None:
        self._validate = validate
        self._service, self._outside, self._count = service, outside, count
        self._journal = journal or NoJournal()
        self._inbox = Inbox(turns=outside.turns)
        self._outbox = Outbox(self._send, self._answer)
        self._lanes = asyncio.Semaphore(ABREAST)
        self._aside = 0  # running, or waiting for a lane
        self._operations = 0
        self._heard: dict[SpanContext, None] = {}  # what came since the last operation, and led to none itself
        self._asked: dict[str, SpanContext] = {}  # uid -> what last came about it, while nothing was done about it
        self._decided: dict[str, SpanContext] = {}  # uid -> the last operation that decided about it
        self.busy_since: Seconds | None = None
        self.handled = 0
        self.handling_seconds: Seconds = 0.0

    @property
    def backlog(self) -> tuple[int, int]:
        """Events waiting for the machine, instructions waiting for the bus."""
        return len(self._inbox), len(self._outbox) + self._aside

    async def post(
        self, event: Event, delivery: Delivery[Any] | None = None, overtakes: Overtakes | None = None
    ) -> None:
        """Hand over an event from outside; see Inbox."""
        if overtaken := await self._inbox.post(event, delivery, overtakes):
            self._count("neap_events_overtaken_total", overtaken, {"service": self._service.name})

    async def run(self) -> None:
        """Handle events until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._outbox.run())
            while True:
                waiting = await self._inbox.next()
                await self._step(waiting, group)
                self._inbox.done(waiting)

    async def stop(self, within: Seconds) -> None:
        """Post Stopping and wait, at most `within` real seconds, until everything is done and told."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self.post(Stopping(self._outside.clock.now()))
                while self._inbox or self.busy_since is not None or self.backlog[1]:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)

    async def _step(self, waiting: Waiting, group: asyncio.TaskGroup) -> None:
        event, delivery = waiting.event, waiting.delivery
        assert event is not None
        started = self.busy_since = stopwatch()
        instructions = self._service.machine.handle(event)
        if self._validate:
            self._service.machine.validate()
        self._journal.write(self._service.name, self._service.node, event, instructions)
        if instructions or delivery is not None or self._outside.tracer.enabled:
            await self._carry_out(instructions, waiting, group)
        self.handled += 1
        self.handling_seconds += stopwatch() - started
        self.busy_since = None

    async def _carry_out(self, instructions: Sequence[Instruction], waiting: Waiting, group: asyncio.TaskGroup) -> None:
        """What an event led to, and its acknowledgement."""
        event, delivery = waiting.event, waiting.delivery
        assert event is not None
        batch, context = Batch(waiting=1), self._trace(event, instructions, waiting.cause)
        token = current.set(context)
        try:
            for instruction in instructions:
                if isinstance(instruction, BUS_WORDS):
                    batch.waiting += 1
                    self._outbox.add(instruction, batch, context)
                elif isinstance(instruction, Aside):
                    batch.waiting += 1
                    self._aside += 1
                    group.create_task(self._beside(instruction, batch, context))
                elif isinstance(instruction, Count):
                    self._count(instruction.metric, instruction.by, instruction.labels)
                elif not isinstance(instruction, Later):
                    await self._execute(instruction)
        finally:
            current.reset(token)
        batch.finish()
        if delivery is not None:
            later = next((item.delay for item in instructions if isinstance(item, Later)), None)
            group.create_task(_settle(delivery, batch, later))

    async def _beside(self, instruction: Instruction, batch: Batch, context: SpanContext | None) -> None:
        """An effect that takes its time."""
        current.set(context)  # of this task
        try:
            async with self._lanes:
                batch.finish(refused=not await self._execute(instruction))
        finally:
            self._aside -= 1

    async def _execute(self, instruction: Instruction) -> bool:
        """One of the service's own effects; whether it could be carried out."""
        effect = self._service.effects[type(instruction)]
        try:
            outcome = await effect(instruction)
        except NeapError as error:
            self._answer(instruction, None, error)
            return False
        if outcome is not None:
            self._answer(instruction, outcome, None)
        return True

    async def _send(self, instruction: Instruction, context: SpanContext | None) -> Any:
        bus = self._outside.bus
        current.set(context)  # of this lane's task, so that the answer is told under it as well
        match instruction:
            case Publish(to=to, message=message):
                return await bus.publish(to, message)
            case Put(key=key, value=value, revision=revision):
                return await bus.put(key, value, revision=revision)
            case Delete(key=key):
                return await bus.delete(key)
            case Emit(to=to, message=message, id=id):
                return await bus.emit(to, message, id=id)
            case Append(to=to, entry=entry, seen=seen, id=id):
                return await bus.append(to, entry, seen=seen, id=id)
            case Decide():
                return await self._decide(instruction, context)
        raise TypeError(f"not a bus word: {instruction!r}")

    async def _decide(self, decide: Decide, context: SpanContext | None) -> Stored:
        """Trail first: only a line that was not there before becomes a span."""
        entry = decide.entry
        stored = await self._outside.bus.emit(
            TRAIL.at(namespace=entry.about.namespace, name=entry.about.name), entry, id=entry.id
        )
        if self._outside.tracer.enabled and not stored.duplicate:
            operations = self._operations_about(entry.about.uid, context)
            self._outside.tracer.record(decision_span(entry, self._service.name, operations, root=decide.root))
        return stored

    def _operations_about(self, uid: str, context: SpanContext | None) -> list[SpanContext]:
        """The operation that decides about an object now, and the one that did so before: what waited goes on."""
        before = self._decided.pop(uid, None)
        if context is not None:
            self._decided[uid] = context
            if len(self._decided) > OBJECTS:
                del self._decided[next(iter(self._decided))]
        return [each for each in (context, before) if each is not None]

    def _answer(self, instruction: Instruction, outcome: Any, error: NeapError | None) -> None:
        """Back to the machine, under the context the instruction was carried out in."""
        now, cause = self._outside.clock.now(), current.get()
        if error is not None:
            self._count("neap_effects_failed_total", 1.0, {"effect": type(instruction).__name__})
            may_retry = isinstance(error, Unavailable)
            self._inbox.put(Failed(now, instruction, str(error), may_retry), cause)
        elif (
            isinstance(instruction, Append)
            or not isinstance(instruction, BUS_WORDS)
            or (isinstance(instruction, Put) and instruction.answer)
        ):
            self._inbox.put(Done(now, instruction, outcome), cause)

    def _trace(self, event: Event, instructions: Any, cause: SpanContext | None) -> SpanContext | None:
        """The context everything this event led to runs under; one span per decision, none per report.

        A decision may rest on messages that came before it, so what led to no operation is linked by the next one; and
        what came about an object, by the next one that does something about it, however many others lie between. Own
        words that come back are no cause.
        """
        tracer = self._outside.tracer
        if not tracer.enabled:
            return cause
        if cause is not None and not (isinstance(event, Arrived) and self._is_own(event.message)):
            self._heard[cause] = None
            if len(self._heard) > LINKS:
                del self._heard[next(iter(self._heard))]
            if isinstance(event, Arrived) and (uid := _whom(event.message)):
                self._asked[uid] = cause
                if len(self._asked) > OBJECTS:
                    del self._asked[next(iter(self._asked))]
        if not any(isinstance(item, Put | Emit | Append | Decide) for item in instructions):
            return cause
        self._operations += 1
        about = (
            self._asked.pop(_whom(item), None) for item in instructions if isinstance(item, Emit | Append | Decide)
        )
        asked = [each for each in about if each is not None]
        heard, self._heard = tuple(dict.fromkeys((*self._heard, *asked)))[-LINKS:], {}
        span = operation_span(
            *(self._service.name, self._service.node, *_about(event), heard),
            start=event.at,
            end=self._outside.clock.now(),
            count=self._operations,
        )
        tracer.record(span)
        return span.context

    def _is_own(self, message: Any) -> bool:
        return getattr(message, "source", "") == self._service.name


def _whom(said: Any) -> str:
    """The uid of the object that a message or an instruction is about; "" if it is about none, or about many."""
    for part in ("message", "entry", "about", "placement", "workload"):
        said = getattr(said, part, said)
    uid = getattr(said, "uid", "")
    return uid if isinstance(uid, str) else ""


def _about(event: Event) -> tuple[str, str]:
    """What is processed, in one of few words, and the subject it was heard on, if it was a message."""
    match event:
        case Arrived(message=message, subject=subject):
            return type(message).__name__, subject
        case Done(instruction=instruction) | Failed(instruction=instruction):
            return f"{type(event).__name__.lower()} {type(instruction).__name__}", ""
        case Tick(name=name):
            return f"tick {name}", ""
    return type(event).__name__.lower(), ""


async def _settle(delivery: Delivery[Any], batch: Batch, later: Seconds | None) -> None:
    """Acknowledge once everything is done; otherwise let it come back."""
    await batch.over()
    with suppress(PortError):  # an acknowledgement that does not arrive is a redelivery, which is allowed
        if later is not None or batch.refused:
            await delivery.later(later if later is not None else NAK_DELAY)
        else:
            await delivery.ack()
