"""What is stored: ledger appends, events and state, against the same calls of nats-py with the same bytes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import nats
from nats.js import JetStreamContext

from neap.common.bus.memory import MemoryBroker
from neap.common.bus.nats import connect
from neap.common.bus.port import Bus, Stored
from neap.common.contract.catalogue import CHANNELS, HEADROOM, PLACEMENTS, STREAMS, WORKLOAD
from neap.common.model.advice import Headroom
from neap.common.model.lifecycle import Submitted
from neap.common.model.resource import RECLAIMED_CPU
from neap.common.testing.natsd import NatsServer
from tests.bench.measure import AsyncWork, Row, async_race, async_rate
from tests.bench.samples import a_workload, an_entry

ONE_BY_ONE, NODES, EACH = 500, 24, 40
Appending = Callable[[str, int, int], Awaitable[int]]  # node, number, last sequence seen -> new last sequence


async def rows() -> AsyncIterator[Row]:
    async with NatsServer() as server:
        bus, raw = await connect(server.url, name="neap-bench"), await nats.connect(server.url)
        try:
            await bus.ensure(STREAMS, CHANNELS)
            for name, ours, theirs in _pairs(bus, raw.jetstream()):
                value, rival_value, ratio = await async_race(ours, theirs, rounds=9)
                yield Row(
                    name=name, value=value, unit="/s", rival="nats-py, same bytes", rival_value=rival_value, ratio=ratio
                )
        finally:
            await raw.close()
            await bus.close()
    memory = MemoryBroker().bus("bench")
    await memory.ensure(STREAMS, CHANNELS)
    work = _side_by_side(_appending(memory), itertools.count())
    yield Row(name=f"ledger in memory: appends, {NODES} nodes side by side", value=await async_rate(work), unit="/s")


def _pairs(bus: Bus, js: JetStreamContext) -> list[tuple[str, AsyncWork, AsyncWork]]:
    ours, theirs, numbers = _appending(bus), _raw_appending(js), itertools.count()
    return [
        ("ledger: appends to one node, each after the last", _in_turn(ours, numbers), _in_turn(theirs, numbers)),
        (f"ledger: appends, {NODES} nodes side by side", _side_by_side(ours, numbers), _side_by_side(theirs, numbers)),
        ("events: emit, one after the other", _emitting(bus, numbers), _raw_emitting(js, numbers)),
        ("state: put, one after the other", _putting(bus), _raw_putting(js)),
    ]


def _appending(bus: Bus) -> Appending:
    async def append(node: str, number: int, seen: int) -> int:
        stored = await bus.append(PLACEMENTS.at(node=node), an_entry(number, node), seen=seen, id=f"{number}.placed")
        assert isinstance(stored, Stored), stored
        return stored.seq

    return append


def _raw_appending(js: JetStreamContext) -> Appending:
    async def append(node: str, number: int, seen: int) -> int:
        headers = {"Nats-Msg-Id": f"{number}.placed", "Nats-Expected-Last-Subject-Sequence": str(seen)}
        payload = PLACEMENTS.encode(an_entry(number, node))
        return (await js.publish(f"neap.v1.ledger.{node}", payload, headers=headers)).seq

    return append


def _in_turn(append: Appending, numbers: itertools.count[int]) -> AsyncWork:
    async def work() -> int:
        seen, node = 0, f"one-{next(numbers)}"
        for _ in range(ONE_BY_ONE):
            seen = await append(node, next(numbers), seen)
        return ONE_BY_ONE

    return work


def _side_by_side(append: Appending, numbers: itertools.count[int]) -> AsyncWork:
    async def work() -> int:
        async def fill(node: str) -> None:
            seen = 0
            for _ in range(EACH):
                seen = await append(node, next(numbers), seen)

        turn = next(numbers)
        await asyncio.gather(*(fill(f"many-{turn}-{i}") for i in range(NODES)))
        return NODES * EACH

    return work


def _emitting(bus: Bus, numbers: itertools.count[int]) -> AsyncWork:
    async def work() -> int:
        for _ in range(ONE_BY_ONE):
            workload = a_workload(number := next(numbers))
            to = WORKLOAD.at(namespace=workload.namespace, name=workload.name)
            await bus.emit(to, Submitted(at=1.0, source="bench", workload=workload), id=f"{number}.submitted")
        return ONE_BY_ONE

    return work


def _raw_emitting(js: JetStreamContext, numbers: itertools.count[int]) -> AsyncWork:
    async def work() -> int:
        for _ in range(ONE_BY_ONE):
            workload = a_workload(number := next(numbers))
            payload = WORKLOAD.encode(Submitted(at=1.0, source="bench", workload=workload))
            headers = {"Nats-Msg-Id": f"{number}.submitted"}
            await js.publish(f"neap.v1.workload.{workload.namespace}.{workload.name}", payload, headers=headers)
        return ONE_BY_ONE

    return work


def _headroom(cores: int) -> Headroom:
    sums = {RECLAIMED_CPU: "62 lendable - 20.5 needed by owners - 2 kept = 39.5 cores"}
    return Headroom(at=1.0, source="advisor", node="n1", offer={RECLAIMED_CPU: 1000 * cores}, arithmetic=sums)


def _putting(bus: Bus) -> AsyncWork:
    async def work() -> int:
        for number in range(ONE_BY_ONE):
            await bus.put(HEADROOM.at(node="n1"), _headroom(number))
        return ONE_BY_ONE

    return work


def _raw_putting(js: JetStreamContext) -> AsyncWork:
    async def work() -> int:
        bucket = await js.key_value("neap-headroom")
        for number in range(ONE_BY_ONE):
            await bucket.put("n2", HEADROOM.encode(_headroom(number)))
        return ONE_BY_ONE

    return work
