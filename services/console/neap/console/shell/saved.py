"""The state of a cluster as a file: what a scheduler that starts now would hear, one message per line.

    {"neap": "schedule", "format": 1, "at": 1754000000.0, "nodes": 24, "pods": 310}
    {"subject": "neap-topology/n1", "seq": 7, "message": {...}}        every STATE channel the scheduler watches
    {"subject": "neap.v1.ledger.n1", "seq": 912, "message": {...}}     every placement that is held, as it was entered
    {"subject": "neap.v1.node.n1.usage", "seq": 0, "message": {...}}   the last report, where one came in time

Which channels those are is the scheduler's own table (its routes). Who waits is not saved: a dry run is first in line.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from neap.common.bus.memory import MemoryBroker
from neap.common.bus.port import Bus, CaughtUp, Received
from neap.common.contract.catalogue import CHANNELS, NODE_USAGE, PLACEMENTS, TOPOLOGY
from neap.common.contract.channel import MALFORMED, Channel, State, shortened
from neap.common.errors import InputError, WireError
from neap.common.host.memory import MemoryHost
from neap.common.model.placement import Checkpoint, Placed, Released
from neap.common.model.usage import NodeUsage, completed
from neap.common.runtime.clock import wall_clock
from neap.common.runtime.launch import find_room
from neap.common.runtime.machine import Arrived, Synced, Tick
from neap.common.runtime.service import Every, Follow, Outside, Service, Watch
from neap.common.runtime.settings import Sources, process_environment
from neap.common.telemetry.span import NoTracer
from neap.common.units import Seconds

SCHEDULER: Final = "scheduler"
FORMAT: Final = 1
REPORT_WAIT: Final[Seconds] = 3.0  # for the nodes' next reports; a node that says nothing meanwhile is not measured


class _Head(msgspec.Struct, frozen=True):
    neap: str
    format: int
    at: float
    nodes: int
    pods: int


class _Line(msgspec.Struct, frozen=True):
    subject: str
    seq: int
    message: msgspec.Raw


def wired(settings: Any = None, *, seed: int = 0, config: Path | None = None) -> Service:
    """The scheduler as it is installed here, fresh, on a bus that nobody else is on.

    Raises:
        SettingsError: there is none, or a setting does not hold.
    """
    room = find_room(SCHEDULER)
    if settings is None:
        settings = Sources(file=config, environment=process_environment(), overrides={}).load(room.settings, SCHEDULER)
    bus = MemoryBroker().bus(SCHEDULER)
    return room.wire(settings, Outside(bus=bus, clock=wall_clock(), host=MemoryHost(), tracer=NoTracer(), seed=seed))


async def save(bus: Bus, file: Path, now: Seconds) -> str:
    """Write the state as of now; a sentence about it.

    Raises:
        InputError: the file cannot be written.
    """
    watched = [route.only.channel for route in wired().routes if isinstance(route, Watch)]
    reports: dict[str, NodeUsage] = {}
    reporting = asyncio.ensure_future(_reports(bus, reports))
    lines = [line for channel in watched for line in [one async for one in _stored(bus, channel)]]
    nodes = sum(subject.startswith(f"{TOPOLOGY.bucket}/") for subject, _, _ in lines)
    held = await _held(bus)
    with suppress(TimeoutError):
        async with asyncio.timeout(REPORT_WAIT):
            while len(reports) < nodes:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    reporting.cancel()
    lines += held + [(NODE_USAGE.at(node=node).subject, 0, report) for node, report in sorted(reports.items())]
    try:
        with file.open("wb") as out:
            out.write(msgspec.json.encode(_Head("schedule", FORMAT, now, nodes, len(held))) + b"\n")
            for subject, seq, message in lines:
                out.write(msgspec.json.encode({"subject": subject, "seq": seq, "message": message}) + b"\n")
    except OSError as error:
        raise InputError(f"{file}: cannot be written: {error.strerror}") from None
    return f"{file}: {nodes} nodes ({len(reports)} measured), {len(held)} pods placed"


async def _stored(bus: Bus, channel: Channel[Any]) -> AsyncIterator[tuple[str, int, Any]]:
    async with bus.watch(channel.only()) as items:
        async for item in items:
            if isinstance(item, CaughtUp):
                return
            if isinstance(item, Received):
                yield channel.title(item.subject), item.seq, item.message


async def _held(bus: Bus) -> list[tuple[str, int, Placed]]:
    """Everything placed, each with its last entry; what only a checkpoint tells is placed at the checkpoint's time."""
    held: dict[str, dict[str, tuple[int, Placed]]] = {}
    async with bus.follow(PLACEMENTS.only()) as items:
        async for item in items:
            if isinstance(item, CaughtUp):
                break
            if isinstance(item, Received):
                _fold(held.setdefault(item.message.node, {}), item.message, item.seq)
    entries = [entry for mine in held.values() for entry in mine.values()]
    return [
        (PLACEMENTS.at(node=entry.node).subject, seq, entry) for seq, entry in sorted(entries, key=lambda one: one[0])
    ]


def _fold(held: dict[str, tuple[int, Placed]], entry: Placed | Released | Checkpoint, seq: int) -> None:
    match entry:
        case Placed(placement=placement):
            held[placement.workload.uid] = (seq, entry)
        case Released(uid=uid):
            held.pop(uid, None)
        case Checkpoint(placements=placements, at=at, source=source, node=node):
            before = dict(held)
            held.clear()
            for placement in placements:
                told = Placed(at=at, source=source, node=node, placement=placement, reason="")
                held[placement.workload.uid] = before.get(placement.workload.uid, (seq, told))


async def _reports(bus: Bus, latest: dict[str, NodeUsage]) -> None:
    """The last report of every node, with all its containers if the full one was heard."""
    full: dict[str, NodeUsage] = {}
    async with bus.subscribe(NODE_USAGE.only()) as items:
        async for item in items:
            if isinstance(item, Received):
                report, node = item.message, item.message.node
                whole = completed(report, full.get(node))
                if not report.since:
                    full[node] = report
                latest[node] = whole or report


def revived(file: Path, *, config: Path | None = None) -> Service:
    """A scheduler that has heard a saved state.

    Raises:
        InputError: names file, line and what is wrong.
    """
    service = wired(config=config)
    machine = service.machine
    try:
        with file.open("rb") as lines:
            head = _head(lines.readline(), file)
            last = 0
            for channel, subject, line in _messages(lines, file):
                machine.handle(Arrived(head.at, channel.decode(bytes(line.message), subject), subject, line.seq))
                last = max(last, line.seq if channel == PLACEMENTS else 0)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    except WireError as error:
        raise InputError(f"{file}: {error}") from None
    for route in service.routes:
        if isinstance(route, Watch | Follow):
            machine.handle(Synced(head.at, route.only.channel, last if route.only.channel == PLACEMENTS else 0))
    for route in service.routes:
        if isinstance(route, Every):
            machine.handle(Tick(head.at, route.name))
    return service


def _head(text: bytes, file: Path) -> _Head:
    try:
        head = msgspec.json.decode(text, type=_Head)
    except MALFORMED:
        head = None
    if head is None or (head.neap, head.format) != ("schedule", FORMAT):
        raise InputError(f"{file}: not a saved state (`neap schedule save` writes one)")
    return head


def _messages(lines: Any, file: Path) -> Iterator[tuple[Channel[Any], str, _Line]]:
    decoder = msgspec.json.Decoder(_Line)
    for number, text in enumerate(lines, start=2):
        try:
            line = decoder.decode(text)
        except MALFORMED as error:
            raise InputError(f"{file}, line {number}: {shortened(str(error))}") from None
        bucket, slash, subject = line.subject.partition("/")
        subject = subject if slash else line.subject
        channel = next((c for c in CHANNELS if _carries(c, bucket if slash else "", subject)), None)
        if channel is None:
            raise InputError(f"{file}, line {number}: no channel carries {shortened(line.subject)!r}")
        yield channel, subject, line


def _carries(channel: Channel[Any], bucket: str, subject: str) -> bool:
    if isinstance(channel, State) != bool(bucket) or (bucket and getattr(channel, "bucket", "") != bucket):
        return False
    mine, theirs = channel.pattern.split("."), subject.split(".")
    return len(mine) == len(theirs) and all(a == b or a[0] == "{" for a, b in zip(mine, theirs, strict=True))
