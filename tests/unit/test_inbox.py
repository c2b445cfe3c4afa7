"""What waits for a machine that is busy: in order, bounded, and nothing that something newer has overtaken."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.advisor.core.hearing import Heard, hear
from neap.common.model.usage import ContainerUsage, NodeUsage, overtakes
from neap.common.runtime.inbox import Inbox
from neap.common.runtime.machine import Arrived, Event, Tick
from neap.common.testing.simloop import simulate
from neap.reporter.core.telling import Telling
from neap.reporter.settings import Settings


def run(main: Coroutine[Any, Any, None]) -> None:
    simulate(main)


async def taken(inbox: Inbox) -> list[Event]:
    """Everything that waits."""
    events: list[Event] = []
    while len(inbox):
        waiting = await inbox.next()
        assert waiting.event is not None
        events.append(waiting.event)
        inbox.done(waiting)
    return events


def newer(one: Any, other: Any) -> bool:
    return bool(one[0] >= other[0])


messages = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=30)


@given(messages)
def test_of_what_may_be_overtaken_only_what_nothing_newer_replaces_is_handled_and_subjects_keep_their_order(
    told: list[tuple[str, int]],
) -> None:
    async def main() -> None:
        inbox, overtaken = Inbox(), 0
        for number, (subject, rank) in enumerate(told):
            overtaken += await inbox.post(Arrived(float(number), (rank, number), subject), overtakes=newer)
        left: dict[str, list[tuple[int, int]]] = {}
        for number, (subject, rank) in enumerate(told):
            kept = left.setdefault(subject, [])
            while kept and rank >= kept[-1][0]:
                kept.pop()
            kept.append((rank, number))
        handled: dict[str, list[tuple[int, int]]] = {}
        assert len(inbox) == len(told) - overtaken
        for event in await taken(inbox):
            assert isinstance(event, Arrived)
            handled.setdefault(event.subject, []).append(event.message)
        assert handled == left

    run(main())


@given(messages, st.data())
def test_a_room_that_handles_some_in_between_never_sees_a_subject_go_back(
    told: list[tuple[str, int]], data: st.DataObject
) -> None:
    async def main() -> None:
        inbox, last = Inbox(), dict.fromkeys("abc", -1)
        for number, (subject, _) in enumerate(told):
            await inbox.post(Arrived(float(number), (0, number), subject), overtakes=newer)
            for event in await taken(inbox) if data.draw(st.booleans()) else ():
                assert isinstance(event, Arrived)
                assert event.message[1] > last[event.subject]
                last[event.subject] = event.message[1]
        await taken(inbox)
        assert not len(inbox)

    run(main())


def test_what_is_overtaken_takes_no_room_and_the_rest_waits_for_it() -> None:
    async def main() -> None:
        inbox = Inbox(most=2)
        for number in range(100):
            await inbox.post(Arrived(0.0, (0, number), "a"), overtakes=newer)
        await inbox.post(Arrived(0.0, "one"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await inbox.post(Arrived(0.0, "another"))
        assert [event.message for event in await taken(inbox) if isinstance(event, Arrived)] == [(0, 99), "one"]
        await inbox.post(Arrived(0.0, "another"))
        assert len(inbox) == 1

    run(main())


def test_once_it_is_full_it_is_filled_again_when_half_of_it_is_free_in_the_order_of_those_who_wait() -> None:
    async def main() -> None:
        inbox, came = Inbox(most=4), list[int]()

        async def come(number: int) -> None:
            await inbox.post(Arrived(0.0, number))
            came.append(number)

        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(come(number))
            for left, expected in ((1, 4), (2, 6), (3, 6), (4, 8)):
                inbox.done(await inbox.next())
                await asyncio.sleep(0.1)
                assert came == list(range(expected)), f"after {left} were handled"

    run(main())


def test_a_timer_has_one_tick_waiting() -> None:
    async def main() -> None:
        inbox = Inbox()
        for second in range(5):
            await inbox.post(Tick(float(second), "look"))
        assert [event.at for event in await taken(inbox)] == [0.0]
        await inbox.post(Tick(9.0, "look"))
        assert len(inbox) == 1

    run(main())


loads = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=1, max_size=25)


@given(loads, st.integers(1, 6), st.data())
def test_who_reads_only_the_newest_reports_knows_in_the_end_what_everybody_else_knows(
    loads: list[list[int]], full_every: int, data: st.DataObject
) -> None:
    """Reports as the reporter tells them, full and short; read at random moments."""

    async def main() -> None:
        telling, inbox = Telling(Settings(full_every=full_every)), Inbox()
        all_read: Heard | None = None
        newest: Heard | None = None
        for seq, cpus in enumerate(loads, start=1):
            containers = tuple(
                ContainerUsage(cgroup=f"c{index}", container="", uid=f"u{index}", cpu=float(cpu))
                for index, cpu in enumerate(cpus)
            )
            usage = NodeUsage(at=float(seq), source="reporter", node="n1", seq=seq, period=1.0, containers=containers)
            report = telling.tell(usage)
            if report is None:
                continue
            all_read = hear(report, all_read)
            await inbox.post(Arrived(report.at, report, "n1"), overtakes=overtakes)
            if data.draw(st.booleans()):
                newest = await read(inbox, newest)
        newest = await read(inbox, newest)
        assert newest is not None
        assert newest == all_read

    async def read(inbox: Inbox, heard: Heard | None) -> Heard | None:
        for event in await taken(inbox):
            assert isinstance(event, Arrived)
            heard = hear(event.message, heard)
        return heard

    run(main())
