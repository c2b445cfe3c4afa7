"""Waiting, always with an end: emulation is slow, and how slow depends on the machine outside."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
NAP = 0.02
PATIENCE = 30.0


def until(asked: Callable[[], T], what: str, *, within: float = PATIENCE) -> T:
    """The first answer that is true.

    Raises:
        AssertionError: there was none; names what was waited for, and the last answer.
    """
    end = time.monotonic() + within
    while not (answer := asked()):
        assert time.monotonic() < end, f"not within {within:.0f} s: {what} (last: {answer!r})"
        time.sleep(NAP)
    return answer
