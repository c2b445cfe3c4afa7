"""A service as a process: it starts without NATS, says what is wrong, ends when asked, and leaves nothing."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from neap.common.bus.nats import connect
from neap.common.contract.catalogue import HEADROOM
from neap.common.testing.natsd import NatsServer
from neap.common.testing.otlp import OtlpReceiver
from tests.conftest import SOON

PROBE = """
import asyncio, msgspec
from dataclasses import dataclass
from neap.common.contract.catalogue import HEADROOM
from neap.common.model.advice import Headroom
from neap.common.model.trail import ObjectRef, TrailEntry
from neap.common.runtime.machine import Count, Decide, Instruction, Put, Stopping, Tick
from neap.common.runtime.main import main
from neap.common.runtime.service import Service, every, watch
from neap.common.telemetry.metrics import counter

METRICS = (counter("neap_probe_ticks_total", "Ticks."),)

class Settings(msgspec.Struct, frozen=True, kw_only=True):
    node: str = ""
    period: float = 0.05
    crash_at: int = 0
    hang_at: int = 0

@dataclass(frozen=True, slots=True)
class Hang(Instruction):
    pass

class Machine:
    def __init__(self, settings):
        self.settings, self.ticks = settings, 0

    def handle(self, event):
        match event:
            case Tick():
                self.ticks += 1
                assert self.ticks != self.settings.crash_at, "an invariant does not hold"
                told = [Hang()] if self.ticks == self.settings.hang_at else [Count("neap_probe_ticks_total")]
                about = ObjectRef(namespace="shop", name="cart-1", uid="u1")
                return [*told, Decide(TrailEntry(at=event.at, source="probe", id=str(self.ticks), about=about, what="ticked", why="it was time"))]
            case Stopping():
                return [Put(HEADROOM.at(node=self.settings.node), Headroom(at=event.at, source="probe", node=self.settings.node, offer={"stopped": 1}, arithmetic={}))]
        return []

    def validate(self):
        pass

async def hang(_):
    await asyncio.Event().wait()

SETTINGS = Settings

def wire(settings, outside):
    routes = (every(settings.period, "tick"), watch(HEADROOM.only(node=settings.node)))
    return Service("probe", settings.node, machine=Machine(settings), routes=routes, effects={Hang: hang})
"""


class Child:
    """The process under test, and the log lines it has written."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        self.text = ""
        self.reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.text += line.decode()
            if line.startswith(b"{"):
                self.lines.append(json.loads(line))

    async def said(self, event: str) -> dict[str, Any]:
        async with asyncio.timeout(SOON):
            while not (found := [line for line in self.lines if line["event"] == event]):
                assert self.process.returncode is None, self.text
                await asyncio.sleep(0.01)
        return found[0]

    async def ask(self, path: str) -> tuple[int, str]:
        port = (await self.said("process.started"))["health_port"]
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, await answer.text()

    async def answers(self, path: str, status: int) -> str:
        """Its words, once it answers with this status."""
        async with asyncio.timeout(SOON):
            while (answer := await self.ask(path))[0] != status:  # noqa: ASYNC110  it is another process
                await asyncio.sleep(0.02)
        return answer[1]

    async def ends(self, within: float = SOON) -> int:
        """The exit status, once everything it wrote has been read."""
        async with asyncio.timeout(within):
            await self.reading
            return await self.process.wait()


Start = Callable[..., Any]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    folder = tmp_path / "neap" / "probe"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "wiring.py").write_text(PROBE)
    (folder / "metrics.py").write_text("from neap.probe.wiring import METRICS\n")
    (folder / "__main__.py").write_text("from neap.common.runtime.main import main\nmain('probe')\n")

    @asynccontextmanager
    async def child(url: str, *argv: str, **environment: str) -> AsyncIterator[Child]:
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "neap.probe",
                "--set",
                f"process.nats_url={url}",
                "--set",
                "process.nodes=n1",
                *argv,
            ),
            env={"PYTHONPATH": str(tmp_path), **environment},
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield (one := Child(process))
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await one.reading

    async with AsyncExitStack() as stack:

        async def begin(url: str, *argv: str, **environment: str) -> Child:
            return await stack.enter_async_context(child(url, *argv, **environment))

        yield begin


@pytest.fixture
async def server() -> AsyncIterator[NatsServer]:
    async with NatsServer() as server:
        yield server


@pytest.fixture
def port() -> Iterator[int]:
    """Where nobody listens yet: bound, so that nobody else takes it, and shared with whoever asks for exactly it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


async def test_a_service_waits_for_nats_and_says_so(start: Start, port: int) -> None:
    child = await start(f"nats://someone:secret@127.0.0.1:{port}")
    told = await child.said("bus.unreachable")
    assert told["why"].startswith(f"NATS not reachable at nats://127.0.0.1:{port}: ")
    assert f"NATS not reachable at nats://127.0.0.1:{port}" in await child.answers("/readyz", 503)
    assert (await child.ask("/healthz"))[0] == 200
    async with NatsServer(port=port):
        await child.answers("/readyz", 200)
        child.process.terminate()
        assert await child.ends() == 0
    assert "secret" not in child.text


async def test_sigterm_lets_the_machine_say_its_last_words(start: Start, server: NatsServer, port: int) -> None:
    child = await start(server.url, "--set", f"process.health_port={port}")
    await child.answers("/readyz", 200)
    assert (await child.said("process.started"))["health_port"] == port
    child.process.send_signal(signal.SIGTERM)
    assert await child.ends() == 0
    bus = await connect(server.url, name="neap-test")
    last = await bus.get(HEADROOM.at(node="n1"))
    await bus.close()
    assert last is not None
    assert last.message.offer == {"stopped": 1}
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
        again.listen()


async def test_ctrl_c_ends_a_service_that_never_reached_nats(start: Start, port: int) -> None:
    child = await start(f"nats://127.0.0.1:{port}")
    await child.said("process.started")
    child.process.send_signal(signal.SIGINT)
    assert await child.ends() == 0
    assert "Traceback" not in child.text


async def test_nats_going_away_is_unready_but_alive(start: Start, server: NatsServer) -> None:
    child = await start(server.url)
    await child.answers("/readyz", 200)
    await server.stop()
    assert "is not reachable; reconnecting" in await child.answers("/readyz", 503)
    assert (await child.ask("/healthz"))[0] == 200
    await server.start()
    await child.answers("/readyz", 200)


async def test_a_machine_that_hangs_is_not_alive_and_still_ends(start: Start, server: NatsServer) -> None:
    limits = ("--set", "process.stuck_after=200ms", "--set", "process.shutdown_grace=300ms", "--set", "probe.hang_at=3")
    child = await start(server.url, *limits)
    await child.answers("/readyz", 200)
    assert "probe on n1 has been handling one event for" in await child.answers("/healthz", 503)
    child.process.terminate()
    assert await child.ends() == 0


async def test_a_crash_is_told_with_its_story(start: Start, server: NatsServer) -> None:
    child = await start(server.url, NEAP_PROBE__CRASH_AT="3")
    assert await child.ends() == 1
    assert "an invariant does not hold" in child.text
    assert '"event":"process.crashed"' in child.text


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("probe.perid=5s", "'probe.perid' of probe; did you mean 'period'"),
        ("process.log_level=loud", "log_level = 'loud'"),
        ("process.nats_nkey_file=/nowhere/seed", "process.nats_nkey_file = '/nowhere/seed': cannot be read"),
        ("process.nats_ca_file=/nowhere/ca.pem", "process.nats_ca_file = '/nowhere/ca.pem': cannot be read"),
    ],
)
async def test_a_setting_that_does_not_hold_is_named(start: Start, setting: str, told: str) -> None:
    child = await start("nats://127.0.0.1:1", "--set", setting)
    assert await child.ends() == 2
    assert told in child.text
    assert "Traceback" not in child.text


async def test_what_happened_is_counted_traced_and_journalled(start: Start, server: NatsServer, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    with OtlpReceiver() as receiver:
        child = await start(server.url, NEAP_PROCESS__JOURNAL=str(journal), **receiver.environment)
        await asyncio.to_thread(receiver.wait_for, lambda spans: len(spans) >= 3, within=SOON)
        _, text = await child.ask("/metrics")
        child.process.terminate()
        assert await child.ends() == 0
    assert "neap_probe_ticks_total" in text
    assert "neap_probe_ticks_total 0.0" not in text
    assert 'neap_events_handled_total{service="probe"}' in text
    assert "neap_bus_connected_count 1.0" in text
    assert {span.service for span in receiver.spans} == {"probe"}
    assert receiver.duplicates() == []
    life, *lines = map(json.loads, journal.read_text().splitlines())
    assert "event" not in life, "a life begins with what it is made of"
    events = [line["event"]["is"] for line in lines]
    assert {"Tick", "Synced", "Stopping"} <= set(events)
