"""Bindings per second on a real API server: one gateway and one scheduler, each a process of its own, 1,000 nodes.

Ten thousand pods wait in the API before anybody looks. The gateway reads and submits them all; then the scheduler starts,
and the clock runs from the first binding the API tells of to the last. API server, etcd, nats-server, scheduler, gateway
and this process share the machine's cores, so the API server's own part of them is told beside it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import WORKLOAD
from neap.common.errors import PortError
from neap.common.kube.objects import NAMESPACES, NODES, PODS
from neap.common.kube.port import Kube
from neap.common.model.lifecycle import Submitted
from neap.common.runtime.clock import stopwatch
from neap.common.testing.apiserver import ApiServer, find_assets
from neap.console.shell.stack import spawn
from neap.gateway.shell.http import connect
from tests.bench.measure import Row
from tests.bench.place import LONGEST, a_bus, a_node, a_scheduler, describe

MACHINES, WAITING = 1_000, 10_000
ABREAST: Final = 32
BINDS_GOAL, MEMORY_GOAL = 300.0, 150.0
TICKS: Final = os.sysconf("SC_CLK_TCK")


async def rows() -> AsyncIterator[Row]:
    try:
        find_assets()
    except PortError as error:
        yield Row(name="bindings on a real API server", value=0.0, unit="", note=f"not measured: {error}")
        return
    async with ApiServer() as server, a_bus() as (url, bus):
        kube = await connect(kubeconfig=server.kubeconfig)
        try:
            await fill(kube)
            await describe(bus, (a_node(n) for n in range(MACHINES)))
            async with a_gateway(url, server.kubeconfig) as gateway:
                began = stopwatch()
                await all_submitted(bus)
                read = stopwatch() - began
                async with counted(kube) as bound, a_scheduler(url, bus):
                    seconds, share = await all_bound(bound, server.pid)
                memory = resident(gateway)
        finally:
            await kube.close()
    yield Row(name=f"bindings on a real API server, one gateway, {MACHINES:,} nodes", value=WAITING / seconds, unit="binds/s",
              at_least=BINDS_GOAL, note=f"{WAITING:,} in {seconds:.1f} s; API server: {share:.2f} cores")  # fmt: skip
    yield Row(name=f"gateway with {WAITING:,} pods: memory", value=memory, unit="MiB", at_most=MEMORY_GOAL)
    yield Row(name=f"gateway: {WAITING:,} pods read from the API and submitted", value=read, unit="s")


async def fill(kube: Kube) -> None:
    """Nodes and pods, as an administrator and a controller would leave them."""
    amounts = {"cpu": "64", "memory": "256Gi", "pods": "250"}
    spec = {
        "schedulerName": "neap",
        "containers": [{"name": "main", "image": "shop/cart:1.4.2", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}],
    }  # fmt: skip
    await kube.create(NAMESPACES, {"metadata": {"name": "neap-system"}})

    async def node(number: int) -> None:
        name = a_node(number).node
        await kube.create(NODES, {"metadata": {"name": name}})
        ready = {"conditions": [{"type": "Ready", "status": "True"}], "capacity": amounts, "allocatable": amounts}
        await kube.patch(NODES, name, {"status": ready}, subresource="status")

    async def pod(number: int) -> None:
        labels = {"app": f"s{number % 200}", "pod-template-hash": "5f7c6d967f"}
        body = {"metadata": {"name": f"p{number}", "labels": labels}, "spec": spec}
        await kube.create(PODS, body, namespace="default")

    await side_by_side([node(number) for number in range(MACHINES)])
    await side_by_side([pod(number) for number in range(WAITING)])


async def side_by_side(works: list[Any]) -> None:
    """All of them, some at a time."""
    lanes = asyncio.Semaphore(ABREAST)

    async def one(work: Any) -> None:
        async with lanes:
            await work

    await asyncio.gather(*(one(work) for work in works))


@asynccontextmanager
async def a_gateway(url: str, kubeconfig: str) -> AsyncIterator[int]:
    """A process with its defaults; its pid."""
    with tempfile.TemporaryDirectory() as folder:
        told = (f"process.nats_url={url}", f"gateway.kubeconfig={kubeconfig}", "gateway.serve=false")
        command = [sys.executable, "-m", "neap.gateway", *(part for pair in told for part in ("--set", pair))]
        process = await spawn(command, log=Path(folder) / "log")
        try:
            yield process.pid
        finally:
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(LONGEST):
                await process.wait()


async def all_submitted(bus: Bus) -> None:
    """Until every pod is on the stream."""
    seen: set[str] = set()
    async with asyncio.timeout(LONGEST), bus.follow(WORKLOAD.only()) as items:
        async for item in items:
            if isinstance(item, Received) and isinstance(item.message, Submitted):
                seen.add(item.message.workload.uid)
                if len(seen) == WAITING:
                    return


@asynccontextmanager
async def counted(kube: Kube) -> AsyncIterator[asyncio.Queue[float]]:
    """When the API told of each binding."""
    bound: asyncio.Queue[float] = asyncio.Queue()
    version = (await kube.list(NAMESPACES)).version

    async def look() -> None:
        seen: set[str] = set()
        async with kube.watch(PODS, version=version, within=2 * LONGEST) as changes:
            async for change in changes:
                pod = change.object
                if pod is not None and pod.spec.node_name and pod.metadata.uid not in seen:
                    seen.add(pod.metadata.uid)
                    bound.put_nowait(stopwatch())

    looking = asyncio.ensure_future(look())
    try:
        yield bound
    finally:
        looking.cancel()


async def all_bound(bound: asyncio.Queue[float], server: int) -> tuple[float, float]:
    """Seconds from the first to the last binding; cores the API server used meanwhile."""
    async with asyncio.timeout(LONGEST):
        first, before = await bound.get(), worked(server)
        last = first
        for _ in range(WAITING - 1):
            last = await bound.get()
    return last - first, (worked(server) - before) / (last - first)


def worked(pid: int) -> float:
    """CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int) -> float:
    """MiB a process holds now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
