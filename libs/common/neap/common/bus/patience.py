"""How long calls of both adapters try before they raise Unavailable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from neap.common.contract.catalogue import RETRY_WINDOW
from neap.common.errors import Unavailable
from neap.common.units import Seconds

T = TypeVar("T")

ATTEMPT: Final[Seconds] = 2.0  # one try; an answer usually takes a millisecond
FIRST_RETRY: Final[Seconds] = 0.05
LAST_RETRY: Final[Seconds] = 0.5


@dataclass(frozen=True)
class Patience:
    """Seconds."""

    call: Seconds = 5.0  # put, get, delete, append: longer than a server takes to restart
    emit: Seconds = RETRY_WINDOW  # within the streams' dedupe window, so that a retry cannot store twice
    ensure: Seconds = 20.0  # a service may wait for the one that may make the streams


PATIENT: Final = Patience()


async def again(
    present: Callable[[str, Seconds], Awaitable[None]],
    what: str,
    within: Seconds,
    attempt: Callable[[Seconds], Awaitable[T]],
) -> T:
    """Try while it is Unavailable, at most `within` seconds; waiting for the connection counts too.

    Args:
        present: returns once connected, or raises Unavailable.
        what: names the attempt in the error.
        within: seconds.
        attempt: takes the seconds it may use.

    Raises:
        Unavailable: with the last reason. Whatever else `attempt` raises passes.
    """
    loop = asyncio.get_running_loop()
    end, delay, why = loop.time() + within, FIRST_RETRY, "no time"
    while (left := end - loop.time()) > 0:
        await present(what, left)
        try:
            return await attempt(min(ATTEMPT, left))
        except Unavailable as error:
            why = str(error)
        await asyncio.sleep(min(delay, max(0.0, end - loop.time())))
        delay = min(2 * delay, LAST_RETRY)
    raise Unavailable(f"{what}: gave up after {within:g} s: {why}")
