"""Texts no kernel writes, made of texts that kernels do write: seeded, so that a number names a text for ever."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

DIGITS: Final = re.compile(r"[0-9]+")
ALONE: Final = re.compile(r"(?<![^\s=])[0-9]+(?:\.[0-9]+)?(?![^\s])")  # a number, and not a part of a name
HUGE: Final = (
    "0",
    "00",
    str(1 << 31),
    str(1 << 32),
    str((1 << 63) - 1),
    str(1 << 63),
    str(1 << 64),
    "9" * 30,
    "9" * 400,
)
WORDS: Final = (
    "max",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-0",
    "0x1f",
    "1.5",
    ".",
    "-",
    "=",
    "Unavailable",
    "Error",
    "None",
)
UNITS: Final = ("kB", " kB", " MB", "K", "%", " µs", "Ki", "e3")
SCRIPTS: Final = ("٠١٢٣٤٥٦٧٨٩", "０１２３４５６７８９", "०१२३४५६७८९", "⁰¹²³⁴⁵⁶⁷⁸⁹")
JUNK: Final = (b"\xff\xfe", b"\x80", b"\xc3(", b"\xed\xa0\x80", b"\xf4\x90\x80\x80")
MOST_AT_ONCE: Final = 4
LONGEST: Final = 2_000  # characters that are repeated


class Mangler:
    """Changes a text in one to four ways. `donors` are other texts, to be taken for this one."""

    def __init__(self, seed: int, donors: Sequence[str]) -> None:
        self.random = Random(seed)
        self._donors = donors

    def __call__(self, text: str) -> str:
        """One of very many."""
        for _ in range(self.random.randint(1, MOST_AT_ONCE)):
            text = self.random.choice(WAYS)(self, text)
        return text

    def donor(self) -> str:
        """Some other file's text."""
        return self.random.choice(self._donors)

    def place(self, text: str) -> int:
        """Somewhere in it."""
        return self.random.randint(0, len(text))

    def number(self, text: str, replace: Callable[[str], str], pattern: re.Pattern[str] = DIGITS) -> str:
        """With one of its numbers replaced."""
        found = list(pattern.finditer(text))
        if not found:
            return text + replace("7")
        chosen = self.random.choice(found)
        return text[: chosen.start()] + replace(chosen[0]) + text[chosen.end() :]

    def lines(self, text: str, change: Callable[[list[str], int], None]) -> str:
        """With its lines changed at one of them."""
        lines = text.splitlines(keepends=True) or [""]
        change(lines, self.random.randrange(len(lines)))
        return "".join(lines)

    def foreign(self, digits: str) -> str:
        """The same number in another script."""
        return digits.translate(str.maketrans("0123456789", self.random.choice(SCRIPTS)))


def _flip(m: Mangler, text: str) -> str:
    raw = bytearray(text.encode()) or bytearray(b"\0")
    raw[m.random.randrange(len(raw))] ^= 1 << m.random.randrange(8)
    return raw.decode(errors="replace")


def _insert(m: Mangler, text: str, piece: bytes) -> str:
    at = m.place(text)
    return (text[:at].encode() + piece + text[at:].encode()).decode(errors="replace")


def _swap(m: Mangler, text: str) -> str:
    parts = re.split(r"(\s+)", text)
    if len(parts) > 2:
        one, two = (m.random.randrange(0, len(parts), 2) for _ in range(2))
        parts[one], parts[two] = parts[two], parts[one]
    return "".join(parts)


def _cut(m: Mangler, text: str) -> str:
    one, two = sorted((m.place(text), m.place(text)))
    return text[:one] + text[two:]


WAYS: Final[tuple[Callable[[Mangler, str], str], ...]] = (
    _flip,
    _swap,
    _cut,
    lambda m, text: text[: m.place(text)],
    lambda m, text: text[m.place(text) :],
    lambda m, text: m.lines(text, lambda lines, at: lines.pop(at) and None),
    lambda m, text: m.lines(text, lambda lines, at: lines.insert(at, m.random.choice(lines))),
    lambda m, text: m.lines(text, lambda lines, at: lines.insert(at, m.donor())),
    lambda m, text: m.number(text, lambda _: m.random.choice(HUGE)),
    lambda m, text: m.number(text, lambda _: str(m.random.randrange(1 << m.random.randint(1, 70)))),
    lambda m, text: m.number(text, lambda digits: f"-{digits}"),
    lambda m, text: m.number(text, lambda digits: f"+{digits}"),
    lambda m, text: m.number(text, lambda digits: f"{digits[:1]}_{digits[1:]}"),
    lambda m, text: m.number(text, lambda digits: digits + m.random.choice(UNITS)),
    lambda m, text: m.number(text, lambda _: m.random.choice(WORDS)),
    lambda m, text: m.number(text, m.foreign),
    lambda m, text: _insert(m, text, b"\0" * m.random.randint(1, 9)),
    lambda m, text: _insert(m, text, m.random.choice(JUNK)),
    lambda m, text: text.replace(" ", m.random.choice(("\t", "  ", "", "\r", "\u00a0"))),
    lambda m, text: text.replace("\n", m.random.choice(("\r\n", "\n\n", " ", "\v", "\u2028"))),
    lambda m, text: text[:LONGEST] * m.random.choice((2, 3, 50)),
    lambda m, _: m.donor(),
    lambda m, _: m.random.choice(("", "\n", "\0", " ", "max", "0", "-1", "9" * 5_000, "x" * 100_000)),
)
