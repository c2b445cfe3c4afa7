"""A fixed piece of Python work, timed in the lab and outside: how slow the emulation is."""

from __future__ import annotations

import time

TURNS = 500_000


def loop() -> float:
    """Seconds it took."""
    start, total = time.perf_counter(), 0
    for turn in range(TURNS):
        total += turn & 7
    return time.perf_counter() - start
