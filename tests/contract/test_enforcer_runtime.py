"""The enforcer at the container runtime's door: the whole service against a runtime that speaks the real frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from neap.common.bus.memory import MemoryBroker
from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import ADVICE, CHANNELS, DEVICES, ENFORCEMENT, STREAMS
from neap.common.host.real import RealHost
from neap.common.model.device import Allocation, CardState, DeviceState, Enforcement
from neap.common.model.enforcement import NodeEnforcement, Rung, Stance
from neap.common.model.placement import GpuShare
from neap.common.model.topology import Card
from neap.common.runtime.clock import wall_clock
from neap.common.runtime.run import run_service
from neap.common.runtime.service import Outside
from neap.common.telemetry.span import NoTracer
from neap.common.testing.nrid import NriServer
from neap.enforcer.nri.settings import NriSettings
from neap.enforcer.settings import Settings
from neap.enforcer.wiring import wire
from tests.conftest import SOON
from tests.unit.test_enforcer_machine import POD_FILES, advice, for_pod

POD = {"id": "sandbox-1", "uid": "g-1", "name": "train", "namespace": "batch"}


def a_container(name: str, cpus: str = "") -> dict[str, Any]:
    resources = {"cpu": {"cpus": cpus}} if cpus else {}
    return {"id": name, "pod_sandbox_id": POD["id"], "name": name, "state": 3, "linux": {"resources": resources}}


def shown(*told: list[dict[str, Any]]) -> dict[str, str]:
    """Which CPUs each container has after these updates."""
    return {each["container_id"]: each["linux"]["resources"]["cpu"]["cpus"] for updates in told for each in updates}


class World:
    """A tree of cgroups, a runtime, a bus, and how often the enforcer has lived."""

    def __init__(self, root: Path, bus: Bus, broker: MemoryBroker, runtime: NriServer) -> None:
        self.root, self.bus, self.broker, self.runtime = root, bus, broker, runtime
        self.clock = wall_clock()
        self._seq = 0

    async def advise(self, **knobs: Any) -> None:
        self._seq += 1
        told = advice(self._seq, for_pod("g-1", **knobs), at=self.clock.now(), expires=self.clock.now() + 3600)
        await self.bus.put(ADVICE.at(node="n1"), told)

    @asynccontextmanager
    async def enforcer(self) -> AsyncIterator[None]:
        nri = NriSettings(socket=str(self.runtime.path), first_retry=0.01, last_retry=0.02, answer_within=5.0)
        settings = Settings(node="n1", period=0.05, journal_dir=str(self.root / "journal"), nri=nri)
        outside = Outside(
            bus=self.broker.bus("neap-enforcer"), clock=self.clock, host=RealHost(str(self.root)), tracer=NoTracer()
        )
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(run_service(wire(settings, outside), outside, stop=stop, count=lambda *_: None))
            yield
            stop.set()

    async def enforcement(self, rung: Rung) -> NodeEnforcement:
        async with asyncio.timeout(SOON), self.bus.watch(ENFORCEMENT.only(node="n1")) as items:
            async for item in items:
                if isinstance(item, Received) and (item.message.rung, item.message.stance) == (rung, Stance.FOLLOWING):
                    return item.message
        raise AssertionError("the bus ended")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    for name in ("", "/burstable", "/besteffort", "/besteffort/podg-1"):
        folder = tmp_path / f"sys/fs/cgroup/kubepods{name}"
        folder.mkdir(parents=True)
        for file, text in POD_FILES.items():
            (folder / file).write_text(text)
    for path, text in (("cpu/online", "0-7\n"), ("node/has_memory", "0\n")):
        (tmp_path / "sys/devices/system" / path).parent.mkdir(parents=True)
        (tmp_path / "sys/devices/system" / path).write_text(text)
    broker = MemoryBroker()
    bus = broker.bus("test")
    await bus.ensure(STREAMS, CHANNELS)
    with TemporaryDirectory() as short:  # a socket's path has at most 108 bytes
        async with NriServer(Path(short) / "nri.sock", pods=[POD]) as runtime:
            yield World(tmp_path, bus, broker, runtime)


async def test_a_container_starts_with_the_sets_and_the_variables_it_should_have(world: World) -> None:
    share = GpuShare(container="c1", card=0, core=30, memory_mib=1000)
    given = Allocation(
        uid="g-1", share=share, enforced=Enforcement.MPS, environment={"CUDA_MPS_PIPE_DIRECTORY": "/run/mps"}
    )
    card = CardState(
        card=Card(index=0, uuid="G", model="T4", memory_mib=15000),
        core_free=70,
        memory_free_mib=1,
        allocations=(given,),
    )
    state = DeviceState(at=0.0, source="gpushare", node="n1", ledger_seq=1, cards=(card,))
    await world.bus.put(DEVICES.at(node="n1"), state)
    await world.advise(cpus="2-3", oom_score_adj=900)
    async with world.enforcer():
        runtime = await world.runtime.joined()
        told = await world.enforcement(Rung.NRI)
        assert "0 containers" in told.probes[Rung.NRI]
        answer: dict[str, Any] = {}
        async with asyncio.timeout(SOON):
            while "env" not in answer.get("adjust", {}):  # the shares may be heard after the advice
                answer = await runtime.ask("CreateContainer", {"pod": POD, "container": a_container("c1")})
        assert answer["adjust"]["linux"]["resources"]["cpu"]["cpus"] == "2-3"
        assert answer["adjust"]["linux"]["oom_score_adj"]["value"] == "900"
        assert answer["adjust"]["env"] == [{"key": "CUDA_MPS_PIPE_DIRECTORY", "value": "/run/mps"}]


async def test_containers_follow_the_pool_and_are_given_back_at_the_end(world: World) -> None:
    world.runtime.containers = [a_container("c1"), a_container("c2", "5")]
    await world.advise(cpus="2-3")
    async with world.enforcer():
        runtime = await world.runtime.joined()
        await world.enforcement(Rung.NRI)
        both = {"c1": "2-3", "c2": "2-3"}
        await world.runtime.heard(lambda updates: shown(runtime.corrected, updates) == both)
        await world.advise(cpus="4-5")
        await world.runtime.heard(lambda updates: shown(updates) == {"c1": "4-5", "c2": "4-5"})
    await world.runtime.heard(lambda updates: shown(updates) == {"c1": "0-7", "c2": "5"})


async def test_what_a_killed_enforcer_gave_is_given_back_by_the_next_one(world: World) -> None:
    world.runtime.containers = [a_container("c1")]
    await world.advise(cpus="2-3")
    async with world.enforcer():
        runtime = await world.runtime.joined()
        await world.runtime.heard(lambda updates: shown(runtime.corrected, updates) == {"c1": "2-3"})
        world.runtime.failing.add("c1")  # as good as dead: nothing can be given back
    world.runtime.failing.clear()
    world.runtime.updates.clear()
    world.runtime.containers = [a_container("c1", "2-3")]
    await world.bus.delete(ADVICE.at(node="n1"))
    async with world.enforcer():
        await world.runtime.heard(lambda updates: shown(updates) == {"c1": "0-7"})


async def test_a_runtime_that_went_away_leaves_the_cgroups(world: World) -> None:
    await world.advise(cpus="2-3")
    async with world.enforcer():
        await world.runtime.joined()
        await world.enforcement(Rung.NRI)
        await world.runtime.stop()
        assert (await world.enforcement(Rung.CGROUP)).probes[Rung.NRI]
        await world.runtime.start()
        await world.runtime.joined()
        await world.enforcement(Rung.NRI)
