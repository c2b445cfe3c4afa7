"""The clock port. One time for everybody: seconds since the epoch, never running backwards inside a process.

A clock is anchored once (to the wall, or to a chosen epoch) and then follows a monotonic stopwatch, `speed`
times as fast. Processes given the same `epoch`, `origin` and `speed` agree, so a cluster of processes can live
through a day in a minute. Under SimLoop the stopwatch is the loop's virtual time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

from neap.common.units import Seconds

READINGS: Final = 16  # of wall and stopwatch, 2 µs in all
LEAST_NAP: Final[Seconds] = 1e-6  # a shorter one can be lost in rounding, and virtual time would stand still for ever


class Clock(Protocol):
    """See module docstring."""

    @property
    def speed(self) -> float:
        """Clock seconds per second of the stopwatch."""
        ...

    def now(self) -> Seconds:
        """Clock seconds."""
        ...

    async def sleep_until(self, at: Seconds) -> None:
        """Return at or after `at`, or at once if it is past."""
        ...


class AnchoredClock:
    """now() = epoch + (stopwatch − anchor) × speed."""

    def __init__(self, *, epoch: Seconds, anchor: Seconds, speed: float, stopwatch: Callable[[], Seconds]) -> None:
        self._epoch, self._anchor, self._speed, self._stopwatch = epoch, anchor, speed, stopwatch

    @property
    def speed(self) -> float:
        """Clock seconds per second of the stopwatch."""
        return self._speed

    def now(self) -> Seconds:
        """Clock seconds."""
        return self._epoch + (self._stopwatch() - self._anchor) * self._speed

    async def sleep_until(self, at: Seconds) -> None:
        """Return at or after `at`, or at once if it is past."""
        while (left := at - self.now()) > 0:  # noqa: ASYNC110 (a timer may fire a hair early)
            await asyncio.sleep(max(left / self._speed, LEAST_NAP))


def wall_clock() -> Clock:
    """Real time."""
    return AnchoredClock(epoch=_wall_ahead(), anchor=0.0, speed=1.0, stopwatch=time.monotonic)


def accelerated_clock(*, epoch: Seconds, origin: Seconds, speed: float) -> Clock:
    """A clock that showed `epoch` when the wall showed `origin`, and runs `speed` times as fast."""
    anchor = origin - _wall_ahead()
    return AnchoredClock(epoch=epoch, anchor=anchor, speed=speed, stopwatch=time.monotonic)


def _wall_ahead() -> Seconds:
    """Wall minus stopwatch, from the pair of readings that lie closest together.

    A loaded machine may put a process aside between two readings: for 100 ms, which is 24 s on a day 240 times as
    fast, and processes of one day have to agree.
    """
    readings = [(time.monotonic(), time.time(), time.monotonic()) for _ in range(READINGS)]
    before, wall, after = min(readings, key=lambda reading: reading[2] - reading[0])
    return wall - (before + after) / 2


def loop_clock(loop: asyncio.AbstractEventLoop, *, epoch: Seconds = 0.0) -> Clock:
    """The time of an event loop; virtual under SimLoop."""
    return AnchoredClock(epoch=epoch, anchor=loop.time(), speed=1.0, stopwatch=loop.time)


def stopwatch() -> Seconds:
    """Monotonic real seconds, for measuring how long something took; never for deciding."""
    return time.monotonic()


def wall_seconds() -> Seconds:
    """Seconds since the epoch, for agreeing on an `origin`; never for deciding."""
    return time.time()
