"""The service "virtual": all virtual nodes, and the day replayed on them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Final

from neap.common.contract.catalogue import DAY_REPORT, EVICTIONS, PLACEMENTS, WORKLOAD
from neap.common.errors import InputError, SettingsError
from neap.common.host.remote import serve_hosts
from neap.common.runtime.clock import Clock
from neap.common.runtime.service import Outside, Service, consume, every, follow, watch
from neap.virtual.behaviour import Origin
from neap.virtual.kubelet import AdvanceHosts, KubeletMachine, StartPod, StopPod
from neap.virtual.machine import CloseHosts, OpenHosts, VirtualMachine
from neap.virtual.past import past_of
from neap.virtual.settings import Settings
from neap.virtual.slices import CURVE_STEP
from neap.virtual.submitter import SubmitterMachine
from neap.virtual.tally import Step, Tally, condense
from neap.virtual.world import VirtualWorld, make_world

SETTINGS: Final = Settings


def wire(settings: Settings, outside: Outside) -> Service:
    """The service as a process runs it: it builds its own world; `outside.host` is not used.

    Raises:
        SettingsError: there is no such day, or no machine to live through it.
    """
    try:
        world = make_world(settings, outside.clock)
    except InputError as error:
        raise SettingsError(f"virtual: {error}") from None
    return wire_world(settings, world, outside.clock)


def wire_world(settings: Settings, world: VirtualWorld, clock: Clock) -> Service:
    """The service on a world somebody else built, and may share with node services of the same process."""
    hardware = Hardware(settings.socket, world, clock)
    tally = Tally(
        world.day, nodes=len(world.hosts), capacity=sum(shape.cores for shape in world.shapes), step=settings.step
    )
    origin = Origin(world.day.start, CURVE_STEP, settings.seed)
    return Service(
        "virtual",
        "",
        machine=VirtualMachine(
            KubeletMachine(settings, world.day, world.curves, origin, tally),
            SubmitterMachine(settings, world.day),
            past=lambda at: past_of(world.day, world.curves, origin, settings.past, min(at, world.day.start)),
        ),
        routes=(
            follow(PLACEMENTS.only()),
            follow(WORKLOAD.only()),
            watch(DAY_REPORT.only(cluster=settings.cluster)),
            consume(EVICTIONS.only(), durable="virtual-kubelet"),
            every(settings.step, "advance"),
        ),
        effects={
            StartPod: hardware.start,
            StopPod: hardware.stop,
            AdvanceHosts: hardware.advance,
            OpenHosts: hardware.open,
            CloseHosts: hardware.close,
        },
    )


class Hardware:
    """Carries the machine's instructions to the hosts."""

    def __init__(self, socket: str, world: VirtualWorld, clock: Clock) -> None:
        self._socket, self._hosts, self._clock = socket, world.hosts, clock
        self._door: AsyncExitStack | None = None
        self._opened = False

    async def start(self, start: StartPod) -> bool:
        """Start a pod.

        Raises:
            InputError: there is no such node here, or it does not take the pod.
        """
        host = self._hosts.get(start.node)
        if host is None:
            raise InputError(f"{start.node} is no virtual node (there are {len(self._hosts)})")
        host.start(start.pod, at=self._clock.now())
        return True

    async def stop(self, stop: StopPod) -> None:
        """Stop a pod."""
        host = self._hosts.get(stop.node)
        if host is not None:
            host.stop(stop.uid)

    async def advance(self, advance: AdvanceHosts) -> Step:
        """Let time pass on every host."""
        finished = [ended for host in self._hosts.values() for ended in host.advance(advance.to)]
        return condense(advance.to, [host.observe() for host in self._hosts.values()], finished)

    async def open(self, _: OpenHosts) -> None:
        """Serve the files, once. What a killed predecessor in this process left running ends first, as it would with it."""
        if self._opened:
            return
        self._opened = True
        for host in self._hosts.values():
            for uid in host.pods:
                host.stop(uid)
        if self._socket:
            for host in self._hosts.values():
                host.live_by(self._clock.now)
            self._door = AsyncExitStack()
            await self._door.enter_async_context(serve_hosts(self._socket, self._hosts))

    async def close(self, _: CloseHosts) -> None:
        """Close the socket."""
        if self._door is not None:
            await self._door.aclose()
            self._door = None
