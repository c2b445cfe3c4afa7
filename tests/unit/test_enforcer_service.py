"""The enforcer as a service: the whole table on a bus in memory, under virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path

from neap.common.bus.memory import MemoryBroker
from neap.common.bus.port import Received
from neap.common.contract.catalogue import ADVICE, CHANNELS, NODE_APPLIED, STREAMS
from neap.common.host.memory import MemoryHost
from neap.common.model.advice import Applied
from neap.common.runtime.clock import loop_clock
from neap.common.runtime.run import run_service
from neap.common.runtime.service import Outside
from neap.common.telemetry.span import NoTracer
from neap.common.testing.simloop import simulate
from neap.enforcer.settings import Settings
from neap.enforcer.wiring import wire
from tests.unit.test_enforcer_machine import MOUNT, a_host, advice, for_pod

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
