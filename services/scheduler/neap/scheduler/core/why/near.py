"""Nearest misses in words: amounts of resource kinds as people write them, and the miss of what asks for an amount.

missing = asked − free        0 where that much is free; ∞ on a node that has none of the kind at all
"""

from __future__ import annotations

from typing import Final

import numpy as np

from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.units import GIB, format_bytes
from neap.scheduler.core.choice.framework import Near
from neap.scheduler.core.nodes.view import Numbers

COUNTED: Final = {CPU: "cores", RECLAIMED_CPU: "lent cores", MEMORY: "memory", RECLAIMED_MEMORY: "lent memory"}


def amount(kind: str, units: float) -> str:
    """An amount of a kind for people: "6.5 cores", "3Gi memory", "12 example.com/license"; never rounded up to fit."""
    counted = COUNTED.get(kind, kind)
    return f"{number(kind, units)} {counted}"


def number(kind: str, units: float) -> str:
    """The same without what is counted."""
    if kind in (CPU, RECLAIMED_CPU):
        return f"{round(units) / 1000:.10g}"
    if kind in (MEMORY, RECLAIMED_MEMORY):
        return format_bytes(round(units)) if abs(units) < GIB else f"{units / GIB:.6g}Gi"
    return f"{units:.10g}"


def shortage(kind: str, left: Numbers, whole: Numbers, asked: float) -> Near:
    """The miss of "so much of a kind must be free", from what is left of the whole; shapes (rows,), whole units."""
    missing = np.where(left >= asked, 0.0, np.where(whole > 0, asked - left, np.inf))
    counted = COUNTED.get(kind, kind)

    def tell(row: int) -> str:
        if whole[row] <= 0:
            return f"{{node}} has no {counted}, {number(kind, asked)} asked"
        have = f"{number(kind, left[row])} of {number(kind, whole[row])} {counted} free"
        return f"{{node}} has {have}, {number(kind, asked)} asked"

    def change(row: int) -> str:
        if whole[row] < asked:
            return f"asking for at most {amount(kind, left[row])}, which {{node}} has free,"
        return f"{number(kind, missing[row])} more {counted} free on {{node}}"

    return Near(missing, tell, change)
