"""What the planner's history costs: 100,000 services of one container, folded, held, kept on the bus, and read again.

The clock is the reports' own: a fortnight of hours is told as PAST would be (so that every ring is full, as after two
weeks), then nodes report once a minute. Memory is that of the whole process, measured in one of its own; the restart
is one as well: a new planner on the pages in a real nats-server, until it says that everything stored is known.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import numpy as np

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus, CaughtUp, Received
from neap.common.contract.catalogue import CHANNELS, HISTORY, NODE_USAGE, PLACEMENTS, STREAMS, WORKLOAD
from neap.common.model.past import HistoryPage
from neap.common.model.placement import Placed
from neap.common.model.qos import QosClass
from neap.common.model.usage import ContainerUsage, NodeUsage
from neap.common.model.workload import Container, Workload
from neap.common.runtime.clock import stopwatch
from neap.common.runtime.machine import Arrived, Put, Stopping, Synced
from neap.common.testing.natsd import NatsServer
from neap.common.units import DAY, GIB, HOUR, MIB, MINUTE, Seconds
from neap.planner.core.cluster import Cluster
from neap.planner.core.history.codes import counted, encoded
from neap.planner.core.history.desk import History
from neap.planner.core.history.settings import Settings
from tests.bench.measure import Row
from tests.bench.samples import a_placement, uid

SERVICES: Final = int(os.environ.get("NEAP_BENCH_SERVICES", "100000"))
PER_NODE: Final = 40
NOW: Final[Seconds] = 1_700_000_000.0 // HOUR * HOUR
MINUTES: Final = 6  # folded and measured: more than one of the five-minute windows
TRACKED: Final = 1000
CHUNK: Final = 50  # reports decoded before they are folded
FULL: Final = 300  # hours that are known after a fortnight, at least
FOLD_GOAL, MEMORY_GOAL, RESTART_GOAL = 20_000.0, 1.5, 30.0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one life measured."""

    samples: float = 0.0  # per second of CPU, of decoded reports
    decoded: float = 0.0  # the same from bytes
    tick: float = 0.0  # longest time in which the desk did its tick, milliseconds
    stop: float = 0.0  # seconds of CPU until the pages that changed were made
    end: float = 0.0  # megabytes of those
    largest: int = 0  # bytes of a page
    restart: float = 0.0  # seconds of the wall clock
    work: float = 0.0  # seconds of CPU in it
    memory: float = 0.0  # GiB resident, at the end
    peak: float = 0.0  # GiB resident, at most
    pages: int = 0
    megabytes: float = 0.0  # of all pages, as they lie on the bus
    steady: float = 0.0  # megabytes per hour, as they lie on the bus, written while it runs


async def rows() -> AsyncIterator[Row]:
    """Two lives, each a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with NatsServer(store=folder) as server:
            first = await asyncio.to_thread(_life, "first", server.url)
            second = await asyncio.to_thread(_life, "second", server.url)
    note = f"{SERVICES:,} services on {SERVICES // PER_NODE:,} nodes"
    yield Row(name="samples folded into the history", value=first.samples, unit="samples/s", at_least=FOLD_GOAL,
              note=f"{note}; a sample is one container's CPU and memory")  # fmt: skip
    yield Row(name="the same from bytes", value=first.decoded, unit="samples/s")
    yield Row(name="memory of the whole process, rings of two weeks full", value=first.memory, unit="GiB",
              at_most=MEMORY_GOAL, note=f"at most {first.peak:.2f} GiB, while all pages are made")  # fmt: skip
    yield Row(name="memory after a restart", value=second.memory, unit="GiB", at_most=MEMORY_GOAL,
              note=f"at most {second.peak:.2f} GiB")  # fmt: skip
    yield Row(name="a restart reads the history from a real server", value=second.restart, unit="s",
              at_most=RESTART_GOAL, note=f"{first.pages:,} pages, {first.megabytes:,.0f} MB, the largest {first.largest:,} bytes; {second.work:.1f} s of CPU")  # fmt: skip
    yield Row(name="longest tick: sums of five minutes, and pages", value=first.tick, unit="ms")
    yield Row(name="pages made at the end", value=first.stop, unit="s", note=f"{first.end:,.0f} MB")
    yield Row(name="pages written while it runs", value=first.steady, unit="MB/h")


def _life(name: str, url: str) -> Outcome:
    told = subprocess.run(
        [sys.executable, "-m", "tests.bench.history", name, url], stdout=subprocess.PIPE, check=True,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    return msgspec.json.decode(told.stdout, type=Outcome)


# -- a life --------------------------------------------------------------------------------------------------------------


async def _first(url: str) -> Outcome:
    cluster = _cluster()
    history = History(Settings(), cluster)
    for channel in (HISTORY, WORKLOAD, PLACEMENTS):
        history.hear(Synced(NOW, channel))
    payloads = _payloads()
    _fold(history, payloads, NOW + 1)  # every row is somebody's
    fill(history)
    bus = await connect(url, name="neap-planner")
    await bus.ensure(STREAMS, CHANNELS)
    sizes: dict[str, int] = {}
    decoding = folding = longest = written = 0.0
    for minute in range(1, MINUTES + 1):
        at = NOW + minute * MINUTE + 1
        read, fold = _fold(history, payloads, at)
        decoding, folding = decoding + read, folding + fold
        for tick in range(6):
            began = time.process_time()
            pages = [item.value for item in history.plan(at + tick * 10) if isinstance(item, Put)]
            longest = max(longest, time.process_time() - began)
            written += await _keep(bus, pages, sizes)
    memory, samples = resident(), MINUTES * len(payloads) * PER_NODE
    began, at = time.process_time(), NOW + (MINUTES + 1) * MINUTE
    pages = [item.value for item in history.hear(Stopping(at)) if isinstance(item, Put)]
    stop, end = time.process_time() - began, sum(len(page.what) for page in pages)
    peak = resident("VmHWM")
    await _keep(bus, pages, sizes)
    _touch(history)  # what was written in the two weeks before
    await _keep(bus, (item.value for item in history.hear(Stopping(at)) if isinstance(item, Put)), sizes)
    await bus.close()
    return Outcome(
        samples=samples / folding, decoded=samples / (decoding + folding), tick=longest * 1000, stop=stop, memory=memory,
        peak=peak, pages=len(sizes), megabytes=sum(sizes.values()) / 1e6, end=end / 1e6, largest=max(sizes.values()),
        steady=written / 1e6 * 60 / MINUTES,
    )  # fmt: skip


async def _second(url: str) -> Outcome:
    cluster = _cluster()
    history = History(Settings(), cluster)
    began, worked, at = stopwatch(), time.process_time(), NOW + (MINUTES + 2) * MINUTE
    bus = await connect(url, name="neap-planner")
    async with bus.watch(HISTORY.only()) as items:
        async for item in items:
            if isinstance(item, CaughtUp):
                break
            if isinstance(item, Received):
                history.hear(Arrived(at, item.message))
    history.hear(Synced(at, HISTORY))
    restart, work = stopwatch() - began, time.process_time() - worked
    await bus.close()
    history.validate()
    assert len(history.keys()) == SERVICES, "services were lost"
    some = history.container(history.keys()[SERVICES // 2], "main")
    assert some is not None, "containers were lost"
    assert len(some.cpu.hours_avg) > FULL, "hours were lost"
    return Outcome(restart=restart, work=work, memory=resident(), peak=resident("VmHWM"))


async def _keep(bus: Bus, pages: Iterable[HistoryPage], sizes: dict[str, int]) -> int:
    """Write pages; how many bytes."""
    before = 0
    for page in pages:
        await bus.put(HISTORY.at(page=page.page), page)
        sizes[page.page] = len(page.what)
        before += len(page.what)
    return before


def _cluster() -> Cluster:
    cluster = Cluster()
    for node in range(SERVICES // PER_NODE):
        for place in range(PER_NODE):
            _place(cluster, node, node * PER_NODE + place)
    return cluster


def _place(cluster: Cluster, node: int, number: int) -> None:
    workload = Workload(
        uid=uid(number), namespace=f"team-{number % 50}", name=f"service-{number}-7c9fd6b58-x2x4v", qos=QosClass.SHARED,
        owner=f"Deployment/service-{number}",
        containers=(Container(name="main", requests={"cpu": 1000, "memory": 2 * GIB}),),
    )  # fmt: skip
    placed = Placed(
        at=NOW, source="scheduler", node=f"n{node}", placement=a_placement(workload), reason="best of 812 nodes"
    )
    cluster.hear(Arrived(NOW, msgspec.json.decode(msgspec.json.encode(placed), type=Placed)))


def _payloads() -> list[bytes]:
    random, found = Random(1), []
    for node in range(SERVICES // PER_NODE):
        listed = tuple(
            ContainerUsage(
                uid=uid(node * PER_NODE + i), container=f"{node * PER_NODE + i:064x}", cpu=random.lognormvariate(-1, 1),
                cgroup=f"kubepods.slice/pod{node * PER_NODE + i}", memory=random.randrange(64 * MIB, 4 * GIB),
            )
            for i in range(PER_NODE)
        )  # fmt: skip
        usage = NodeUsage(at=0.0, source="reporter", node=f"n{node}", seq=1, period=1.0, containers=listed)
        found.append(NODE_USAGE.encode(usage))
    return found


def _fold(history: History, payloads: list[bytes], at: Seconds) -> tuple[float, float]:
    """CPU seconds for decoding, and for folding."""
    decoding = folding = 0.0
    for some in (payloads[i : i + CHUNK] for i in range(0, len(payloads), CHUNK)):
        began = time.process_time()
        reports = [msgspec.structs.replace(NODE_USAGE.decode(payload), at=at) for payload in some]
        read = time.process_time()
        for report in reports:
            history.hear(Arrived(at, report))
        decoding, folding = decoding + read - began, folding + time.process_time() - read
    return decoding, folding


def fill(history: History) -> None:
    """As after two weeks: every window of every row has some value, no two alike."""
    noise, containers, totals = np.random.default_rng(1), history._containers, history._totals
    for key in history.keys()[:TRACKED]:
        history.track(key)
    for measures in containers.measures.values():
        measures.hours.settle()
        ring, name = measures.hours.ring, measures.hours.resource
        scale = 0.5 if name == "cpu" else 1e9
        for window in range(ring.newest - ring.count + 1, ring.newest):
            values = scale * noise.lognormal(0, 0.5, ring.top)
            ring.column("avg", window, ring.top)[:] = encoded(values, name)
            ring.column("max", window, ring.top)[:] = encoded(values * 1.5, name)
            ring.column("count", window, ring.top)[:] = counted(np.full(ring.top, 60.0))
        spread = noise.lognormal(0, 0.3, (SERVICES, 40)) * scale
        for column in range(40):  # buckets with something in them
            at = np.full(SERVICES, NOW - column * HOUR)
            measures.histograms.add(np.arange(SERVICES), spread[:, column], at)
    end = round(NOW / 300)
    for ring, used, kinds in (
        (totals.day, totals.services.used, {"cpu": 0.5, "memory": 1e9, "replicas": 1.0}),
        (totals.weeks, totals.tracked.used, {"cpu": 0.5, "memory": 1e9, "replicas": 1.0}),
        (
            totals.fortnight,
            totals.nodes.used,
            {"cpu_avg": 20.0, "cpu_max": 20.0, "memory_avg": 3e10, "memory_max": 3e10},
        ),
    ):
        ring.advance(end)
        for window in range(end - ring.count + 1, end):
            for plane, scale in kinds.items():
                values = scale * noise.lognormal(0, 0.5, used)
                ring.column(plane, window, used)[:] = encoded(values, plane.partition("_")[0])
    long_ago = NOW - 28 * DAY
    for rows in (containers.rows, totals.services, totals.tracked, totals.nodes):
        rows.first[: rows.used] = long_ago
        rows.last[: rows.used] = NOW


def pages() -> list[HistoryPage]:
    """All pages of a fortnight's history."""
    history = History(Settings(), _cluster())
    for channel in (HISTORY, WORKLOAD, PLACEMENTS):
        history.hear(Synced(NOW, channel))
    _fold(history, _payloads(), NOW + 1)
    fill(history)
    _touch(history)
    return [item.value for item in history.hear(Stopping(NOW + MINUTE)) if isinstance(item, Put)]


def _touch(history: History) -> None:
    """Everything changed."""
    containers, totals = history._containers, history._totals
    for ring in (*(measures.hours.ring for measures in containers.measures.values()), totals.day, totals.weeks,
                 totals.fortnight):  # fmt: skip
        ring.touch(np.arange(ring.newest - ring.count + 1, ring.newest + 1), 0, ring.top)


def resident(line: str = "VmRSS") -> float:
    """GiB of this process."""
    status = Path("/proc/self/status").read_text()
    found = next(text for text in status.splitlines() if text.startswith(f"{line}:"))
    return int(found.split()[1]) / (1 << 20)


if __name__ == "__main__":
    outcome = asyncio.run(_first(sys.argv[2]) if sys.argv[1] == "first" else _second(sys.argv[2]))
    sys.stdout.buffer.write(msgspec.json.encode(outcome))
