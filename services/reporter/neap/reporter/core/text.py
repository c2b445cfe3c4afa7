"""Numbers out of small kernel files, scanned by hand: this is the hot path, a hundred files per report.

All raise ValueError where the text is not what the kernel writes; the fold turns that into "unknown". A number is
ASCII digits: int() alone would also read "1_0", "+7" and digits of other scripts, and tell what is not in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

LARGEST: Final = (1 << 63) - 1  # what a JSON reader holds exactly
WIDTH_32: Final = 1 << 32


def count(text: str) -> int:
    """A counter or a size: 0 … 2^63 − 1."""
    digits = text.strip()
    if not (digits.isdigit() and digits.isascii()) or (number := int(digits)) > LARGEST:
        raise ValueError(f"no counter: {text[:32]!r}")
    return number


def counts(words: Sequence[str]) -> list[int]:
    """Counters, as a line of a table has them."""
    digits = "".join(words)
    numbers = list(map(int, words))
    if words and not (digits.isdigit() and digits.isascii() and max(numbers) <= LARGEST):
        raise ValueError(f"no counters: {numbers[:8]}")
    return numbers


def line_start(text: str, key: str) -> int:
    """Where the value of the line starting with `key` begins, or -1. Cost: one scan in C."""
    if text.startswith(key):
        return len(key)
    at = text.find("\n" + key)
    return -1 if at < 0 else at + 1 + len(key)


def value_if(text: str, key: str) -> int | None:
    """The number behind `key` (with its blank or colon) in a file of "key value" lines; None if there is no such line.

    Behind a colon a unit of kB may follow.
    """
    start = line_start(text, key)
    if start < 0:
        return None
    end = text.find("\n", start)
    digits = text[start:end] if end >= 0 else text[start:]
    return count(digits.removesuffix(" kB") if key.endswith(":") else digits)


def value_of(text: str, key: str) -> int:
    """As `value_if`, for a line that has to be there."""
    number = value_if(text, key)
    if number is None:
        raise ValueError(f"no line {key!r}")
    return number
