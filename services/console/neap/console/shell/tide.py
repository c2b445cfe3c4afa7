"""`neap tide status`: the tides that are stored on the bus."""

from __future__ import annotations

from pathlib import Path

from neap.common.contract.catalogue import TIDES
from neap.common.errors import InputError
from neap.common.model.tide import TidePool
from neap.common.units import Seconds
from neap.console.core import tidefigure, tideview
from neap.console.shell.reading import open_bus, stored
from neap.console.shell.submitting import cluster_clock


async def read_tides(pool: str, url: str) -> tuple[list[TidePool], Seconds]:
    """All pools by name, or the one; and the cluster's time.

    Raises:
        InputError: there is no such pool with a tide.
        PortError: no bus.
    """
    async with open_bus(url) as bus:
        found = {one.pool: one for one in await stored(bus, TIDES.only())}
        now = (await cluster_clock(bus)).now()
    if pool and pool not in found:
        raise InputError(f"pool {pool!r} has no tide (there are: {', '.join(sorted(found)) or 'none'})")
    return [found[name] for name in sorted(found) if pool in ("", name)], now


def write_figure(pools: list[TidePool], now: Seconds, out: Path) -> None:
    """The timeline of the one pool.

    Raises:
        InputError: there are several or none, or the file cannot be written.
    """
    if len(pools) != 1:
        raise InputError(
            f"--figure draws one pool: name it (there are: {', '.join(one.pool for one in pools) or 'none'})"
        )
    try:
        out.write_text(tidefigure.draw(tideview.timeline(pools[0], now)))
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror}") from None
