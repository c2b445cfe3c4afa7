"""One node's five rooms in one process stay small, while they do their work for a hundred containers."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus, Received, Stored
from neap.common.contract.catalogue import CHANNELS, NODE_APPLIED, NODE_USAGE, PLACEMENTS, STREAMS
from neap.common.model.advice import Applied, WriteStatus
from neap.common.model.placement import Placed
from neap.common.model.usage import NodeUsage, completed
from neap.common.testing.natsd import NatsServer
from tests.bench.samples import a_placement, a_workload
from tests.conftest import SOON

ROOT = Path(__file__).resolve().parents[2]
CONTAINERS, REPORTS = 100, 20
BUDGET_MIB = 100


@pytest.mark.slow
async def test_an_agent_with_a_hundred_containers_stays_below_its_budget(tmp_path: Path) -> None:
    socket = tmp_path / "hosts.sock"
    async with NatsServer() as server, _host(socket):
        bus = await connect(server.url, name="neap-test")
        await bus.ensure(STREAMS, CHANNELS)
        await _place(bus)
        async with (
            bus.subscribe(NODE_USAGE.only()) as usages,
            bus.subscribe(NODE_APPLIED.only()) as applied,
            _agent(server.url, socket) as agent,
            asyncio.timeout(4 * SOON),
        ):
            reports, writes = await asyncio.gather(_reports(usages), _writes(applied))
            resident = _resident_mib(agent.pid)
        await bus.close()
    sys.stdout.write(
        f"{resident:.1f} MiB after {len(reports)} reports of {CONTAINERS} containers, {writes} knob writes\n"
    )
    assert resident <= BUDGET_MIB


async def _place(bus: Bus) -> None:
    """The pods that run on the host, as every third guest, on the node's ledger."""
    seen, to = 0, PLACEMENTS.at(node="n1")
    for number in range(CONTAINERS):
        placement = a_placement(a_workload(number, cores=0.5, guest=number % 3 == 2))
        entry = Placed(at=1.0, source="scheduler", node="n1", placement=placement, reason="test")
        stored = await bus.append(to, entry, seen=seen, id=f"{placement.workload.uid}.placed")
        assert isinstance(stored, Stored)
        seen = stored.seq


async def _reports(items: AsyncIterator[object]) -> list[NodeUsage]:
    """Enough reports that show everybody at work, the last ones without a gap: an idle agent proves nothing."""
    found: list[NodeUsage] = []
    full: NodeUsage | None = None
    async for item in items:
        if isinstance(item, Received) and (report := completed(item.message, full)) is not None:
            full = full if item.message.since else report
            found.append(report)
            if len(found) >= REPORTS and all(map(_shows_everybody, found[-REPORTS // 2 :])):
                break
    return found


def _shows_everybody(report: NodeUsage) -> bool:
    return sum(container.cpu is not None for container in report.containers) == CONTAINERS


async def _writes(items: AsyncIterator[object]) -> int:
    """Knobs written, once there is one for every pod at least."""
    written = 0
    async for item in items:
        if isinstance(item, Received):
            applied: Applied = item.message
            written += sum(write.status is WriteStatus.WRITTEN for write in applied.writes)
            if written >= CONTAINERS:
                break
    return written


def _resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / 1024


@asynccontextmanager
async def _host(socket: Path) -> AsyncIterator[None]:
    command = (sys.executable, "-m", "tests.bench.hostd", str(socket), str(CONTAINERS))
    child = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        async with asyncio.timeout(SOON):
            assert await child.stdout.readline() == b"ready\n"
        yield
    finally:
        child.stdin.close()
        await child.wait()


@asynccontextmanager
async def _agent(url: str, socket: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    settings = (
        f"process.nats_url={url}",
        "process.nodes=n1",
        f"process.host=virtual://{socket}",
        "process.log_level=warning",
    )
    arguments = [part for setting in settings for part in ("--set", setting)]
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "neap.console", "agent", *arguments)
    try:
        yield child
    finally:
        child.terminate()
        await asyncio.wait_for(child.wait(), SOON)
