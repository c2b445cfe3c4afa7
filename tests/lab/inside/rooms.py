"""Reporter, advisor and enforcer as one process on a real bus, as an agent has them, and an ear for what they say."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import ADVICE, CHANNELS, NODE_USAGE, PLACEMENTS, STREAMS
from neap.common.cpuset import parse_cpuset
from neap.common.model.advice import NodeAdvice
from neap.common.model.placement import Placed, Placement
from neap.common.model.qos import QosClass
from neap.common.model.resource import Resources
from neap.common.model.workload import Container, Workload
from neap.common.testing.natsd import NatsServer
from tests.lab.inside.pods import PYTHON, Pod

NODE: Final = "lab"
ROOMS: Final = ("reporter", "advisor", "enforcer")
SERVER: Final = "/neap/nats-server"
START: Final = f"from neap.common.runtime.main import main; main(*{ROOMS})"
FIRST: Final = 120.0  # seconds until the first report: Python starts slowly in emulation
SETTLED: Final = 90.0


class Agent:
    """What the rooms say: when reports were made, and all advice."""

    def __init__(self, bus: Bus, process: subprocess.Popen[bytes]) -> None:
        self._bus, self._process = bus, process
        self.reports: list[float] = []
        self.advice: list[NodeAdvice] = []

    async def hear_usage(self) -> None:
        async with self._bus.subscribe(NODE_USAGE.only()) as items:
            async for item in items:
                if isinstance(item, Received):
                    self.reports.append(item.message.at)

    async def hear_advice(self) -> None:
        async with self._bus.watch(ADVICE.only(node=NODE)) as items:
            async for item in items:
                if isinstance(item, Received):
                    self.advice.append(item.message)

    def first_lending(self, most: int, after: float) -> NodeAdvice | None:
        """The first advice after a moment that lends no more CPUs than that."""
        later = (advice for advice in self.advice if advice.at > after)
        return next((advice for advice in later if len(lent_by(advice)) <= most), None)

    async def until(self, asked: Callable[[], Any], what: str, within: float = SETTLED) -> None:
        """As wait.until, without holding up the bus, and not for rooms that have ended."""
        end = time.monotonic() + within
        while not asked():
            assert self._process.poll() is None, f"the rooms ended with {self._process.returncode}"
            assert time.monotonic() < end, f"not within {within:.0f} s: {what}"
            await asyncio.sleep(0.02)


@asynccontextmanager
async def an_agent(ledger: Sequence[Placed], journal: Path, period: float, **words: str) -> AsyncIterator[Agent]:
    """The rooms at work on this ledger: a first report has been made. `words`: settings, "__" for the dot."""
    async with NatsServer(binary=SERVER) as server:
        bus = await connect(server.url, name="lab", within=20)
        await bus.ensure(STREAMS, CHANNELS)
        for number, entry in enumerate(ledger):
            seen = await bus.append(PLACEMENTS.at(node=NODE), entry, seen=number, id=f"lab-{number}")
            assert seen.seq == number + 1  # type: ignore[union-attr]
        async with _rooms(server.url, journal, period, words) as process:
            agent = Agent(bus, process)
            hearing = [asyncio.ensure_future(agent.hear_usage()), asyncio.ensure_future(agent.hear_advice())]
            try:
                await agent.until(lambda: agent.reports, "the first report", within=FIRST)
                yield agent
            finally:
                print(agent.advice[-1:])  # noqa: T201  told with a failure
                for listener in hearing:
                    listener.cancel()
        await bus.close()


def placed(pod: Pod, qos: QosClass, requests: Resources) -> Placed:
    """A ledger entry."""
    container = Container(name="main", requests=requests)
    workload = Workload(uid=pod.uid, namespace="lab", name=pod.uid, qos=qos, containers=(container,))
    placement = Placement(workload=workload, charged=requests)
    return Placed(at=time.time(), source="lab", node=NODE, placement=placement, reason="the lab puts it here")


def lent_by(advice: NodeAdvice) -> frozenset[int]:
    """The guests' CPUs."""
    return frozenset().union(*(parse_cpuset(pool.cpus) for pool in advice.pools if pool.name == "reclaimed"))


@asynccontextmanager
async def _rooms(
    url: str, journal: Path, period: float, words: Mapping[str, str]
) -> AsyncIterator[subprocess.Popen[bytes]]:
    told = {
        "process.nats_url": url,
        "process.log_level": "warning",
        "process.health_port": "-1",
        "enforcer.journal_dir": str(journal),
    }
    told |= {f"{room}.node": NODE for room in ROOMS} | {f"{room}.period": str(period) for room in ROOMS}
    told |= {name.replace("__", "."): value for name, value in words.items()}
    sets = [part for key, value in told.items() for part in ("--set", f"{key}={value}")]
    process = subprocess.Popen([PYTHON, "-c", START, *sets], stdin=subprocess.DEVNULL)  # noqa: ASYNC220  started while nothing else runs
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(process.wait, 30)
        finally:
            process.kill()
