"""The real kube-scheduler with neap as its extender: neap's verdicts decide, and its absence stops nobody.

Three nodes, alike for Kubernetes but for a ballast pod that neap does not know; on neap's ledgers they are the other
way round. So whoever decides can be told from where a pod lands.

    cores free of 8     Kubernetes   neap
    empty               4            8
    half                6            4
    full                8            0
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from neap.common.bus.memory import MemoryBroker
from neap.common.bus.port import Bus
from neap.common.contract.catalogue import CHANNELS, PLACEMENTS, STREAMS, TOPOLOGY, WORKLOAD
from neap.common.host.memory import MemoryHost
from neap.common.kube.objects import NODES, PODS, Pod
from neap.common.kube.port import Kube
from neap.common.model.lifecycle import Submitted
from neap.common.model.placement import Placed
from neap.common.runtime.clock import wall_clock
from neap.common.runtime.run import Running
from neap.common.runtime.service import Outside
from neap.common.telemetry.span import NoTracer
from neap.common.testing.apiserver import ApiServer, find_assets
from neap.gateway.core.door.admission import AdmissionSettings
from neap.gateway.core.door.reply import Answered, Opened, Reply
from neap.gateway.settings import DoorSettings
from neap.gateway.shell.http import connect
from neap.gateway.shell.web import Answers, door
from neap.gateway.shell.weigh import weighed
from neap.scheduler.settings import Settings
from neap.scheduler.wiring import wire
from tests.conftest import SOON
from tests.kube.server import need_assets
from tests.unit.scheduler_world import a_node, an_owner

pytestmark = [pytest.mark.kube, pytest.mark.timeout(5 * SOON)]

CORES, GIB = 8, 32
BALLAST = {"empty": 4, "half": 2, "full": 0}  # cores that Kubernetes knows are taken
HELD = {"empty": 0, "half": 4, "full": 8}  # cores that neap knows are taken; the nodes are called by this
SPACE = "default"
NAP = 0.05
CONFIGURATION = """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {{leaderElect: false}}
clientConnection: {{kubeconfig: {kubeconfig}}}
podInitialBackoffSeconds: 1
podMaxBackoffSeconds: 1
extenders:
- urlPrefix: http://127.0.0.1:{port}
  filterVerb: filter
  prioritizeVerb: prioritize
  weight: 10
  nodeCacheCapable: true
  ignorable: true
  httpTimeout: 30s
"""


class Stage:
    """An API server, a kube-scheduler, a scheduler of neap's that knows the nodes, and the web server between them."""

    def __init__(self, kube: Kube, bus: Bus) -> None:
        self.kube, self.bus = kube, bus
        self.told: list[Answered] = []
        self.port = 0
        self._serving: asyncio.Task[None] | None = None

    async def until(self, holds: Callable[[], Awaitable[Any]], what: str) -> Any:
        answer: Any = None
        with suppress(TimeoutError):
            async with asyncio.timeout(SOON):
                while not (answer := await holds()):  # noqa: ASYNC110  nothing announces it
                    await asyncio.sleep(NAP)
        assert answer, f"not within {SOON:g} s: {what}"
        return answer

    async def serve(self) -> None:
        """The gateway's web server, until it is taken away."""
        opened = asyncio.Event()

        def nothing(path: str, query: Mapping[str, str], accept: str) -> Reply:
            return Reply(status=404)

        answers = Answers(AdmissionSettings(), nothing, healthy=list, weigh=weighed(self.bus, within=SOON / 2))

        async def serving() -> None:
            async with door(DoorSettings(bind="127.0.0.1", port=self.port, deadline=SOON / 2), answers)() as said:
                async for what in said:
                    if isinstance(what, Opened):
                        self.port = what.port
                        opened.set()
                    else:
                        self.told.append(what)

        self._serving = asyncio.ensure_future(serving())
        await asyncio.wait_for(opened.wait(), SOON)

    async def take_away(self) -> None:
        """Nobody listens any more."""
        assert self._serving is not None
        self._serving.cancel()
        await asyncio.wait([self._serving], timeout=SOON)

    async def pod(self, name: str, cores: float, *, ours: bool = True, **spec: Any) -> None:
        metadata = {"name": name, "annotations": {"neap.io/qos-level": "shared_cores"} if ours else {}}
        asked = {"requests": {"cpu": f"{cores * 1000:.0f}m", "memory": f"{cores * 4:.0f}Gi"}}
        container = {"name": "main", "image": "none", "resources": asked}
        await self.kube.create(
            PODS, {"metadata": metadata, "spec": {"containers": [container], **spec}}, namespace=SPACE
        )

    async def lands(self, name: str) -> str:
        async def node() -> str:
            return (await self._read(name)).spec.node_name or ""

        return str(await self.until(node, f"{name} has a node"))

    async def waits(self, name: str) -> str:
        """Why kube-scheduler says that it does not place a pod."""

        async def why() -> str:
            pod = await self._read(name)
            assert not pod.spec.node_name, f"{name} is on {pod.spec.node_name}"
            told = [one.message for one in pod.status.conditions or () if one.type == "PodScheduled"]
            return "".join(told)

        return str(await self.until(why, f"{name} waits, and somebody says why"))

    async def _read(self, name: str) -> Pod:
        return await self.kube.get(PODS, name, namespace=SPACE)


async def a_kube_node(stage: Stage, name: str) -> None:
    labels = {"kubernetes.io/hostname": name}
    await stage.kube.create(NODES, {"metadata": {"name": name, "labels": labels}})
    amounts = {"cpu": str(CORES), "memory": f"{GIB}Gi", "pods": "110"}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ready = {"type": "Ready", "status": "True", "reason": "Test", "lastHeartbeatTime": now, "lastTransitionTime": now}
    status = {"status": {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}}
    await stage.kube.patch(NODES, name, status, subresource="status")
    if BALLAST[name]:
        await stage.pod(f"ballast-{name}", BALLAST[name], ours=False, nodeName=name)


async def a_room(undo: AsyncExitStack, broker: MemoryBroker) -> None:
    """neap's scheduler, and what it knows: machines, and pods that hold a part of them."""
    clock, bus = wall_clock(), broker.bus("test")
    await bus.ensure(STREAMS, CHANNELS)
    outside, stop = Outside(broker.bus("scheduler"), clock, MemoryHost(), NoTracer()), asyncio.Event()
    running = Running(wire(Settings(), outside), outside, count=lambda *_: None, validate=True)
    living = asyncio.ensure_future(running.run(stop))
    undo.push_async_callback(asyncio.wait, [living], timeout=SOON)
    undo.callback(stop.set)
    held = {name: cores for name, cores in HELD.items() if cores}
    for name in HELD:
        node = a_node(name, cores=CORES, gib=GIB, at=clock.now())
        await bus.put(TOPOLOGY.at(node=name), node)
    for name, cores in held.items():
        told = Submitted(at=clock.now(), source="test", workload=an_owner(f"held-{name}", cores=cores), node=name)
        await bus.emit(WORKLOAD.at(namespace="shop", name=f"held-{name}"), told, id=f"held-{name}")
    async with asyncio.timeout(SOON), bus.follow(PLACEMENTS.only()) as entries:
        async for entry in entries:
            message = getattr(entry, "message", None)
            if isinstance(message, Placed):
                del held[message.node]
            if not held:
                break


def launch(server: ApiServer, folder: Path, port: int) -> subprocess.Popen[bytes]:
    configuration = folder / "scheduler.yaml"
    configuration.write_text(CONFIGURATION.format(kubeconfig=server.kubeconfig, port=port))
    with (folder / "kube-scheduler.log").open("ab") as log:
        return subprocess.Popen(
            [str(find_assets() / "kube-scheduler"), f"--config={configuration}", "--secure-port=0", "-v=2"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=folder,
        )  # fmt: skip


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(SOON)


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    need_assets()
    async with AsyncExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="neap-extender-")))
        server = await undo.enter_async_context(ApiServer())
        broker = MemoryBroker()
        stage = Stage(
            await undo.enter_async_context(await connect(kubeconfig=server.kubeconfig)), broker.bus("gateway")
        )
        for name in HELD:
            await a_kube_node(stage, name)
        await a_room(undo, broker)
        await stage.serve()
        undo.push_async_callback(stage.take_away)
        undo.callback(end, launch(server, folder, stage.port))
        yield stage


async def test_pods_land_where_neap_says_never_where_it_forbids_and_anywhere_once_it_is_away() -> None:
    async with staged() as stage:
        await stage.pod("not-ours", 0.1, ours=False)
        assert await stage.lands("not-ours") == "full", "Kubernetes' own rules take the node that it thinks is empty"
        for number in range(3):
            await stage.pod(f"ours-{number}", 0.5)
            assert await stage.lands(f"ours-{number}") == "empty", "neap's score outweighs them"
        await stage.pod("bound-to-full", 0.5, nodeSelector={"kubernetes.io/hostname": "full"})
        why = await stage.waits("bound-to-full")
        assert "1 neap: fit cpu" in why
        await stage.pod("wide", 5)
        why = await stage.waits("wide")  # room on `empty` for neap and on both others for Kubernetes, nowhere for both
        assert "2 neap: fit cpu" in why
        assert "1 neap: fit cpu" in await stage.waits("bound-to-full"), "it still does"
        outcomes = {(one.door, one.outcome) for one in stage.told}
        assert outcomes == {
            ("filter", "filtered"),
            ("prioritize", "scored"),
            ("filter", "passed"),
            ("prioritize", "passed"),
        }
        await stage.take_away()
        with pytest.raises(OSError, match=str(stage.port)):
            await asyncio.open_connection("127.0.0.1", stage.port)
        await stage.pod("left-alone", 5)
        assert await stage.lands("left-alone") in ("half", "full"), "ignorable: it does without"
        await stage.pod("still-ours", 0.5, nodeSelector={"kubernetes.io/hostname": "full"})
        assert await stage.lands("still-ours") == "full"
