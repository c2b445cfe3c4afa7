"""Amounts in 16 bits, and counts in 8: what rings are made of, so that 100,000 services fit.

    0 unknown     1 zero     else 2 + round((log2(amount) - LOWEST) * PER_OCTAVE)
                             32 octaves of 2,048 steps: within 0.017 % of the amount, whatever its size
    counts        round(16 * log2(1 + count)): exact up to 22, within 2.2 % up to 62,000

CPU and replicas begin at 2^-16 (15 micro-cores), memory at 2^12 bytes; what is smaller is zero, what is larger the most.
"""

from __future__ import annotations

import math
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neap.foresight.series import Values

Codes: TypeAlias = NDArray[np.uint16]
Counts: TypeAlias = NDArray[np.uint8]

PER_OCTAVE: Final = 2048
HIGHEST: Final = 65_535
LOWEST: Final = {"cpu": -16, "memory": 12, "replicas": -16}
MOST: Final = {"cpu": 2.0**15, "memory": 2.0**43}  # an amount above is no amount of anything
WHOLE: Final = 4e-4  # nearer to a whole number than this share of it, replicas are whole
PER_DOUBLING: Final = 16


def encoded(amounts: Values, kind: str) -> Codes:
    """Amounts, NaN where unknown, to codes."""
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.rint((np.log2(amounts) - LOWEST[kind]) * PER_OCTAVE) + 2
    steps = np.where(steps < 2, 1, np.minimum(steps, HIGHEST))  # zero comes as -infinity
    return np.where(np.isnan(amounts), 0, steps).astype(np.uint16)


def coded(amount: float, kind: str) -> int:
    """One amount; as `encoded`, without an array."""
    if math.isnan(amount):
        return 0
    steps = round((math.log2(amount) - LOWEST[kind]) * PER_OCTAVE) + 2 if amount > 0 else 1
    return max(1, min(steps, HIGHEST))


def decoded(codes: Codes, kind: str) -> Values:
    """Codes to amounts."""
    amounts = np.exp2((codes.astype(np.float64) - 2) / PER_OCTAVE + LOWEST[kind])
    if kind == "replicas":
        whole = np.rint(amounts)
        amounts = np.where(np.abs(amounts - whole) <= WHOLE * amounts, whole, amounts)
    amounts[codes == 1] = 0.0
    amounts[codes == 0] = np.nan
    return amounts


def counted(counts: Values) -> Counts:
    """Counts to codes."""
    codes: Counts = np.minimum(np.rint(PER_DOUBLING * np.log2(1 + counts)), 255).astype(np.uint8)
    return codes


def uncounted(codes: Counts) -> Values:
    """Codes to counts."""
    found: Values = np.rint(np.exp2(codes.astype(np.float64) / PER_DOUBLING) - 1)
    return found
