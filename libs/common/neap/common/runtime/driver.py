"""The only loop: event -> machine.handle -> journal -> instructions -> answers as events.

Bus words go to the outbox, so the machine never waits for the bus; a service's own effects (read the host,
write knobs) run here, one after the other. An event from a durable consumer is acknowledged once everything it
led to is done, and comes back if something could not be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from neap.common.bus.port import Delivery, Stored
from neap.common.contract.catalogue import TRAIL
from neap.common.errors import NeapError, PortError, Unavailable
from neap.common.runtime.clock import stopwatch
from neap.common.runtime.journal import Journal, NoJournal
from neap.common.runtime.machine import (
    Append,
    Arrived,
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
)
from neap.common.runtime.outbox import Batch, Outbox
from neap.common.runtime.service import Outside, Service
from neap.common.telemetry.span import SpanContext, current, parse_traceparent
from neap.common.telemetry.spanning import decision_span, operation_span
from neap.common.units import Seconds

INBOX: Final = 2048
NAK_DELAY: Final[Seconds] = 1.0
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
        self._inbox: asyncio.Queue[tuple[Event, Delivery[Any] | None, bool]] = asyncio.Queue()
        self._room = asyncio.Semaphore(INBOX)
        self._outbox = Outbox(self._send, self._answer)
        self._operations = 0
        self.busy_since: Seconds | None = None
        self.handled = 0
        self.handling_seconds: Seconds = 0.0

    @property
    def backlog(self) -> tuple[int, int]:
        """Events waiting for the machine, instructions waiting for the bus."""
        return self._inbox.qsize(), len(self._outbox)

    async def post(self, event: Event, delivery: Delivery[Any] | None = None) -> None:
        """Hand over an event from outside; waits while the inbox is full."""
        await self._room.acquire()
        self._inbox.put_nowait((event, delivery, True))

    async def run(self) -> None:
        """Handle events until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._outbox.run())
            while True:
                event, delivery, from_outside = await self._inbox.get()
                await self._step(event, delivery, group)
                if from_outside:
                    self._room.release()

    async def stop(self, within: Seconds) -> None:
        """Post Stopping and wait, at most `within` real seconds, until everything is done and told."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self.post(Stopping(self._outside.clock.now()))
                while self._inbox.qsize() or self.busy_since is not None or len(self._outbox):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)

    async def _step(self, event: Event, delivery: Delivery[Any] | None, group: asyncio.TaskGroup) -> None:
        started = self.busy_since = stopwatch()
        instructions = self._service.machine.handle(event)
        if self._validate:
            self._service.machine.validate()
        self._journal.write(self._service.name, self._service.node, event, instructions)
        batch, context = Batch(waiting=1), self._trace(event, instructions)
        token = current.set(context)
        try:
            for instruction in instructions:
                await self._execute(instruction, batch, context)
        finally:
            current.reset(token)
        later = next((item.delay for item in instructions if isinstance(item, Later)), None)
        batch.finish()
        if delivery is not None:
            group.create_task(_settle(delivery, batch, later))
        self.handled += 1
        self.handling_seconds += stopwatch() - started
        self.busy_since = None

    async def _execute(self, instruction: Instruction, batch: Batch, context: SpanContext | None) -> None:
        if isinstance(instruction, BUS_WORDS):
            batch.waiting += 1
            self._outbox.add(instruction, batch, context)
        elif isinstance(instruction, Count):
            self._count(instruction.metric, instruction.by, instruction.labels)
        elif not isinstance(instruction, Later):
            effect = self._service.effects[type(instruction)]
            try:
                outcome = await effect(instruction)
            except NeapError as error:
                self._answer(instruction, None, error)
            else:
                if outcome is not None:
                    self._answer(instruction, outcome, None)

    async def _send(self, instruction: Instruction, context: SpanContext | None) -> Any:
        bus = self._outside.bus
        token = current.set(context)
        try:
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
        finally:
            current.reset(token)
        raise TypeError(f"not a bus word: {instruction!r}")

    async def _decide(self, decide: Decide, context: SpanContext | None) -> Stored:
        """Trail first: only a line that was not there before becomes a span."""
        entry = decide.entry
        stored = await self._outside.bus.emit(
            TRAIL.at(namespace=entry.about.namespace, name=entry.about.name), entry, id=entry.id
        )
        if not stored.duplicate:
            self._outside.tracer.record(decision_span(entry, self._service.name, context, root=decide.root))
        return stored

    def _answer(self, instruction: Instruction, outcome: Any, error: NeapError | None) -> None:
        now = self._outside.clock.now()
        if error is not None:
            self._count("neap_effects_failed_total", 1.0, {"effect": type(instruction).__name__})
            may_retry = isinstance(error, Unavailable)
            self._inbox.put_nowait((Failed(now, instruction, str(error), may_retry), None, False))
        elif (
            isinstance(instruction, Append)
            or not isinstance(instruction, BUS_WORDS)
            or (isinstance(instruction, Put) and instruction.answer)
        ):
            self._inbox.put_nowait((Done(now, instruction, outcome), None, False))

    def _trace(self, event: Event, instructions: Any) -> SpanContext | None:
        """The context everything this event led to runs under; one span per decision, none per report."""
        cause = parse_traceparent(event.trace) if isinstance(event, Arrived) and event.trace else None
        tracer = self._outside.tracer
        if not tracer.enabled or not any(isinstance(item, Put | Emit | Append | Decide) for item in instructions):
            return cause
        self._operations += 1
        span = operation_span(
            self._service.name,
            self._service.node,
            event,
            cause,
            count=self._operations,
            now=self._outside.clock.now(),
        )
        tracer.record(span)
        return span.context


async def _settle(delivery: Delivery[Any], batch: Batch, later: Seconds | None) -> None:
    """Acknowledge once everything is done; otherwise let it come back."""
    await batch.settled.wait()
    with suppress(PortError):  # an acknowledgement that does not arrive is a redelivery, which is allowed
        if later is not None or batch.refused:
            await delivery.later(later if later is not None else NAK_DELAY)
        else:
            await delivery.ack()
