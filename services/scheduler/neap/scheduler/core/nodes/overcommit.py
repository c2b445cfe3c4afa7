"""Columns of over-committed nodes: what fit sees as allocatable is what the node sells (model.overcommit).

    allocatable/<kind>   original · ratio, owned CPUs excluded; what the machine has wherever no ratio is above 1
    physical/<kind>      the original; NaN (fill) where nothing is over-committed
    overcommit/cpu       the ratio (fill 1)          overcommit/owned   milli-cores that somebody owns
    overcommit/pinned    the kubelet gives whole CPUs away
    overcommit/clash     memory is over-committed and bound by the kubelet: the two exclude each other

The ratio of a kind is the lowest that anybody names: the node's object (the administrator), or the planner, who knows
its peak. Whoever is silent does not count; if all are, it is 1.

A node nobody over-commits costs one dictionary look-up per charge. The columns exist from the first one on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from neap.common.model.node import NodeObject
from neap.common.model.overcommit import is_owner_of_cpus, owned_cpu, sold
from neap.common.model.placement import Placement
from neap.common.model.ratios import NodeRatios
from neap.common.model.resource import CPU, MEMORY, Resources
from neap.common.model.topology import NodeTopology
from neap.scheduler.core.nodes.columns import Columns
from neap.scheduler.core.nodes.keeper import Keeper
from neap.scheduler.core.pods.pod import Pod

PHYSICAL: Final = "physical/cpu"
RATIO: Final = "overcommit/cpu"
OWNED: Final = "overcommit/owned"
PINNED: Final = "overcommit/pinned"
CLASH: Final = "overcommit/clash"


@dataclass(slots=True)
class _Row:
    """What is known of one node."""

    machine: Resources = field(default_factory=dict)
    node: NodeObject | None = None
    said: NodeRatios | None = None  # by the planner
    ratios: dict[str, float] = field(default_factory=dict)  # in force
    owned: int = 0  # milli-cores, counted only while CPU is over-committed
    shown: dict[str, int] = field(default_factory=dict)  # kinds that are over-committed, and their original


class Overcommit(Keeper):
    """See module docstring."""

    def __init__(self, columns: Columns, held: Callable[[int], Iterable[Placement]]) -> None:
        self._columns, self._held = columns, held
        self._rows: dict[int, _Row] = {}

    @property
    def used(self) -> bool:
        """Whether any node ever was over-committed."""
        return RATIO in self._columns

    def describe(self, row: int, topology: NodeTopology, held: Iterable[Placement]) -> Iterable[int]:  # noqa: ARG002
        """The machine gives what its topology says; the table has just written that."""
        own = self._rows.setdefault(row, _Row())
        own.machine = topology.allocatable
        self._show(row, own)
        return ()

    def register(self, row: int, node: NodeObject) -> Iterable[int]:
        """Ratios, originals and the kubelet's policies."""
        own = self._rows.setdefault(row, _Row())
        own.node = node
        self._show(row, own)
        return ()

    def heed(self, row: int, said: NodeRatios) -> bool:
        """What the planner allows; the one without kinds when it says nothing any more. Whether a ratio changed."""
        own = self._rows.setdefault(row, _Row())
        before, own.said = own.ratios, said
        self._show(row, own)
        return own.ratios != before

    def charge(self, row: int, placement: Placement, sign: int) -> Iterable[int]:
        """An owner of CPUs came or went."""
        own = self._rows.get(row)
        if own is None or CPU not in own.shown:
            return ()
        if not is_owner_of_cpus(placement.workload, pinned=_is_pinned(own)):
            return ()
        own.owned += sign * placement.charged.get(CPU, 0)
        self._sell(row, own, CPU)
        return (row,)

    def ask(self, pod: Pod) -> Hashable:  # noqa: ARG002  the same for all
        """Whether there are columns to look at."""
        return self.used

    def _show(self, row: int, own: _Row) -> None:
        """Bring a row's columns up to date."""
        node, before, columns = own.node, own.shown, self._columns
        ratios = own.ratios = _lowest(node, own.said)
        original = own.machine | (node.original if node is not None else {})
        own.shown = {kind: original[kind] for kind in sorted(ratios) if ratios[kind] > 1 and kind in original}
        for kind in before.keys() - own.shown.keys():
            columns[f"allocatable/{kind}"][row] = own.machine.get(kind, 0)
            columns[f"physical/{kind}"][row] = np.nan
        if own.shown or self.used:
            self._add()
            pinned = node is not None and node.pinned_memory
            columns[CLASH][row] = pinned and MEMORY in own.shown
            columns[PINNED][row] = _is_pinned(own)
            columns[RATIO][row] = ratios[CPU] if CPU in own.shown else 1.0
        if CPU in own.shown:
            own.owned = owned_cpu(self._held(row), pinned=_is_pinned(own))
        for kind in own.shown:
            self._sell(row, own, kind)

    def _sell(self, row: int, own: _Row, kind: str) -> None:
        columns = self._columns
        owned = own.owned if kind == CPU else 0
        for name in (f"allocatable/{kind}", f"physical/{kind}"):
            columns.add(name, np.float64, fill=np.nan if name.startswith("physical") else 0)
        columns[f"allocatable/{kind}"][row] = sold(own.shown[kind], own.ratios[kind], owned)
        columns[f"physical/{kind}"][row] = own.shown[kind]
        if kind == CPU:
            columns[OWNED][row] = owned

    def _add(self) -> None:
        self._columns.add(PHYSICAL, np.float64, fill=np.nan)
        self._columns.add(RATIO, np.float64, fill=1.0)
        self._columns.add(OWNED, np.float64)
        self._columns.add(PINNED, np.bool_)
        self._columns.add(CLASH, np.bool_)


def _lowest(node: NodeObject | None, said: NodeRatios | None) -> dict[str, float]:
    """By kind the lowest ratio that is named."""
    found = dict(node.ratios) if node is not None else {}
    for kind in said.kinds if said is not None else ():
        found[kind.resource] = min(found.get(kind.resource, kind.ratio), kind.ratio)
    return found


def _is_pinned(own: _Row) -> bool:
    return own.node is not None and own.node.pinned_cpu
