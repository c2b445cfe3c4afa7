"""The table of a service: what it hears, when it acts, what it can do. One screen per service.

def wire(settings: Settings, outside: Outside) -> Service:
    return Service(
        "advisor", settings.node,
        machine=AdvisorMachine(settings),
        routes=(
            on(NODE_USAGE.only(node=settings.node)),
            watch(TOPOLOGY.only(node=settings.node)),
            follow(PLACEMENTS.only(node=settings.node)),
            every(settings.period, "advise"),
        ),
    )
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from neap.common.bus.port import Bus
from neap.common.contract.channel import Endpoint, Pattern
from neap.common.host.port import HostFs
from neap.common.runtime.clock import Clock
from neap.common.runtime.inbox import Overtakes, Turns
from neap.common.runtime.machine import Instruction, Machine
from neap.common.telemetry.span import Tracer
from neap.common.units import Seconds

Q = TypeVar("Q")
R = TypeVar("R")

Effect: TypeAlias = Callable[[Any], Awaitable[Any]]  # instruction -> outcome; None posts no Done


@dataclass(frozen=True)
class Outside:
    """Everything a service may touch, handed in: bus, clock, host, tracer. Randomness comes seeded.

    `turns` are those of the process, or of whoever is alone.
    """

    bus: Bus
    clock: Clock
    host: HostFs
    tracer: Tracer
    seed: int = 0
    turns: Turns = field(default_factory=Turns)


@dataclass(frozen=True)
class On:
    """LATEST -> Arrived, Missed. `overtakes`: which messages need not be handled once a newer one is here."""

    only: Pattern[Any]
    queue: str = ""
    limit: int = 1024
    overtakes: Overtakes | None = None


@dataclass(frozen=True)
class Watch:
    """STATE -> Arrived, Gone, Synced."""

    only: Pattern[Any]


@dataclass(frozen=True)
class Follow:
    """LEDGER, or EVENTS replayed from the first -> Arrived, Synced."""

    only: Pattern[Any]


@dataclass(frozen=True)
class Consume:
    """EVENTS, WORK -> Arrived; acknowledged once the instructions it led to are done."""

    only: Pattern[Any]
    durable: str
    ack_wait: Seconds = 30.0


@dataclass(frozen=True)
class Every:
    """-> Tick, aligned to multiples of `period` plus `phase`; a tick that comes too late is skipped, not piled up."""

    period: Seconds
    name: str
    phase: Seconds = 0.0


@dataclass(frozen=True)
class Hear:
    """A source of the service's own, opened once and read until it ends -> Heard."""

    source: Callable[[], AbstractAsyncContextManager[AsyncIterator[Any]]]


@dataclass(frozen=True)
class Serve:
    """Answer requests from a pure function of the machine's state."""

    endpoint: Endpoint[Any, Any]
    answer: Callable[[Any], Any]
    tokens: Mapping[str, str] = field(default_factory=dict)


Route: TypeAlias = On | Watch | Follow | Consume | Every | Hear | Serve


def on(only: Pattern[Any], *, queue: str = "", limit: int = 1024, overtakes: Overtakes | None = None) -> Route:
    """Hear a LATEST channel; `overtakes(newer, older)` spares a room that is behind what is out of date."""
    return On(only, queue, limit, overtakes)


def watch(only: Pattern[Any]) -> Route:
    """Keep up with a STATE channel."""
    return Watch(only)


def follow(only: Pattern[Any]) -> Route:
    """Fold a LEDGER (or an EVENTS stream) from its beginning."""
    return Follow(only)


def consume(only: Pattern[Any], *, durable: str, ack_wait: Seconds = 30.0) -> Route:
    """Take EVENTS or WORK, each at least once."""
    return Consume(only, durable, ack_wait)


def every(period: Seconds, name: str, *, phase: Seconds = 0.0) -> Route:
    """A timer."""
    return Every(period, name, phase)


def hear(source: Callable[[], AbstractAsyncContextManager[AsyncIterator[Any]]]) -> Route:
    """Something outside the bus that speaks by itself; what it says is posted as it comes."""
    return Hear(source)


def serve(endpoint: Endpoint[Q, R], answer: Callable[[Q], R], **tokens: str) -> Route:
    """Answer an endpoint; `tokens` fill in its subject."""
    return Serve(endpoint, answer, tokens)


@dataclass(frozen=True)
class Service:
    """A machine and its table. `effects` maps the service's own instruction types to what executes them.

    `close` gives back, at the very end, what the service itself opened.
    """

    name: str
    node: str  # "" for a central service
    machine: Machine
    routes: tuple[Route, ...]
    effects: Mapping[type[Instruction], Effect] = field(default_factory=dict)
    close: Callable[[], Awaitable[None]] | None = None
