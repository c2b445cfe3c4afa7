"""An asyncio loop with virtual time: it jumps to the next timer when nothing is ready.

A program that waits for nothing that can ever happen is a deadlock and raises at once. Threads, sockets and
subprocesses fail: what runs here must be able to run without the outside.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class Deadlock(RuntimeError):
    """Every task waits and no timer is set."""


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting, hands the time it would have waited to the loop."""

    loop: SimLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise Deadlock(f"nothing is scheduled at {self.loop.time():.3f} s, and tasks still wait")
            self.loop.jump(timeout)
        return ready


class SimLoop(asyncio.SelectorEventLoop):
    """See module docstring."""

    def __init__(self) -> None:
        self._seconds = 0.0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._seconds

    def jump(self, seconds: float) -> None:
        """Let virtual time pass."""
        self._seconds += max(0.0, seconds)

    def run_in_executor(self, *_: Any) -> NoReturn:  # type: ignore[override]
        """No threads here."""
        raise RuntimeError("a simulation has no threads")

    async def create_connection(self, *_: Any, **__: Any) -> NoReturn:
        """No network here."""
        raise RuntimeError("a simulation has no network")

    async def create_server(self, *_: Any, **__: Any) -> NoReturn:
        """No network here."""
        raise RuntimeError("a simulation has no network")


def simulate(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end under virtual time."""
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        return runner.run(main)
