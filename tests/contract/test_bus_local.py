"""What a local bus promises beside the port's promises: a node's rooms hear each other while NATS is away.

Under virtual time, in front of a broker in memory; `away` seconds are clock seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from neap.common.bus.alone import Alone
from neap.common.bus.local import LocalFirst
from neap.common.bus.memory import MemoryBroker
from neap.common.bus.memory_bus import MemoryBus
from neap.common.bus.memory_store import Bucket
from neap.common.bus.patience import Patience
from neap.common.bus.port import Bus, CaughtUp, Received
from neap.common.bus.reader import received
from neap.common.contract.catalogue import CHANNELS, EVICTIONS, HEADROOM, NODE_USAGE, PLACEMENTS, PRESSURE, STREAMS
from neap.common.contract.channel import Pattern
from neap.common.contract.permissions import rights
from neap.common.errors import Denied
from neap.common.runtime.launch import said_here
from neap.common.telemetry.span import SpanContext, current
from neap.common.testing.simloop import simulate
from tests.contract.test_bus import N1, eviction, headroom, nothing, one, pressure, take, usage

ALONE = Alone(start=10.0, most=600.0, work=30.0, kept=5)
HERE = said_here({"reporter", "advisor", "enforcer"}, {"n1"})
MOMENT = 1.0  # for the bus to notice what has changed


class World:
    """A broker that can be away, the local bus of an agent on n1, and somebody elsewhere."""

    def __init__(self, group: asyncio.TaskGroup, *, reachable: bool, services: tuple[str, ...] = ()) -> None:
        loop = asyncio.get_running_loop()
        self.broker = MemoryBroker()
        self.elsewhere: Bus = self.broker.bus("elsewhere")
        limits = rights(services, "n1") if services else None
        self.uplink: MemoryBus = self.broker.bus("agent", echo=False, rights=limits, patience=Patience(call=1.0))
        self.reachable = asyncio.Event()
        if reachable:
            self.reachable.set()
        self.bus = LocalFirst(now=loop.time, said_here=HERE, alone=ALONE)
        group.create_task(self.bus.run(self._connect))

    async def _connect(self) -> Bus:
        await self.reachable.wait()
        return self.uplink

    async def go(self) -> None:
        self.broker.disconnect(self.uplink)
        await asyncio.sleep(MOMENT)

    async def come(self) -> None:
        self.broker.reconnect(self.uplink)
        await asyncio.sleep(MOMENT)


Story = Callable[[World], Coroutine[Any, Any, None]]


def live(story: Story, *, reachable: bool = True, services: tuple[str, ...] = ()) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            world = World(group, reachable=reachable, services=services)
            await world.elsewhere.ensure(STREAMS, CHANNELS)
            await asyncio.sleep(MOMENT)
            await story(world)
            await world.bus.close()

    simulate(main())


def values(items: list[Any]) -> list[float]:
    return [item.message.at for item in items if isinstance(item, Received)]


async def rest(items: Any) -> list[Any]:
    """Everything that is there by now."""
    found = []
    while True:
        try:
            found.append(await one(items, MOMENT))
        except TimeoutError:
            return found


# -- LATEST ----------------------------------------------------------------------------------------------------------


def test_a_report_is_heard_here_as_the_object_it_is_and_once_with_and_without_nats() -> None:
    async def story(world: World) -> None:
        async with (
            world.bus.subscribe(NODE_USAGE.only(**N1)) as here,
            world.elsewhere.subscribe(NODE_USAGE.only()) as there,
        ):
            for away, said in ((False, usage(1)), (False, usage(2)), (True, usage(3)), (True, usage(4))):
                await (world.go() if away else asyncio.sleep(MOMENT))
                await world.bus.publish(NODE_USAGE.at(**N1), said)
                heard = await one(here)
                assert isinstance(heard, Received)
                assert heard.message is said
                if not away:
                    heard = await one(there)
                    assert isinstance(heard, Received)
                    assert heard.message == said
            await world.come()
            assert await nothing(there), "what was measured then is not the latest now"
            await world.elsewhere.publish(NODE_USAGE.at(**N1), usage(5))
            assert [item.message.seq for item in await rest(here)] == [5]

    live(story)


def test_trace_context_travels_inside_the_process() -> None:
    async def story(world: World) -> None:
        context = SpanContext("a" * 32, "b" * 16)
        async with world.bus.subscribe(NODE_USAGE.only()) as reports, world.bus.watch(HEADROOM.only()) as offers:
            await one(offers)
            for away in (False, True):
                await (world.go() if away else asyncio.sleep(0))
                token = current.set(context)
                await world.bus.publish(NODE_USAGE.at(**N1), usage(1))
                await world.bus.put(HEADROOM.at(**N1), headroom(float(away)))
                current.reset(token)
                for items in (reports, offers):
                    heard = await one(items)
                    assert isinstance(heard, Received)
                    assert heard.headers["traceparent"] == context.traceparent

    live(story)


def test_a_message_that_speaks_of_another_node_than_its_subject_is_not_heard_here_either() -> None:
    async def story(world: World) -> None:
        async with world.bus.subscribe(NODE_USAGE.only()) as reports:
            await world.bus.publish(NODE_USAGE.at(**N1), usage(1, "n2"))
            assert await nothing(reports)
        assert world.bus.health.poison == {NODE_USAGE.pattern: 1}

    live(story)


# -- STATE -----------------------------------------------------------------------------------------------------------


def test_a_value_is_heard_here_at_once_while_away_and_only_the_last_goes_up_and_none_comes_back() -> None:
    async def story(world: World) -> None:
        key = HEADROOM.at(**N1)
        async with world.bus.watch(HEADROOM.only(**N1)) as here, world.elsewhere.watch(HEADROOM.only()) as there:
            await one(here), await one(there)
            await world.bus.put(key, headroom(1.0))
            assert values([await one(here), await one(there)]) == [1.0, 1.0]
            await world.go()
            for at in (2.0, 3.0, 4.0):
                await world.bus.put(key, headroom(at))
                assert values([await one(here, 0.0)]) == [at], "at once"
            got = await world.bus.get(key)
            assert got is not None
            assert got.message == headroom(4.0)
            await world.come()
            assert values(await rest(there)) == [4.0]
            assert values(await rest(here)) == []

    live(story)


def test_a_burst_of_values_is_heard_in_order_and_its_echo_not_at_all() -> None:
    async def story(world: World) -> None:
        key = HEADROOM.at(**N1)
        async with world.bus.watch(HEADROOM.only()) as here:
            seen = [await one(here)]
            for at in range(1, 20):
                await world.bus.put(key, headroom(float(at)))
                seen += await rest(here) if at % 3 == 0 else []
            seen += await rest(here)
        assert values(seen) == sorted(set(values(seen)))
        assert values(seen)[-1] == 19.0
        revisions = [item.seq for item in seen if isinstance(item, Received)]
        assert revisions == sorted(revisions), "revisions of one key never go back"

    live(story)


def test_what_somebody_else_writes_later_is_heard_and_what_he_wrote_meanwhile_is_replaced() -> None:
    async def story(world: World) -> None:
        key = HEADROOM.at(**N1)
        async with world.bus.watch(HEADROOM.only()) as here, world.bus.watch(HEADROOM.only()) as beside:
            await world.bus.put(key, headroom(1.0))
            await world.elsewhere.put(key, headroom(2.0))
            for items in (here, beside):
                assert values(await rest(items))[-1:] == [2.0]
            await world.go()
            await world.bus.put(key, headroom(3.0))
            await world.elsewhere.put(key, headroom(2.5))
            await world.come()
            for items in (here, beside):
                assert values(await rest(items)) == [3.0]
            stored = await world.elsewhere.get(key)
            assert stored is not None
            assert stored.message == headroom(3.0)

    live(story)


def test_what_comes_late_from_the_uplink_is_judged_by_revision_and_value() -> None:
    async def story(world: World) -> None:
        key = HEADROOM.at(**N1)

        def is_news(at: float, revision: int) -> bool:
            return world.bus.said.is_news(HEADROOM, received("n1", headroom(at), revision, {}))

        assert is_news(0.5, 1), "of an earlier life"
        first, second = await world.bus.put(key, headroom(1.0)), await world.bus.put(key, headroom(2.0))
        assert not is_news(1.0, first), "an echo that comes after the value that followed"
        assert not is_news(0.9, second - 1), "what somebody else wrote before"
        assert not is_news(2.0, second + 1), "the same, stored twice by a retry"
        await world.go()
        await world.bus.put(key, headroom(3.0))
        assert not is_news(2.5, second + 2), "it is going to be replaced"
        await world.come()
        assert is_news(4.0, second + 9)
        assert is_news(3.0, second + 10), "what somebody else says is heard, whatever it is"

    live(story)


def test_an_uplink_that_does_not_answer_makes_nobody_here_wait() -> None:
    async def story(world: World) -> None:
        key = HEADROOM.at(**N1)
        async with world.bus.watch(HEADROOM.only()) as here:
            await one(here)
            await world.bus.put(key, headroom(1.0))
            await one(here)
            bucket = world.broker.buckets.pop(HEADROOM.bucket)
            async with asyncio.timeout(2.0):
                for at in (2.0, 3.0):
                    putting = asyncio.ensure_future(world.bus.put(key, headroom(at)))
                    assert values([await one(here, 0.001)]) == [at]
                    await putting
            world.broker.buckets[HEADROOM.bucket] = bucket
            await asyncio.sleep(5)
            stored = await world.elsewhere.get(key)
            assert stored is not None
            assert stored.message == headroom(3.0)

    live(story)


def test_a_reader_that_comes_later_hears_what_was_said_here_without_nats() -> None:
    async def story(world: World) -> None:
        await world.go()
        await world.bus.put(HEADROOM.at(**N1), headroom(1.0))
        async with world.bus.watch(HEADROOM.only(**N1)) as here:
            assert values([await one(here)]) == [1.0]

    live(story)


def test_a_server_that_lost_its_store_is_told_again() -> None:
    async def story(world: World) -> None:
        key = HEADROOM.at(**N1)
        async with world.bus.watch(HEADROOM.only()) as here:
            await world.bus.put(key, headroom(1.0))
            await world.go()
            world.broker.buckets[HEADROOM.bucket] = Bucket(HEADROOM, world.broker.now)
            await world.come()
            stored = await world.elsewhere.get(key)
            assert stored is not None
            assert stored.message == headroom(1.0)
            assert values(await rest(here)) == [1.0], "and it was said once"

    live(story)


def test_after_too_long_alone_a_value_waits_until_somebody_is_there() -> None:
    async def story(world: World) -> None:
        key = HEADROOM.at(**N1)
        async with world.bus.watch(HEADROOM.only()) as here:
            await world.go()
            await asyncio.sleep(ALONE.most - 10)
            await world.bus.put(key, headroom(1.0))
            assert values(await rest(here)) == [1.0]
            await asyncio.sleep(10)
            await world.bus.put(key, headroom(2.0))
            assert values(await rest(here)) == []
            async with world.bus.watch(HEADROOM.only()) as late:
                assert values(await rest(late)) == []
            await world.come()
            assert values(await rest(here)) == [2.0]

    live(story)


def test_a_missing_right_is_an_error_of_the_first_word_and_not_heard_here() -> None:
    async def story(world: World) -> None:
        async with world.bus.watch(HEADROOM.only(**N1)) as here, world.bus.subscribe(NODE_USAGE.only(**N1)) as reports:
            await one(here)
            with pytest.raises(Denied, match="neap-headroom"):
                await world.bus.put(HEADROOM.at(**N1), headroom(1.0))
            with pytest.raises(Denied, match="usage"):
                await world.bus.publish(NODE_USAGE.at(**N1), usage(1))
            assert await nothing(here)
            assert await nothing(reports)

    live(story, services=("evictor",))


# -- away from the start ---------------------------------------------------------------------------------------------


def test_without_nats_from_the_start_only_what_is_said_here_counts_as_read() -> None:
    async def story(world: World) -> None:
        bus = world.bus

        async def synced_after(only: Pattern[Any], within: float) -> bool:
            async with bus.watch(only) as items:
                try:
                    return isinstance(await one(items, within), CaughtUp)
                except TimeoutError:
                    return False

        assert not await synced_after(HEADROOM.only(**N1), ALONE.start - 2)
        assert await synced_after(HEADROOM.only(**N1), ALONE.start + 2)
        assert not await synced_after(HEADROOM.only(node="n2"), 5 * ALONE.start)
        assert not await synced_after(HEADROOM.only(), 5 * ALONE.start)
        async with bus.follow(PLACEMENTS.only(**N1)) as ledger:
            assert await nothing(ledger, 5 * ALONE.start)
            world.reachable.set()
            assert isinstance(await one(ledger), CaughtUp)

    live(story, reachable=False)


def test_what_was_said_before_nats_was_there_goes_up_and_what_an_earlier_life_said_is_heard() -> None:
    async def story(world: World) -> None:
        await world.elsewhere.put(HEADROOM.at(**N1), headroom(1.0))
        async with world.bus.watch(HEADROOM.only(**N1)) as here, world.elsewhere.subscribe(NODE_USAGE.only()) as there:
            await world.bus.publish(NODE_USAGE.at(**N1), usage(1))
            await world.bus.emit(PRESSURE.at(**N1), pressure(1.0), id="p1")
            world.reachable.set()
            assert values(await rest(here)) == [1.0]
            assert await nothing(there), "a report of then is no report of now"
        async with world.elsewhere.follow(PRESSURE.only()) as events:
            assert isinstance(await one(events), Received)

    live(story, reachable=False)


# -- EVENTS, WORK ----------------------------------------------------------------------------------------------------


def test_events_are_kept_in_order_the_newest_of_them_and_stored_once() -> None:
    async def story(world: World) -> None:
        await world.bus.emit(PRESSURE.at(**N1), pressure(0.0), id="p0")
        await world.go()
        for number in range(1, 9):
            await world.bus.emit(PRESSURE.at(**N1), pressure(float(number)), id=f"p{number}")
        await world.bus.emit(PRESSURE.at(**N1), pressure(0.0), id="p0")  # told again, as after a crash
        assert len(world.bus.events) == ALONE.kept
        await world.come()
        async with world.elsewhere.follow(PRESSURE.only()) as events:
            stored = [item.message.value for item in await rest(events) if isinstance(item, Received)]
        assert stored == [0.0, 5.0, 6.0, 7.0, 8.0]
        assert (world.bus.events.dropped, len(world.bus.events)) == (4, 0)

    live(story)


def test_a_command_that_waited_too_long_is_not_sent() -> None:
    async def story(world: World) -> None:
        def command(uid: str) -> Any:
            from msgspec.structs import replace

            return replace(eviction(uid), at=world.bus.now())

        await world.go()
        await world.bus.emit(EVICTIONS.at(**N1), command("old"), id="old")
        await asyncio.sleep(ALONE.work + 1)
        await world.bus.emit(EVICTIONS.at(**N1), command("new"), id="new")
        await world.come()
        async with world.elsewhere.consume(EVICTIONS.only(), durable="door") as work:
            assert [item.message.uid for item in await take(work)] == ["new"]
            assert await nothing(work, MOMENT)
        assert world.bus.events.stale == 1

    live(story)
