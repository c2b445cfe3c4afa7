"""What only a real server can do to the NATS adapter."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import nats
import pytest

from neap.common.bus.nats import NatsBus, connect
from neap.common.bus.nats_pull import BYTES_AHEAD
from neap.common.bus.patience import Patience
from neap.common.bus.port import CaughtUp, Deleted, Received
from neap.common.contract.catalogue import (
    CHANNELS,
    HEADROOM,
    HISTORY,
    NODE_USAGE,
    PLACEMENTS,
    PRESSURE,
    STREAMS,
    TRAIL_STREAM,
)
from neap.common.contract.channel import Delivery, State, Stream
from neap.common.errors import Denied, InputError, PortError, Unavailable
from neap.common.model.advice import Headroom
from neap.common.model.past import HistoryPage
from neap.common.model.placement import Released
from neap.common.model.usage import NodeUsage, Pressure, PressureKind
from neap.common.testing.natsd import NatsServer
from tests.conftest import SOON
from tests.contract.test_bus import settle

N1 = {"node": "n1"}
LARGE = bytes(700_000)  # nearly as much as a message may be, once it is text


def headroom(at: float, node: str = "n1") -> Headroom:
    return Headroom(at=at, source="test", node=node, offer={}, arithmetic={})


def released(uid: str) -> Released:
    return Released(at=0.0, source="test", node="n1", uid=uid, reason="test")


def pressure(value: float) -> Pressure:
    return Pressure(
        at=0.0, source="test", node="n1", kind=PressureKind.CPU, metric="m", value=value, threshold=1.0, risen=True
    )


async def one(items: AsyncIterator[Any]) -> Any:
    async with asyncio.timeout(SOON):
        return await anext(items)


async def until(items: AsyncIterator[Any], *wanted: Callable[[Any], bool]) -> list[Any]:
    """What comes, up to the moment when there is one of each that is wanted."""
    seen: list[Any] = []
    async with asyncio.timeout(SOON):
        while not all(any(map(each, seen)) for each in wanted):
            seen.append(await anext(items))
    return seen


def is_entry(item: Any) -> bool:
    return isinstance(item, Received)


def is_caught_up(item: Any) -> bool:
    return isinstance(item, CaughtUp)


async def told(error: type[PortError], words: str, attempt: Callable[[], Awaitable[Any]]) -> None:
    """Until the error says it in these words: who waits less than the server takes is only told that it is late."""
    async with asyncio.timeout(SOON):
        while True:
            with pytest.raises(error) as raised:
                await attempt()
            if re.search(words, str(raised.value)):
                return


@pytest.fixture
async def raw(nats_stage: Any) -> AsyncIterator[Any]:
    """An operator's connection."""
    client = await nats.connect(nats_stage.server.url, user="all", password="secret", connect_timeout=int(SOON))
    yield client.jetstream(timeout=SOON)
    await client.close()


async def test_follow_reads_a_stream_that_was_made_anew_from_its_beginning(nats_stage: Any, raw: Any) -> None:
    bus = await nats_stage.connect()
    for n in range(3):
        await bus.append(PLACEMENTS.at(**N1), released(f"old{n}"), seen=n, id=f"old{n}")
    async with bus.follow(PLACEMENTS.only()) as items:
        assert [type(await one(items)) for _ in range(4)] == [Received, Received, Received, CaughtUp]
        await raw.delete_stream("NEAP_LEDGER")
        await bus.ensure(STREAMS, CHANNELS)
        await bus.append(PLACEMENTS.at(**N1), released("new"), seen=0, id="new")
        seen = await until(items, is_entry, is_caught_up)
        assert [item.message.uid for item in seen if isinstance(item, Received)] == ["new"]


async def test_follow_goes_on_behind_a_purge(nats_stage: Any, raw: Any) -> None:
    bus = await nats_stage.connect()
    first = await bus.append(PLACEMENTS.at(**N1), released("a"), seen=0, id="a")
    async with bus.follow(PLACEMENTS.only()) as items:
        assert [type(await one(items)) for _ in range(2)] == [Received, CaughtUp]
        await raw.purge_stream("NEAP_LEDGER")
        second = await bus.append(PLACEMENTS.at(**N1), released("b"), seen=0, id="b")
        *_, item = await until(items, is_entry)
        assert (item.message.uid, item.seq) == ("b", second.seq)
        assert second.seq > first.seq


async def test_readers_survive_the_loss_of_their_consumer(nats_stage: Any, raw: Any) -> None:
    bus = await nats_stage.connect()
    await bus.emit(PRESSURE.at(**N1), pressure(1.0), id="1")
    async with bus.follow(PRESSURE.only()) as entries, bus.consume(PRESSURE.only(), durable="d") as events:
        assert [type(await one(entries)) for _ in range(2)] == [Received, CaughtUp]
        await (await one(events)).ack()
        for consumer in await raw.consumers_info("NEAP_PRESSURE"):
            await raw.delete_consumer("NEAP_PRESSURE", consumer.name)
        await bus.emit(PRESSURE.at(**N1), pressure(2.0), id="2")
        seen = await until(entries, is_entry, is_caught_up)
        assert [item.message.value for item in seen if isinstance(item, Received)] == [2.0]
        assert (await one(events)).message.value in (1.0, 2.0)  # a durable that was removed remembers nothing


async def test_a_watch_tells_the_difference_when_its_bucket_was_made_anew(nats_stage: Any, raw: Any) -> None:
    bus = await nats_stage.connect()
    for node in ("n1", "n2"):
        await bus.put(HEADROOM.at(node=node), headroom(1.0, node))
    async with bus.watch(HEADROOM.only()) as items:
        assert [type(await one(items)) for _ in range(3)] == [Received, Received, CaughtUp]
        await raw.delete_stream("KV_neap-headroom")
        await bus.ensure(STREAMS, CHANNELS)
        await bus.put(HEADROOM.at(node="n2"), headroom(2.0, "n2"))
        seen = await until(
            items,
            lambda item: isinstance(item, Deleted) and item.subject == "n1",
            lambda item: isinstance(item, Received) and item.message == headroom(2.0, "n2"),
        )
        assert [item.message.at for item in seen if isinstance(item, Received)] == [2.0]


async def test_every_reader_outlives_three_crashes_in_a_row(nats_stage: Any) -> None:
    """An append whose acknowledgement was lost is neither doubled nor reported as somebody else's."""
    bus, reader = await nats_stage.connect("writer"), await nats_stage.connect("reader")
    written, read = 0, []

    async def write() -> None:
        nonlocal written
        for n in range(300):
            outcome = await bus.append(PLACEMENTS.at(**N1), released(f"u{n}"), seen=written, id=f"u{n}")
            written = outcome.seq

    async def follow() -> None:
        async with reader.follow(PLACEMENTS.only()) as items:
            async for item in items:
                if isinstance(item, Received):
                    read.append(item.message.uid)
                if len(read) == 300:
                    return

    async with asyncio.timeout(3 * SOON), asyncio.TaskGroup() as group:
        group.create_task(follow())
        group.create_task(write())
        for entries in (75, 150, 225):
            await settle(lambda: len(read) >= entries)  # noqa: B023  in the middle, however fast the machine is
            await nats_stage.restart()
    assert read == [f"u{n}" for n in range(300)]


async def test_ensure_repairs_what_can_be_changed_and_names_what_cannot(nats_stage: Any) -> None:
    bus = await nats_stage.connect()
    await bus.ensure((dataclasses.replace(TRAIL_STREAM, max_per_subject=7),), ())
    await bus.ensure(STREAMS, ())
    with pytest.raises(PortError, match=r"NEAP_TRAIL.*retention"):
        await bus.ensure((dataclasses.replace(TRAIL_STREAM, delivery=Delivery.WORK),), ())


async def test_ensure_names_a_stream_whose_limits_are_impossible() -> None:
    async with NatsServer(jetstream="max_mem: 1MB") as server:
        bus = await connect(server.url, name="tester")
        huge = Stream("NEAP_HUGE", ("huge.>",), Delivery.EVENTS, max_age=0.0, max_bytes=1 << 50)
        with pytest.raises(PortError, match=r"NEAP_HUGE.*1024Ti.*insufficient storage"):
            await bus.ensure((huge,), ())
        await bus.close()


async def test_a_stream_that_nobody_made_is_named(nats_stage: Any, raw: Any) -> None:
    bus = await connect(
        nats_stage.server.url, name="hasty", user="all", password="secret", patience=Patience(call=0.3, emit=0.3)
    )
    await raw.delete_stream("NEAP_PRESSURE")
    words = r"neap\.v1\.node\.n1\.pressure.*no stream"
    await told(Unavailable, words, lambda: bus.emit(PRESSURE.at(**N1), pressure(1.0), id="1"))
    await bus.close()


async def test_calls_say_unavailable_while_the_server_is_gone_and_latest_is_dropped(nats_stage: Any) -> None:
    bus = await connect(
        nats_stage.server.url, name="hasty", user="all", password="secret", patience=Patience(call=0.2, emit=0.2)
    )
    await nats_stage.server.kill()
    await settle(lambda: not bus.health.connected)
    with pytest.raises(Unavailable, match="n1"):
        await bus.put(HEADROOM.at(**N1), headroom(1.0))
    with pytest.raises(Unavailable, match="pressure"):
        await bus.emit(PRESSURE.at(**N1), pressure(1.0), id="1")
    usage = NodeUsage(at=0.0, source="test", node="n1", seq=1, period=1.0)
    await bus.publish(NODE_USAGE.at(**N1), usage)
    assert bus.health.unsent == 1
    await bus.close()


async def test_a_message_larger_than_the_server_takes_is_named(nats_stage: Any) -> None:
    bus = await nats_stage.connect()
    big = Headroom(at=0.0, source="x" * 2_000_000, node="n1", offer={}, arithmetic={})
    with pytest.raises(InputError, match=r"\$KV\.neap-headroom\.n1.*maximum payload"):
        await bus.put(HEADROOM.at(**N1), big)


async def test_nats_absent_at_start_is_named_with_its_address() -> None:
    words = r"nats://127\.0\.0\.1:1.*failed"
    await told(Unavailable, words, lambda: connect("nats://127.0.0.1:1", name="early", within=0.3))


async def test_wrong_credentials_are_denied_at_once(nats_stage: Any) -> None:
    with pytest.raises(Denied, match="neap-intruder"):
        await connect(nats_stage.server.url, name="neap-intruder", user="all", password="guessed", within=SOON)


async def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="connect"):
        await connect("nats://a:b:c", name="early", within=SOON)


async def test_a_key_vanishes_after_its_time_and_watchers_see_it(nats_stage: Any) -> None:
    lives: State[Headroom] = State("{node}", Headroom, says=(), hears=(), doc="", bucket="short-lived", ttl=1.0)
    bus = await nats_stage.connect()
    await bus.ensure((), (lives,))
    async with bus.watch(lives.only()) as items:
        assert isinstance(await one(items), CaughtUp)
        await bus.put(lives.at(**N1), headroom(1.0))
        assert isinstance(await one(items), Received)
        gone = await one(items)
        assert isinstance(gone, Deleted)
    assert await bus.get(lives.at(**N1)) is None


async def test_a_bucket_larger_than_what_is_read_ahead_is_read_whole_and_once(nats_stage: Any) -> None:
    bus = await nats_stage.connect()
    count = BYTES_AHEAD // len(LARGE) + 1
    for number in range(count):
        page = HistoryPage(at=0.0, source="test", page=str(number), version=1, rows=0, what=LARGE)
        await bus.put(HISTORY.at(page=str(number)), page)
    async with bus.watch(HISTORY.only()) as items:
        found = await until(items, is_caught_up)
    assert [item.message.page for item in found if is_entry(item)] == [str(number) for number in range(count)]
    assert bus.health.reconnects == 0


async def test_closing_leaves_no_task_behind(nats_stage: Any) -> None:
    before = asyncio.all_tasks()
    bus: NatsBus = await connect(nats_stage.server.url, name="short", user="all", password="secret")
    async with bus.subscribe(NODE_USAGE.only()), bus.watch(HEADROOM.only()), bus.follow(PLACEMENTS.only()):
        pass
    await bus.close()
    await settle(lambda: asyncio.all_tasks() == before)
