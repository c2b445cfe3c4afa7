"""Numbers out of small kernel files, scanned by hand: this is the hot path, a hundred files per report.

All raise ValueError where the text is not what the kernel writes; the fold turns that into "unknown".
"""

from __future__ import annotations

from typing import Final

from neap.common.model.usage import Stall

LARGEST: Final = (1 << 63) - 1  # what a JSON reader holds exactly
HIGHEST_PERCENT: Final = 100.0


def count(text: str) -> int:
    """A counter or a size: 0 … 2^63 − 1."""
    number = int(text)
    if not 0 <= number <= LARGEST:
        raise ValueError(f"out of range: {text[:32]!r}")
    return number


def line_start(text: str, key: str) -> int:
    """Where the value of the line starting with `key` begins, or -1. Cost: one scan in C."""
    if text.startswith(key):
        return len(key)
    at = text.find("\n" + key)
    return -1 if at < 0 else at + 1 + len(key)


def value_of(text: str, key: str) -> int:
    """The number behind `key` (with its blank or colon) in a file of "key value" lines; a unit may follow."""
    start = line_start(text, key)
    if start < 0:
        raise ValueError(f"no line {key!r}")
    end = text.find("\n", start)
    return count(text[start : end if end >= 0 else len(text)].removesuffix(" kB"))


def share(word: str) -> float:
    """A PSI average, in percent there: "avg10=74.38" -> 0.7438."""
    percent = float(word.partition("=")[2])
    if not 0.0 <= percent <= HIGHEST_PERCENT:  # also refuses NaN
        raise ValueError(f"no percentage: {word[:32]!r}")
    return percent / 100.0


def stall(text: str) -> Stall:
    """A PSI file; kernels before 5.13 have no "full" line for cpu, which then counts as 0, as later kernels print it.

    Source: kernel documentation, accounting/psi.
    """
    words = text.split()
    if len(words) < 5 or words[0] != "some":
        raise ValueError("no pressure file")
    some10, some60 = share(words[1]), share(words[2])
    if len(words) >= 8 and words[5] == "full":
        return Stall(some10=some10, some60=some60, full10=share(words[6]), full60=share(words[7]))
    return Stall(some10=some10, some60=some60)
