"""What only the broker in memory can do: faults on demand, virtual time, and the same story for the same seed."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from neap.common.bus.memory import Fault, MemoryBroker, MemoryBus
from neap.common.bus.patience import Patience
from neap.common.bus.port import CaughtUp, Deleted, Received
from neap.common.contract.catalogue import CHANNELS, HEADROOM, NODE_USAGE, PRESSURE, STREAMS
from neap.common.contract.channel import State
from neap.common.errors import Unavailable
from neap.common.model.advice import Headroom
from neap.common.model.usage import NodeUsage, Pressure, PressureKind
from neap.common.testing.simloop import simulate

N1 = {"node": "n1"}


def usage(seq: int, node: str = "n1") -> NodeUsage:
    return NodeUsage(at=float(seq), source="test", node=node, seq=seq, period=1.0)


def headroom(at: float) -> Headroom:
    return Headroom(at=at, source="test", node="n1", offer={}, arithmetic={})


def pressure(value: float) -> Pressure:
    return Pressure(
        at=0.0, source="test", node="n1", kind=PressureKind.CPU, metric="m", value=value, threshold=1.0, risen=True
    )


async def stage(seed: int = 1) -> tuple[MemoryBroker, MemoryBus, MemoryBus]:
    broker = MemoryBroker(random=Random(seed))
    one, two = broker.bus("one", patience=Patience(call=5.0, emit=10.0)), broker.bus("two")
    await one.ensure(STREAMS, CHANNELS)
    return broker, one, two


async def heard(bus: MemoryBus, sender: MemoryBus, count: int, within: float = 100.0) -> list[int]:
    """Which of `count` reports arrive, in which order."""
    seen: list[int] = []
    async with bus.subscribe(NODE_USAGE.only()) as items:
        for seq in range(count):
            await sender.publish(NODE_USAGE.at(**N1), usage(seq))
        try:
            async with asyncio.timeout(within):
                async for item in items:
                    assert isinstance(item, Received)
                    seen.append(item.message.seq)
        except TimeoutError:
            return seen
    return seen


def test_a_dropped_message_is_gone_a_delayed_one_late_and_a_doubled_one_comes_twice() -> None:
    async def story() -> None:
        broker, one, two = await stage()
        subject = "neap.v1.node.*.usage"
        broker.faults[:] = [Fault(subject, "drop")]
        assert await heard(one, two, 3) == []
        broker.faults[:] = [Fault(subject, "delay", share=0.5, least=1.0, most=9.0)]
        late = await heard(one, two, 40)
        assert sorted(late) == list(range(40))
        assert late != list(range(40))
        broker.faults[:] = [Fault(subject, "duplicate", most=1.0)]
        assert sorted(await heard(one, two, 3)) == [0, 0, 1, 1, 2, 2]
        broker.faults[:] = [Fault("neap.v1.node.n2.usage", "drop")]
        assert await heard(one, two, 3) == [0, 1, 2]

    simulate(story())


def test_a_lost_acknowledgement_makes_an_event_come_back() -> None:
    async def story() -> None:
        broker, one, two = await stage()
        broker.faults[:] = [Fault("neap.v1.node.>", "redeliver")]
        await two.emit(PRESSURE.at(**N1), pressure(1.0), id="1")
        async with one.consume(PRESSURE.only(), durable="d", ack_wait=30.0) as items:
            await (await anext(items)).ack()
            began = asyncio.get_running_loop().time()
            again = await anext(items)
            assert again.redelivered
            assert asyncio.get_running_loop().time() - began == pytest.approx(30.0)

    simulate(story())


def test_a_connection_that_is_away_hears_nothing_says_unavailable_and_catches_up() -> None:
    async def story() -> None:
        broker, one, two = await stage()
        loop = asyncio.get_running_loop()
        async with one.watch(HEADROOM.only()) as items:
            assert isinstance(await anext(items), CaughtUp)
            broker.disconnect(one)
            await two.put(HEADROOM.at(**N1), headroom(1.0))
            await two.put(HEADROOM.at(**N1), headroom(2.0))
            began = loop.time()
            for call, deadline in (
                (one.get(HEADROOM.at(**N1)), 5.0),
                (one.emit(PRESSURE.at(**N1), pressure(1), id="1"), 10),
            ):
                with pytest.raises(Unavailable):
                    await call
                assert loop.time() - began == pytest.approx(deadline)
                began = loop.time()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3600.0):
                    await anext(items)
            broker.reconnect(one)
            value, caught_up = await anext(items), await anext(items)
            assert isinstance(value, Received)
            assert value.message.at == 2.0
            assert isinstance(caught_up, CaughtUp)
        assert one.health.reconnects == 1

    simulate(story())


def test_an_acknowledgement_given_while_away_takes_effect_after_the_reconnect() -> None:
    async def story() -> None:
        broker, one, two = await stage()
        await two.emit(PRESSURE.at(**N1), pressure(1.0), id="1")
        async with one.consume(PRESSURE.only(), durable="d", ack_wait=30.0) as items:
            item = await anext(items)
            broker.disconnect(one)
            await item.ack()
            broker.reconnect(one)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(100.0):
                    await anext(items)

    simulate(story())


def test_a_restart_loses_latest_in_flight_and_keeps_what_is_stored() -> None:
    async def story() -> None:
        broker, one, two = await stage()
        broker.faults[:] = [Fault("neap.v1.node.*.usage", "delay", least=5.0, most=5.0)]
        async with one.subscribe(NODE_USAGE.only()) as items:
            await two.publish(NODE_USAGE.at(**N1), usage(1))
            await two.emit(PRESSURE.at(**N1), pressure(1.0), id="1")
            broker.restart(away=1.0)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(10.0):
                    await anext(items)
        assert (await two.emit(PRESSURE.at(**N1), pressure(1.0), id="1")).duplicate

    simulate(story())


def test_a_key_vanishes_after_its_time() -> None:
    async def story() -> None:
        _, one, _ = await stage()
        lives: State[Headroom] = State("{node}", Headroom, says=(), hears=(), doc="", bucket="short-lived", ttl=90.0)
        await one.ensure((), (lives,))
        async with one.watch(lives.only()) as items:
            await one.put(lives.at(**N1), headroom(1.0))
            await asyncio.sleep(60.0)
            await one.put(lives.at(**N1), headroom(2.0))
            began = asyncio.get_running_loop().time()
            seen = [await anext(items) for _ in range(3)]
            assert isinstance(seen[-1], Deleted)
            assert asyncio.get_running_loop().time() - began == pytest.approx(90.0)

    simulate(story())


def test_the_same_seed_tells_the_same_story() -> None:
    async def story(seed: int) -> list[int]:
        broker, one, two = await stage(seed)
        broker.faults[:] = [
            Fault("neap.v1.node.*.usage", "drop", share=0.2),
            Fault("neap.v1.node.*.usage", "delay", share=0.3, most=2.0),
            Fault("neap.v1.node.*.usage", "duplicate", share=0.2, most=2.0),
        ]
        return await heard(one, two, 200)

    first = simulate(story(7))
    assert first == simulate(story(7))
    assert first != simulate(story(8))


def test_limits_drop_the_oldest() -> None:
    async def story() -> list[Any]:
        import dataclasses

        broker = MemoryBroker()
        bus = broker.bus("one")
        small = dataclasses.replace(PRESSURE.stream, max_per_subject=3, name="NEAP_SMALL")
        channel = dataclasses.replace(PRESSURE, stream=small)
        await bus.ensure((small,), ())
        for value in range(5):
            await bus.emit(channel.at(**N1), pressure(value), id=str(value))
        async with bus.follow(channel.only()) as items:
            return [await anext(items) for _ in range(4)]

    *left, caught_up = simulate(story())
    assert [item.message.value for item in left] == [2.0, 3.0, 4.0]
    assert caught_up == CaughtUp(5)
