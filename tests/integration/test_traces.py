"""Traces end to end: every pod is one connected trace, from its submission to the advice made true on its node.

The processes are the real ones, each with its own exporter; two of them are killed in the middle.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import CHANNELS, DAY_REPORT, STREAMS, TRAIL
from neap.common.model.trail import TrailEntry
from neap.common.runtime.clock import AnchoredClock, stopwatch, wall_seconds
from neap.common.telemetry.otel import make_tracer
from neap.common.telemetry.span import Span, SpanContext, object_context
from neap.common.testing.natsd import NatsServer
from neap.common.testing.otlp import OtlpReceiver
from neap.console.shell.stack import Stack
from neap.virtual.pace import day_settings
from neap.virtual.settings import NOMINAL_START
from neap.virtual.simulation import Simulation
from tests.conftest import SOON

SPEED = 240.0  # a virtual minute in a quarter of a second
SKEW = 0.02 * SPEED  # clocks of processes are set from the wall one after the other, and may differ by milliseconds
ROOMS = ("virtual", "reporter", "scheduler", "advisor", "enforcer")
LIFE = ("submitted", "placed", "advised", "applied")
SERVICES = {"console", "scheduler", "virtual", "advisor", "enforcer"}


def manifest(folder: Path, *names: str) -> Path:
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]},
        }
        for name in names
    ]
    file = folder / f"{names[0]}.yaml"
    file.write_text(yaml.safe_dump_all(pods))
    return file


async def submit(file: Path, url: str) -> None:
    """As a user does."""
    command = [sys.executable, "-m", "neap.console", "submit", str(file), "--nats", url]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await asyncio.wait_for(process.communicate(), SOON)
    assert process.returncode == 0, said


async def told(bus: Bus, what: str, names: Collection[str]) -> list[TrailEntry]:
    """The trail up to the moment when `what` was told of each of these pods."""
    lines: list[TrailEntry] = []
    missing = set(names)
    async with asyncio.timeout(SOON), bus.follow(TRAIL.only()) as items:
        async for item in items:
            if isinstance(item, Received):
                lines.append(item.message)
                if item.message.what == what:
                    missing.discard(item.message.about.name)
                if not missing:
                    return lines
    raise AssertionError("the trail ended")


async def exported(receiver: OtlpReceiver, names: Collection[str]) -> None:
    """Until nothing is missing in the traces of these pods, of all that their processes send when it suits them."""

    def here(spans: Sequence[Span]) -> bool:
        traces, known = by_pod(spans), {span.context: span for span in spans}
        return not any(lacks(traces.get(name, []), known, SERVICES) for name in names)

    await asyncio.to_thread(receiver.wait_for, here, within=SOON)


async def day_begins(bus: Bus) -> None:
    """Until the virtual cluster has said what time it is there."""
    async with asyncio.timeout(SOON), bus.watch(DAY_REPORT.only()) as reports:
        async for item in reports:
            if isinstance(item, Received):
                return


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Stack]:
    """Two virtual nodes and the online services of a day on them."""
    settings = [
        f"process.clock=epoch={NOMINAL_START},origin={wall_seconds()},speed={SPEED}",
        f"process.host=virtual://{folder / 'hosts.sock'}",
        "process.nodes=n1,n2",
        f"virtual.socket={folder / 'hosts.sock'}",
        "virtual.guests=false",
        f"enforcer.journal_dir={folder / 'restore'}",
        *day_settings(nodes=2, seed=1),
    ]
    async with Stack(folder, settings, rooms=ROOMS) as stack:
        yield stack


def by_pod(spans: Iterable[Span]) -> dict[str, list[Span]]:
    """The spans of every pod's own trace."""
    found = defaultdict(list)
    for span in spans:
        if "k8s.pod.uid" in span.attributes:
            found[str(span.attributes["k8s.pod.name"])].append(span)
    return found


def named(spans: Iterable[Span], what: str) -> Span:
    return next(span for span in spans if span.name == what)


def walk(start: Span, known: dict[SpanContext, Span]) -> set[SpanContext]:
    """Everything that links lead to."""
    reached, ahead = {start.context}, [start]
    while ahead:
        for link in ahead.pop().links:
            if link not in reached:
                reached.add(link)
                ahead += [known[link]] if link in known else []
    return reached


def check_traces(receiver: OtlpReceiver, lines: Sequence[TrailEntry]) -> dict[str, list[Span]]:
    """What holds of every trace, whoever was killed when."""
    assert receiver.duplicates() == []
    assert receiver.orphans() == []
    uids = {line.about.name: line.about for line in lines}
    traces = by_pod(receiver.spans)
    assert set(uids) <= set(traces)
    for name, spans in traces.items():
        assert {span.context.trace for span in spans} == {object_context(uids[name]).trace} if name in uids else True
        root = named(spans, "submitted")
        assert [span for span in spans if not span.parent] == [root], name
        assert {span.parent for span in spans} == {"", root.context.span}, name
        starts = {span.name: span.start for span in sorted(spans, key=lambda span: -span.start)}  # the first of a name
        for before, after in (*pairwise(LIFE), ("placed", "started")):
            if before in starts and after in starts:
                assert starts[before] <= starts[after] + SKEW, f"{name}: {after} before {before}"
    return traces


def lacks(spans: Sequence[Span], known: dict[SpanContext, Span], services: set[str]) -> list[str]:
    """What is missing in a pod's trace; when nothing is, links lead from advice that was made true to the submission."""
    missing = [*(services - {span.service for span in spans}), *({*LIFE, "started"} - {span.name for span in spans})]
    if missing:
        return missing
    root, applied = named(spans, "submitted"), named(spans, "applied")
    for span in spans:
        own = [link for link in span.links if link in known and known[link].service == span.service]
        missing += [] if own or span is root else [f"the operation of {span}"]
    way_back = walk(applied, known) & {root.context, *root.links}
    return missing if way_back else [*missing, f"a way back from {applied}"]


async def test_every_pod_is_one_trace_over_five_processes_two_of_them_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OtlpReceiver() as receiver:
        for name, value in receiver.environment.items():
            monkeypatch.setenv(name, value)
        async with cluster(tmp_path) as stack:
            bus = await connect(stack.url, name="neap-console")
            await bus.ensure(STREAMS, CHANNELS)
            await day_begins(bus)
            await submit(manifest(tmp_path, "early-1", "early-2"), stack.url)
            await told(bus, "applied", ["early-1", "early-2"])
            await first_lines(bus, "applied", 6)  # the day's own pods are there too
            await exported(receiver, ["early-1", "early-2"])  # what a process holds back dies with it
            for room in ("advisor", "enforcer"):
                stack.children[room].process.kill()
            await submit(manifest(tmp_path, "late-1", "late-2", "late-3"), stack.url)
            lines = await told(bus, "applied", ["late-1", "late-2", "late-3"])
            await exported(receiver, ["late-1", "late-2", "late-3"])
            await bus.close()
        assert {room: child.restarts for room, child in stack.children.items() if child.restarts} == {
            "advisor": 1,
            "enforcer": 1,
        }
        traces = check_traces(receiver, lines)
        known = {span.context: span for span in receiver.spans}
    for name in ("early-1", "early-2", "late-1", "late-2", "late-3"):
        assert lacks(traces[name], known, SERVICES) == []
    assert sum("applied" in {span.name for span in spans} for spans in traces.values()) > 5


async def test_in_one_process_every_pod_is_one_whole_trace_although_rooms_crash() -> None:
    """The same rooms on one loop: nothing is lost with a process, so every trace is whole."""
    with OtlpReceiver() as receiver:
        tracer = make_tracer("simulation", receiver.environment)
        simulation = Simulation([*day_settings(nodes=3, seed=2), "virtual.guests=false"], tracer=lambda _: tracer)
        clock = AnchoredClock(epoch=NOMINAL_START - 120, anchor=stopwatch(), speed=SPEED, stopwatch=stopwatch)
        async with simulation.running(clock) as bus:
            lines = await first_lines(bus, "advised", 5)
            for room in ("enforcer", "advisor"):
                for node in ("n1", "n2"):
                    await simulation.crash(room, node)
                    simulation.start(room, node)
            placed = {line.about.name for line in lines if line.what == "placed"}
            lines = await told(bus, "applied", placed)
        tracer.close()
        traces = check_traces(receiver, lines)
        known = {span.context: span for span in receiver.spans}
    applied = {line.about.name for line in lines if line.what == "applied"}
    assert applied >= placed
    for name in applied:
        assert lacks(traces[name], known, SERVICES - {"console"}) == []


async def first_lines(bus: Bus, what: str, count: int) -> list[TrailEntry]:
    """The trail up to the `count`-th line that says `what`."""
    lines: list[TrailEntry] = []
    async with asyncio.timeout(SOON), bus.follow(TRAIL.only()) as items:
        async for item in items:
            if isinstance(item, Received):
                lines.append(item.message)
                if sum(line.what == what for line in lines) >= count:
                    break
    return lines


UNTRACED = """
import atexit, sys
from neap.common.runtime.main import main

def tell():
    loaded = sorted(name for name in sys.modules if name.split(".")[0] == "opentelemetry")
    print("loaded:", loaded, flush=True)

atexit.register(tell)
main("reporter", "advisor", "enforcer", "evictor", "gpushare", "scheduler")
"""


async def test_without_a_collector_no_service_imports_the_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    (tmp_path / "sys").mkdir()
    async with NatsServer() as server:
        settings = (f"process.nats_url={server.url}", "process.nodes=n1", f"process.host={tmp_path}")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", UNTRACED, *(part for pair in settings for part in ("--set", pair))),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        async with asyncio.timeout(SOON):
            while b"process.ready" not in (line := await process.stderr.readline()):
                assert line, "it ended before it was ready"
            process.terminate()
            said, _ = await process.communicate()
    assert said == b"loaded: []\n"
