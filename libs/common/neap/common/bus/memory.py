"""The Bus in memory: a broker and its connections, with the promises of NATS, on any asyncio loop.

    broker = MemoryBroker(random=random.Random(7))
    one, two = broker.bus("neap-reporter@n1"), broker.bus("neap-advisor@n1")
    broker.faults.append(Fault("neap.v1.node.n1.>", "delay", share=0.1, least=0.5, most=3.0))
    broker.disconnect(two)

No threads, no sockets, no tasks of its own: messages move when they are sent, in the order they were sent, and
time is the loop's, so a simulation under virtual time is deterministic. Payloads are encoded and decoded, so that
nothing unencodable and no identity passes between services (LATEST readers of one channel share one decoded,
frozen message). `broker.inject` puts raw bytes on a subject.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from neap.common.bus.answer import Answering
from neap.common.bus.memory_bus import MemoryBus
from neap.common.bus.memory_reader import Hearing, Sent
from neap.common.bus.memory_store import Bucket, Log, Routes
from neap.common.bus.patience import PATIENT, Patience
from neap.common.bus.reader import NO_HEADERS
from neap.common.contract.permissions import Rights
from neap.common.contract.subject import covers, key_prefix
from neap.common.units import Seconds


@dataclass(frozen=True)
class Fault:
    """What befalls messages on matching subjects; the first fault that strikes decides.

    drop, delay, duplicate strike LATEST; redeliver loses acknowledgements of EVENTS and WORK. `share` of the
    messages are struck; a delay is drawn between `least` and `most` seconds.
    """

    subject: str
    kind: Literal["drop", "delay", "duplicate", "redeliver"]
    share: float = 1.0
    least: Seconds = 0.0
    most: Seconds = 0.0


class MemoryBroker:
    """The server; see module docstring. Make it where a loop runs."""

    def __init__(self, *, random: Random | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self.now: Callable[[], Seconds] = self._loop.time
        self.random = random or Random(0)
        self.faults: list[Fault] = []
        self.slow: list[Seconds] = []  # how long the disk takes at most until it has written; the longest counts
        self.latest: Routes[Hearing[Any]] = Routes()
        self.logs: dict[str, Log] = {}
        self.buckets: dict[str, Bucket] = {}
        self.responders: dict[str, list[tuple[MemoryBus, Answering[Any, Any]]]] = {}
        self.buses: list[MemoryBus] = []
        self._turn = 0
        self._away: dict[MemoryBus, None] | None = None  # connections that come back with the server
        self._flying: set[asyncio.TimerHandle] = set()

    def bus(
        self, name: str, *, rights: Rights | None = None, patience: Patience = PATIENT, echo: bool = True
    ) -> MemoryBus:
        """A new connection; without `rights` it may do everything, without `echo` it does not hear what it publishes."""
        bus = MemoryBus(self, name, rights, patience, echo=echo)
        self.buses.append(bus)
        if self._away is not None:
            bus.go()
            self._away[bus] = None
        return bus

    # -- faults

    def disconnect(self, bus: MemoryBus) -> None:
        """Take one connection away."""
        bus.go()
        if self._away is not None:
            self._away.pop(bus, None)

    def reconnect(self, bus: MemoryBus) -> None:
        """Bring it back; with the server, if that is away."""
        if self._away is None:
            bus.come()
        else:
            self._away[bus] = None

    def restart(self, away: Seconds = 0.0) -> None:
        """Lose what is in flight, keep what is stored; connections come back after `away` seconds.

        A server that is away already comes back when it was to.
        """
        for timer in self._flying:
            timer.cancel()
        self._flying.clear()
        if self._away is not None:
            return
        self._away = {bus: None for bus in self.buses if bus.health.connected}
        for bus in self._away:
            bus.go()

        def come() -> None:
            back, self._away = self._away or {}, None
            for bus in back:
                bus.come()

        if away:
            self._loop.call_later(away, come)
        else:
            come()

    def inject(self, subject: str, payload: bytes, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Put raw bytes on a subject: a KV subject, one of a stream, or else LATEST."""
        for name, bucket in self.buckets.items():
            if subject.startswith(key_prefix(name)):
                bucket.write(subject.removeprefix(key_prefix(name)), payload, headers)
                return
        for log in self.logs.values():
            if any(covers(pattern, subject) for pattern in log.stream.subjects):
                log.append(subject, payload, headers)
                return
        self.deliver(Sent(subject, payload, headers))

    def loses_ack(self, subject: str) -> bool:
        """Whether a fault strikes this acknowledgement."""
        return bool(self.faults) and self._strike(subject, ("redeliver",)) is not None

    def _strike(self, subject: str, kinds: tuple[str, ...]) -> Fault | None:
        for fault in self.faults:
            if fault.kind in kinds and covers(fault.subject, subject) and self.random.random() < fault.share:
                return fault
        return None

    # -- LATEST

    def deliver(self, sent: Sent) -> None:
        """Hand a message to everybody who hears it, unless a fault strikes."""
        fault = self._strike(sent.subject, ("drop", "delay", "duplicate")) if self.faults else None
        if fault is None:
            self._deliver(sent)
        elif fault.kind == "delay":
            self._fly(sent, self.random.uniform(fault.least, fault.most))
        elif fault.kind == "duplicate":
            self._deliver(sent)
            self._fly(sent, self.random.uniform(fault.least, fault.most))

    def _fly(self, sent: Sent, delay: Seconds) -> None:
        def land() -> None:
            self._flying.discard(timer)
            self._deliver(sent)

        timer = self._loop.call_later(delay, land)
        self._flying.add(timer)

    def _deliver(self, sent: Sent) -> None:
        groups: dict[str, list[Hearing[Any]]] = {}
        for reader in self.latest.hearing(sent.subject):
            if not reader.bus.health.connected or reader.bus is sent.unheard_by:
                continue
            if reader.queue:
                groups.setdefault(reader.queue, []).append(reader)
            else:
                reader.take(sent)
        for members in groups.values():
            self._turn += 1
            members[self._turn % len(members)].take(sent)


__all__ = ("Fault", "MemoryBroker", "MemoryBus")
