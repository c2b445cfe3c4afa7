"""The enforcer as a service: the whole table on a bus in memory, under virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from neap.common.bus.memory import MemoryBroker
from neap.common.bus.port import Received
from neap.common.contract.catalogue import ADVICE, CHANNELS, NODE_APPLIED, STREAMS
from neap.common.host.memory import MemoryHost
from neap.common.host.real import RealHost
from neap.common.model.advice import Applied
from neap.common.runtime.clock import loop_clock
from neap.common.runtime.run import run_service
from neap.common.runtime.service import Outside, Service
from neap.common.telemetry.span import NoTracer
from neap.common.testing.simloop import simulate
from neap.enforcer.settings import Settings
from neap.enforcer.wiring import wire
from tests.conftest import SOON
from tests.unit.test_enforcer_machine import MOUNT, POD_FILES, a_host, advice, for_pod

WEIGHT = f"{MOUNT}/kubepods/besteffort/podg-1/cpu.weight"


async def live(host: MemoryHost, settings: Settings) -> list[Applied]:
    """Start, hear one advice, run for five seconds, stop."""
    broker = MemoryBroker()
    bus, listener, advisor = (broker.bus(name) for name in ("neap-enforcer", "test", "neap-advisor"))
    await bus.ensure(STREAMS, CHANNELS)
    heard: list[Applied] = []
    stop = asyncio.Event()
    outside = Outside(bus=bus, clock=loop_clock(asyncio.get_running_loop()), host=host, tracer=NoTracer())

    async def listen() -> None:
        async with listener.subscribe(NODE_APPLIED.only(node="n1")) as items:
            async for item in items:
                if isinstance(item, Received):
                    heard.append(item.message)  # noqa: PERF401  it never ends, it is cancelled

    async with asyncio.TaskGroup() as group:
        listening = group.create_task(listen())
        group.create_task(run_service(wire(settings, outside), outside, stop=stop, count=lambda *_: None))
        await asyncio.sleep(1.5)
        await advisor.put(ADVICE.at(node="n1"), advice(1, for_pod("g-1", cpu_weight=2)))
        await asyncio.sleep(5)
        assert host.read(WEIGHT).strip() == "2"
        stop.set()
        await asyncio.sleep(1)
        listening.cancel()
    return heard


def test_advice_on_the_bus_becomes_true_and_is_taken_back_when_the_service_stops(tmp_path: Path) -> None:
    host = a_host()
    heard = simulate(live(host, Settings(node="n1", journal_dir=str(tmp_path))))
    assert [write.after for write in heard[0].writes] == ["2"]
    assert heard[-1].restored
    assert [write.after for write in heard[-1].writes] == ["79"]
    assert host.read(WEIGHT) == "79\n"


# -- on a real directory, with the kernel's folder watch -------------------------------------------------------------


async def until(holds: Callable[[], bool]) -> float:
    """Seconds until something holds."""
    async with asyncio.timeout(SOON):
        started = asyncio.get_running_loop().time()
        while not holds():  # noqa: ASYNC110  what is waited for is a file
            await asyncio.sleep(0.001)
        return asyncio.get_running_loop().time() - started


async def test_a_pod_and_a_process_that_start_between_two_looks_are_caught_by_the_watch(tmp_path: Path) -> None:
    """The period is an hour, so only the folder watch can have told. How soon is measured, and printed with -s."""
    root = tmp_path / "sys/fs/cgroup/kubepods"
    score = tmp_path / "proc/77/oom_score_adj"

    def make(folder: Path) -> None:
        folder.mkdir(parents=True)
        for name, text in POD_FILES.items():
            (folder / name).write_text(text)

    for folder in (root, root / "burstable", root / "besteffort"):
        make(folder)
    score.parent.mkdir(parents=True)
    score.write_text("0\n")
    broker, stop, settings = MemoryBroker(), asyncio.Event(), Settings(node="n1", period=3600.0)
    bus, advisor = broker.bus("neap-enforcer"), broker.bus("neap-advisor")
    await bus.ensure(STREAMS, CHANNELS)
    host, clock = RealHost(str(tmp_path)), loop_clock(asyncio.get_running_loop())
    outside = Outside(bus=bus, clock=clock, host=host, tracer=NoTracer())
    service = wire(settings, outside)
    told = advice(1, for_pod("late", cpu_weight=2, oom_score_adj=900), at=clock.now())
    pod = root / "besteffort" / "podlate"
    async with asyncio.TaskGroup() as group:
        group.create_task(run_service(service, outside, stop=stop, count=lambda *_: None))
        await advisor.put(ADVICE.at(node="n1"), told)
        await until(lambda: bool(service.machine._watched) and service.machine._busy is None)  # type: ignore[attr-defined]
        make(tmp_path / "podlate")
        (tmp_path / "podlate").rename(pod)  # as a cgroup comes: with all its files at once
        caught = await until(lambda: (pod / "cpu.weight").read_text() == "2")
        (pod / "c1").mkdir()
        (pod / "c1" / "cgroup.procs").write_text("")
        await until(lambda: str(host.place(f"{MOUNT}/kubepods/besteffort/podlate/c1")) in watched_by(service, tmp_path))
        (pod / "c1" / "cgroup.procs").write_text("77\n")
        joined = await until(lambda: score.read_text() == "900")
        print(f"pod caught after {caught * 1e3:.0f} ms, process after {joined * 1e3:.0f} ms")  # noqa: T201
        stop.set()
    assert (pod / "cpu.weight").read_text() == "79\n"
    assert score.read_text() == "0\n" or score.read_text() == "0"


def watched_by(service: Service, root: Path) -> set[str]:
    return {f"{root}{folder}" for folder in service.machine._watched}  # type: ignore[attr-defined]
