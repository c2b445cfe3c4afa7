"""What goes wrong in a simulation, as data: so that a plan can be drawn, printed, shrunk and replayed.

    Simulation(settings, faults=plan(Crash("advisor", "n1", at=600, away=120), Outage(at=900, away=30)))

`at` and `away` are clock seconds, `at` from the day's start. A room or a connection that is struck several times is back
when the last of them has passed; a server that is away already comes back when it was to, and a clock that jumps twice
is right again after the first. What never was away comes back without harm.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from neap.common.bus import memory
from neap.common.units import Seconds
from neap.virtual.simulation import Fault, Simulation

Act: TypeAlias = Callable[[Simulation], Awaitable[None]]


@dataclass(frozen=True)
class Crash:
    """One room of one node ("": a central one) is killed, or asked to stop, and started again after `away`."""

    room: str
    node: str
    at: Seconds
    away: Seconds = 0.0
    asked: bool = False

    async def strike(self, world: Simulation) -> None:
        """End it."""
        world.away[self.room, self.node] += 1
        await (world.end if self.asked else world.crash)(self.room, self.node)

    async def pass_over(self, world: Simulation) -> None:
        """Start it again, if nothing else keeps it away."""
        world.away[self.room, self.node] -= 1
        if not world.away[self.room, self.node]:
            world.start(self.room, self.node)


@dataclass(frozen=True)
class Outage:
    """The bus server restarts: what is in flight is lost, what is stored stays."""

    at: Seconds
    away: Seconds = 0.0

    async def strike(self, world: Simulation) -> None:
        """End it; it comes back by itself."""
        world.broker.restart(self.away)

    async def pass_over(self, world: Simulation) -> None:
        """It is back."""


@dataclass(frozen=True)
class Cut:
    """The rooms of one node ("": the central ones) lose their connections."""

    node: str
    at: Seconds
    away: Seconds

    async def strike(self, world: Simulation) -> None:
        """Take them away."""
        world.cut(self.node)

    async def pass_over(self, world: Simulation) -> None:
        """Bring them back."""
        world.mend(self.node)


@dataclass(frozen=True)
class Noise:
    """For a while a share of the messages on matching subjects is dropped, late, doubled, or its acknowledgement lost."""

    subject: str
    kind: Literal["drop", "delay", "duplicate", "redeliver"]
    at: Seconds
    away: Seconds
    share: float = 1.0
    most: Seconds = 0.0  # of a delay

    async def strike(self, world: Simulation) -> None:
        """Begin."""
        world.broker.faults.append(self._rule())

    async def pass_over(self, world: Simulation) -> None:
        """End."""
        world.broker.faults.remove(self._rule())

    def _rule(self) -> memory.Fault:
        return memory.Fault(self.subject, self.kind, share=self.share, most=self.most)


@dataclass(frozen=True)
class Jump:
    """A room of a node starts anew with a clock that is wrong, and anew with a right one after `away`.

    A running process anchors its clock once, so a jump of the wall reaches it with its next life.
    """

    room: str
    node: str
    by: Seconds  # ahead; negative: behind
    at: Seconds
    away: Seconds

    async def strike(self, world: Simulation) -> None:
        """Jump."""
        world.skew[self.room, self.node] = self.by
        await self._again(world)

    async def pass_over(self, world: Simulation) -> None:
        """Jump back."""
        world.skew.pop((self.room, self.node), None)
        await self._again(world)

    async def _again(self, world: Simulation) -> None:
        if (self.room, self.node) in world.parts:  # else it finds the clock when it is started
            await world.crash(self.room, self.node)
            world.start(self.room, self.node)


@dataclass(frozen=True)
class SlowDisk:
    """What the bus stores is acknowledged up to `most` seconds late, if its writer waits so long."""

    at: Seconds
    away: Seconds
    most: Seconds = 4.0

    async def strike(self, world: Simulation) -> None:
        """Begin."""
        world.broker.slow.append(self.most)

    async def pass_over(self, world: Simulation) -> None:
        """End."""
        world.broker.slow.remove(self.most)


Trouble: TypeAlias = Crash | Outage | Cut | Noise | Jump | SlowDisk


def plan(*troubles: Trouble) -> list[Fault]:
    """Both ends of every trouble, for `Simulation(faults=...)`."""
    return [end for one in troubles for end in ((one.at, one.strike), (one.at + one.away, one.pass_over))]


def over_at(troubles: Sequence[Trouble]) -> Seconds:
    """When the last of them has passed, in seconds after the day's start; a late message lands within this too."""
    late = (one.most if isinstance(one, Noise | SlowDisk) else 0.0 for one in troubles)
    return max((one.at + one.away + more for one, more in zip(troubles, late, strict=True)), default=0.0)
