"""`neap node NAME`: one node of the cluster, as the bus knows it."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from neap.common.bus.port import CaughtUp, Received
from neap.common.contract.catalogue import ADVICE, ENFORCEMENT, HEADROOM, NODE_USAGE, TOPOLOGY
from neap.common.errors import InputError
from neap.common.units import Seconds
from neap.console.core.nodeview import NodeView
from neap.console.shell.reading import open_bus
from neap.console.shell.submitting import cluster_clock

REPORT_WAIT: Final[Seconds] = 2.5  # for the next usage report, which may never come
FULL_WAIT: Final[Seconds] = 10.0  # for one that lists every container, once there are reports


async def show_cluster_node(name: str, url: str) -> str:
    """Everything stored about a node, and its next usage report.

    Raises:
        InputError: nobody ever said anything about such a node.
        PortError: no bus.
    """
    view = NodeView(name)
    async with open_bus(url) as bus:
        report = asyncio.ensure_future(_until(bus.subscribe(NODE_USAGE.only(node=name)), view, Received))
        stored = (bus.watch(channel.only(node=name)) for channel in (TOPOLOGY, ADVICE, HEADROOM, ENFORCEMENT))
        await asyncio.gather(*(_until(source, view, CaughtUp) for source in stored))
        await asyncio.wait([report], timeout=REPORT_WAIT)
        if view.usage is not None:
            await asyncio.wait([report], timeout=FULL_WAIT)
        report.cancel()
        if not view.is_known:
            raise InputError(f"node {name!r}: nobody has said anything about it")
        return view.text((await cluster_clock(bus)).now())


async def _until(source: AbstractAsyncContextManager[Any], view: NodeView, end: type) -> None:
    async with source as items:
        async for item in items:
            if isinstance(item, Received):
                view.see(item.message)
            if isinstance(item, end) and (end is CaughtUp or view.is_whole):
                return
