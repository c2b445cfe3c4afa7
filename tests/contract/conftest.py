"""The stage of the bus contract: a broker in memory, a real nats-server, or a local bus in front of one.

The stages of the Kube contract are in kube_stages.py.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import nats
import pytest

from neap.common.bus.local import LocalFirst
from neap.common.bus.memory import MemoryBroker
from neap.common.bus.nats import connect
from neap.common.bus.patience import Patience
from neap.common.bus.port import Bus
from neap.common.contract.catalogue import CHANNELS, SERVICES, STREAMS
from neap.common.contract.permissions import NODE_SERVICES, Rights, User, authorization, connection_name, rights
from neap.common.contract.subject import covers
from neap.common.errors import PortError
from neap.common.testing.natsd import NatsServer, find_server
from tests.conftest import SOON
from tests.contract.kube_stages import kube_stage, memory_kube_stage, real_kube_stage
from tests.kube.server import api_server

__all__ = ("api_server", "kube_stage", "memory_kube_stage", "real_kube_stage")  # one API server for all of this folder

PATIENCE = Patience(call=2 * SOON, emit=2 * SOON, ensure=2 * SOON)  # what is told within SOON is no time-out of a call
STORED = ("$KV.>", *(pattern for stream in STREAMS for pattern in stream.subjects))
NODE = "n1"


def node_of(service: str) -> str:
    """Node services live on NODE."""
    return NODE if service in NODE_SERVICES else ""


def rights_of(service: str) -> Rights:
    """As the catalogue gives them."""
    return rights([service], node_of(service))


class MemoryStage:
    def __init__(self) -> None:
        self.broker = MemoryBroker(random=Random(1))

    async def connect(self, name: str = "tester", *, service: str = "") -> Bus:
        limits = rights_of(service) if service else None
        return self.broker.bus(name, rights=limits, patience=PATIENCE)

    async def restart(self, away: float = 0.0) -> None:
        self.broker.restart(away)

    async def inject(self, subject: str, payload: bytes) -> None:
        self.broker.inject(subject, payload)


class NatsStage:
    def __init__(self, server: NatsServer) -> None:
        self.server = server
        self.buses: list[Bus] = []

    async def connect(self, name: str = "tester", *, service: str = "") -> Bus:
        bus = await self.uplink(name, service, echo=True)
        self.buses.append(bus)
        return bus

    async def uplink(self, name: str, service: str, *, echo: bool) -> Bus:
        who = connection_name(service, node_of(service)) if service else name
        user, address = service or "all", self.server.url
        return await connect(address, name=who, user=user, password="secret", within=SOON, patience=PATIENCE, echo=echo)

    async def restart(self, away: float = 0.0) -> None:
        await self.server.restart(kill=True, away=away)

    async def inject(self, subject: str, payload: bytes) -> None:
        raw = await nats.connect(self.server.url, user="all", password="secret", connect_timeout=int(SOON))
        if any(covers(pattern, subject) for pattern in STORED):
            await raw.jetstream().publish(subject, payload, timeout=SOON)  # a PONG would not say that it is stored
        else:
            await raw.publish(subject, payload)
            for _ in range(2):  # nats-py's PING goes ahead of what is buffered: only the second proves anything
                await raw.flush(timeout=int(SOON))
        await raw.close()


class LocalStage(NatsStage):
    """Every connection is a process of its own, with a local bus in front of it."""

    def __init__(self, server: NatsServer, group: asyncio.TaskGroup) -> None:
        super().__init__(server)
        self.group = group

    async def connect(self, name: str = "tester", *, service: str = "") -> Bus:
        bus = LocalFirst(now=asyncio.get_running_loop().time, said_here=lambda _: False)
        self.group.create_task(bus.run(lambda: self.uplink(name, service, echo=False)))
        async with asyncio.timeout(SOON):
            await bus.reach()
        self.buses.append(bus)
        return bus


def need_server() -> None:
    """Skip on a laptop without the binary; fail where CI is set, because a silent skip is a hole."""
    try:
        find_server()
    except PortError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


def users() -> list[User]:
    """Every service with its rights, and one that may do everything."""
    everybody = User("all", Rights((">",), (">",)), password="secret")
    return [everybody, *(User(service, rights_of(service), password="secret") for service in SERVICES)]


@pytest.fixture
def store() -> Iterator[str]:
    """A directory in memory where there is one: removing a store's fsynced files from a disk takes 0.1 s."""
    shared_memory = "/dev/shm"
    with TemporaryDirectory(prefix="neap-", dir=shared_memory if os.access(shared_memory, os.W_OK) else None) as path:
        yield path


@pytest.fixture
async def nats_stage(store: str) -> AsyncIterator[NatsStage]:
    """A server of its own, with everything the catalogue declares."""
    need_server()
    async with NatsServer(config=authorization(users()), store=store) as server:
        stage = NatsStage(server)
        await (await stage.connect()).ensure(STREAMS, CHANNELS)
        yield stage
        async with asyncio.TaskGroup() as group:
            for bus in stage.buses:
                group.create_task(bus.close())
        await server.kill()  # nobody waits for its goodbye


@pytest.fixture
async def local_stage(store: str) -> AsyncIterator[LocalStage]:
    """The same, each connection behind a local bus."""
    need_server()
    async with NatsServer(config=authorization(users()), store=store) as server, asyncio.TaskGroup() as group:
        stage = LocalStage(server, group)
        await (await stage.connect()).ensure(STREAMS, CHANNELS)
        yield stage
        for bus in stage.buses:
            group.create_task(bus.close())


@pytest.fixture
async def memory_stage() -> MemoryStage:
    """A broker with everything the catalogue declares."""
    stage = MemoryStage()
    await (await stage.connect()).ensure(STREAMS, CHANNELS)
    return stage


@pytest.fixture(params=["memory", "nats", "local"])
def stage(request: pytest.FixtureRequest) -> Any:
    """Each promise is kept by all."""
    return request.getfixturevalue(f"{request.param}_stage")
