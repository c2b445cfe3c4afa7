"""What a plugin sees of the nodes: columns, of all rows or of a few. Read only, by convention and by law."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neap.scheduler.core.nodes.columns import Columns, code

Rows: TypeAlias = slice | NDArray[np.intp]
Numbers: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
ALL: Rows = slice(None)
Work: TypeAlias = "Callable[[View], NDArray[Any]]"


class View:
    """Some rows of the node table. A plugin computes row by row, so a part gives the same numbers as the whole.

    Amounts are float64 that hold whole numbers of the kind's unit (see model.resource), shape (rows,).
    """

    __slots__ = ("_columns", "_parts", "_rows", "_seen", "size")

    def __init__(
        self, columns: Columns, rows: Rows = ALL, parts: Callable[[Rows, Hashable, Work], NDArray[Any]] | None = None
    ) -> None:
        self._columns, self._rows, self._parts = columns, rows, parts
        self._seen: dict[str, NDArray[Any]] = {}  # several plugins look at the same columns
        self.size = columns.size if isinstance(rows, slice) else len(rows)

    def column(self, name: str) -> NDArray[Any]:
        """A column by name; the modules that keep columns name them (load, cards)."""
        array = self._seen.get(name)
        if array is None:
            whole, rows = self._columns[name], self._rows
            array = whole[rows] if whole.ndim == 1 or isinstance(rows, slice) else whole.take(rows, axis=0)
            self._seen[name] = array
        return array

    def fact(self, name: str) -> Any:
        """What is so of all rows alike, as the module that keeps it says; None where nobody keeps it."""
        return self._columns.facts.get(name)

    def told(self, key: Hashable, work: Work) -> NDArray[Any]:
        """A part of a mask or score that looks only at what was told of a row: at no pod, no placement, no fact.

        The table keeps it for all rows and pods alike and works it out again only where something was told since: a
        report, a topology, a label, an offer, the lapse of one. `key` names the part and all settings that enter it.
        """
        return work(self) if self._parts is None else self._parts(self._rows, key, work)

    def allocatable(self, kind: str) -> Numbers:
        """What a node has to give of a resource kind; for lent kinds, what it offers now."""
        return self._amounts(f"allocatable/{kind}")

    def requested(self, kind: str) -> Numbers:
        """What is charged on a node of a resource kind."""
        return self._amounts(f"requested/{kind}")

    def free(self, kind: str) -> Numbers:
        """Allocatable − requested; below zero when an offer shrank."""
        name = f"free/{kind}"
        free = self._seen.get(name)
        if free is None:
            free = self._seen[name] = self.allocatable(kind) - self.requested(kind)
        return free

    def labelled(self, key: str, value: str) -> Mask:
        """Which nodes carry this label with this value."""
        name = f"label/{key}"
        return self.column(name) == code(value) if name in self._columns else np.zeros(self.size, dtype=np.bool_)

    def all(self) -> Mask:
        """Every row."""
        return np.ones(self.size, dtype=np.bool_)

    def _amounts(self, name: str) -> Numbers:
        seen = self._seen.get(name)
        if seen is not None:
            return seen
        return self.column(name) if name in self._columns else np.zeros(self.size)
