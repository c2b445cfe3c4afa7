"""The promises of the Bus port. Every test runs against the broker in memory and against a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, TypeVar

import pytest

from neap.common.bus.port import Bus, CaughtUp, Deleted, Delivery, Lost, LostRace, Received, Stored
from neap.common.contract.catalogue import (
    CHANNELS,
    EVICTIONS,
    EXPLAIN,
    HEADROOM,
    NODE_USAGE,
    PLACEMENTS,
    PRESSURE,
    STREAMS,
)
from neap.common.errors import Denied, InputError, NoResponder, StaleRevision, Unavailable
from neap.common.model.advice import Headroom
from neap.common.model.explanation import ExplainRequest, Explanation
from neap.common.model.lifecycle import Eviction
from neap.common.model.placement import Released
from neap.common.model.usage import NodeUsage, Pressure, PressureKind
from neap.common.telemetry.span import SpanContext, current
from tests.conftest import SOON

T = TypeVar("T")

ACK_WAIT = 0.5  # s; where a message is to come back, or is not to
N1, N2 = {"node": "n1"}, {"node": "n2"}


class Stage(Protocol):
    """What a promise needs."""

    async def connect(self, name: str = "tester", *, service: str = "") -> Bus:
        """A connection; with `service` it has that service's rights and no more."""

    async def restart(self, away: float = 0.0) -> None:
        """The server ends, without warning, and comes back."""

    async def inject(self, subject: str, payload: bytes) -> None:
        """Put raw bytes on a subject."""


def usage(seq: int, node: str = "n1") -> NodeUsage:
    return NodeUsage(at=float(seq), source="test", node=node, seq=seq, period=1.0)


def pressure(value: float, node: str = "n1") -> Pressure:
    return Pressure(
        at=0.0, source="test", node=node, kind=PressureKind.CPU, metric="m", value=value, threshold=1.0, risen=True
    )


def released(uid: str, node: str = "n1") -> Released:
    return Released(at=0.0, source="test", node=node, uid=uid, reason="test")


def eviction(uid: str) -> Eviction:
    return Eviction(
        at=0.0, source="test", node="n1", uid=uid, namespace="d", name=uid, attempt=1, rule="r", reason="r",
        measured=(), ranking="r", grace=1.0,
    )  # fmt: skip


def headroom(at: float, node: str = "n1") -> Headroom:
    return Headroom(at=at, source="test", node=node, offer={"cpu": 1000}, arithmetic={})


async def take(items: AsyncIterator[T], count: int = 1, within: float = SOON) -> list[T]:
    async with asyncio.timeout(within):
        return [await anext(items) for _ in range(count)]


async def one(items: AsyncIterator[T], within: float = SOON) -> T:
    return (await take(items, 1, within))[0]


async def nothing(items: AsyncIterator[Any], within: float = 0.15) -> bool:
    try:
        await one(items, within)
    except TimeoutError:
        return True
    return False


async def settle(condition: Callable[[], bool], within: float = SOON) -> None:
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


Seen = TypeVar("Seen", bound=Delivery[Any])


async def all_answered(
    items: AsyncIterator[Seen], answer: Callable[[Seen], Awaitable[None]] = lambda item: item.ack()
) -> list[Seen]:
    """Everything that comes, each answered at once, until nothing comes back.

    An answer may be later than `ACK_WAIT` where the machine is slow: then the message comes once more, and is answered
    once more. An answer that is no answer lets it come for ever.
    """
    seen: list[Seen] = []
    async with asyncio.timeout(SOON):
        while True:
            try:
                item = await one(items, 2 * ACK_WAIT)
            except TimeoutError:
                return seen
            await answer(item)
            seen.append(item)


async def emit_pressure(bus: Bus, value: float) -> Stored:
    return await bus.emit(PRESSURE.at(**N1), pressure(value), id=f"p{value}")


# -- LATEST ----------------------------------------------------------------------------------------------------------


async def test_a_published_message_reaches_every_subscriber_whose_filter_matches(stage: Stage) -> None:
    one_bus, other_bus = await stage.connect("one"), await stage.connect("other")
    async with (
        one_bus.subscribe(NODE_USAGE.only()) as all_nodes,
        other_bus.subscribe(NODE_USAGE.only(**N1)) as first,
        other_bus.subscribe(NODE_USAGE.only(**N2)) as second,
    ):
        await one_bus.publish(NODE_USAGE.at(**N1), usage(7))
        for heard in (await one(all_nodes), await one(first)):
            assert isinstance(heard, Received)
            assert (heard.message, heard.subject) == (usage(7), "neap.v1.node.n1.usage")
        assert await nothing(second)


async def test_a_queue_group_delivers_each_message_once(stage: Stage) -> None:
    buses = [await stage.connect(f"member{n}") for n in range(3)]
    sender = await stage.connect("sender")
    heard: list[int] = []

    async def listen(bus: Bus, ready: asyncio.Event) -> None:
        async with bus.subscribe(NODE_USAGE.only(), queue="members") as items:
            ready.set()
            async for item in items:
                assert isinstance(item, Received)
                heard.append(item.message.seq)

    async with asyncio.TaskGroup() as group:
        ready = [asyncio.Event() for _ in buses]
        tasks = [group.create_task(listen(bus, event)) for bus, event in zip(buses, ready, strict=True)]
        for event in ready:
            await event.wait()
        for seq in range(60):
            await sender.publish(NODE_USAGE.at(**N1), usage(seq))
        await settle(lambda: len(heard) >= 60)
        for task in tasks:
            task.cancel()
    assert sorted(heard) == list(range(60))


async def test_a_slow_reader_loses_the_oldest_and_is_told_how_many(stage: Stage) -> None:
    reader, sender = await stage.connect("reader"), await stage.connect("sender")
    async with reader.subscribe(NODE_USAGE.only(), limit=10) as items:
        for seq in range(100):
            await sender.publish(NODE_USAGE.at(**N1), usage(seq))
        await settle(lambda: reader.health.lost >= 90)
        first, *rest = await take(items, 11)
        assert first == Lost(90)
        assert [item.message.seq for item in rest if isinstance(item, Received)] == list(range(90, 100))
        await sender.publish(NODE_USAGE.at(**N1), usage(100))
        after = await one(items)
        assert isinstance(after, Received)
        assert after.message.seq == 100
    assert reader.health.lost == 90


async def test_a_latest_message_sent_while_away_is_dropped_and_later_ones_arrive(stage: Stage) -> None:
    bus = await stage.connect()
    async with bus.subscribe(NODE_USAGE.only()) as items:
        await stage.restart()
        await settle(lambda: bus.health.reconnects > 0 and bus.health.connected)
        await bus.publish(NODE_USAGE.at(**N1), usage(1))
        assert isinstance(await one(items), Received)


# -- STATE -----------------------------------------------------------------------------------------------------------


async def test_a_value_that_was_put_is_got_with_its_revision_and_gone_after_delete(stage: Stage) -> None:
    bus = await stage.connect()
    key = HEADROOM.at(**N1)
    assert await bus.get(key) is None
    revision = await bus.put(key, headroom(1.0))
    got = await bus.get(key)
    assert got is not None
    assert (got.message, got.seq, got.subject) == (headroom(1.0), revision, "n1")
    await bus.delete(key)
    await bus.delete(key)
    assert await bus.get(key) is None


async def test_an_update_with_a_stale_revision_is_refused(stage: Stage) -> None:
    bus = await stage.connect()
    key = HEADROOM.at(**N1)
    first = await bus.put(key, headroom(1.0), revision=0)
    with pytest.raises(StaleRevision, match="n1"):
        await bus.put(key, headroom(2.0), revision=0)
    second = await bus.put(key, headroom(2.0), revision=first)
    assert second > first
    with pytest.raises(StaleRevision, match="n1"):
        await bus.put(key, headroom(3.0), revision=first)


async def test_a_deleted_key_counts_as_absent_for_a_conditional_put(stage: Stage) -> None:
    bus = await stage.connect()
    key = HEADROOM.at(**N1)
    await bus.put(key, headroom(1.0))
    await bus.delete(key)
    assert await bus.put(key, headroom(2.0), revision=0) > 0


async def test_a_watch_gives_all_values_then_caught_up_then_changes_and_deletions(stage: Stage) -> None:
    bus, other = await stage.connect("one"), await stage.connect("other")
    await bus.put(HEADROOM.at(**N1), headroom(1.0))
    revision = await bus.put(HEADROOM.at(**N2), headroom(2.0, "n2"))
    async with other.watch(HEADROOM.only()) as items:
        values = await take(items, 2)
        assert {item.subject for item in values if isinstance(item, Received)} == {"n1", "n2"}
        assert await one(items) == CaughtUp(revision)
        await bus.put(HEADROOM.at(**N1), headroom(3.0))
        change = await one(items)
        assert isinstance(change, Received)
        assert (change.message.at, change.seq > revision) == (3.0, True)
        await bus.delete(HEADROOM.at(**N2))
        gone = await one(items)
        assert isinstance(gone, Deleted)
        assert gone.subject == "n2"


async def test_a_watch_of_an_empty_bucket_is_caught_up_at_once(stage: Stage) -> None:
    bus = await stage.connect()
    async with bus.watch(HEADROOM.only(**N1)) as items:
        assert isinstance(await one(items), CaughtUp)


async def test_a_watch_resumes_after_a_restart_without_silence(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It notices the reconnect, and not that its consumer is silent."""
    monkeypatch.setattr("neap.common.bus.nats_pull.HEARTBEAT", SOON / 2)  # which it would notice after twice that
    bus, other = await stage.connect("one"), await stage.connect("other")
    await bus.put(HEADROOM.at(**N1), headroom(1.0))
    async with other.watch(HEADROOM.only()) as items:
        await take(items, 2)
        await stage.restart(away=0.1)
        await bus.put(HEADROOM.at(**N1), headroom(2.0))
        async with asyncio.timeout(SOON - 5):
            seen = [await anext(items), await anext(items)]
        assert [item.message.at for item in seen if isinstance(item, Received)] == [2.0]
        assert sum(isinstance(item, CaughtUp) for item in seen) == 1


async def test_after_a_reconnect_a_watch_gives_only_what_changed_and_no_older_revision(stage: Stage) -> None:
    bus = await stage.connect()
    await bus.put(HEADROOM.at(**N1), headroom(1.0))
    await bus.put(HEADROOM.at(**N2), headroom(1.0, "n2"))
    async with bus.watch(HEADROOM.only()) as items:
        await take(items, 3)
        await stage.restart()
        assert isinstance(await one(items), CaughtUp)
        assert await nothing(items)


async def test_a_key_deleted_while_a_watch_is_away_becomes_deleted(stage: Stage) -> None:
    bus, other = await stage.connect("one"), await stage.connect("other")
    await bus.put(HEADROOM.at(**N1), headroom(1.0))
    async with other.watch(HEADROOM.only()) as items:
        await take(items, 2)
        await stage.restart()
        await bus.delete(HEADROOM.at(**N1))
        seen = await take(items, 2)
        assert sum(isinstance(item, Deleted) and item.subject == "n1" for item in seen) == 1
        assert sum(isinstance(item, CaughtUp) for item in seen) == 1


# -- EVENTS, WORK ----------------------------------------------------------------------------------------------------


async def test_the_same_id_is_stored_once(stage: Stage) -> None:
    bus = await stage.connect()
    first = await emit_pressure(bus, 1.0)
    again = await emit_pressure(bus, 1.0)
    assert not first.duplicate
    assert again == Stored(first.seq, duplicate=True)
    assert (await emit_pressure(bus, 2.0)).seq == first.seq + 1


async def test_events_reach_every_durable_in_order_also_those_stored_before(stage: Stage) -> None:
    bus = await stage.connect()
    for value in range(200):
        await emit_pressure(bus, value)
    for durable in ("one", "two"):
        async with bus.consume(PRESSURE.only(), durable=durable, batch=16) as items:
            seen = []
            for _ in range(200):
                item = await one(items)
                seen.append(item.message.value)
                await item.ack()
            assert seen == [float(value) for value in range(200)]


async def test_an_unacknowledged_message_comes_back_marked_as_redelivered(stage: Stage) -> None:
    bus = await stage.connect()
    await emit_pressure(bus, 1.0)
    async with bus.consume(PRESSURE.only(), durable="one", ack_wait=ACK_WAIT) as items:
        first = await one(items)
        second, *late = await all_answered(items)
        assert (first.redelivered, second.redelivered, second.seq) == (False, True, first.seq)
        assert {item.seq for item in late} <= {first.seq}


async def test_a_postponed_message_comes_back_and_a_terminated_one_does_not(stage: Stage) -> None:
    bus = await stage.connect()
    await emit_pressure(bus, 1.0)
    await emit_pressure(bus, 2.0)

    async def answer(item: Delivery[Pressure]) -> None:
        if item.message.value == 2.0:
            await item.term("not for us")
        elif item.redelivered:
            await item.ack()
        else:
            await item.later(0.1)

    async with bus.consume(PRESSURE.only(), durable="one", ack_wait=ACK_WAIT) as items:
        first, second, *others = await all_answered(items, answer)
    assert (first.message.value, second.message.value) == (1.0, 2.0)
    assert (first.seq, True) in [(back.seq, back.redelivered) for back in others]


async def test_a_message_is_answered_exactly_once(stage: Stage) -> None:
    bus = await stage.connect()
    await emit_pressure(bus, 1.0)
    async with bus.consume(PRESSURE.only(), durable="one") as items:
        item = await one(items)
        await item.ack()
        with pytest.raises(InputError, match="pressure"):
            await item.later(1.0)


async def test_work_that_is_done_is_gone_and_work_that_is_not_goes_to_the_next(stage: Stage) -> None:
    bus = await stage.connect()
    for uid in ("a", "b"):
        await bus.emit(EVICTIONS.at(**N1), eviction(uid), id=uid)
    async with bus.consume(EVICTIONS.only(), durable="door", ack_wait=ACK_WAIT) as items:
        done, _ = await take(items, 2)
        await done.ack()  # and then the worker dies
    async with bus.consume(EVICTIONS.only(), durable="door", ack_wait=ACK_WAIT) as items:
        left = await all_answered(items)
    assert done.message.uid == "a"
    assert ("b", True) in [(item.message.uid, item.redelivered) for item in left]


async def test_a_durable_consumer_loses_nothing_over_a_server_restart(stage: Stage) -> None:
    bus, sender = await stage.connect("one"), await stage.connect("sender")
    seen: set[float] = set()
    async with bus.consume(PRESSURE.only(), durable="one", ack_wait=1.0, batch=8) as items:
        for value in range(20):
            await emit_pressure(sender, value)
        for _ in range(10):
            item = await one(items)
            seen.add(item.message.value)
            await item.ack()
        await stage.restart(away=0.1)
        for value in range(20, 40):
            await emit_pressure(sender, value)
        while len(seen) < 40:
            item = await one(items)
            seen.add(item.message.value)
            await item.ack()
    assert seen == {float(value) for value in range(40)}


async def test_a_poison_message_is_terminated_counted_and_not_delivered(stage: Stage) -> None:
    bus = await stage.connect()
    await stage.inject("neap.v1.node.n1.pressure", b"{not json")
    await stage.inject("neap.v1.node.n1.pressure", b'{"at": "yesterday"}')
    await emit_pressure(bus, 1.0)
    async with bus.consume(PRESSURE.only(), durable="one", ack_wait=ACK_WAIT) as items:
        seen = await all_answered(items)
        counted = bus.health.poison[PRESSURE.pattern]
        assert {item.message.value for item in seen} == {1.0}
        assert counted >= 2
        assert await nothing(items, 2 * ACK_WAIT)
    assert bus.health.poison == {PRESSURE.pattern: counted}


async def test_poison_ends_no_reader_of_any_word_and_is_logged_once_a_minute(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    bus = await stage.connect()
    for subject in ("neap.v1.ledger.n1", "$KV.neap-headroom.n1"):
        await stage.inject(subject, b"\xff\xfe")
    await bus.append(PLACEMENTS.at(**N2), released("ok", "n2"), seen=0, id="ok")
    await bus.put(HEADROOM.at(**N2), headroom(1.0, "n2"))
    async with bus.follow(PLACEMENTS.only()) as entries, bus.watch(HEADROOM.only()) as values:
        for items in (entries, values):
            first = await one(items)
            assert isinstance(first, Received)
            assert first.message.node == "n2"
        await settle(lambda: bus.health.poison == {PLACEMENTS.pattern: 1, HEADROOM.title(): 1})
    async with bus.subscribe(NODE_USAGE.only()) as reports:
        for _ in range(5):
            await stage.inject("neap.v1.node.n1.usage", b"[]")
        await bus.publish(NODE_USAGE.at(**N1), usage(1))
        assert isinstance(await one(reports), Received)
    assert bus.health.poison == {PLACEMENTS.pattern: 1, HEADROOM.title(): 1, NODE_USAGE.pattern: 5}
    assert sum("neap.v1.node.n1.usage" in record.getMessage() for record in caplog.records) == 1


# -- LEDGER ----------------------------------------------------------------------------------------------------------


async def test_an_append_with_a_stale_sequence_is_a_lost_race(stage: Stage) -> None:
    bus, other = await stage.connect("one"), await stage.connect("other")
    ledger = PLACEMENTS.at(**N1)
    first = await bus.append(ledger, released("a"), seen=0, id="a")
    assert isinstance(first, Stored)
    assert await other.append(ledger, released("b"), seen=0, id="b") == LostRace(0)
    assert isinstance(await other.append(PLACEMENTS.at(**N2), released("c", "n2"), seen=0, id="c"), Stored)
    second = await other.append(ledger, released("b"), seen=first.seq, id="b2")
    assert isinstance(second, Stored)
    assert second.seq > first.seq


async def test_of_many_concurrent_appends_exactly_one_wins(stage: Stage) -> None:
    buses = [await stage.connect(f"scheduler{n}") for n in range(4)]
    outcomes = await asyncio.gather(
        *(bus.append(PLACEMENTS.at(**N1), released(f"u{n}"), seen=0, id=f"u{n}") for n, bus in enumerate(buses))
    )
    assert sum(isinstance(outcome, Stored) for outcome in outcomes) == 1


async def test_an_append_that_is_sent_again_is_the_same_append_also_when_others_came_after(stage: Stage) -> None:
    bus = await stage.connect()
    ledger = PLACEMENTS.at(**N1)
    first = await bus.append(ledger, released("a"), seen=0, id="a")
    assert isinstance(first, Stored)
    assert await bus.append(ledger, released("a"), seen=0, id="a") == Stored(first.seq, duplicate=True)
    await bus.append(ledger, released("b"), seen=first.seq, id="b")
    assert await bus.append(ledger, released("a"), seen=0, id="a") == Stored(first.seq, duplicate=True)


async def test_follow_gives_everything_behind_after_then_caught_up_then_live(stage: Stage) -> None:
    bus = await stage.connect()
    seqs = [await grow(bus, n) for n in range(5)]
    async with bus.follow(PLACEMENTS.only(**N1), after=seqs[1]) as items:
        stored = await take(items, 3)
        assert [item.seq for item in stored] == seqs[2:]
        assert await one(items) == CaughtUp(seqs[-1])
        live = await grow(bus, 5)
        item = await one(items)
        assert isinstance(item, Received)
        assert (item.seq, item.message.uid) == (live, "u5")  # type: ignore[union-attr]


GROWN: dict[int, int] = {}


async def grow(bus: Bus, n: int) -> int:
    """Append one more entry behind the last."""
    seen = GROWN.get(id(bus), 0) if n else 0
    stored = await bus.append(PLACEMENTS.at(**N1), released(f"u{n}"), seen=seen, id=f"u{n}")
    assert isinstance(stored, Stored)
    GROWN[id(bus)] = stored.seq
    return stored.seq


async def test_follow_is_gap_free_over_restarts_and_never_gives_an_entry_twice(stage: Stage) -> None:
    bus, reader = await stage.connect("writer"), await stage.connect("reader")
    seen: list[str] = []

    async def read(ready: asyncio.Event) -> None:
        async with reader.follow(PLACEMENTS.only()) as items:
            async for item in items:
                if isinstance(item, CaughtUp):
                    ready.set()
                else:
                    seen.append(item.message.uid)  # type: ignore[union-attr]

    async with asyncio.TaskGroup() as group:
        ready = asyncio.Event()
        reading = group.create_task(read(ready))
        await ready.wait()
        for n in range(60):
            if n in (20, 40):
                await stage.restart(away=0.05)
            await grow(bus, n)
        await settle(lambda: len(seen) >= 60)
        reading.cancel()
    assert seen == [f"u{n}" for n in range(60)]


async def test_events_can_be_followed_too(stage: Stage) -> None:
    bus = await stage.connect()
    await emit_pressure(bus, 1.0)
    async with bus.follow(PRESSURE.only()) as items:
        first, caught_up = await take(items, 2)
        assert isinstance(first, Received)
        assert isinstance(caught_up, CaughtUp)


async def test_a_reader_whose_wait_was_cut_short_can_be_asked_again(stage: Stage) -> None:
    bus = await stage.connect()
    async with bus.follow(PLACEMENTS.only()) as items:
        await one(items)
        assert await nothing(items)
        await grow(bus, 0)
        assert isinstance(await one(items), Received)


# -- request and reply -----------------------------------------------------------------------------------------------

ASK = ExplainRequest(namespace="shop", name="cart-1")


async def test_a_request_is_answered_by_one_of_the_responders(stage: Stage) -> None:
    asker, one_bus, other_bus = await stage.connect("a"), await stage.connect("b"), await stage.connect("c")
    asked: list[ExplainRequest] = []

    async def explain(request: ExplainRequest) -> Explanation:
        asked.append(request)
        return Explanation(found=True, state="placed", node="n1")

    async with one_bus.serve(EXPLAIN, explain), other_bus.serve(EXPLAIN, explain):
        answer = await asker.request(EXPLAIN, ASK)
    assert (answer.node, asked) == ("n1", [ASK])


async def test_a_request_without_a_responder_fails_at_once(stage: Stage) -> None:
    bus = await stage.connect()
    async with asyncio.timeout(SOON):
        with pytest.raises(NoResponder, match=r"neap\.v1\.scheduler\.explain"):
            await bus.request(EXPLAIN, ASK, timeout=2 * SOON)


async def test_a_responder_that_is_silent_is_unavailable_after_the_timeout(stage: Stage) -> None:
    bus = await stage.connect()

    async def sleep(_: ExplainRequest) -> Explanation:
        await asyncio.sleep(1.0)
        return Explanation(found=False, state="unknown")

    async with bus.serve(EXPLAIN, sleep):
        with pytest.raises(Unavailable, match="explain"):
            await bus.request(EXPLAIN, ASK, timeout=0.1)


async def test_requests_are_answered_side_by_side(stage: Stage) -> None:
    bus = await stage.connect()
    together = asyncio.Barrier(8)

    async def explain(_: ExplainRequest) -> Explanation:
        await together.wait()
        return Explanation(found=True, state="queued")

    async with bus.serve(EXPLAIN, explain), asyncio.timeout(SOON):
        answers = await asyncio.gather(*(bus.request(EXPLAIN, ASK) for _ in range(8)))
    assert len(answers) == 8


@pytest.mark.parametrize(
    ("error", "text"), [(InputError("no such namespace: shop"), "no such namespace: shop"), (KeyError("x"), "KeyError")]
)
async def test_an_error_in_an_answer_is_told_to_the_asker(stage: Stage, error: Exception, text: str) -> None:
    bus = await stage.connect()

    async def refuse(_: ExplainRequest) -> Explanation:
        raise error

    async with bus.serve(EXPLAIN, refuse):
        with pytest.raises(InputError, match=text):
            await bus.request(EXPLAIN, ASK)


# -- rights, faults, housekeeping ------------------------------------------------------------------------------------


async def test_a_denied_word_is_a_clear_error_and_not_a_time_out(stage: Stage) -> None:
    reporter = await stage.connect(service="reporter")
    await reporter.publish(NODE_USAGE.at(**N1), usage(1))
    async with asyncio.timeout(SOON):
        with pytest.raises(Denied, match=r"neap\.v1\.node\.n2\.usage"):
            await reporter.publish(NODE_USAGE.at(**N2), usage(1, "n2"))
        with pytest.raises(Denied, match=r"\$KV\.neap-headroom\.n1"):
            await reporter.put(HEADROOM.at(**N1), headroom(1.0))
        with pytest.raises(Denied, match=r"neap\.v1\.node\.n2\.pressure"):
            await reporter.emit(PRESSURE.at(**N2), pressure(1.0, "n2"), id="x")
        with pytest.raises(Denied, match=r"neap\.v1\.ledger\.n1"):
            await reporter.append(PLACEMENTS.at(**N1), released("a"), seen=0, id="a")
        with pytest.raises(Denied, match="explain"):
            await reporter.request(EXPLAIN, ASK, timeout=2 * SOON)
        with pytest.raises(Denied, match="usage"):
            async with reporter.subscribe(NODE_USAGE.only()):
                pass
        with pytest.raises(Denied, match="neap-headroom"):
            async with reporter.watch(HEADROOM.only(**N1)):
                pass
        with pytest.raises(Denied, match="NEAP_LEDGER"):
            async with reporter.follow(PLACEMENTS.only(**N1)):
                pass
        with pytest.raises(Denied, match="NEAP_PRESSURE"):
            async with reporter.consume(PRESSURE.only(**N1), durable="x"):
                pass
    assert reporter.health.denied >= 9
    assert reporter.health.connected


async def test_trace_context_travels_with_every_word(stage: Stage) -> None:
    bus = await stage.connect()
    context = SpanContext("a" * 32, "b" * 16)
    async with bus.subscribe(NODE_USAGE.only()) as reports:
        token = current.set(context)
        await bus.publish(NODE_USAGE.at(**N1), usage(1))
        await bus.put(HEADROOM.at(**N1), headroom(1.0))
        await emit_pressure(bus, 1.0)
        await grow(bus, 0)
        current.reset(token)
        async with (
            bus.watch(HEADROOM.only()) as values,
            bus.consume(PRESSURE.only(), durable="one") as events,
            bus.follow(PLACEMENTS.only()) as entries,
        ):
            for items in (reports, values, events, entries):
                item = await one(items)
                assert isinstance(item, Received)
                assert item.headers["traceparent"] == context.traceparent


async def test_calls_wait_out_a_short_outage(stage: Stage) -> None:
    bus = await stage.connect()
    restarting = asyncio.ensure_future(stage.restart(away=0.3))
    await settle(lambda: not bus.health.connected or bus.health.reconnects > 0)
    async with asyncio.timeout(SOON):
        await asyncio.gather(
            emit_pressure(bus, 1.0), grow(bus, 0), bus.put(HEADROOM.at(**N1), headroom(1.0)), bus.get(HEADROOM.at(**N2))
        )
    await restarting
    assert bus.health.reconnects == 1


async def test_ensure_can_be_run_by_everybody_at_once_and_again(stage: Stage) -> None:
    buses = [await stage.connect(f"service{n}") for n in range(6)]
    await asyncio.gather(*(bus.ensure(STREAMS, CHANNELS) for bus in buses))
    assert isinstance(await grow(buses[0], 0), int)


async def test_a_service_that_may_not_make_streams_is_content_when_they_are_there(stage: Stage) -> None:
    await (await stage.connect(service="reporter")).ensure(STREAMS, CHANNELS)
