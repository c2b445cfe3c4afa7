"""What a node's agent costs: reporter, advisor, enforcer and evictor in one process, 122 containers, once a second.

The agent is the real one, on a real nats-server; its host is a directory (tree.py) that another process keeps moving.
Beside it a process reads the files the reporter reads, at the same pace, and does nothing with them. CPU time is that
of /proc/<pid>/stat, so neither the server's nor the mover's is in it. On a kernel reading a file of cgroup v2 costs
more than on tmpfs, for both alike.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import CHANNELS, NODE_USAGE, PLACEMENTS, STREAMS
from neap.common.host.real import RealHost
from neap.common.model.placement import Checkpoint
from neap.common.model.usage import NodeUsage, completed
from neap.common.runtime.clock import stopwatch
from neap.common.testing.natsd import NatsServer
from neap.reporter.reader import NodeReader
from tests.bench.measure import Row
from tests.bench.samples import a_placement, a_workload
from tests.bench.tree import CONTAINERS, PODS

ROOMS: Final = ("reporter", "advisor", "enforcer", "evictor")
NODE: Final = "n1"
SECONDS: Final = float(os.environ.get("BENCH_SECONDS", "30"))
SETTLED: Final = 8  # reports with everybody in them before the clock starts
MOST_CPU, MOST_MIB = 5.0, 90.0
PROFILED: Final = """
import cProfile, time
from neap.console.cli import main
profile = cProfile.Profile(time.process_time)
try:
    profile.runcall(main)
finally:
    profile.dump_stats({!r})
"""  # BENCH_PROFILE=file: who needs the CPU, by function (python -m pstats file); costs as much again
HERE: Final = Path(__file__).resolve().parents[2]
HANDLING: Final = re.compile(r'neap_events_handling_seconds_total\{service="(\w+)"\} ([\d.e+-]+)')


@dataclass(frozen=True)
class Cost:
    """What a process has used: seconds of CPU, MiB resident now and at most."""

    cpu: float
    resident: float
    highest: float


async def rows() -> AsyncIterator[Row]:
    """CPU and memory, and who needs the CPU."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(prefix="neap-bench-", dir=memory if os.access(memory, os.W_OK) else None) as home:
        root, port = Path(home) / "root", _free_port()
        async with NatsServer() as server, _process("-m", "tests.bench.tree", str(root), ready=b"ready\n"):
            bus = await connect(server.url, name="neap-bench")
            await bus.ensure(STREAMS, CHANNELS)
            await _place(bus)
            listed = _listed(root, Path(home) / "list")
            arguments = _arguments(server.url, root, port, Path(home) / "journal")
            async with (
                bus.subscribe(NODE_USAGE.only()) as usages,
                _process(*_command(), *arguments) as agent,
                _process(str(HERE / "tests/bench/justread.py"), str(listed)) as reader,
            ):
                await _settle(usages)
                costs = await _costs((agent, reader), port)
            await bus.close()
    (ours, theirs), rooms, heard = costs
    note = f"{CONTAINERS} containers in {PODS} pods; {heard}"
    yield Row(
        name="agent of four rooms at 1 Hz: CPU", value=ours.cpu, unit="% of one core", at_most=MOST_CPU,
        rival="only reading the reporter's files", rival_value=theirs.cpu, ratio=ours.cpu / max(theirs.cpu, 0.01), note=note,
    )  # fmt: skip
    yield Row(
        name="agent: memory", value=ours.resident, unit="MiB resident", at_most=MOST_MIB, rival="only reading",
        rival_value=theirs.resident, ratio=ours.resident / theirs.resident, note=f"highest {ours.highest:.0f}",
    )  # fmt: skip
    total = sum(rooms.values())
    for room, share in rooms.items():
        yield Row(name=f"agent: of its CPU, {room}", value=ours.cpu * share / total, unit="% of one core",
                  note="by the time its events took")  # fmt: skip


def _command() -> Sequence[str]:
    profile = os.environ.get("BENCH_PROFILE")
    return ("-c", PROFILED.format(profile), "agent") if profile else ("-m", "neap.console", "agent")


def _arguments(url: str, root: Path, port: int, journal: Path) -> list[str]:
    settings = (
        f"process.nats_url={url}",
        f"process.nodes={NODE}",
        f"process.host={root}",
        f"process.health_port={port}",
        "process.log_level=warning",
        f"enforcer.journal_dir={journal}",
    )
    return ["--rooms", ",".join(ROOMS), *(part for setting in settings for part in ("--set", setting))]


async def _place(bus: Bus) -> None:
    """The tree's pods on the ledger, as every third guest."""
    placed = tuple(a_placement(a_workload(i, cores=0.5, guest=i % 3 == 2)) for i in range(PODS))
    entry = Checkpoint(at=1.0, source="scheduler", node=NODE, placements=placed)
    await bus.append(PLACEMENTS.at(node=NODE), entry, seen=0, id="bench")


class _Witness(RealHost):
    """Remembers what was read."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self.seen: dict[str, None] = {}

    def read_all(self, paths: Sequence[str]) -> list[str | None]:
        texts = super().read_all(paths)
        self.seen.update(dict.fromkeys(path for path, text in zip(paths, texts, strict=True) if text is not None))
        return texts

    def list_all(self, paths: Sequence[str]) -> list[list[str] | None]:
        found = super().list_all(paths)
        self.seen.update(
            dict.fromkeys(f"{path}/" for path, names in zip(paths, found, strict=True) if names is not None)
        )
        return found


def _listed(root: Path, to: Path) -> Path:
    """A file that lists what the reporter reads for one report."""
    host = _Witness(root)
    reader = NodeReader(host, clock=stopwatch, node=NODE)
    reader.sample()
    host.seen.clear()
    assert len(reader.sample().containers) == CONTAINERS, "the reporter does not see everybody"
    to.write_text("\n".join(f"{root}{path}" for path in host.seen))
    return to


async def _settle(usages: AsyncIterator[object]) -> None:
    everybody = 0
    full: NodeUsage | None = None
    async with asyncio.timeout(120):
        async for item in usages:
            if isinstance(item, Received) and (report := completed(item.message, full)) is not None:
                full = full if item.message.since else report
                everybody += len(report.containers) == CONTAINERS
            if everybody >= SETTLED:
                return


async def _costs(
    processes: Sequence[asyncio.subprocess.Process], port: int
) -> tuple[list[Cost], dict[str, float], str]:
    """Per process in % of one core, and per room the share of time."""
    before, handled, began = [_cost(each.pid) for each in processes], await _handling(port), stopwatch()
    await asyncio.sleep(SECONDS)
    after, handled_after, seconds = [_cost(each.pid) for each in processes], await _handling(port), stopwatch() - began
    shares = {room: 100 * (handled_after[room] - handled[room]) / seconds for room in handled}
    costs = [
        Cost(100 * (now.cpu - then.cpu) / seconds, now.resident, now.highest)
        for then, now in zip(before, after, strict=True)
    ]
    return costs, shares, f"over {seconds:.0f} s"


def _cost(pid: int) -> Cost:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # utime and stime, the 14th and 15th of proc_pid_stat(5)
    status = Path(f"/proc/{pid}/status").read_text()
    resident, highest = (int(re.findall(rf"{key}:\s+(\d+) kB", status)[0]) / 1024 for key in ("VmRSS", "VmHWM"))
    return Cost(ticks / os.sysconf("SC_CLK_TCK"), resident, highest)


async def _handling(port: int) -> dict[str, float]:
    """Seconds each room has spent on its events."""

    def ask() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    return {room: float(value) for room, value in HANDLING.findall(await asyncio.to_thread(ask))}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def _process(*arguments: str, ready: bytes = b"") -> AsyncIterator[asyncio.subprocess.Process]:
    output = asyncio.subprocess.PIPE if ready else None
    child = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=HERE, stdout=output)
    try:
        if child.stdout is not None:
            async with asyncio.timeout(30):
                assert await child.stdout.readline() == ready
        yield child
    finally:
        with suppress(ProcessLookupError):
            child.terminate()
        await asyncio.wait_for(child.wait(), 20)
