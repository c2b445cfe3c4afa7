"""What a text of the kernel's says, read as plainly as can be: the numbers that may be told of it, and no others.

Made of regular expressions over the whole text, so that it shares no idea with the parsers it is compared with. Where
a text says something twice, each of the two may be told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from neap.common.model.usage import Stall

Numbers: TypeAlias = set[float]
Sums: TypeAlias = Callable[[str], set[int]]

LARGEST: Final = (1 << 63) - 1
DECIMAL: Final = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
NUMBER: Final = re.compile(DECIMAL)
UNITS: Final = (1, 4, 512, 1000, 1024, 125_000, 125_000_000)  # words, sectors, sizes, Mbit/s, Gbit/s
UNITLESS: Final = 4_300  # digits; int() takes no more


def numbers(value: Any) -> Iterator[float]:
    """All numbers in a value, wherever they are."""
    match value:
        case None | bool() | str():
            return
        case int() | float():
            yield value
        case Mapping():
            yield from (number for pair in value.items() for part in pair for number in numbers(part))
        case tuple() | list() | set() | frozenset():
            yield from (number for part in value for number in numbers(part))
        case _:
            fields = getattr(value, "__struct_fields__", None) or getattr(value, "__slots__", None) or vars(value)
            yield from (number for name in fields for number in numbers(getattr(value, name)))


def derivable(path: str, text: str) -> Numbers:
    """The numbers of a text in any unit, the percentages in it, and the sums that its format knows."""
    found = {float(each) if "." in each else int(each) for each in NUMBER.findall(text) if len(each) < UNITLESS}
    plain = {each * unit for each in found for unit in UNITS} | {each / 100.0 for each in found if each < LARGEST}
    return {0, *plain, *SUMS.get(path.rpartition("/")[2], lambda _: set())(text)}


def rows(text: str, key: str) -> list[list[int]]:
    """The numbers of lines that begin with this."""
    lines = (line[len(key) :].lstrip(":").split() for line in text.split("\n") if line.startswith(key))
    return [[int(word) for word in line if re.fullmatch("[0-9]{1,40}", word)] for line in lines]


def of_stat(text: str) -> set[int]:
    """Busy and idle ticks."""
    found = [row for row in rows(re.sub(r"(?m)^(cpu)[0-9]+", r"\1", text), "cpu") if len(row) >= 8]
    return {sum(row[:3]) + sum(row[5:8]) for row in found} | {row[3] + row[4] for row in found}


def of_links(text: str) -> set[int]:
    """Errors and drops of both directions."""
    lines = (re.findall(r"(?<!\S)[0-9]+(?!\S)", line.rpartition(":")[2]) for line in text.splitlines())
    found = [[int(word) for word in line] for line in lines]
    return {row[2] + row[3] + row[10] + row[11] for row in found if len(row) > 11}


def of_lines(*keys: str, unit: int = 1) -> Sums:
    """The sum of these lines, of "-key" taken away, each in any of its versions."""

    def sums(text: str) -> set[int]:
        totals = {0}
        for key in keys:
            sign = -1 if key.startswith("-") else 1
            values = {row[0] for row in rows(text, key.lstrip("-")) if row} | {0}
            totals = {total + sign * value for total in totals for value in values}
        return {max(0, total) * unit for total in totals}

    return sums


REFAULTS: Final = of_lines("workingset_refault_anon", "workingset_refault_file")
STEALS: Final = of_lines("pgsteal_kswapd", "pgsteal_direct")
OLD_AVAILABLE: Final = of_lines("MemFree", "Buffers", "Cached", "SReclaimable", "-Shmem", unit=1024)
SUMS: Final[Mapping[str, Sums]] = {  # by the file's name
    "stat": of_stat,
    "dev": of_links,
    "meminfo": OLD_AVAILABLE,
    "vmstat": lambda text: STEALS(text) | REFAULTS(text),
    "memory.stat": REFAULTS,
}


def whole(text: str) -> set[int]:
    """A file of one number."""
    match = re.fullmatch(r"\s*([0-9]{1,30})\s*", text)
    return {int(match[1])} if match else set()


def lines(text: str, key: str) -> set[int]:
    """The number of a "key value" line, each time it is there."""
    return {int(each) for each in re.findall(rf"(?m)^{key} +([0-9]{{1,30}})\s*$", text)}


def available(text: str) -> set[int]:
    """MemAvailable, or what it stands for on old kernels."""
    told = re.findall(r"(?m)^MemAvailable:\s*([0-9]{1,30})\s*(?:kB)?\s*$", text)
    return {int(each) * 1024 for each in told} or OLD_AVAILABLE(text)


def kib(text: str) -> set[int]:
    """Bytes of every "MemTotal: 123 kB"."""
    return {int(digits) * 1024 for digits in re.findall(r"MemTotal:[\s\0]*([0-9]{1,30})", text)}


def misread(told: Stall | None, text: str, *, both: bool = True) -> list[str]:
    """The averages that are not what the line of that name says; not `both`: without a second line it is 0."""
    wrong = []
    for name in ("some10", "some60", "full10", "full60") if told is not None else ():
        line, window, value = name[:4], name[4:], getattr(told, name)
        found = re.findall(rf"\b{line}\b[^\n]*?\bavg{window}=({DECIMAL})(?!\S)", text)
        missing = {None, 0.0} if line == "full" and not both else {None}
        if value not in missing | {float(each) / 100.0 for each in found}:
            wrong.append(f"{name} {value}")
    return wrong
