"""CPU lists the way Linux writes them: "0-3,8,10-11".

Source: kernel documentation, admin-guide/kernel-parameters, "CPU lists".
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from neap.common.errors import InputError

LARGEST_CPU: Final = 1 << 16  # well above any machine; keeps "0-99999999999" from eating memory


@lru_cache(maxsize=256)  # a node has few different lists, and they are read again and again
def parse_cpuset(text: str) -> frozenset[int]:
    """Parse a list file; blank and NUL padding are fine, an empty list is the empty set.

    Raises:
        InputError: malformed or absurdly large.
    """
    cpus: set[int] = set()
    for part in text.strip(" \t\r\n\0").split(","):
        if not part.strip():
            continue
        first, dash, last = part.strip().partition("-")
        try:
            low = int(first)
            high = int(last) if dash else low
        except ValueError:
            raise InputError(f"not a CPU list: {text[:80]!r}") from None
        if not 0 <= low <= high < LARGEST_CPU:
            raise InputError(f"CPU list out of range: {part!r} in {text[:80]!r}")
        cpus.update(range(low, high + 1))
    return frozenset(cpus)


def format_cpuset(cpus: Iterable[int]) -> str:
    """{0,1,2,3,8} -> "0-3,8"."""
    parts: list[str] = []
    ordered = sorted(set(cpus))
    start = 0
    for i, cpu in enumerate(ordered):
        if i + 1 == len(ordered) or ordered[i + 1] != cpu + 1:
            first = ordered[start]
            parts.append(str(first) if first == cpu else f"{first}-{cpu}")
            start = i + 1
    return ",".join(parts)
