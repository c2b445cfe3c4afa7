"""How everything here is measured.

A rate is the median over rounds. Pure computation is measured in seconds of this process's CPU time, whatever else
the machine does; what goes over sockets in seconds of the wall clock. Two ways of doing the same are run in turns
(A B A B ...), and their ratio is the median of the ratios of neighbours, so a busy moment falls on both. Garbage is
collected as it would be in a service.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from statistics import median

import msgspec

Work = Callable[[], int]  # does something, returns how many
AsyncWork = Callable[[], Awaitable[int]]


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the table. `at_least` is a goal for the ratio if there is one, for the value otherwise.

    `at_most` is a goal for the value: what something may cost, whatever it is compared with.
    """

    name: str
    value: float
    unit: str
    rival: str = ""  # what it is compared with
    rival_value: float | None = None
    ratio: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.at_most is not None:
            return self.value <= self.at_most
        if self.at_least is None:
            return None
        return (self.value if self.ratio is None else self.ratio) >= self.at_least


def rate(work: Work, *, rounds: int = 5) -> float:
    """Per second of CPU time; one untimed round goes first."""
    work()
    return median(_once(work) for _ in range(rounds))


async def async_rate(work: AsyncWork, *, rounds: int = 5) -> float:
    """Per second; one untimed round goes first."""
    await work()
    return median([await _async_once(work) for _ in range(rounds)])


async def async_race(ours: AsyncWork, theirs: AsyncWork, *, rounds: int = 5) -> tuple[float, float, float]:
    """Our rate, theirs, and the ratio; one untimed round of each goes first."""
    await ours(), await theirs()
    return _ratio([(await _async_once(ours), await _async_once(theirs)) for _ in range(rounds)])


def _ratio(pairs: list[tuple[float, float]]) -> tuple[float, float, float]:
    return median(a for a, _ in pairs), median(b for _, b in pairs), median(a / b for a, b in pairs)


def _once(work: Work) -> float:
    began = time.process_time()
    return work() / (time.process_time() - began)


async def _async_once(work: AsyncWork) -> float:
    began = time.perf_counter()
    return await work() / (time.perf_counter() - began)
