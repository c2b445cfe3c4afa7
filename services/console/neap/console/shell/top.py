"""`neap top` on a terminal."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.table import Table

from neap.common.bus.port import Received
from neap.common.contract.catalogue import HEADROOM, NODE_USAGE, PLACEMENTS, TOPOLOGY
from neap.common.units import Seconds
from neap.console.core.topview import HEADINGS, TopView
from neap.console.shell.reading import open_bus

FRAME: Final[Seconds] = 0.5
FIRST_LOOK: Final[Seconds] = 1.5


async def show_top(url: str, *, once: bool) -> None:
    """Draw until cancelled, or once."""
    view, console = TopView(), Console()
    async with open_bus(url) as bus, asyncio.TaskGroup() as group:
        sources = (
            bus.watch(TOPOLOGY.only()),
            bus.watch(HEADROOM.only()),
            bus.follow(PLACEMENTS.only()),
            bus.subscribe(NODE_USAGE.only()),
        )
        tasks = [group.create_task(_read(source, view)) for source in sources]
        await asyncio.sleep(FIRST_LOOK)
        if once:
            console.print(_table(view))
            for task in tasks:
                task.cancel()
            return
        with Live(_table(view), console=console, refresh_per_second=2) as drawn:
            while True:
                await asyncio.sleep(FRAME)
                drawn.update(_table(view))


async def _read(source: AbstractAsyncContextManager[Any], view: TopView) -> None:
    async with source as items:
        async for item in items:
            if isinstance(item, Received):
                view.see(item.message)


def _table(view: TopView) -> Table:
    now = max((usage.at for usage in view.usage.values()), default=0.0)
    table = Table(box=None, pad_edge=False)
    for index, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if index == 0 else "right")
    for row in view.rows(now):
        table.add_row(*row)
    return table
