"""File systems, asked for like files: a path after SPACE is answered with numbers in the order of host.port.Space.

So a collector stays what it is, names in and text out; the shell knows that this is no file. A path that is not there,
or a host that has no file systems, answers with an empty text: that is no fault of anybody.
"""

from __future__ import annotations

from typing import Final

from neap.reporter.core.text import count

SPACE: Final = "space:"
NUMBERS: Final = 5


def parse_space(text: str) -> tuple[int, ...]:
    """Device, size, free, inodes, free inodes; empty: there is none.

    Raises:
        ValueError: it says something else.
    """
    if not text:
        return ()
    numbers = tuple(map(count, text.split()))
    if len(numbers) != NUMBERS:
        raise ValueError(f"{text!r} are not {NUMBERS} numbers")
    return numbers
