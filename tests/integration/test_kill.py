"""kill -9 of every service in turn, and of the NATS server, in the middle of a running day, with real processes.

Six virtual nodes live through a day on a clock 240 times as fast. After each kill new advice for every node must be
on the bus, and the one that was killed must be heard again; how soon (a second or two, where the machine is not busy
with other things) is printed and not judged. At the end the stored streams are audited from their first entry: nobody
lost, nobody placed twice, every law of the ledger at every sequence.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import (
    ADVICE,
    CHANNELS,
    DAY_REPORT,
    DEVICES,
    EXPLAIN,
    NODE_APPLIED,
    NODE_USAGE,
    PLACEMENTS,
    STREAMS,
)
from neap.common.contract.channel import Channel
from neap.common.errors import PortError
from neap.common.model.explanation import ExplainRequest
from neap.common.model.lifecycle import Ended
from neap.common.model.placement import Placed
from neap.common.runtime.clock import Clock, accelerated_clock, stopwatch, wall_seconds
from neap.common.units import MINUTE, Seconds
from neap.console.shell.stack import Stack
from neap.virtual.audit import History, audit, held_by
from neap.virtual.history import read_history, stored
from neap.virtual.pace import day_settings
from neap.virtual.settings import NOMINAL_START
from tests.conftest import HANG, SOON
from tests.sim.small import examples

NODES = tuple(f"n{number}" for number in range(1, 7))  # the sixth has cards
SPEED = 240.0  # a report period of one virtual minute takes a quarter of a second
LEAD: Seconds = 2.0
SETTLES: Seconds = 5.0  # real seconds from a placement to its start, from an end to its release; where a kill takes
# longer to get over than half of that, twice as long as the longest
LENGTH = 24 * 60 * MINUTE  # longer than the slowest machine takes for all the kills
MANY = 20  # ended, and twice as many placed: that was a day
DAY = """
name = "a day of kills"
length = "24h"

[[owner]]
name = "cart"
namespace = "shop"
replicas = 9
cpu = "2"
memory = "512Mi"

[[owner]]
name = "pay"
namespace = "shop"
replicas = 2
cpu = "2"
memory = "512Mi"
qos = "dedicated_cores"

[[owner]]
name = "whale"
namespace = "shop"
cpu = "40"
memory = "1Gi"

[[owner]]
name = "rush"
namespace = "shop"
replicas = 60
cpu = "1"
memory = "256Mi"
at = "40m"

[[gpu]]
name = "train"
copies = 360
every = "4m"
cpu = "500m"
memory = "128Mi"
core = 35
gpu_memory = 4096
duration = "7m"

[[guest]]
name = "index"
copies = 950
every = "90s"
at = "2m"
cpu = "2"
memory = "128Mi"
duration = "25m"
"""


@dataclass
class Heard:
    """What was last heard of each node (or cluster) on a channel."""

    last: dict[Channel[Any], dict[str, Any]] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def listen(self, bus: Bus, channel: Channel[Any], *, stored: bool) -> None:
        async with bus.watch(channel.only()) if stored else bus.subscribe(channel.only()) as items:
            async for item in items:
                if isinstance(item, Received):
                    async with self.changed:
                        (who,) = channel.tokens_of(item.subject).values()
                        self.last.setdefault(channel, {})[who] = item.message
                        self.changed.notify_all()

    async def since(self, channel: Channel[Any], at: Seconds, who: tuple[str, ...]) -> Seconds:
        """Real seconds until all of them were heard with something newer than `at`."""
        began = stopwatch()

        def missing() -> list[str]:
            known = self.last.get(channel, {})
            return [one for one in who if one not in known or known[one].at <= at]

        try:
            async with asyncio.timeout(SOON), self.changed:
                await self.changed.wait_for(lambda: not missing())
        except TimeoutError:
            raise AssertionError(f"{channel.doc} Nothing newer within {SOON:g} s about {missing()}") from None
        return stopwatch() - began


@dataclass
class Cluster:
    stack: Stack
    bus: Bus
    heard: Heard
    clock: Clock

    async def kill(self, name: str) -> tuple[Seconds, Seconds]:
        """SIGKILL; real seconds until every node is advised anew, and until the victim is heard again."""
        child = self.stack.children[name]
        killed, ready, began = child.process, self.times_ready(name), stopwatch()
        killed.send_signal(signal.SIGKILL)
        await killed.wait()
        at = self.clock.now()  # what is newer than this was not said by it
        await self.heard.since(ADVICE, at, NODES)
        resumed = stopwatch() - began
        await self.is_back(name, at, ready)
        back = stopwatch() - began
        assert child.process is not killed
        await self.heard.since(ADVICE, self.clock.now(), NODES)  # with it, not in spite of its absence
        return resumed, back

    async def is_back(self, name: str, at: Seconds, ready: int = -1) -> None:
        """Wait until this room does what only it does, or says that it can."""
        match name:
            case "virtual":
                await self.heard.since(DAY_REPORT, at, ("local",))
            case "reporter":
                await self.heard.since(NODE_USAGE, at, NODES)
            case "advisor":
                await self.heard.since(ADVICE, at, NODES)
            case "enforcer":
                await self.heard.since(NODE_APPLIED, at, NODES)
            case "gpushare":
                await self.heard.since(DEVICES, at, NODES[-1:])
            case "scheduler":
                await self.answers()
            case "evictor" | "planner":  # silent unless there is news: its log says that it has read everything
                async with asyncio.timeout(SOON):
                    while self.times_ready(name) <= ready:  # noqa: ASYNC110  it is another process
                        await asyncio.sleep(0.02)

    def times_ready(self, name: str) -> int:
        """How often a process of this room became ready."""
        return (self.stack.out / "logs" / f"{name}.log").read_text().count("process.ready")

    async def answers(self) -> None:
        """Wait until the scheduler answers questions."""
        async with asyncio.timeout(SOON):
            while True:
                with suppress(PortError):
                    if (await self.bus.request(EXPLAIN, ExplainRequest(namespace="shop", name="cart-0"))).found:
                        return
                await asyncio.sleep(0.02)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    day, socket = tmp_path / "day.toml", tmp_path / "hosts.sock"
    day.write_text(DAY)
    clock = {"epoch": NOMINAL_START, "origin": wall_seconds() + LEAD, "speed": SPEED}
    settings = [
        *day_settings(nodes=len(NODES), seed=1, length=LENGTH),
        "process.clock=" + ",".join(f"{key}={value}" for key, value in clock.items()),
        f"process.host=virtual://{socket}",
        f"process.nodes={','.join(NODES)}",
        f"virtual.socket={socket}",
        f"virtual.examples={examples()}",
        f"virtual.file={day}",
        f"enforcer.journal_dir={tmp_path / 'restore'}",
        "advisor.ttl=12",  # said again every six periods, 1.5 s, also when nothing changes
        "scheduler.append.checkpoint_every=16",
    ]
    heard = Heard()
    async with Stack(tmp_path, settings) as stack:
        bus = await connect(stack.url, name="neap-console")
        await bus.ensure(STREAMS, CHANNELS)
        listening = [
            asyncio.ensure_future(heard.listen(bus, channel, stored=stored))
            for channel, stored in (
                (ADVICE, True),
                (DAY_REPORT, True),
                (DEVICES, True),
                (NODE_USAGE, False),
                (NODE_APPLIED, False),
            )
        ]
        try:
            yield Cluster(stack, bus, heard, accelerated_clock(**clock))
        finally:
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)
            await bus.close()


@pytest.mark.timeout(4 * HANG)
async def test_whoever_is_killed_in_the_middle_of_a_day_comes_back_and_nothing_is_lost(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    await cluster.heard.since(ADVICE, NOMINAL_START, NODES)
    took: dict[str, tuple[Seconds, Seconds]] = {}
    for name in cluster.stack.rooms:
        took[name] = await cluster.kill(name)
    took["nats-server"] = await kill_server(cluster)
    settles = max(SETTLES, 2 * max(back for _, back in took.values()))
    assert await not_running(cluster, settles) == {}, "held by the ledger, and no report shows them"
    await many_lives(cluster)
    breaches, placed, ended = await the_audit(cluster, settles)
    assert breaches == []
    rows = [
        f"{name:<12} advice of every node after {a:4.1f} s, heard again after {b:4.1f} s"
        for name, (a, b) in took.items()
    ]
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join([*rows, f"{placed} placed, {ended} ended; no breach"]) + "\n")


async def kill_server(cluster: Cluster) -> tuple[Seconds, Seconds]:
    began = stopwatch()
    assert cluster.stack.server is not None
    await cluster.stack.server.kill()
    at = cluster.clock.now()
    await cluster.stack.server.start()
    resumed = stopwatch() - began + await cluster.heard.since(ADVICE, at, NODES)
    for name in ("virtual", "reporter", "advisor", "enforcer", "scheduler"):  # the others speak when something changes
        await cluster.is_back(name, at)
    return resumed, stopwatch() - began


async def not_running(cluster: Cluster, settles: Seconds) -> dict[str, set[str]]:
    """By node: who is held since a while, and stays away from what the node reports."""
    missing, end = await not_shown(cluster, settles), stopwatch() + SOON
    while missing and stopwatch() < end:  # who ended this moment is held for a moment longer
        await asyncio.sleep(0.1)
        still = await not_shown(cluster, settles)
        missing = {node: both for node, held in missing.items() if (both := held & still.get(node, set()))}
    return missing


async def not_shown(cluster: Cluster, settles: Seconds) -> dict[str, set[str]]:
    """By node: who is held since a while, and is not in its last report."""
    ledger, since = await stored(cluster.bus, PLACEMENTS), cluster.clock.now() - settles * SPEED
    placed = [item.message for item in ledger if isinstance(item.message, Placed)]
    new = {message.placement.workload.uid for message in placed if message.at > since}
    missing: dict[str, set[str]] = {}
    for node, held in held_by(ledger).items():
        shown = {container.uid for container in cluster.heard.last[NODE_USAGE][node].containers}
        missing[node] = set(held) - shown - new
    return {node: lacking for node, lacking in missing.items() if lacking}


def lives(history: History) -> tuple[int, int]:
    """How many were placed, and how many ended."""
    placed = sum(isinstance(item.message, Placed) for item in history.ledger)
    return placed, sum(isinstance(item.message, Ended) for item in history.workloads)


async def many_lives(cluster: Cluster) -> None:
    """Until there is enough for an audit."""
    async with asyncio.timeout(SOON):
        while True:
            placed, ended = lives(await read_history(cluster.bus))
            if min(placed, 2 * ended) > 2 * MANY:
                return
            await asyncio.sleep(0.2)


async def the_audit(cluster: Cluster, settles: Seconds) -> tuple[list[str], int, int]:
    """The machines are switched off, so that no more news comes; what is under way settles; then every law holds."""
    machines = cluster.stack.children["virtual"]
    machines.wanted = False
    machines.process.kill()
    now, end = cluster.clock.now(), stopwatch() + SOON
    while True:
        history = await read_history(cluster.bus)
        breaches = audit(history, now=now, patience=settles * SPEED)
        if not breaches or stopwatch() > end:
            return breaches, *lives(history)
        await asyncio.sleep(0.1)
