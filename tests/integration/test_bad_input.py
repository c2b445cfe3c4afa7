"""Bad input while all rooms run: nothing crashes, nothing is lost, everything is counted and said once.

The worlds live in virtual time; a room that crashes ends its world with the error. One run is on a real NATS server,
with the processes a user has, and a client that knows no contract.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import nats
import pytest

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import (
    ADVICE,
    CHANNELS,
    EXPLAIN,
    NODE_APPLIED,
    PLACEMENTS,
    RESIZES,
    STREAMS,
    TRAIL,
    WORKLOAD,
)
from neap.common.contract.channel import Channel
from neap.common.errors import Vanished
from neap.common.model.lifecycle import Ended, EndReason
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, GPU_CORE, GPU_MEMORY, MEMORY
from neap.common.model.workload import Container, Workload
from neap.common.runtime.clock import wall_clock, wall_seconds
from neap.common.telemetry.span import NoTracer
from neap.common.testing.simloop import simulate
from neap.common.units import MINUTE, Seconds
from neap.console.shell.stack import Stack
from neap.console.shell.submitting import submit
from neap.virtual.settings import NOMINAL_START
from tests.conftest import SOON
from tests.integration import bad_world as bad
from tests.integration.bad_world import MALFORMED, NODES, World, key_of, subject_of, workload, world
from tests.sim.small import small_settings

PODS = "/sys/fs/cgroup/kubepods"
SPEED = 240.0


def test_malformed_messages_on_every_channel_stop_nothing_and_are_counted_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def live() -> World:
        async with world() as here:
            for channel in CHANNELS:
                for payload in MALFORMED.values():
                    here.inject(channel, payload)
                    await here.pass_time(0.01)  # or only the newest value of a key would be read
            for node in NODES:  # no ledger is left out: placements go on behind what nobody can read
                here.inject(PLACEMENTS, b"?", node=node)
            await here.is_well("after")
            return here

    here = simulate(live())
    said = Counter(record.getMessage().partition(": ")[2].partition(": ")[0] for record in caplog.records)
    for channel in CHANNELS:
        if channel is RESIZES:
            continue  # work for the gateway, which is not here
        readers = here.poison(channel)
        assert max(readers.values()) >= len(MALFORMED), f"{channel.title()}: {readers}"
        assert 1 <= said[channel.title(key_of(channel))] <= len(readers), f"{channel.title()} was said too often"
    assert all(len(record.getMessage()) < 400 for record in caplog.records if "bus.poison" in record.getMessage())


def test_an_entry_nobody_can_read_costs_a_ledger_nothing_but_itself() -> None:
    """On every node at once, again and again, in the middle of placing."""

    async def live() -> None:
        async with world() as here:
            for turn in range(4):
                for node in NODES:
                    here.inject(PLACEMENTS, b"?", node=node)
                await here.is_well(f"turn-{turn}")
            placed = here.simulation.counts["neap_scheduler_appends_total{entry=Placed,outcome=stored}"]
            assert placed >= 4

    simulate(live())


async def obeys(here: World, node: str) -> None:
    """Until the enforcer of this node has said that it follows the advisor's own advice."""
    async with asyncio.timeout(30 * MINUTE), here.bus.subscribe(NODE_APPLIED.only(node=node)) as told:
        async for item in told:
            advice = await here.bus.get(ADVICE.at(node=node))
            if (
                isinstance(item, Received)
                and advice is not None
                and advice.message.source == "advisor"
                and item.message.advice_seq == advice.message.seq
            ):
                return


@pytest.mark.parametrize("hostile", [bad.hostile_reports, bad.hostile_advice, bad.hostile_commands])
def test_well_formed_nonsense_leaves_every_room_alive_and_the_host_unharmed(
    hostile: Callable[[str, Seconds], bad.Hostile],
) -> None:
    async def live() -> World:
        async with world() as here:
            for channel, message in hostile("n1", here.clock.now()):
                here.inject(channel, message)
                await here.pass_time(0.01)
            await here.is_well("after")
            await obeys(here, "n1")
            return here

    here = simulate(live())
    outside = [path for path in here.written if not path.startswith(PODS) and not path.endswith("/oom_score_adj")]
    assert outside == []
    assert not any(".." in path for path in here.written)
    if hostile is bad.hostile_reports:
        assert here.counted("neap_advisor_reports_ignored_total") >= 1
        assert here.counted("neap_advisor_refused_input_total") >= 1
        assert here.counted("neap_policy_refused_total") >= 5 * len(NODES)
    if hostile is bad.hostile_advice:
        for reason in ("target", "cpu.weight", "cpuset.cpus", "memory.max", "from the future"):
            assert here.simulation.counts[f"neap_enforcer_advice_refused_total{{reason={reason}}}"] >= 1, reason
    if hostile is bad.hostile_commands:
        assert here.counted("neap_virtual_evictions_late_total") == 3


def test_ledger_entries_no_scheduler_writes_are_refused_by_every_reader() -> None:
    async def live() -> tuple[World, int]:
        async with world() as here:
            entries = list(bad.impossible_entries("n1", here.clock.now()))
            for channel, message in entries:
                here.inject(channel, message)
            await here.is_well("after")
            return here, len(entries)

    here, count = simulate(live())
    readers = here.poison(PLACEMENTS)
    assert {name.partition(".")[0] for name in readers} >= {"virtual", "advisor", "evictor", "gpushare", "scheduler"}
    assert set(readers.values()) == {count}


def test_ledger_entries_that_break_laws_stop_nothing() -> None:
    async def live() -> World:
        async with world() as here:
            for channel, message in bad.unlawful_entries("n1", here.clock.now()):
                here.inject(channel, message, node=message["node"])
            await here.is_well("after")
            return here

    here = simulate(live())
    assert here.counted("neap_gpushare_refused_total") >= 1
    assert here.counted("neap_virtual_placements_refused_total") >= 1
    assert here.simulation.counts["neap_effects_failed_total{effect=StartPod}"] >= 1


def container(requests: dict[str, int], **limits: int) -> tuple[Container, ...]:
    return (Container(name="main", requests=requests, limits=limits),)


INVALID = {
    "negative": (workload("a", containers=container({CPU: -1})), "negative"),
    "huge": (workload("b", containers=container({MEMORY: 1 << 62})), "beyond"),
    "beyond-all": (workload("c", containers=container({CPU: bad.BIG})), "beyond"),
    "card-without-memory": (workload("d", containers=container({GPU_CORE: 50})), GPU_MEMORY),
    "half-percent": (workload("e", containers=container({GPU_CORE: 0, GPU_MEMORY: 512})), "at least 1 %"),
    "no-container": (workload("f", containers=()), "0 containers"),
    "borrows-and-owns": (workload("g", qos=QosClass.RECLAIMED), "may not ask for cpu"),
    "another-name": (workload("h"), "under the name of"),
    "namespace": (workload("i", namespace="No Such"), "not usable in a subject"),
    "path": (workload("j", uid="../../x"), "uid"),
    "attempt": (workload("k", attempt=1 << 63), "attempt"),
    "init": (workload("l", init_requests={MEMORY: -5}), "negative"),
}


def test_workloads_that_can_never_run_are_refused_with_the_reason_and_nobody_waits_for_them() -> None:
    """As messages, past the console's checks."""

    async def live() -> World:
        async with world() as here:
            for name, (wrong, _) in INVALID.items():
                message = {"type": "submitted", "at": here.clock.now(), "source": "evil"}
                there = wrong.name if wrong.namespace == "shop" and name != "another-name" else f"x-{wrong.name}"
                here.inject(WORKLOAD, {**message, "workload": msgspec.to_builtins(wrong)}, name=there)
            told: dict[str, str] = {}
            ended: dict[str, Ended] = {}
            async with here.bus.follow(TRAIL.only(namespace="shop")) as lines, asyncio.timeout(MINUTE):
                while len(told) < len(INVALID):
                    line: Any = await anext(lines)
                    if isinstance(line, Received) and line.message.what == "refused":
                        told[line.message.about.uid] = line.message.why
            async with here.bus.follow(WORKLOAD.only(namespace="shop")) as events, asyncio.timeout(MINUTE):
                while len(ended) < len(INVALID):
                    event: Any = await anext(events)
                    if isinstance(event, Received) and isinstance(event.message, Ended):
                        ended[event.message.uid] = event.message
            for wrong, why in INVALID.values():
                assert why in told[wrong.uid], told[wrong.uid]
                assert (ended[wrong.uid].reason, ended[wrong.uid].detail) == (EndReason.INVALID, told[wrong.uid])
            await here.is_well("after")
            return here

    here = simulate(live())
    assert here.simulation.counts["neap_scheduler_refused_total{why=invalid}"] == len(INVALID)


async def test_an_unknown_class_is_no_workload_at_all() -> None:
    wrong = {**msgspec.to_builtins(workload("a")), "qos": "golden_cores"}
    message = {"type": "submitted", "at": 1.0, "source": "evil", "workload": wrong}
    with pytest.raises(Exception, match=r"shop\.a: Invalid enum value 'golden_cores' - at `\$\.workload\.qos`"):
        WORKLOAD.decode(msgspec.json.encode(message), "neap.v1.workload.shop.a")


def test_a_cgroup_that_vanishes_while_it_is_read_or_written_costs_nothing_else() -> None:
    async def live() -> World:
        async with world() as here:
            for name in ("read", "write"):
                await submit(workload(name), here.bus, here.clock, NoTracer())
                await here.is_well(f"beside-{name}")
            places = {uid: node for node in NODES for uid in here.host(node).pods}
            reader, writer = (here.host(places[f"uid-{name}"]) for name in ("read", "write"))
            [inside] = containers(reader, "uid-read")

            def gone() -> str:
                reader.stop("uid-read")
                raise Vanished("read: the cgroup went away (ENODEV)")

            def gone_too(path: str, _: str) -> None:
                if "uid-write" in path:
                    writer.stop("uid-write")
                    raise Vanished(f"write {path}: the cgroup went away (ENODEV)")

            reader.put(f"{inside}/memory.current", gone)
            for knob in ("cpuset.cpus", "cpu.weight", "memory.high"):
                writer.on_write(knob, gone_too)
            before = here.counted("neap_reporter_reports_total")
            await here.pass_time(10 * MINUTE)
            assert here.counted("neap_reporter_reports_total") - before >= 9 * len(NODES)
            await here.is_well("after")
            return here

    here = simulate(live())
    assert here.counted("neap_reporter_unknown_sources_total") >= 1


def containers(host: Any, uid: str) -> list[str]:
    found = []
    for above in (PODS, f"{PODS}/burstable", f"{PODS}/besteffort"):
        for name in host.list(above):
            if uid in name:
                pod = f"{above}/{name}"
                found += [f"{pod}/{inner}" for inner in host.list(pod) if host.exists(f"{pod}/{inner}/cpu.stat")]
    return found


# -- on a real NATS server -------------------------------------------------------------------------------------------


def logged(folder: Path, room: str) -> list[dict[str, Any]]:
    lines = (folder / "logs" / f"{room}.log").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


async def metrics_of(folder: Path, room: str) -> str:
    port = next(line["health_port"] for line in logged(folder, room) if line["event"] == "process.started")
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        return await answer.text()


async def counted(folder: Path, room: str, channel: Channel[Any], raw: Any) -> None:
    """Until this room has counted what it could not read there: of a bucket a reader is only sure to see the newest."""
    async with asyncio.timeout(SOON):
        while f'neap_bus_poison_total{{channel="{channel.title()}"}}' not in await metrics_of(folder, room):
            await raw.publish(subject_of(channel), MALFORMED["null"])
            await asyncio.sleep(0.1)


async def applied(bus: Bus, pod: Workload) -> None:
    async with asyncio.timeout(SOON), bus.follow(TRAIL.only(namespace="shop", name=pod.name)) as lines:
        async for line in lines:
            if isinstance(line, Received) and line.message.what == "applied":
                return


READERS = (("advisor", ADVICE), ("enforcer", ADVICE), ("virtual", WORKLOAD), ("scheduler", PLACEMENTS))


async def test_a_client_that_knows_no_contract_stops_no_process(tmp_path: Path) -> None:
    began = wall_seconds()
    settings = [
        f"process.clock=epoch={NOMINAL_START},origin={wall_seconds()},speed={SPEED}",
        f"process.host=virtual://{tmp_path / 'hosts.sock'}",
        f"process.nodes={','.join(NODES)}",
        f"virtual.socket={tmp_path / 'hosts.sock'}",
        *small_settings(nodes=len(NODES)),
    ]
    async with Stack(tmp_path, settings) as stack:
        bus = await connect(stack.url, name="neap-console")
        await bus.ensure(STREAMS, CHANNELS)
        await submit(workload("before"), bus, wall_clock(), NoTracer())
        await applied(bus, workload("before"))
        raw = await nats.connect(stack.url, connect_timeout=int(SOON))
        for channel in CHANNELS:
            for payload in MALFORMED.values():
                await raw.publish(subject_of(channel), payload)
            await raw.publish(subject_of(channel), b"{}", headers={"traceparent": "00-zz", "KV-Operation": "NONSENSE"})
        refused = await raw.request(EXPLAIN.pattern, b'{"namespace": 7}', timeout=SOON)
        deep = await raw.request(EXPLAIN.pattern, MALFORMED["nested"], timeout=SOON)
        for room, channel in READERS:
            await counted(tmp_path, room, channel, raw)
        await raw.close()
        await submit(workload("after"), bus, wall_clock(), NoTracer())
        await applied(bus, workload("after"))
        count = await metrics_of(tmp_path, "scheduler")
        await bus.close()
    assert [room for room, child in stack.children.items() if child.restarts] == []
    assert "at `$.namespace`" in (refused.headers or {})["Nats-Service-Error"]
    assert "recursion" in (deep.headers or {})["Nats-Service-Error"]
    assert f'neap_bus_poison_total{{channel="{EXPLAIN.pattern}"}} 2.0' in count
    said = Counter(
        line["why"].partition(": ")[0] for line in logged(tmp_path, "scheduler") if line["event"] == "bus.poison"
    )
    minutes = (wall_seconds() - began) // MINUTE
    for channel in (PLACEMENTS, WORKLOAD):
        assert 1 <= said[subject_of(channel)] <= 1 + minutes, "not said, or more than once a minute"
