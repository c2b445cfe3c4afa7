"""How pods stand to each other: who is where, per domain (nodes with one value of a label), kept under every charge.

A pod's standing is worked out per domain, not per node, from tallies (core/nodes/crowds.py), and what decides of it goes into
the evaluation's key, so that a charge in a zone need not touch the zone's thousands of rows:

    wide key (zones)           the verdict by domain itself: two services with the same zones open share an evaluation,
                               and an evaluation comes back when its verdict does
    narrow key (hosts, racks)  who is counted, and what is one number for all domains (the least of them, the span);
                               rows of a domain are stamped when its count changes

Live tallies are bounded by MOST_TALLIES: the one asked longest ago goes, and is counted anew when it is asked again.
From then on every charge may be what a forgotten one waits for, and says so (NodeChanged.POD).
Cost of a charge: O(crowds that mean the pod); of asking: O(terms × domains), nothing for pods that stand to nobody.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Final

import numpy as np

from neap.common.model.node import NodeObject
from neap.common.model.placement import Placement
from neap.common.model.scheduling import NodeTerm
from neap.common.model.topology import NodeTopology
from neap.common.model.workload import Workload
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.columns import Columns
from neap.scheduler.core.nodes.crowds import (
    Area,
    Bearing,
    Crowd,
    Family,
    Index,
    Said,
    Tally,
    Together,
    all_have,
    anchors,
    said_by,
)
from neap.scheduler.core.nodes.keeper import Keeper
from neap.scheduler.core.nodes.labels import NAME, Counts, Key, Labels, Move, machine_labels
from neap.scheduler.core.nodes.standing import Standing, area_of, standing
from neap.scheduler.core.nodes.view import ALL, Mask, View
from neap.scheduler.core.pods.pod import Pod

DOMAINS: Final = "domains"  # the fact by which plugins find it
MOST_TALLIES: Final = 4096


class Domains(Keeper):
    """See module docstring. `changes` is the table's."""

    def __init__(
        self, columns: Columns, changes: set[NodeChanged], *, labels: Labels | None = None, most: int = MOST_TALLIES
    ) -> None:
        self._columns, self._changes, self._most = columns, changes, most
        columns.facts[DOMAINS] = self
        self.labels = labels or Labels(columns)
        self._machines: dict[int, Mapping[str, str]] = {}
        self._clusters: dict[int, Mapping[str, str]] = {}
        self._families: dict[Hashable, Family] = {}
        self._kin: Index[Family] = Index()
        self._crowds: dict[Together, Crowd] = {}
        self._who: Index[Crowd] = Index()
        self._tallies: dict[Hashable, Tally] = {}  # the one asked last is the last
        self._areas: dict[Hashable, Area] = {}
        self._bearings: dict[Hashable, Bearing] = {}
        self._heard: Index[Bearing] = Index()
        self._blind = False  # a tally was forgotten
        self._version = 0
        self._last: tuple[Pod | None, int, Standing | None] = (None, 0, None)

    # -- nodes -------------------------------------------------------------------------------------------------------

    def describe(self, row: int, topology: NodeTopology, held: Iterable[Placement]) -> Iterable[int]:
        """Its machine's labels; those of the cluster win."""
        del held  # charged already
        self._machines[row] = {**machine_labels(topology), NAME: topology.node}
        return self._tell(row)

    def register(self, row: int, node: NodeObject) -> Iterable[int]:
        """Its labels in the cluster."""
        self._clusters[row] = node.labels
        return self._tell(row)

    def forget(self, row: int) -> Iterable[int]:
        """It carries nothing, and its pods are nowhere."""
        self._machines.pop(row, None)
        return self._tell(row)

    def _tell(self, row: int) -> Iterable[int]:
        machine = self._machines.get(row)
        moves = self._moves(row, machine)
        if not moves:
            return ()
        self._version += 1
        before = {area: area.has(row) for area in self._areas.values()}
        for area in self._areas.values():
            self._renew(area, row, moves)
        for tally in self._tallies.values():
            amount = tally.crowd.rows.get(row)
            if amount:
                old, new = self._ends(tally.key, row, moves)
                if tally.area is None or before[tally.area]:
                    tally.add(old, -amount)
                if tally.area is None or tally.area.has(row):
                    tally.add(new, amount)
        for bearing in self._bearings.values():
            if row in bearing.rows and bearing.key.name in moves:
                old, new = self._ends(bearing.key, row, moves)
                _, weight = bearing.rows[row]
                bearing.counts.add(old, -weight * bool(old))
                bearing.counts.add(new, weight * bool(new))
        self._changes.add(NodeChanged.POD)
        ends = {(key.name, end): key for key in self.labels.keys.values() for end in self._ends(key, row, moves)}
        return self._mates({(key, number): None for (_, number), key in ends.items()}, row)

    def _moves(self, row: int, machine: Mapping[str, str] | None) -> dict[str, Move]:
        labels = {} if machine is None else {**machine, **self._clusters.get(row, {})}
        return {move.key.name: move for move in self.labels.tell(row, labels)}

    def _ends(self, key: Key, row: int, moves: Mapping[str, Move]) -> tuple[int, int]:
        """The number a row had before, and has now."""
        move = moves.get(key.name)
        if move is not None:
            return move.old, move.new
        number = int(self._columns[key.column][row])
        return number, number

    def _renew(self, area: Area, row: int, moves: Mapping[str, Move]) -> None:
        had, has = area.has(row), bool(self._inside(area, View(self._columns, np.array([row])))[0])
        area.mask.extend(bytes(max(0, row + 1 - len(area.mask))))
        area.mask[row] = has
        for name in area.keys:
            old, new = self._ends(self.labels.keys[name], row, moves)
            area.sizes[name].add(old, -had)
            area.sizes[name].add(new, has)

    def _inside(self, area: Area, view: View) -> Mask:
        """The rows of an area."""
        inside = self.labels.required(view, area.required)
        for expression in area.selector:
            inside &= self.labels.matching(view, expression)
        for name in area.keys:
            inside &= self.labels.numbers(view, name) > 0
        return inside

    # -- pods that run -----------------------------------------------------------------------------------------------

    def charge(self, row: int, placement: Placement, sign: int) -> Iterable[int]:
        """One pod more or less in its family's crowds, and what it says of others."""
        workload = placement.workload
        family = self._family(workload.namespace, workload.labels)
        count = family.rows.get(row, 0) + sign
        if count:
            family.rows[row] = count
        else:
            del family.rows[row]
        said = said_by(workload)
        if not (family.crowds or said or self._blind):
            return () if family.rows else self._extinct(family)
        changed: dict[tuple[Key, int], None] = {}
        for crowd in family.crowds:
            crowd.add(row, sign)
            for tally in crowd.tallies:
                if tally.area is None or tally.area.has(row):
                    number = int(self._columns[tally.key.column][row])
                    tally.add(number, sign)
                    changed[tally.key, number] = None
        for one, weight in said:
            bearing = self._bearing(one)
            number = int(self._columns[bearing.key.column][row])
            bearing.add(row, number, sign, weight)
            changed[bearing.key, number] = None
            if not bearing.rows:
                self._silent(bearing)
        self._version += 1
        self._changes.add(NodeChanged.POD)
        if not family.rows:
            self._extinct(family)
        return self._mates(changed, row)

    def _mates(self, changed: Mapping[tuple[Key, int], None], row: int) -> list[int]:
        """The other rows of narrow domains."""
        found: dict[int, None] = {}
        for key, number in changed:
            if number and not key.wide:
                found |= key.members[number]
        found.pop(row, None)
        return list(found)

    def _family(self, namespace: str, labels: Mapping[str, str]) -> Family:
        name = (namespace, frozenset(labels.items()))
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = Family(namespace, labels)
            self._kin.put([None, *labels.items()], family)
            for crowd in self._who.of(labels):
                if all_have(crowd.together, namespace, labels):
                    family.crowds[crowd] = crowd.families[family] = None
        return family

    def _extinct(self, family: Family) -> tuple[()]:
        del self._families[family.namespace, frozenset(family.labels.items())]
        self._kin.drop([None, *family.labels.items()], family)
        for crowd in family.crowds:
            del crowd.families[family]
        return ()

    def _bearing(self, said: Said) -> Bearing:
        bearing = self._bearings.get(said)
        if bearing is None:
            key = self.labels.ask(said.topology)
            key.pins += 1
            bearing = self._bearings[said] = Bearing(said, key, next(self.labels.serials))
            self._heard.put(anchors((said.among,)), bearing)
        return bearing

    def _silent(self, bearing: Bearing) -> None:
        bearing.key.pins -= 1
        del self._bearings[bearing.said]
        self._heard.drop(anchors((bearing.said.among,)), bearing)

    # -- pods to come ------------------------------------------------------------------------------------------------

    def ask(self, pod: Pod) -> Hashable:
        """What decides of its standing; see module docstring."""
        wish = pod.workload.constraints
        if wish.node_required or wish.node_preferred:
            self.labels.ask_terms((*wish.node_required, *wish.node_preferred))
        found = self.standing(pod)
        self._sweep()
        return found.key if found is not None else None

    def standing(self, pod: Pod) -> Standing | None:
        """How a pod stands to those that run, by domain; None to nobody."""
        wish = pod.workload.constraints
        if not (
            self._bearings or wish.spread or wish.near or wish.apart or wish.near_preferred or wish.apart_preferred
        ):
            return None
        last, version, found = self._last
        if last is not pod or version != self._version:
            found = standing(pod, self)
            self._last = (pod, self._version, found)
        return found

    def heard(self, workload: Workload) -> Iterator[Bearing]:
        """What running pods say of this one."""
        for bearing in self._heard.of(workload.labels):
            if bearing.said.among.has(workload.namespace, workload.labels):
                yield bearing

    def tally(self, together: Together, topology: str, area: Area | None = None) -> Tally:
        """How many of a crowd are in each domain."""
        name = (together, topology, area)
        tally = self._tallies.pop(name, None)
        if tally is None:
            crowd, key = self._crowd(together), self.labels.ask(topology)
            tally = Tally(crowd, key, area, next(self.labels.serials))
            crowd.tallies[tally] = None
            cells = self._columns[key.column]
            for row, count in crowd.rows.items():
                if area is None or area.has(row):
                    tally.add(int(cells[row]), count)
        else:
            self.labels.ask(topology)
        self._tallies[name] = tally
        return tally

    def area(self, pod: Pod, keys: tuple[str, ...]) -> Area:
        """The nodes a pod spreads over."""
        selector, required = area_of(pod)
        for expression in selector:
            self.labels.ask(expression.key)
        self.labels.ask_terms(required)
        found = {name: self.labels.ask(name) for name in keys}
        name = (selector, required, keys)
        area = self._areas.get(name)
        if area is None:
            area = self._areas[name] = Area(selector, required, keys)
            inside = self._inside(area, View(self._columns, ALL))
            area.mask = bytearray(inside.tobytes())
            for key in found.values():
                area.sizes[key.name] = Counts()
                for number, count in enumerate(np.bincount(self._columns[key.column][inside])):
                    area.sizes[key.name].add(number, int(count))
        return area

    def _crowd(self, together: Together) -> Crowd:
        crowd = self._crowds.get(together)
        if crowd is None:
            crowd = self._crowds[together] = Crowd(together)
            places = anchors(together)
            self._who.put(places, crowd)
            for family in self._kin.at(places):
                if all_have(together, family.namespace, family.labels):
                    family.crowds[crowd] = crowd.families[family] = None
                    for row, count in family.rows.items():
                        crowd.add(row, count)
        return crowd

    def _sweep(self) -> None:
        """Forget what is beyond the bounds, oldest first; never what was just asked."""
        gone = self.labels.drop()
        if gone:
            names = {key.name for key in gone}
            self._areas = {name: area for name, area in self._areas.items() if not names & _named(area)}
            live = set(self._areas.values())
            for name, tally in list(self._tallies.items()):
                if tally.key.name in names or (tally.area is not None and tally.area not in live):
                    self._forget_tally(name, tally)
        while len(self._tallies) > self._most:
            self._forget_tally(*next(iter(self._tallies.items())))
            if len(self._areas) > self._most:
                used = {tally.area for tally in self._tallies.values()}
                self._areas = {name: area for name, area in self._areas.items() if area in used}

    def _forget_tally(self, name: Hashable, tally: Tally) -> None:
        self._blind = True
        del self._tallies[name]
        crowd = tally.crowd
        del crowd.tallies[tally]
        if not crowd.tallies:
            del self._crowds[crowd.together]
            self._who.drop(anchors(crowd.together), crowd)
            for family in crowd.families:
                del family.crowds[crowd]


def _named(area: Area) -> set[str]:
    """The keys an area depends on."""
    terms: tuple[NodeTerm, ...] = area.required
    inner = {NAME} if any(term.names for term in terms) else set()
    inner |= {one.key for term in terms for one in term.expressions}
    return inner | {one.key for one in area.selector} | set(area.keys)
