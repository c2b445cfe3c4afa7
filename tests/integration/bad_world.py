"""A small world with every room, and the bad input that is thrown at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import product
from typing import Any

import msgspec

from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import (
    ADVICE,
    DEVICES,
    EVICTIONS,
    HEADROOM,
    NODE_USAGE,
    PLACEMENTS,
    POLICY,
    TOPOLOGY,
    TRAIL,
    WORKLOAD,
)
from neap.common.contract.channel import Channel
from neap.common.contract.subject import wire_subject
from neap.common.model.lifecycle import EndReason
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, LARGEST, MEMORY
from neap.common.model.workload import Container, Workload
from neap.common.runtime.clock import Clock, loop_clock
from neap.common.telemetry.span import NoTracer
from neap.common.units import MINUTE, Seconds
from neap.console.shell.submitting import submit
from neap.console.shell.tail import tail
from neap.virtual.kernel import VirtualHost
from neap.virtual.simulation import LEAD, ROOMS, Simulation
from tests.sim.small import small_settings

NODES = ("n1", "n2", "n3")
TOKENS = {
    "kind": "Deployment",
    "node": "n1",
    "room": "advisor",
    "namespace": "shop",
    "name": "cart-9",
    "cluster": "local",
    "scope": "namespace",
    "slot": "1",
    "page": "p1",
    "pool": "web",
    "resource": "cpu",
}
DEEP = 100_000
MALFORMED = {
    "half a message": b'{"at": 12',
    "nothing": b"",
    "null": b"null",
    "a list": b"[1, 2]",
    "a number": b"12",
    "wrong types": b'{"at": "noon", "source": 5, "node": ["n1"], "type": "submitted"}',
    "an unknown kind": b'{"type": "' + b"x" * 5_000 + b'"}',
    "not UTF-8": b'{"at": 1, "source": "\xff\xfe"}',
    "not a number": b'{"at": NaN}',
    "a number beyond all": b'{"at": 1' + b"0" * 500 + b"}",
    "nested": b'{"deep": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "never closed": b'{"deep": ' * (DEEP // 2),
    "huge": b'{"at": "' + b"x" * 900_000 + b'"}',
}
BIG = 17 * 10**307  # as large as a JSON reader takes
VAST = 1 << 63
TIMES = (0.0, 1e9, -1e18, 1e300)  # after now: now, decades ahead, long ago, beyond all
Hostile = Iterator[tuple[Channel[Any], dict[str, Any]]]


def key_of(channel: Channel[Any], **tokens: str) -> str:
    """A subject (for STATE: a key) of this channel."""
    given = TOKENS | tokens
    return channel.at(**{name: given[name] for name in channel.fields}).subject


def subject_of(channel: Channel[Any], **tokens: str) -> str:
    """The same on the wire."""
    return wire_subject(channel, key_of(channel, **tokens))


def workload(name: str, **changes: Any) -> Workload:
    """A small pod."""
    container = Container(name="main", requests={CPU: 100, MEMORY: 64 << 20})
    plain = Workload(uid=f"uid-{name}", namespace="shop", name=name, qos=QosClass.SHARED, containers=(container,))
    return msgspec.structs.replace(plain, **changes)


class World:
    """Three small virtual nodes with every room, a console that reads along, and what was written to the hosts."""

    def __init__(self, simulation: Simulation, bus: Bus, clock: Clock) -> None:
        self.simulation, self.bus, self.clock = simulation, bus, clock
        self.written: list[str] = []

    def host(self, node: str) -> VirtualHost:
        """A machine."""
        _, outside = self.simulation.wire("reporter", node, self.bus)
        assert isinstance(outside.host, VirtualHost)
        return outside.host

    def inject(self, channel: Channel[Any], message: dict[str, Any] | bytes, **tokens: str) -> None:
        """As a client would that does not know the contract."""
        payload = message if isinstance(message, bytes) else msgspec.json.encode(message)
        self.simulation.broker.inject(subject_of(channel, **tokens), payload)

    async def pass_time(self, seconds: Seconds) -> None:
        """Let it live on."""
        await self.clock.sleep_until(self.clock.now() + seconds)

    async def is_well(self, name: str) -> None:
        """A pod that is submitted now is placed, started, advised, and the advice made true."""
        await submit(workload(name), self.bus, self.clock, NoTracer())
        missing = {"placed", "started", "advised", "applied"}
        async with asyncio.timeout(15 * MINUTE), self.bus.follow(TRAIL.only(namespace="shop", name=name)) as lines:
            async for line in lines:
                if isinstance(line, Received):
                    missing.discard(line.message.what)
                if not missing:
                    return

    def poison(self, channel: Channel[Any]) -> dict[str, int]:
        """By reader, what it could not decode."""
        title = channel.title()
        readers = self.simulation.broker.buses
        return {each.name: each.health.poison[title] for each in readers if title in each.health.poison}

    def counted(self, metric: str) -> float:
        """What the rooms counted, over all labels."""
        return sum(by for key, by in self.simulation.counts.items() if key.startswith(metric))


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """Five minutes into the small day; a room that crashes ends it with the error."""
    simulation = Simulation(small_settings(nodes=len(NODES)), rooms=(*ROOMS, "planner"))
    clock = loop_clock(asyncio.get_running_loop(), epoch=simulation.virtual.start - LEAD)
    async with simulation.running(clock) as bus:
        here = World(simulation, bus, clock)
        for node in NODES:
            here.host(node).on_write("", lambda path, _: here.written.append(path))
        tailing = asyncio.ensure_future(tail(simulation.broker.bus("tail"), "*", history=True, say=lambda _: None))
        await here.pass_time(LEAD + 5 * MINUTE)
        yield here
        assert not tailing.done(), tailing
        tailing.cancel()
        await asyncio.gather(tailing, return_exceptions=True)


def hostile_reports(node: str, now: Seconds) -> Hostile:
    """What only a reporter, an advisor or gpushare gone mad would say."""
    for at in TIMES:
        head = {"at": now + at, "source": "evil", "node": node}
        for value in (1e308, -1.0, -1e308):
            stall = {"some10": value, "some60": value, "full10": value, "full60": value}
            container = {"uid": "x", "container": "x", "cgroup": "../../..", "cpu": value, "working_set": BIG}
            report = {"seq": VAST, "period": value, "cpu": value, "memory_available": -BIG}
            stalls = {"cpu_stall": stall, "memory_stall": stall, "io_stall": stall}
            numa = {"index": -1, "cpu": value, "memory_free": -5}
            yield NODE_USAGE, {**head, **report, **stalls, "numa": [numa], "containers": [container]}
        for offer in (-1, -BIG, 0, BIG):
            yield HEADROOM, {**head, "offer": {"neap.io/reclaimed-cpu": offer, "": 1, "x" * 300: 1}, "arithmetic": {}}
    card = {"index": -1, "uuid": "", "model": "", "memory_mib": BIG, "numa": -7}
    head = {"at": now, "source": "evil", "node": node}
    state = {"card": card, "core_free": -1, "memory_free_mib": BIG, "allocations": []}
    yield DEVICES, {**head, "ledger_seq": VAST, "cards": [state], "refused": {"nobody": "because"}}
    machine = {"kind": "machine", "index": 0, "cpus": "9-2"}
    yield TOPOLOGY, {**head, "machine": machine, "numa": [], "cards": [card], "allocatable": {CPU: -1, MEMORY: BIG}}
    policy = {"at": now, "source": "evil", "room": "advisor", "name": TOKENS["name"]}
    edition = {"version": VAST, "at": now, "tier": "cluster"}
    wrong = ({"ttl": -1, "smoothing": BIG}, {"node": "n2"}, {"tune": {"": "x" * 300}}, {"": {"": {}}}, {})
    for number, patch in enumerate(wrong):
        yield POLICY, {**policy, "editions": [{**edition, "version": VAST + number, "patch": patch}]}
    odd = ({"expires": -BIG}, {"tier": "service", "selector": "../x"}, {"canary": 0.0}, {"begins": 1e308})
    for number, terms in enumerate(odd):
        good = {**edition, "version": number + 1, "patch": {"ttl": 7}}
        yield POLICY, {**policy, "editions": [{**good, **terms}] * 10}


def hostile_advice(node: str, now: Seconds) -> Hostile:
    """Targets outside the pods, knobs no kernel has, sets outside the machine, times that outlive everything."""
    targets = ("pod/../../x", "pod/..", "pod/", "class/..", "x", "/etc/passwd", "pod/" + "a" * 5_000)
    knobs = (
        {"cpu_weight": -1, "cpu_idle": True},
        {"cpus": "9999", "mems": "77"},
        {"cpus": ""},
        {"cpus": "0-4294967295"},
        {"cpu_max": -5.0, "memory_max": 0, "memory_high": -9, "oom_score_adj": 10**9},
        {"cpu_weight": BIG, "memory_max": BIG, "cpu_max": 1e308},
    )
    about = {"namespace": "No Such", "name": "../x", "uid": "nobody"}
    real = ("class/guaranteed", "class/burstable", "class/besteffort")
    for number, (at, expires, knob) in enumerate(product(TIMES, (now - 10, now + 60, 1e300), knobs)):
        cgroups = [{"target": target, "pool": "share", "knobs": knob, "about": about} for target in (*targets, *real)]
        advice = {"at": now + at, "source": "evil", "node": node, "seq": VAST + number, "expires": expires}
        yield ADVICE, {**advice, "pools": [], "cgroups": cgroups}


def hostile_commands(node: str, now: Seconds) -> Hostile:
    """About pods nobody knows."""
    head = {"at": now, "source": "evil", "node": node}
    for attempt in (-1, 1, VAST):
        named = {"uid": "nobody", "attempt": attempt}
        for reason in EndReason:
            yield WORKLOAD, {**head, **named, "type": "ended", "reason": reason}
        yield WORKLOAD, {**head, **named, "type": "started"}
        told = {"rule": "r", "reason": "", "measured": [], "ranking": "", "grace": -1.0}
        yield EVICTIONS, {**head, **named, **told, "namespace": "shop", "name": "x"}


def impossible_entries(node: str, now: Seconds) -> Hostile:
    """Ledger entries that every reader refuses."""
    container = Container(name="m", requests={CPU: BIG})
    for changed, parts in (
        (workload("empty", containers=()), {}),
        (workload("Not_A_Name"), {}),
        (workload("path", uid="../../x"), {}),
        (workload("again", attempt=VAST), {}),
        (workload("more", containers=(container,)), {}),
        (workload("first", init_requests={MEMORY: -1}), {}),
        (workload("less"), {"charged": {CPU: -5}}),
        (workload("card"), {"gpus": [{"container": "main", "card": 0, "core": 50, "memory_mib": BIG}]}),
    ):
        yield _placed(node, now, changed, **parts)


def unlawful_entries(node: str, now: Seconds) -> Hostile:
    """Ledger entries that are well formed, and break the laws of the ledger."""
    yield _placed(node, now, workload("full"), charged={CPU: LARGEST, MEMORY: LARGEST})
    yield _placed(node, now, workload("numa"), numa=[99, -1])
    yield _placed(node, now, workload("gpu"), gpus=[{"container": "zz", "card": 99, "core": 50, "memory_mib": 512}])
    yield _placed("n2", now, workload("twice"))
    yield _placed("n3", now, workload("twice"))
    yield _placed("ghost", now, workload("nowhere"))
    yield PLACEMENTS, {"at": now, "source": "evil", "node": node, "type": "released", "uid": "nobody", "reason": ""}
    yield PLACEMENTS, {"at": now, "source": "evil", "node": "n2", "type": "checkpoint", "placements": []}


def _placed(node: str, now: Seconds, changed: Workload, **parts: Any) -> tuple[Channel[Any], dict[str, Any]]:
    placement = {"workload": msgspec.to_builtins(changed), "charged": {CPU: 100}, **parts}
    head = {"at": now, "source": "evil", "node": node}
    return PLACEMENTS, {**head, "type": "placed", "reason": "", "placement": placement}
