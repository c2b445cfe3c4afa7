"""What must hold once the troubles are over: nobody is held back without a plan, and no room hangs on to the past."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from neap.advisor.core.remembered import Memory, PoolMemory
from neap.advisor.core.waking import AskReports
from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import (
    ADVICE,
    APART,
    EVICTING,
    EVICTION_TOKENS,
    HEADROOM,
    MEMORY,
    PLACEMENTS,
    TOPOLOGY,
)
from neap.common.cpuset import parse_cpuset
from neap.common.errors import PortError
from neap.common.model.advice import Knobs, NodeAdvice
from neap.common.model.memory import RoomMemory
from neap.common.model.resource import RECLAIMED_CPU
from neap.common.model.usage import Reports
from neap.common.runtime.machine import Arrived, Done, Event, Instruction, Put, Synced
from neap.common.runtime.remembering import RememberingMachine
from neap.common.runtime.service import Follow, Watch
from neap.evictor.settings import Settings as EvictorSettings
from neap.virtual.history import stored
from neap.virtual.kernel import VirtualHost
from neap.virtual.simulation import Simulation

KUBEPODS = "/sys/fs/cgroup/kubepods"
HOMES = ("", "/burstable", "/besteffort")
EXACTLY = ("pods", "pools", "watches")  # of two advisors' memories
ABOUT = 0.02  # of an offer, or of the node's CPUs
STEP = 1  # CPU by which guests' pool may grow a round: one life had a round without a report, the other had not


def narrow(host: VirtualHost, advice: NodeAdvice) -> Iterator[str]:
    """Knobs of a node that hold somebody back further than its advice says."""
    said = {cgroup.target: cgroup.knobs for cgroup in advice.cgroups}
    places = {f"class/{home[1:]}": f"{KUBEPODS}{home}" for home in HOMES[1:]}
    places |= {f"pod/{uid}": f"{KUBEPODS}{home}/pod{uid}" for uid in host.pods for home in HOMES}
    for target, path in places.items():
        knobs = said.get(target, Knobs())
        where = f"{host.node} {target}"
        if (cpus := _read(host, f"{path}/cpuset.cpus")) and (
            lacks := parse_cpuset(knobs.cpus or cpus) - parse_cpuset(cpus)
        ):
            yield f"{where} lacks CPUs {sorted(lacks)} of {knobs.cpus}"
        if cpus and knobs.cpus is None:
            yield f"{where} is held to CPUs {cpus}, and no advice says so"
        for file, most in (("memory.high", knobs.memory_high), ("memory.max", knobs.memory_max)):
            least = math.inf if most is None or most < 0 else most // 4096 * 4096
            if target.startswith("class/") and _amount(_read(host, f"{path}/{file}")) < least:
                yield f"{where} has {file} {_read(host, f'{path}/{file}')}, its advice is {most}"
        quota = (_read(host, f"{path}/cpu.max") or "max 100000").split()
        if (
            target.startswith("class/")
            and quota[0] != "max"
            and int(quota[0]) < 1e5 * (knobs.cpu_max or math.inf) - 1e3
        ):
            yield f"{where} has cpu.max {' '.join(quota)}, its advice is {knobs.cpu_max}"


def _read(host: VirtualHost, path: str) -> str:
    try:
        return host.read(path).strip()
    except PortError:
        return ""


def _amount(text: str) -> float:
    return math.inf if text in ("", "max") else float(text)


async def left_behind(world: Simulation, bus: Bus) -> list[str]:
    """Everything by which somebody is still held back, though nothing is wrong any more."""
    found: list[str] = []
    now, rules = world.clock.now(), EvictorSettings()
    for node in world.nodes:
        advice = await bus.get(ADVICE.at(node=node))
        if advice is not None:
            found += narrow(world.host(node), advice.message)
        evicting = await bus.get(EVICTING.at(node=node))
        if evicting is not None and evicting.message.paused_until:
            found.append(
                f"{node}: evictions are paused until {evicting.message.paused_until:.0f}, and nobody wished it"
            )
        if evicting is not None and evicting.message.until > now + rules.reopen * world.virtual.step:
            found.append(f"{node} is closed to guests for {evicting.message.until - now:.0f} s more")
    async with bus.watch(EVICTION_TOKENS.only()) as items:
        async for item in items:
            if not isinstance(item, Received):
                break
            if item.message.until > now + rules.shared.window:
                found.append(f"token {item.subject} is taken for {item.message.until - now:.0f} s more")
    return found


class Shadow:
    """An advisor that begins its life now, with the memory of the running one, and hears what that one hears."""

    def __init__(self, world: Simulation, bus: Bus, node: str) -> None:
        self.node = node
        self._running = _advisor(world, node)
        service, _ = world.wire("advisor", node, world.broker.bus(f"shadow.{node}"))
        assert isinstance(service.machine, RememberingMachine)
        self._new, self._service, self._bus, self._world = service.machine, service, bus, world
        self.advice: dict[str, NodeAdvice] = {}

    async def begin(self) -> None:
        """Read what is stored, and listen in from now on; nothing happens in between."""
        now = self._world.clock.now()
        known: list[Any] = [
            await self._bus.get(TOPOLOGY.at(node=self.node)),
            await self._bus.get(ADVICE.at(node=self.node)),
        ]
        known += [await self._bus.get(APART.at(node=self.node)), await self._bus.get(HEADROOM.at(node=self.node))]
        known += [item for item in await stored(self._bus, PLACEMENTS) if item.message.node == self.node]
        what = msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(self._memory(self._running), str_keys=True)))
        memory = RoomMemory(at=now, source="advisor", node=self.node, room="advisor", what=what)
        events: list[Event] = [Arrived(now, item.message, item.subject, item.seq) for item in known if item is not None]
        events.append(Arrived(now, memory, MEMORY.at(room="advisor", node=self.node).subject))
        events += [
            Synced(now, route.only.channel) for route in self._service.routes if isinstance(route, Watch | Follow)
        ]
        for event in events:
            said = self._new.handle(event)
            self._keep("new", said)
            for asked in said:
                if isinstance(asked, AskReports):  # nothing was missed: the memory is of now
                    self._keep("new", self._new.handle(Done(now, asked, Reports(complete=True))))
        handle = self._running.handle

        def both(event: Event) -> Sequence[Instruction]:
            self._keep("new", self._new.handle(event))
            said = handle(event)
            self._keep("running", said)
            return said

        self._running.handle = both  # type: ignore[method-assign]

    def _keep(self, who: str, said: Sequence[Instruction]) -> None:
        for one in said:
            if isinstance(one, Put) and isinstance(one.value, NodeAdvice):
                self.advice[who] = one.value

    @staticmethod
    def _memory(machine: RememberingMachine[Any]) -> Memory:
        memory: Memory = machine.machine.memory  # type: ignore[attr-defined]
        return memory

    def unlike(self) -> Iterator[str]:
        """How the two differ by now, in what they know and in what they last advised."""
        if _advisor(self._world, self.node) is not self._running:
            return
        one, two = self._memory(self._running), self._memory(self._new)
        for name in EXACTLY:
            knows, new = _settled(getattr(one, name)), _settled(getattr(two, name))
            if knows != new:
                odd = {
                    key: (knows.get(key), new.get(key))
                    for key in knows.keys() | new.keys()
                    if knows.get(key) != new.get(key)
                }
                yield f"{self.node}: of {name} the running advisor and a new one know {odd}"
        offers = [memory.lending.offer if memory.lending is not None else {} for memory in (one, two)]
        for kind in sorted(offers[0].keys() | offers[1].keys()):
            low, high = sorted(offer.get(kind, 0) for offer in offers)
            node = 1000 * len(self._world.host(self.node).machine.cpus)
            if high - low > max(ABOUT * high, ABOUT * node if kind == RECLAIMED_CPU else 0):
                yield f"{self.node}: the running advisor and a new one offer {low} and {high} {kind}"
        pools = [{pool.name: len(parse_cpuset(pool.cpus)) for pool in advice.pools} for advice in self.advice.values()]
        for name in sorted({name for pool in pools for name in pool}):
            few, many = min(pool.get(name, 0) for pool in pools), max(pool.get(name, 0) for pool in pools)
            if many - few > STEP:
                yield f"{self.node}: the running advisor and a new one give {few} and {many} CPUs to {name}"


def _settled(known: dict[str, Any]) -> dict[str, Any]:
    """Of pools the newest need and what the policy knows.

    A placement before the first report raises the need before for who had a report; and after a full report was lost
    a new advisor takes short ones for less than one that heard them all.
    """
    return {key: (one.needs[-1:], one.policy) if isinstance(one, PoolMemory) else one for key, one in known.items()}


def _advisor(world: Simulation, node: str) -> RememberingMachine[Any]:
    machine = world.parts["advisor", node].running.service.machine
    assert isinstance(machine, RememberingMachine)
    return machine
