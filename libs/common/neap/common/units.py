"""Quantities: their types, and how people write them.

Inside neap a CPU *request* is an int of milli-cores and memory an int of bytes, so that the ledger adds up
exactly; a *measured* CPU use is a float of cores. Ratios are 0..1. Time inside is float seconds of the clock
port; wall time appears only in messages (float seconds since the epoch) and logs.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Final, TypeAlias

from neap.common.errors import InputError

Cores: TypeAlias = float
Bytes: TypeAlias = int
Seconds: TypeAlias = float
Ratio: TypeAlias = float
MilliCores: TypeAlias = int

SECOND: Final[Seconds] = 1.0
MINUTE: Final[Seconds] = 60.0
HOUR: Final[Seconds] = 3600.0
DAY: Final[Seconds] = 86400.0
KIB: Final[Bytes] = 1 << 10
MIB: Final[Bytes] = 1 << 20
GIB: Final[Bytes] = 1 << 30

_SUFFIX: Final = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}
_QUANTITY: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?)([a-zA-Z]{0,2})")
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION_UNIT: Final = {"ms": 0.001, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}


def parse_quantity(text: str) -> Fraction:
    """Parse a Kubernetes quantity ("500m", "2Gi", "1e3"), exactly.

    Raises:
        InputError: the text is no quantity.
    Source: Kubernetes apimachinery, resource.Quantity (grammar only).
    """
    match = _QUANTITY.fullmatch(text.strip()) if len(text) <= 64 else None
    if match is None or match[2] not in _SUFFIX:
        raise InputError(f"not a quantity: {text[:64]!r} (examples: 500m, 2, 1.5, 4Gi, 100M)")
    return Fraction(Decimal(match[1])) * _SUFFIX[match[2]]


def parse_duration(text: str) -> Seconds:
    """Parse "90s", "1h30m", "250ms" into seconds.

    Raises:
        InputError: the text is no duration.
    """
    pieces = list(_DURATION.finditer(text.strip()))
    if not pieces or "".join(piece[0] for piece in pieces) != text.strip():
        raise InputError(f"not a duration: {text[:64]!r} (examples: 250ms, 5s, 1h30m)")
    return sum(float(piece[1]) * _DURATION_UNIT[piece[2]] for piece in pieces)


def format_bytes(count: Bytes) -> str:
    """1536 MiB -> "1.5Gi"; short, for people, not for parsing back."""
    for unit, name in ((1 << 40, "Ti"), (GIB, "Gi"), (MIB, "Mi"), (KIB, "Ki")):
        if abs(count) >= unit:
            return f"{count / unit:.4g}{name}"
    return str(count)


def format_duration(seconds: Seconds) -> str:
    """5400 s -> "1h30m"; short, for people."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    left = round(seconds)
    parts = []
    for size, name in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts[:2]) or "0s"
