"""Named numpy columns of one length that grow together, in place."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=65_536)
def code(text: str) -> int:
    """A text as a cell: a stable 62-bit hash above 0, so that nobody has to keep a dictionary of codes."""
    return (int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 2) + 1


class Columns:
    """A table by columns. Rows are only ever added; a column added late has its fill value in every row.

    Adding a row costs O(columns), amortised over doublings; reading a column copies nothing.
    """

    def __init__(self) -> None:
        self.size = 0
        self.facts: dict[str, Any] = {}  # of all rows alike; a keeper that changes one answers `ask` differently
        self._room = 64
        self._arrays: dict[str, NDArray[Any]] = {}
        self._fills: dict[str, float] = {}
        self._shown: dict[str, NDArray[Any]] = {}  # rows that are there, of columns asked for since the last came
        self._kinds: dict[str, tuple[str, ...]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Every column, in the order they came."""
        return tuple(self._arrays)

    def kinds(self, prefix: str) -> tuple[str, ...]:
        """The ends of the names of all columns `prefix/...`."""
        found = self._kinds.get(prefix)
        if found is None:
            ends = tuple(name.partition("/")[2] for name in self._arrays if name.startswith(f"{prefix}/"))
            found = self._kinds[prefix] = ends
        return found

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def __getitem__(self, name: str) -> NDArray[Any]:
        shown = self._shown.get(name)
        if shown is None:
            shown = self._shown[name] = self._arrays[name][: self.size]
        return shown

    def add(self, name: str, kind: Any, *, fill: float = 0, width: int = 0) -> None:
        """A new column (of `width` cells per row, if given); nothing if it is there."""
        if name not in self._arrays:
            shape = (self._room, width) if width else (self._room,)
            self._arrays[name] = np.full(shape, fill, dtype=kind)
            self._fills[name] = fill
            self._kinds.clear()

    def drop(self, name: str) -> None:
        """A column is no more; nothing if it was not there."""
        self._arrays.pop(name, None)
        self._fills.pop(name, None)
        self._shown.pop(name, None)
        self._kinds.clear()

    def append(self) -> int:
        """One more row of fill values; returns its number."""
        if self.size == self._room:
            self._room *= 2
            for name, array in self._arrays.items():
                grown = np.full((self._room, *array.shape[1:]), self._fills[name], dtype=array.dtype)
                grown[: self.size] = array
                self._arrays[name] = grown
        self.size += 1
        self._shown.clear()
        return self.size - 1
