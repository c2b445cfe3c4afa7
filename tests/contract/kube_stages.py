"""The stage of the Kube contract: an API server in memory, or a real one."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import pytest

from neap.common.errors import Conflict, Unavailable
from neap.common.kube.kind import Kind
from neap.common.kube.memory import MemoryCluster
from neap.common.kube.objects import NAMESPACES, NODES, PODS, Node, Pod, Whatever
from neap.common.kube.port import Kube
from neap.common.runtime.clock import wall_seconds
from neap.common.testing.apiserver import ApiServer
from neap.gateway.shell.http import connect
from tests.conftest import SOON
from tests.kube.server import STRANGER

CONFIG_MAPS = Kind("", "v1", "configmaps", "ConfigMap", Whatever)
WIDE_PODS: Kind[dict[str, Any]] = Kind("", "v1", "pods", "Pod", dict[str, Any])
WIDE_DEPLOYMENTS: Kind[dict[str, Any]] = Kind("apps", "v1", "deployments", "Deployment", dict[str, Any])
WIDE_CONFIG_MAPS: Kind[dict[str, Any]] = Kind("", "v1", "configmaps", "ConfigMap", dict[str, Any])
NAP = 0.02

_names = itertools.count(1)


class Stage(Protocol):
    """What the suite needs beside the port: somebody without rights, and what befalls servers."""

    kube: Kube
    stranger: Kube
    space: str

    async def forget(self) -> None: ...
    async def go(self) -> None: ...
    async def come(self) -> None: ...


class MemoryStage:
    def __init__(self) -> None:
        self.cluster = MemoryCluster(now=wall_seconds)
        self.kube = self.cluster.endpoint()
        self.stranger = self.cluster.endpoint(STRANGER, may=lambda *_: False)
        self.space = ""

    async def forget(self) -> None:
        self.cluster.compact()

    async def go(self) -> None:
        self.kube.go()

    async def come(self) -> None:
        self.kube.come()


class RealStage:
    def __init__(self, server: ApiServer, kube: Kube, stranger: Kube) -> None:
        self.server, self.kube, self.stranger = server, kube, stranger
        self.space = ""

    async def forget(self) -> None:
        await self.server.forget()

    async def go(self) -> None:
        await self.server.kill()

    async def come(self) -> None:
        await self.server.start()


@pytest.fixture
async def memory_kube_stage() -> MemoryStage:
    stage = MemoryStage()
    stage.space = await _space(stage.kube)
    return stage


@pytest.fixture
async def real_kube_stage(api_server: ApiServer) -> AsyncIterator[RealStage]:
    stranger = api_server.kubeconfig_of(STRANGER)
    async with (
        await connect(kubeconfig=api_server.kubeconfig, call=SOON) as kube,
        await connect(kubeconfig=stranger, call=SOON) as other,
    ):
        stage = RealStage(api_server, kube, other)
        stage.space = await _space(kube)
        yield stage
        await api_server.start()  # whatever the test did to it


async def _space(kube: Kube) -> str:
    """Every test has a namespace of its own."""
    made = await patiently(lambda: kube.create(NAMESPACES, {"metadata": {"name": fresh("space")}}))
    return str(made.metadata.name)


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.kube)])
def kube_stage(request: pytest.FixtureRequest) -> Any:
    """Each promise is kept by both."""
    return request.getfixturevalue(f"{request.param}_kube_stage")


def fresh(stem: str) -> str:
    """A name that nobody had yet."""
    return f"{stem}-{next(_names)}"


def pod_named(name: str, **metadata: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": "none", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]
    return {"metadata": {"name": name, **metadata}, "spec": {"containers": containers}}


async def make_pod(stage: Stage, name: str = "", **metadata: Any) -> Pod:
    return await stage.kube.create(PODS, pod_named(name or fresh("pod"), **metadata), namespace=stage.space)


async def make_node(stage: Stage) -> Node:
    return await stage.kube.create(NODES, {"metadata": {"name": fresh("node")}})


async def run_pod(stage: Stage, pod: Pod, node: str) -> Pod:
    """Bound, and said to be running and ready by whoever plays its kubelet."""
    name = pod.metadata.name
    await stage.kube.bind(stage.space, name, uid=pod.metadata.uid, node=node)
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    return await stage.kube.patch(PODS, name, {"status": status}, namespace=stage.space, subresource="status")


async def patiently(ask: Callable[[], Awaitable[Any]]) -> Any:
    """What it answers once the server has come to itself: caches fill up after it says that it is ready."""
    async with asyncio.timeout(SOON):
        while True:
            try:
                return await ask()
            except Unavailable:
                await asyncio.sleep(NAP)


async def eventually(ask: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(SOON):
        while not await ask():  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(NAP)


async def refused_or_done(work: Awaitable[Any]) -> bool:
    """False if it was a conflict."""
    try:
        await work
    except Conflict:
        return False
    return True
