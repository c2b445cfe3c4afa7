"""What of the history could not be read goes into the log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from neap.common.telemetry.log import get_logger
from neap.planner.core.history.desk import TellHistory


def tell_history() -> Callable[[TellHistory], Awaitable[None]]:
    """The effect of `TellHistory`."""
    log = get_logger("planner")

    async def tell(said: TellHistory) -> None:
        log.warning(said.event, about=said.about, why=said.why)

    return tell
