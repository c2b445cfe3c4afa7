"""A few API endpoints in memory behind SteadyKube, under virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

from neap.common.kube.memory import MemoryCluster, MemoryKube
from neap.common.kube.objects import NAMESPACES, PODS, Pod
from neap.common.kube.port import Kube
from neap.common.runtime.clock import Clock, loop_clock
from neap.gateway.core.asking.flow import Flow, FlowSettings
from neap.gateway.shell.steady import SteadyKube

SPACE = "shop"
WIDE = FlowSettings(rate=100_000.0, burst=100_000.0, limits=())  # nothing waits


class World:
    """Endpoints of one cluster, and the client that spreads its requests over them."""

    def __init__(self, settings: FlowSettings = WIDE, names: Sequence[str] = ("a", "b"), seed: int = 7) -> None:
        self.clock: Clock = loop_clock(asyncio.get_running_loop(), epoch=1000.0)
        self.cluster = MemoryCluster(now=self.clock.now, random=Random(seed))
        self.ends: dict[str, MemoryKube] = {name: self.cluster.endpoint(name) for name in names}
        self.truth = self.cluster.endpoint("truth")  # the test's own way in, past all faults of endpoints
        self.flow = Flow(settings, names)
        self.kube = SteadyKube(self.ends, self.flow, self.clock)

    async def fill(self, pods: int = 1) -> None:
        await self.truth.create(NAMESPACES, {"metadata": {"name": SPACE}})
        for number in range(pods):
            await self.pod(f"p{number}")

    async def pod(self, name: str) -> Pod:
        return await make_pod(self.truth, name)

    def served(self) -> dict[str, int]:
        return {each.name: each.served for each in self.flow.endpoints()}

    def timeline(self, name: str) -> list[tuple[float, str]]:
        (mine,) = [each for each in self.flow.endpoints() if each.name == name]
        return [(round(turn.at - 1000.0, 2), turn.state) for turn in mine.timeline]


async def make_pod(kube: Kube, name: str, **metadata: Any) -> Pod:
    spec = {"containers": [{"name": "main", "image": "none"}]}
    return await kube.create(PODS, {"metadata": {"name": name, **metadata}, "spec": spec}, namespace=SPACE)
