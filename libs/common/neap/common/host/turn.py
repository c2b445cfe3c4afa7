"""Asking a host without holding up everybody else on the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from neap.common.host.port import HostFs

T = TypeVar("T")


async def in_turn(host: HostFs, act: Callable[[], T]) -> T:
    """Run `act`, which calls the host: in a thread if the host makes its callers wait, else at once."""
    return await asyncio.to_thread(act) if host.waits else act()
