"""How long a guest may expect to keep what it was lent, and what is promised for a while: read from past offers.

    taken(s)    = first time after s at which the offer is below fraction × offer(s)
    S(T)        = Π over t ≤ T of (1 − taken at t / still watched at t)        (Kaplan–Meier: starts that are not over
                                                                                yet count as long as they were watched)
    survival    = longest T with S(T) ≥ confidence;  as long as was watched at most, so it is a lower bound   [seconds]
    promised    = offer − what only 1 − confidence of all starts lacked of theirs within the horizon, at least 0

`fraction` says whose share it is: 1 is the last unit of the offer, a half is held by somebody before whom half of
what is offered would have to go. A promise is about what guests can use, whatever is offered then; for a time nothing
of which was watched yet it is nothing. A start is the beginning of a cell; a cell keeps its first and its lowest
offer, and the least that guests could use.
Source: Kaplan and Meier 1958 (product-limit estimate); the promise: peers, "bounded headroom".
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from itertools import groupby
from typing import Final, NamedTuple, TypeAlias

import msgspec

from neap.advisor.core.smoothing import percentile
from neap.common.units import Ratio, Seconds

CELLS: Final = 288  # of a window: five minutes of a day
NEGLIGIBLE: Final = 1e-9


class Cell(NamedTuple):
    """A part of the window."""

    start: Seconds
    first: int
    lowest: int
    usable: int  # the least of the cell


Life: TypeAlias = tuple[Seconds, bool]  # how long, and whether it was taken then


class Past(msgspec.Struct, frozen=True):
    """Offers of one resource, oldest first."""

    cells: tuple[Cell, ...] = ()
    until: Seconds = 0.0  # the last offer that is in it


def remember(past: Past, at: Seconds, offer: int, window: Seconds, usable: int | None = None) -> Past:
    """One more offer, and what guests can use now. Laws: at most CELLS + 1 cells; none is older than the window."""
    cells, there = past.cells, offer if usable is None else usable
    if cells and at < cells[-1].start + window / CELLS:
        last = cells[-1]
        last = last._replace(lowest=min(last.lowest, offer), usable=min(last.usable, there))
        return Past((*cells[:-1], last), max(past.until, at))
    kept = tuple(cell for cell in cells if at - cell.start <= window)[-CELLS:]
    return Past((*kept, Cell(at, offer, offer, there)), at)


def survival(past: Past, *, fraction: Ratio = 1.0, confidence: Ratio = 0.9) -> Seconds:
    """See module docstring. Cost: O(cells × log cells).

    Laws: 0 ≤ survival ≤ what was watched; non-increasing in fraction and confidence.
    """
    lives: list[Life] = sorted(_lives(past, fraction))
    told: Seconds = 0.0
    alive, watched = 1.0, len(lives)
    for length, ends in groupby(lives, key=_length):
        over = [taken for _, taken in ends]
        alive *= 1 - sum(over) / watched
        if alive < confidence - NEGLIGIBLE:
            return length
        watched, told = watched - len(over), length
    return told


def promised(past: Past, *, horizon: Seconds, confidence: Ratio, now: int) -> int:
    """What can still be used after `horizon`, as offers of `now` go. Cost: O(cells × log cells).

    Laws: 0 ≤ promised ≤ now; non-increasing in confidence.
    """
    falls: list[int] = []
    lows: deque[Cell] = deque()  # of the cells within the horizon: each the least usable of those from it on
    upcoming = iter(past.cells)
    ahead = next(upcoming, None)
    for cell in past.cells:
        if cell.start + horizon > past.until:
            break
        while ahead is not None and ahead.start <= cell.start + horizon:
            while lows and lows[-1].usable >= ahead.usable:
                lows.pop()
            lows.append(ahead)
            ahead = next(upcoming, None)
        while lows[0].start < cell.start:
            lows.popleft()
        falls.append(max(0, cell.first - lows[0].usable))
    return max(0, now - int(percentile(falls, confidence))) if falls else 0


def _length(life: Life) -> Seconds:
    return life[0]


def _lives(past: Past, fraction: Ratio) -> list[Life]:
    """(how long, whether it was taken) of a guest that came at the start of each cell and for whom something was left."""
    lives: list[Life] = []
    steps: list[Cell] = []  # each is lower than all between here and it; the furthest first
    lowest: list[int] = []  # of each step
    for cell in reversed(past.cells):
        while lowest and lowest[-1] >= cell.lowest:
            steps.pop()
            lowest.pop()
        steps.append(cell)
        lowest.append(cell.lowest)
        if cell.first <= 0:
            continue
        below = bisect_left(lowest, fraction * cell.first - NEGLIGIBLE)
        taken = steps[below - 1] if below else None
        lives.append((past.until - cell.start, False) if taken is None else (taken.start - cell.start, True))
    return lives
