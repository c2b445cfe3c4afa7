"""Numbers, CPU lists and CPU masks of sysfs, or None where the text is none.

sysfs writes a set of CPUs twice: as a list ("0-3,8") and as a mask of 32-bit hexadecimal words, highest first
("0000,00000011,11111111"). Old kernels have only masks. List files may be padded with NUL bytes.
Source: kernel documentation, admin-guide/cputopology.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from neap.common.cpuset import LARGEST_CPU, parse_cpuset
from neap.common.errors import InputError

Cpus = frozenset[int]
ADDRESS: Final = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")  # of a PCI function, domain first

LARGEST_INTEGER: Final = (1 << 63) - 1  # what a JSON reader holds
LARGEST_KIB: Final = 1 << 43  # 8 PiB: no machine has more, and sums stay exact
MASK_LIMIT: Final = LARGEST_CPU // 4 + LARGEST_CPU // 32  # digits, commas included
INTEGER: Final = re.compile(r"-?[0-9]{1,19}")
NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,9}")  # as sysfs names things: "cpu7", never "cpu07"
LIST: Final = re.compile(r"[0-9,\- \t\r\n\0]*")
MASK: Final = re.compile(r"(?:0x)?[0-9a-fA-F,]*[0-9a-fA-F]")
HEXADECIMAL: Final = re.compile(r"(?:0x)?([0-9a-f]{1,16})")
PADDING: Final = " \t\r\n\0"


def integer(text: str | None) -> int | None:
    """A decimal number of at most 63 bits; a sign is fine (sysfs says -1 for "not known")."""
    digits = (text or "").strip(PADDING)
    if not INTEGER.fullmatch(digits):  # int() alone would also read "1_0" and digits of other scripts
        return None
    number = int(digits)
    return number if abs(number) <= LARGEST_INTEGER else None


def cpu_list(text: str | None) -> Cpus | None:
    """The CPUs of a list file; an empty list is the empty set."""
    if text is None or not LIST.fullmatch(text):
        return None
    try:
        return parse_cpuset(text)
    except InputError:
        return None


def cpu_mask(text: str | None) -> Cpus | None:
    """The CPUs of a mask file."""
    digits = text.strip(PADDING) if text is not None else ""
    if not digits or len(digits) > MASK_LIMIT:
        return None
    return frozenset(bits(int(digits.replace(",", ""), 16))) if MASK.fullmatch(digits) else None


def hexadecimal(text: str | None, size: int) -> str:
    """Digits of an identifier ("0x10de"), padded to `size`; empty where it is none."""
    match = HEXADECIMAL.fullmatch((text or "").strip(PADDING).lower())
    return match[1].zfill(size) if match and len(match[1]) <= size else ""


def bits(mask: int) -> Iterable[int]:
    """Positions of the set bits, ascending."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def numbered(names: Iterable[str], prefix: str, limit: int) -> list[int]:
    """Numbers of the directories `prefix`N, ascending, at most `limit` of them."""
    size = len(prefix)
    found = {int(n[size:]) for n in names if n.startswith(prefix) and NUMBER.fullmatch(n[size:])}
    return sorted(number for number in found if number < LARGEST_CPU)[:limit]


def kib_line(text: str | None, key: str) -> int | None:
    """Bytes of the line "... KEY   123 kB" of a meminfo file (machine's or node's)."""
    for line in (text or "").splitlines():
        words = line.split()
        if key in words[:-1]:
            kib = integer(words[words.index(key) + 1])
            return kib * 1024 if kib is not None and 0 <= kib <= LARGEST_KIB else None
    return None
