"""What cannot be read: the promises of the Bus port about it, kept in memory and on a real nats-server."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from neap.common.bus.port import CaughtUp, LostRace, Received
from neap.common.contract.catalogue import ADVICE, EXPLAIN, HEADROOM, NODE_USAGE, PLACEMENTS, PRESSURE
from neap.common.contract.channel import Endpoint
from neap.common.errors import InputError
from neap.common.model.explanation import ExplainRequest, Explanation
from tests.conftest import SOON
from tests.contract.conftest import NatsStage
from tests.contract.test_bus import N1, Stage, emit_pressure, headroom, nothing, one, released, usage

WRONG: Endpoint[Any, Any] = replace(EXPLAIN, request=dict)  # as somebody asks who knows another contract
DEEP = b'{"deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


async def test_what_is_nested_too_deeply_is_poison_to_readers_of_every_word(stage: Stage) -> None:
    bus = await stage.connect()
    for subject in ("neap.v1.node.n1.pressure", "neap.v1.ledger.n1", "$KV.neap-headroom.n1"):
        await stage.inject(subject, DEEP)
    await emit_pressure(bus, 1.0)
    async with bus.consume(PRESSURE.only(), durable="one") as events:
        assert (await one(events)).message.value == 1.0
    async with bus.follow(PLACEMENTS.only()) as entries, bus.watch(HEADROOM.only()) as values:
        assert isinstance(await one(entries), CaughtUp)
        assert isinstance(await one(values), CaughtUp)
    async with bus.subscribe(NODE_USAGE.only()) as reports:
        await stage.inject("neap.v1.node.n1.usage", DEEP)
        await bus.publish(NODE_USAGE.at(**N1), usage(1))
        assert isinstance(await one(reports), Received)
    assert bus.health.poison == {channel.title(): 1 for channel in (PRESSURE, PLACEMENTS, HEADROOM, NODE_USAGE)}


async def test_a_message_about_another_node_than_its_subject_is_poison(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """The right to speak is given by subject: what is said there may not be about somebody else."""
    bus = await stage.connect()
    await stage.inject("$KV.neap-headroom.n1", HEADROOM.encode(headroom(1.0, "n2")))
    await stage.inject("neap.v1.ledger.n1", PLACEMENTS.encode(released("a", "n2")))
    async with bus.watch(HEADROOM.only()) as values, bus.follow(PLACEMENTS.only()) as entries:
        assert isinstance(await one(values), CaughtUp)
        assert isinstance(await one(entries), CaughtUp)
    assert bus.health.poison == {HEADROOM.title(): 1, PLACEMENTS.title(): 1}
    assert "neap-headroom/n1: speaks of node 'n2'" in caplog.text


async def test_buckets_are_told_apart_though_their_keys_are_alike(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    bus = await stage.connect()
    for subject in ("$KV.neap-headroom.n1", "$KV.neap-advice.n1"):
        await stage.inject(subject, b"?")
    async with bus.watch(HEADROOM.only()) as offers, bus.watch(ADVICE.only()) as advice:
        assert isinstance(await one(offers), CaughtUp)
        assert isinstance(await one(advice), CaughtUp)
    assert bus.health.poison == {"neap-headroom/{node}": 1, "neap-advice/{node}": 1}
    assert "neap-headroom/n1: " in caplog.text
    assert "neap-advice/n1: " in caplog.text


async def test_a_follower_says_how_far_it_has_read_where_an_entry_cannot_be_read(stage: Stage) -> None:
    bus = await stage.connect()
    async with bus.follow(PLACEMENTS.only()) as entries:
        assert await one(entries) == CaughtUp(0)
        await stage.inject("neap.v1.ledger.n1", b"?")
        assert await one(entries) == CaughtUp(1)
        stored: Any = await bus.append(PLACEMENTS.at(node="n2"), released("a", "n2"), seen=0, id="a")
        entry = await one(entries)
        assert isinstance(entry, Received)
        assert entry.seq == stored.seq == 2
        assert await nothing(entries)


async def test_a_lost_race_tells_where_the_subject_is_so_that_what_nobody_can_read_is_passed(stage: Stage) -> None:
    bus = await stage.connect()
    async with bus.follow(PLACEMENTS.only()) as entries, asyncio.timeout(SOON):
        await stage.inject("neap.v1.ledger.n2", b"?")
        while await anext(entries) != CaughtUp(1):  # stored
            pass
        await stage.inject("neap.v1.ledger.n1", b"?")
        while await anext(entries) != CaughtUp(2):
            pass
    outcome = await bus.append(PLACEMENTS.at(**N1), released("a"), seen=0, id="a")
    assert isinstance(outcome, LostRace)
    assert (outcome.expected, outcome.last) == (0, 2)
    assert not isinstance(await bus.append(PLACEMENTS.at(**N1), released("a"), seen=2, id="b"), LostRace)


async def test_a_request_nobody_can_read_is_answered_with_the_reason_and_counted(stage: Stage) -> None:
    bus, asking = await stage.connect("one"), await stage.connect("other")

    async def explain(_: ExplainRequest) -> Explanation:
        return Explanation(found=False, state="unknown")

    async with bus.serve(EXPLAIN, explain), asyncio.timeout(SOON):
        with pytest.raises(InputError, match=r"scheduler\.explain: Expected `str`, got `int` - at `\$\.namespace`"):
            await asking.request(WRONG, {"namespace": 7, "name": "x"})
        assert not (await asking.request(EXPLAIN, ExplainRequest(namespace="a", name="b"))).found
    assert bus.health.poison == {EXPLAIN.pattern: 1}


HEADERS = (
    b"NATS/9",
    b"NATS/1.0\r\nno colon\r\n\r\n",
    b"NATS/1.0\r\n\xff\xfe: \xff\r\n\r\n",
    b"NATS/1.0 503 \xff\r\n\r\n",
    b"NATS/1.0\r\ntraceparent: \x00\xff\r\n\r\n",
)
SUBJECTS = (b"neap.v1.node.\xff\xfe.usage", b"neap.v1.node.a*b.usage", b"neap.v1.node." + b"x" * 3_000 + b".usage")


async def test_a_client_that_speaks_nats_badly_deafens_nobody(nats_stage: NatsStage) -> None:
    """What the server passes on although no client should send it: one such message would end nats-py's reading."""
    bus = await nats_stage.connect()
    async with bus.subscribe(NODE_USAGE.only()) as reports:
        reader, writer = await asyncio.open_connection("127.0.0.1", nats_stage.server.port)
        writer.write(b'CONNECT {"verbose":false,"headers":true,"user":"all","pass":"secret"}\r\n')
        for subject in SUBJECTS:
            writer.write(b"PUB %b 2\r\n{}\r\n" % subject)
        for headers in HEADERS:
            writer.write(b"HPUB neap.v1.node.n1.usage %d %d\r\n%b{}\r\n" % (len(headers), len(headers) + 2, headers))
        writer.write(b"PING\r\n")
        async with asyncio.timeout(SOON):
            while b"PONG" not in await reader.readline():
                pass
        await bus.publish(NODE_USAGE.at(**N1), usage(1))
        assert isinstance(await one(reports), Received)
        writer.close()
        await writer.wait_closed()
    assert bus.health.poison == {NODE_USAGE.title(): len(SUBJECTS) + len(HEADERS)}
    assert bus.health.reconnects == 0
