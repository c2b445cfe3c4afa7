"""A cluster for the journeys: a real API server and its real controllers, a real nats-server, virtual nodes, every room.

    async with Cluster(nodes=50) as cluster:
        await cluster.kubectl("apply", "-f", "-", said=manifest)
        await cluster.until(lambda: cluster.running("default", 3), "three pods run")

The rooms share this process, each node's one connection; the machines are virtual, everything else is what it is in production.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import yaml

from neap.common.bus.nats import NatsBus, connect
from neap.common.contract.catalogue import CHANNELS, STREAMS
from neap.common.host.memory import MemoryHost
from neap.common.kube.port import Kube
from neap.common.runtime.clock import Clock, wall_clock
from neap.common.runtime.launch import find_room
from neap.common.runtime.run import Running
from neap.common.runtime.service import Outside, Service
from neap.common.runtime.settings import Sources
from neap.common.telemetry.span import NoTracer
from neap.common.testing.apiserver import ApiServer, find_assets
from neap.common.testing.natsd import NatsServer
from neap.common.units import Seconds
from neap.gateway.settings import DoorSettings
from neap.gateway.shell.http import connect as connect_kube
from neap.virtual.hollow import HollowNodes
from neap.virtual.settings import Settings as VirtualSettings
from neap.virtual.world import VirtualWorld, make_world
from tests.conftest import SOON
from tests.sim.small import examples

ROOT: Final = Path(__file__).parents[2]
ON_NODES: Final = ("reporter", "advisor", "enforcer", "evictor", "gpushare")
NAP: Final[Seconds] = 0.2
LONG: Final[Seconds] = 6 * SOON  # real controllers and fifty nodes on a small machine


def pace(period: Seconds) -> dict[str, str]:
    """Settings of rooms that look every `period` seconds."""
    every = {f"{room}.period": f"{period}" for room in ("reporter", "advisor", "enforcer")}
    return every | {"gpushare.retell": f"{5 * period}", "enforcer.grace": f"{60 * period}", "advisor.stale_after": "30"}


class Cluster:
    """See module docstring.

    Args:
        nodes: virtual ones, every sixth with cards.
        period: between two reports of a node.
        programs: controllers of Kubernetes to run, with their flags.
        rooms: on every node.
        settings: `section.key` of any room.
    """

    def __init__(
        self,
        *,
        nodes: int = 50,
        period: Seconds = 4.0,
        programs: Sequence[str] = ("kube-controller-manager", "kube-scheduler"),
        rooms: Sequence[str] = ON_NODES,
        settings: dict[str, str] | None = None,
    ) -> None:
        self.server, self.nats = ApiServer(), NatsServer()
        self._nodes, self._period, self._programs, self._rooms = nodes, period, tuple(programs), tuple(rooms)
        self._sources = Sources(overrides={**pace(period), **(settings or {})})
        self._undo = AsyncExitStack()
        self._home = tempfile.TemporaryDirectory(prefix="neap-journey-")
        self.counts: dict[str, float] = {}
        self._door = DoorSettings()
        self.world: VirtualWorld
        self.kube: Kube
        self.bus: NatsBus
        self.clock: Clock = wall_clock()
        self.tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        try:
            await self._open(self._undo)
        except BaseException:
            await self._undo.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._undo.__aexit__(kind, error, trace)

    async def _open(self, undo: AsyncExitStack) -> None:
        undo.callback(self._home.cleanup)
        await undo.enter_async_context(self.server)
        await undo.enter_async_context(self.nats)
        await self.kubectl("apply", "--server-side", "-k", str(ROOT / "deploy/k8s/base/crds"))
        await self.kubectl("create", "namespace", "neap-system")
        pair = self.server.ca  # its certificate is for 127.0.0.1, and its key beside it
        self._door = DoorSettings(
            bind="127.0.0.1", port=_free_port(), certificate=pair, key=pair.removesuffix(".crt") + ".key"
        )
        for program in self._programs:
            undo.callback(_end, self._launch(program))
        self.kube, kubelets = await self.connect(), await self.connect()
        self.bus = await undo.enter_async_context(_closing(await self._uplink("watching")))
        await self.bus.ensure(STREAMS, CHANNELS)
        virtual = VirtualSettings(nodes=self._nodes, seed=1, examples=str(examples()), file="", length=1.0)
        self.world = make_world(virtual, self.clock)
        group = await undo.enter_async_context(_Cancelling())
        group.start(HollowNodes(kubelets, self.world.hosts, self.clock, step=self._period / 2).run())
        await self._start_rooms(undo, group)
        await self._install_webhooks()

    async def connect(self) -> Kube:
        """A client of its own."""
        kube = await connect_kube(kubeconfig=self.server.kubeconfig)
        self._undo.push_async_callback(kube.close)
        return kube

    async def kubectl(self, *arguments: str, said: str = "") -> str:
        """See ApiServer."""
        return await self.server.kubectl(*arguments, said=said)

    async def read(self, *arguments: str) -> Any:
        """What `kubectl get ... -o json` answers."""
        return json.loads(await self.kubectl("get", *arguments, "-o", "json"))

    async def until(self, holds: Callable[[], Awaitable[Any]], what: str, *, within: Seconds = LONG) -> Any:
        """Wait, bounded, until something holds; what it answered.

        Raises:
            AssertionError: it did not, with which rooms ended, and what all counted.
        """
        answer: Any = None
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while not (answer := await holds()):  # noqa: ASYNC110  nothing announces it
                    await asyncio.sleep(NAP)
        failed = [key for key, task in self.tasks.items() if task.done()]
        assert answer, f"not within {within:g} s: {what}; ended: {failed}; counted: {self.counts}"
        return answer

    # -- how

    async def _install_webhooks(self) -> None:
        """As deploy/k8s has them, but for where they are."""
        for document in yaml.safe_load_all((ROOT / "deploy/k8s/base/cluster/webhooks.yaml").read_text()):
            for hook in document["webhooks"]:
                path = hook["clientConfig"]["service"]["path"]
                trust = base64.b64encode(Path(self.server.ca).read_bytes()).decode()
                hook["clientConfig"] = {"url": f"https://127.0.0.1:{self._door.port}{path}", "caBundle": trust}
            await self.kubectl("apply", "-f", "-", said=json.dumps(document))

    async def _uplink(self, name: str) -> NatsBus:
        return await connect(self.nats.url, name=name, within=SOON)

    async def _start_rooms(self, undo: AsyncExitStack, group: _Cancelling) -> None:
        for node, host in self.world.hosts.items():
            bus = await undo.enter_async_context(_closing(await self._uplink(f"agent@{node}")))
            for name in self._rooms:
                self._start(group, name, node, Outside(bus, self.clock, host, NoTracer()))
        for name in ("scheduler", "gateway"):
            bus = await undo.enter_async_context(_closing(await self._uplink(name)))
            self._start(group, name, "", Outside(bus, self.clock, MemoryHost(), NoTracer()))

    def _start(self, group: _Cancelling, name: str, node: str, outside: Outside) -> None:
        room = find_room(name)
        settings = self._sources.load(room.settings, name)
        if node:
            settings = msgspec.structs.replace(settings, node=node)
        if name == "gateway":
            settings = msgspec.structs.replace(settings, kubeconfig=self.server.kubeconfig, door=self._door)
        service: Service = room.wire(settings, outside)
        running = Running(service, outside, count=self._count)
        self.tasks[name, node] = group.start(running.run(asyncio.Event()))

    def _count(self, metric: str, by: float, labels: dict[str, str]) -> None:
        told = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
        key = f"{metric}{{{told}}}"
        self.counts[key] = self.counts.get(key, 0.0) + by

    def _launch(self, program: str) -> subprocess.Popen[bytes]:
        own = ("--bind-address=127.0.0.1", "--secure-port=0", "--leader-elect=false")
        flags = {"kube-controller-manager": ("--use-service-account-credentials=false", "--controllers=*")}
        with (Path(self._home.name) / f"{program}.log").open("ab") as log:
            return subprocess.Popen(
                [str(find_assets() / program), f"--kubeconfig={self.server.kubeconfig}", *own, *flags.get(program, ())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=self._home.name,
            )  # fmt: skip


class _Cancelling:
    """Tasks that are cancelled at the end."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.append(task)
        return task

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _closing:  # noqa: N801
    def __init__(self, bus: NatsBus) -> None:
        self._bus = bus

    async def __aenter__(self) -> NatsBus:
        return self._bus

    async def __aexit__(self, *_: object) -> None:
        with suppress(Exception):
            await self._bus.close()


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(SOON)
