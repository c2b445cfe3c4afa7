"""What a plugin sees of the nodes: columns, of all rows or of a few. Read only, by convention and by law."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neap.scheduler.core.columns import Columns, code

Rows: TypeAlias = slice | NDArray[np.intp]
Numbers: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
ALL: Rows = slice(None)


class View:
    """Some rows of the node table. A plugin computes row by row, so a part gives the same numbers as the whole.

    Amounts are float64 that hold whole numbers of the kind's unit (see model.resource), shape (rows,).
    """

    __slots__ = ("_columns", "_rows", "_seen", "size")

    def __init__(self, columns: Columns, rows: Rows = ALL) -> None:
        self._columns, self._rows = columns, rows
        self._seen: dict[str, NDArray[Any]] = {}  # several plugins look at the same columns
        self.size = columns.size if isinstance(rows, slice) else len(rows)

    def column(self, name: str) -> NDArray[Any]:
        """A column by name; the modules that keep columns name them (load, cards)."""
        array = self._seen.get(name)
        if array is None:
            array = self._seen[name] = self._columns[name][self._rows]
        return array

    def allocatable(self, kind: str) -> Numbers:
        """What a node has to give of a resource kind; for lent kinds, what it offers now."""
        return self._amounts(f"allocatable/{kind}")

    def requested(self, kind: str) -> Numbers:
        """What is charged on a node of a resource kind."""
        return self._amounts(f"requested/{kind}")

    def free(self, kind: str) -> Numbers:
        """Allocatable − requested; below zero when an offer shrank."""
        return self.allocatable(kind) - self.requested(kind)

    def labelled(self, key: str, value: str) -> Mask:
        """Which nodes carry this label with this value."""
        name = f"label/{key}"
        return self.column(name) == code(value) if name in self._columns else np.zeros(self.size, dtype=np.bool_)

    def all(self) -> Mask:
        """Every row."""
        return np.ones(self.size, dtype=np.bool_)

    def _amounts(self, name: str) -> Numbers:
        return self.column(name) if name in self._columns else np.zeros(self.size)
