"""Columns of NUMA nodes: what each can give, and what is charged there. One cell per NUMA node, 16 at most.

    zone/limit/<kind>     float64 (rows, 16)   whole units; NaN: absent or unknown (fill)
    zone/charged/<kind>   float64 (rows, 16)   Σ of what is charged there (fill 0)
    zone/siblings/<kind>  int16 (rows, 16)     the first cell that shares this cell's limit; -1: none does (fill)
    zone/index, /package  int64 (rows, 16)     number of the NUMA node, and of its package; -1: no such cell (fill)
    zone/bound, /alone    int16 (rows, 16)     placements that name it; of these those that have it alone
    zones/count, /per-package, /left-out, /policy, /pinned   of the node

The cells are a node's NUMA nodes by number, so numbers may have gaps. Limits: CPUs without the system's; memory and
any other kind as the tree of zones says (allocatable, else capacity), from the NUMA node or from what lies around it
below the machine: those NUMA nodes share one limit, and what is charged on one shows on all of them. Kinds of scope
NODE use cell 0, with the limit of the whole machine.

A placement that names NUMA nodes is charged `portion(charged, NUMA nodes)` on each; one that has them alone takes
CPU and memory whole, whatever is charged. Who is not bound blocks nothing here: fit guards the node's sum, and what
is bound moves what is not. Machines with more NUMA nodes show the first 16 (`zones/left-out` counts the rest).
Cost of a charge: O(kinds × NUMA nodes named); nothing where none is named and no profile was used.
Source: Katalyst NodeResourceTopology (dynamic mode: only bound pods block), requirements 004-18, 004-19, 004-42.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from neap.common.cpuset import parse_cpuset
from neap.common.errors import InputError
from neap.common.model.node import NodeObject
from neap.common.model.placement import Placement
from neap.common.model.profile import KINDS, ProfiledKind, Scope
from neap.common.model.resource import CPU, LARGEST, MEMORY
from neap.common.model.topology import NodeTopology, Zone, ZoneKind
from neap.scheduler.core.nodes.columns import Columns
from neap.scheduler.core.nodes.keeper import Keeper
from neap.scheduler.core.pods.pod import Pod

ZONES: Final = 16  # NUMA nodes per machine that have a cell
MOST_NUMBERS: Final = 1 << 31  # of NUMA nodes and packages; beyond, somebody is joking
OWN: Final = (CPU, MEMORY)
INDEX: Final = "zone/index"
PACKAGE: Final = "zone/package"
BOUND: Final = "zone/bound"
ALONE: Final = "zone/alone"
COUNT: Final = "zones/count"  # cells in use
PER_PACKAGE: Final = "zones/per-package"  # NUMA nodes with CPUs of each package, on average
LEFT_OUT: Final = "zones/left-out"
POLICY: Final = "zones/policy"  # place in POLICIES
PINNED: Final = "zones/pinned"  # the kubelet gives whole CPUs away; there from the first that does
POLICIES: Final = ("", "none", "single-numa-node", "restricted", "numeric")
_SPELLINGS: Final[Mapping[str, str]] = {
    "best-effort": "none",
    "singlenumanode": "single-numa-node",
    "besteffort": "none",
}


def policy_of(text: str) -> str:
    """A topology policy by any of its names: kubelet's, and Katalyst's with its level. Unknown ones are the default's.

    "SingleNUMANodePodLevel" -> "single-numa-node"
    """
    name = text.strip().lower().removesuffix("podlevel").removesuffix("containerlevel")
    name = _SPELLINGS.get(name, name)
    return name if name in POLICIES else ""


@dataclass(slots=True)
class _Machine:
    """One row: cells by NUMA number, the cells that share a kind's limit, kinds of scope NODE, and cards by NUMA node."""

    cells: dict[int, int] = field(default_factory=dict)
    sharing: dict[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)  # by kind, for each cell
    whole: frozenset[str] = frozenset()  # kinds of scope NODE that it has
    cards: dict[int, int] = field(default_factory=dict)


NOTHING: Final = _Machine()


class ZoneKeeper(Keeper):
    """See module docstring. `kinds` says of which scope profiled kinds are; others are of scope NUMA."""

    def __init__(self, columns: Columns, kinds: Mapping[str, ProfiledKind] = KINDS) -> None:
        self._columns, self._kinds = columns, kinds
        self._machines: dict[int, _Machine] = {}
        self._fills: dict[str, float] = {}  # by column of a kind: what a cell has that nobody told of
        for name in (INDEX, PACKAGE):
            columns.add(name, np.int64, fill=-1, width=ZONES)
        for name in (BOUND, ALONE):
            columns.add(name, np.int16, width=ZONES)
        for name in (COUNT, PER_PACKAGE, LEFT_OUT, POLICY):
            columns.add(name, np.int16)
        for kind in OWN:
            self._add(kind)

    def describe(self, row: int, topology: NodeTopology, held: Iterable[Placement]) -> Iterable[int]:
        """The NUMA nodes of a machine; what is charged is counted anew, as far as they are still there."""
        numbers = sorted({node.index for node in topology.numa if 0 <= node.index < MOST_NUMBERS})
        cells = {index: cell for cell, index in enumerate(numbers[:ZONES])}
        machine = self._machines[row] = _Machine(cells, cards={card.index: card.numa for card in topology.cards})
        columns = self._columns
        for name, fill in self._fills.items():
            columns[name][row] = fill
        columns[BOUND][row] = columns[ALONE][row] = 0
        columns[INDEX][row] = [*cells, *[-1] * (ZONES - len(cells))]
        columns[COUNT][row], columns[LEFT_OUT][row] = len(cells), len(numbers) - len(cells)
        self._limits(row, topology, machine)
        self._whole_limits(row, topology, machine)
        for placement in held:
            self._charge(row, placement, 1)
        return ()

    def register(self, row: int, node: NodeObject) -> Iterable[int]:
        """Its kubelet's policies."""
        self._columns[POLICY][row] = POLICIES.index(policy_of(node.topology_policy))
        if node.pinned_cpu or PINNED in self._columns:
            self._columns.add(PINNED, np.bool_)
            self._columns[PINNED][row] = node.pinned_cpu
        return ()

    def charge(self, row: int, placement: Placement, sign: int) -> Iterable[int]:
        """See module docstring."""
        self._charge(row, placement, sign)
        return ()

    def ask(self, pod: Pod) -> Hashable:
        """Whether the kubelet may bind the pod by itself somewhere."""
        return pod.wish.whole and PINNED in self._columns

    def cards(self, row: int, indexes: Iterable[int]) -> frozenset[int]:
        """The cells of the NUMA nodes of some cards."""
        machine = self._machines.get(row, NOTHING)
        near = (machine.cells.get(machine.cards.get(index, -1)) for index in indexes)
        return frozenset(cell for cell in near if cell is not None)

    def numbers(self, row: int, cells: Iterable[int]) -> tuple[int, ...]:
        """The numbers of NUMA nodes by cell; the cell itself where nobody told the numbers."""
        index = self._columns[INDEX][row]
        return tuple(sorted(int(index[cell]) if index[cell] >= 0 else int(cell) for cell in cells))

    # -- limits ------------------------------------------------------------------------------------------------------

    def _limits(self, row: int, topology: NodeTopology, machine: _Machine) -> None:
        """Of NUMA nodes, and of what lies around several of them; every column of the row is written once."""
        system, unknown = _cpus(topology.system_cpus), [math.nan] * ZONES
        found: dict[str, list[float]] = {CPU: unknown.copy(), MEMORY: unknown.copy()}
        for node in topology.numa:
            if (cell := machine.cells.get(node.index)) is not None:
                found[CPU][cell] = 1000 * len(_cpus(node.cpus) - system)
                found[MEMORY][cell] = max(0, min(node.memory, LARGEST))
        seen, package = set[tuple[str, int]](), [-1] * ZONES
        packages: dict[int, int] = {}  # NUMA nodes with CPUs by package
        for zone, numbers, around in _zones(topology.machine, -1):
            cells = [machine.cells[number] for number in numbers if number in machine.cells]
            if zone.kind is ZoneKind.NUMA:
                packages[around] = packages.get(around, 0) + bool(zone.cpus)
                for cell in cells:
                    package[cell] = min(around, MOST_NUMBERS)
            for kind, amount in (zone.capacity | zone.allocatable).items() if cells else ():
                if kind == CPU or not seen.isdisjoint((kind, cell) for cell in cells):
                    continue  # the inner zone's limit is the nearer one
                limits = found.setdefault(kind, unknown.copy())
                for cell in cells:
                    seen.add((kind, cell))
                    limits[cell] = max(0, min(amount, LARGEST))
                if len(cells) > 1:
                    self._share(row, kind, cells, machine)
        for kind, limits in found.items():
            self._add(kind)
            self._columns[f"zone/limit/{kind}"][row] = limits
        self._columns[PACKAGE][row] = package
        self._columns[PER_PACKAGE][row] = sum(packages.values()) // max(1, sum(map(bool, packages.values())))

    def _share(self, row: int, kind: str, cells: list[int], machine: _Machine) -> None:
        self._columns.add(f"zone/siblings/{kind}", np.int16, fill=-1, width=ZONES)
        self._fills[f"zone/siblings/{kind}"] = -1
        self._columns[f"zone/siblings/{kind}"][row, cells] = min(cells)
        sharing = list(machine.sharing.get(kind, tuple((cell,) for cell in range(ZONES))))
        for cell in cells:
            sharing[cell] = tuple(sorted(cells))
        machine.sharing[kind] = tuple(sharing)

    def _whole_limits(self, row: int, topology: NodeTopology, machine: _Machine) -> None:
        limits = topology.capacity | topology.allocatable
        whole = [kind for kind, known in self._kinds.items() if known.scope is Scope.NODE and kind in limits]
        machine.whole = frozenset(whole)
        for kind in whole:
            self._add(kind)
            self._columns[f"zone/limit/{kind}"][row, 0] = max(0, min(limits[kind], LARGEST))

    def _add(self, kind: str) -> None:
        if f"zone/limit/{kind}" in self._fills:
            return
        self._fills |= {f"zone/limit/{kind}": np.nan, f"zone/charged/{kind}": 0}
        self._columns.add(f"zone/limit/{kind}", np.float64, fill=np.nan, width=ZONES)
        self._columns.add(f"zone/charged/{kind}", np.float64, width=ZONES)

    # -- charges -----------------------------------------------------------------------------------------------------

    def _charge(self, row: int, placement: Placement, sign: int) -> None:
        """Only of kinds that the row's machine has a limit of, and only on NUMA nodes it has."""
        columns, machine = self._columns, self._machines.get(row, NOTHING)
        if not placement.numa and not machine.whole:
            return
        for kind in placement.charged.keys() & machine.whole if machine.whole else ():
            columns[f"zone/charged/{kind}"][row, 0] += sign * placement.charged[kind]
        cells = [machine.cells[index] for index in sorted(set(placement.numa)) if index in machine.cells]
        if not cells:
            return
        count = len(set(placement.numa))
        columns[BOUND][row, cells] += sign
        if placement.exclusive:
            columns[ALONE][row, cells] += sign
        for kind, amount in placement.charged.items():
            name = f"zone/charged/{kind}"
            if name not in columns or kind in machine.whole or (placement.exclusive and kind in OWN):
                continue
            each, sharing = sign * -(-amount // count), machine.sharing.get(kind)
            for cell in cells:
                for shown in sharing[cell] if sharing else (cell,):
                    if not np.isnan(columns[f"zone/limit/{kind}"][row, shown]):
                        columns[name][row, shown] += each


def _cpus(text: str) -> frozenset[int]:
    """CPUs of a list; none of one that does not parse (the reporter's are always well-formed)."""
    try:
        return parse_cpuset(text)
    except InputError:
        return frozenset()


def _zones(zone: Zone, package: int) -> Iterator[tuple[Zone, list[int], int]]:
    """Every zone below the machine that has NUMA nodes, inner ones first: their numbers, and the package it lies in."""
    for child in zone.children:
        if child.kind is ZoneKind.NUMA:
            yield child, [child.index], package
        elif child.children:
            inside = child.index if child.kind is ZoneKind.PACKAGE else package
            below = list(_zones(child, inside))
            yield from below
            yield (
                child,
                [number for zone, numbers, _ in below if zone.kind is ZoneKind.NUMA for number in numbers],
                inside,
            )
