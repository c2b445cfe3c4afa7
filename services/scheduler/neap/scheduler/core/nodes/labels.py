"""Labels of nodes as columns, of the keys somebody asks about: per row the *number* of its value, 0 where it has none.

Conditions are answered per value and looked up per row, so integer comparisons cost no more than the others, and a
value is compared as the text it is. A key is *wide* when few values share many nodes (zones), else *narrow* (hosts,
racks): see core/nodes/domains.py for what that decides. A node without a topology carries nothing.

Kept: at most MOST_KEYS keys (more only while running pods' own terms need them); the one asked longest ago goes first,
and comes back with another serial. Cost: O(1) per key and changed node; a new key looks at every node once.
Source: Kubernetes, node affinity and label selectors (operators); 64-bit integers for Gt and Lt.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neap.common.model.scheduling import Expression, NodeTerm, Operator
from neap.common.model.topology import NodeTopology
from neap.scheduler.core.nodes.columns import Columns
from neap.scheduler.core.nodes.view import Mask, View

HOSTNAME: Final = "kubernetes.io/hostname"
NAME: Final = "field:metadata.name"  # no label can be called so
MOST_KEYS: Final = 256
MOST_ANSWERS: Final = 64  # per key
INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}")
ORDERED: Final = (Operator.GREATER, Operator.LESS)


def machine_labels(topology: NodeTopology) -> dict[str, str]:
    """What a node's machine says of itself; a node that does not name its host is its own host."""
    return {HOSTNAME: topology.node, **topology.labels}


def integer(text: str) -> int | None:
    """A text that is a 64-bit integer."""
    number = int(text) if INTEGER.fullmatch(text) else None
    return number if number is not None and -(1 << 63) <= number < 1 << 63 else None


def holds(expression: Expression, value: str | None) -> bool:
    """Whether a condition holds for the value of its label; None where there is no such label."""
    match expression.operator:
        case Operator.IN:
            return value in expression.values
        case Operator.NOT_IN:
            return value not in expression.values
        case Operator.EXISTS:
            return value is not None
        case Operator.DOES_NOT_EXIST:
            return value is None
    have, bound = integer(value or ""), integer(expression.values[0] if len(expression.values) == 1 else "")
    if have is None or bound is None:
        return False
    return have > bound if expression.operator is Operator.GREATER else have < bound


class Counts:
    """Whole numbers by the number of a label's value; 0 where nothing was added."""

    __slots__ = ("_cells",)

    def __init__(self) -> None:
        self._cells = np.zeros(4, dtype=np.int64)

    def add(self, number: int, amount: int) -> None:
        """One more, or so many."""
        if number >= len(self._cells):
            self._grow(number + 1)
        self._cells[number] += amount

    def upto(self, size: int) -> NDArray[np.int64]:
        """The first `size` of them; not to be written."""
        if size > len(self._cells):
            self._grow(size)
        return self._cells[:size]

    def _grow(self, size: int) -> None:
        self._cells = np.concatenate((self._cells, np.zeros(max(size - len(self._cells), len(self._cells)), np.int64)))


class Key:
    """One label: its values by number, and who has them."""

    def __init__(self, name: str, serial: int) -> None:
        self.name, self.serial, self.column = name, serial, f"value/{name}"
        self.values: list[str | None] = [None]
        self.numbers: dict[str, int] = {}
        self.members: list[dict[int, None]] = [{}]  # rows by number; of 0 nobody is kept
        self.sizes = Counts()  # nodes by number
        self.nodes = 0  # that have it
        self.wide = False
        self.pins = 0  # terms of running pods that need it
        self.answers: dict[Expression, Mask] = {}
        self._free: list[int] = []

    def enter(self, row: int, value: str | None) -> int:
        """A row has this value from now on; its number."""
        if value is None:
            return 0
        number = self.numbers.get(value)
        if number is None:
            if self._free:
                number = self._free.pop()
                self.values[number] = value
            else:
                number = len(self.values)
                self.values.append(value)
                self.members.append({})
            self.numbers[value] = number
            self.answers.clear()
        self.members[number][row] = None
        self.sizes.add(number, 1)
        self.nodes += 1
        return number

    def leave(self, row: int, number: int) -> None:
        """A row has this value no more; the number of a value nobody has is given to the next new one."""
        if not number:
            return
        del self.members[number][row]
        self.sizes.add(number, -1)
        self.nodes -= 1
        if not self.members[number]:
            del self.numbers[self.values[number] or ""]
            self.values[number] = None
            self._free.append(number)

    def answer(self, expression: Expression) -> Mask:
        """By number whether a condition on this label holds."""
        found = self.answers.get(expression)
        if found is None:
            if len(self.answers) >= MOST_ANSWERS:
                self.answers.clear()
            found = self.answers[expression] = self._answer(expression)
        return found

    def _answer(self, expression: Expression) -> Mask:
        if expression.operator in ORDERED:
            return np.array([holds(expression, value) for value in self.values])
        negative = expression.operator in (Operator.NOT_IN, Operator.DOES_NOT_EXIST)
        found = np.full(len(self.values), negative)
        if expression.operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST):
            found[1:] = not negative
        for value in expression.values if expression.operator in (Operator.IN, Operator.NOT_IN) else ():
            if value in self.numbers:
                found[self.numbers[value]] = not negative
        return found


class Move(NamedTuple):
    """A row has another value of a label."""

    key: Key
    old: int
    new: int


class Labels:
    """See module docstring. A key is wide with at most `domains` values that share at least `crowd` times as many nodes."""

    def __init__(self, columns: Columns, *, domains: int = 32, crowd: int = 8) -> None:
        self._columns, self._domains, self._crowd = columns, domains, crowd
        self._labels: dict[int, Mapping[str, str]] = {}
        self.keys: dict[str, Key] = {}
        self.serials = itertools.count(1)
        self.present = 0  # rows with a topology

    def tell(self, row: int, labels: Mapping[str, str]) -> list[Move]:
        """A row carries these labels from now on, none if it is gone; what that changes in columns."""
        old = self._labels.get(row, {})
        if old == labels:
            return []
        self.present += bool(labels) - bool(old)
        self._labels[row] = labels
        moves = []
        for key in self.keys.values():
            if old.get(key.name) != labels.get(key.name):
                cells = self._columns[key.column]
                number = int(cells[row])
                key.leave(row, number)
                cells[row] = new = key.enter(row, labels.get(key.name))
                moves.append(Move(key, number, new))
                self._widen(key)
        return moves

    def ask(self, name: str) -> Key:
        """A key's columns are there from now on."""
        key = self.keys.pop(name, None)
        if key is None:
            key = Key(name, next(self.serials))
            self._columns.add(key.column, np.int32)
            cells = self._columns[key.column]
            for row, labels in self._labels.items():
                if name in labels:
                    cells[row] = key.enter(row, labels[name])
            self._widen(key)
        self.keys[name] = key  # the last asked is the last
        return key

    def drop(self) -> list[Key]:
        """Forget keys beyond the most; those that were forgotten."""
        spare = len(self.keys) - MOST_KEYS
        gone = [key for key in self.keys.values() if not key.pins][: max(0, spare)] if spare > 0 else []
        for key in gone:
            del self.keys[key.name]
            self._columns.drop(key.column)
        return gone

    def ask_terms(self, terms: Iterable[NodeTerm]) -> None:
        """The same for every key that terms name."""
        for term in terms:
            for expression in term.expressions:
                self.ask(expression.key)
            if term.names:
                self.ask(NAME)

    def numbers(self, view: View, name: str) -> NDArray[np.int32]:
        """Per row the number of its value; 0 for a key that nobody asked about."""
        key = self.keys.get(name)
        return view.column(key.column) if key is not None else np.zeros(view.size, dtype=np.int32)

    def matching(self, view: View, expression: Expression, name: str = "") -> Mask:
        """Rows for which a condition holds; none for a key that nobody asked about. `name`: of a field instead."""
        key = self.keys.get(name or expression.key)
        return key.answer(expression)[view.column(key.column)] if key is not None else np.zeros(view.size, np.bool_)

    def term(self, view: View, term: NodeTerm) -> Mask:
        """Rows for which all conditions of a term hold; none for an empty term."""
        found = np.full(view.size, bool(term.expressions or term.names))
        for expression in term.expressions:
            found &= self.matching(view, expression)
        for expression in term.names:
            found &= self.matching(view, expression, NAME)
        return found

    def required(self, view: View, terms: Sequence[NodeTerm]) -> Mask:
        """Rows that hold one of the terms; all of them if there is none."""
        found = np.full(view.size, not terms)
        for term in terms:
            found |= self.term(view, term)
        return found

    def _widen(self, key: Key) -> None:
        """Decide again whether a key is wide; what was told of it before means nothing afterwards."""
        wide = len(key.numbers) <= self._domains and key.nodes >= self._crowd * len(key.numbers)
        if wide != key.wide:
            key.wide, key.serial = wide, next(self.serials)
