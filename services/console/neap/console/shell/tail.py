"""`neap bus tail`: every channel of the catalogue, decoded, one line per message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from neap.common.bus.port import Bus, CaughtUp, Deleted, Lost, Received
from neap.common.contract.catalogue import CHANNELS
from neap.common.contract.channel import Channel, Delivery, State


async def tail(bus: Bus, wanted: str, *, history: bool, say: Callable[[str], None]) -> None:
    """Print what comes, until cancelled. WORK is left out: reading it would take it."""
    async with asyncio.TaskGroup() as group:
        for channel in CHANNELS:
            if channel.delivery is not Delivery.WORK:
                group.create_task(_read(channel, _open(bus, channel), wanted, history=history, say=say))


def _open(bus: Bus, channel: Channel[Any]) -> AbstractAsyncContextManager[Any]:
    match channel.delivery:
        case Delivery.LATEST:
            return bus.subscribe(channel.only())
        case Delivery.STATE:
            return bus.watch(channel.only())
        case _:
            return bus.follow(channel.only())


async def _read(
    channel: Channel[Any],
    source: AbstractAsyncContextManager[Any],
    wanted: str,
    *,
    history: bool,
    say: Callable[[str], None],
) -> None:
    live = history or channel.delivery is Delivery.LATEST
    prefix = f"{channel.bucket}/" if isinstance(channel, State) else ""
    async with source as items:
        async for item in items:
            match item:
                case CaughtUp():
                    live = True
                case Lost(count=count):
                    say(f"{channel.pattern}: {count} messages were not read in time")
                case Deleted(subject=subject) if live and fnmatchcase(prefix + subject, wanted):
                    say(f"{prefix}{subject}  (deleted)")
                case Received(subject=subject, message=message) if live and fnmatchcase(prefix + subject, wanted):
                    say(f"{prefix}{subject}  {msgspec.json.encode(message).decode()}")
