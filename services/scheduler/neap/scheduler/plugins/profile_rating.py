"""Place a pod by what its service is known to use though it never asks: memory bandwidth, disk, network, power.

    demand(node)  = use per core × cpu request × ratio[observed on][machine type of the node]
    passes        = of every kind, each of the NUMA nodes wanted holds its part of the demand; several kinds on the same
    room(zone)    = Σ weight · (left − part) / limit / Σ weight          over kinds with one limit per NUMA node
    score  spread = 100 · room of the tightest chosen zone     pack: 100 − that      0 where it does not fit    [0..100]

Kinds with one limit per node enter the mean the same way. The zone is the roomiest for spread, the tightest that holds
the pod for pack, ties the lowest; reserve binds the pod to it. Rating the most-left NUMA node *after* placement, not
the node's sum, because a sum hides that no single zone can hold the pod. Owners spread, guests pack: that keeps zones
empty for large pods. `keep_empty` opens an untouched zone only where no other of the node holds the pod, and such a
node gets half its score, the others 50 + half of theirs.
A node that does not know its limit is rated 0 for that kind and passes (setting `unknown`); a pod without a profile is
nothing to this plugin. By share of the limit and not min–max over nodes (core.rating.rate), because a score must
not change when another node does; nodes with one limit come out in the same order.
Units: the kind's own (bytes/s, milliwatts), as whole numbers. Which kinds there are is data: see common.model.profile.
Source: requirements 1.5 (004-02, 004-12, 004-13, 004-13b, 004-17 … 004-30).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np

from neap.common.model.profile import Scope
from neap.scheduler.core.change import NodeChanged
from neap.scheduler.core.demand import Demand, ProfiledPod, machines, zones
from neap.scheduler.core.framework import Parts, Plugin, Rule
from neap.scheduler.core.pod import Pod
from neap.scheduler.core.rating import Choice, Zones, choose, holding, portion
from neap.scheduler.core.table import NodeTable
from neap.scheduler.core.view import Mask, Numbers, View

WAKES: Final = frozenset({NodeChanged.FREE, NodeChanged.NODE_ADDED})


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which way, and what counts how much."""

    owners: Literal["spread", "pack"] = "spread"  # owners over NUMA nodes and nodes
    guests: Literal["spread", "pack"] = "pack"  # guests over NUMA nodes and nodes
    keep_empty: bool = False  # untouched NUMA nodes are the last choice, for large pods to come
    unknown: Literal["pass", "reject"] = "pass"  # nodes that do not know their limit of a kind
    machine_label: str = "neap.io/machine-type"  # label of a node that names its machine type
    weights: dict[str, float] = {}  # of a kind in the mean; 1 for kinds not named


class Held(NamedTuple):
    """One kind of one pod against every row. A row that does not know its limit holds anything, and has no room."""

    demand: Demand
    zones: Zones
    each: Numbers
    holds: Mask
    known: Mask
    weight: float
    wanted: int  # zones

    @property
    def passes(self) -> Mask:
        """Rows with enough zones for this kind alone; shape (rows,)."""
        return np.asarray(self.holds.sum(axis=1) >= self.wanted) | ~self.known

    def room(self) -> Numbers:
        """(left − part) / limit, at least 0; 0 where unknown; shape (rows, zones)."""
        limit, charged = self.zones
        rest = limit - charged - self.each[:, None]
        return np.maximum(np.divide(rest, limit, out=np.zeros(limit.shape), where=limit > 0), 0.0)


class Picked(NamedTuple):
    """NUMA nodes that hold all kinds at once, what is left on the tightest of them, and whether one was untouched."""

    choice: Choice
    room: Numbers
    opens: Mask | None  # only where it matters


def held(pod: ProfiledPod, view: View, settings: Settings) -> list[Held]:
    """Every kind the profile predicts, by name."""
    types, found = machines(view, settings.machine_label), []
    for demand in pod.demands:
        count = pod.zones if demand.kind.scope is Scope.NUMA else 1
        of_kind = zones(view, demand.kind.name)
        if demand.kind.scope is Scope.NODE:
            of_kind = Zones(of_kind.limit[:, :1], of_kind.charged[:, :1])
        each = portion(demand.amounts(types), count)
        known = of_kind.known
        holds = holding(of_kind, each, overflows=demand.kind.overflows) | ~known[:, None]
        weight = max(0.0, settings.weights.get(demand.kind.name, 1.0))
        found.append(Held(demand, of_kind, each, holds, known, weight, count))
    return found


def have_left(pod: Pod, view: View, settings: Settings) -> Sequence[Rule]:
    """One or two rules per kind, by name, and one for all kinds that need the same NUMA node."""
    if not isinstance(pod, ProfiledPod):
        return ()
    rules, per_kind = [], held(pod, view, settings)
    for one in per_kind:
        kind = one.demand.kind.name
        if settings.unknown == "reject":
            rules.append(Rule(f"{kind} unknown", one.known, WAKES))
        places = "" if one.demand.kind.scope is Scope.NODE else f" on {one.wanted} NUMA nodes"
        rules.append(Rule(f"{kind}: {one.demand.span} predicted{places}", one.passes, WAKES))
    inside = [one for one in per_kind if one.demand.kind.scope is Scope.NUMA]
    if len(inside) > 1:
        names = ", ".join(one.demand.kind.name for one in inside)
        rules.append(
            Rule(f"{names} on the same {pod.zones} NUMA nodes", pick(pod, inside, settings).choice.enough, WAKES)
        )
    return rules


def roomy(pod: Pod, view: View, settings: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; None for a pod without a profile, or if no kind has a weight."""
    if not isinstance(pod, ProfiledPod):
        return None
    per_kind = held(pod, view, settings)
    weights = sum(one.weight for one in per_kind)
    if weights <= 0:
        return None
    total, fits, picked = np.zeros(view.size), view.all(), None
    inside = [one for one in per_kind if one.demand.kind.scope is Scope.NUMA]
    if inside:
        picked = pick(pod, inside, settings)
        total += sum(one.weight for one in inside) * picked.room
        fits &= picked.choice.enough
    for one in per_kind:
        fits &= one.passes
        if one.demand.kind.scope is Scope.NODE:
            total += one.weight * one.room()[:, 0]
    score = np.minimum(100 * total / weights, 100.0)
    score = 100 - score if _packs(pod, settings) else score
    if picked is not None and picked.opens is not None:
        score = np.where(picked.opens, 0.0, 50.0) + score / 2
    return np.where(fits & _known(per_kind), score, 0.0)


def bind(pod: Pod, table: NodeTable, row: int, settings: Settings, given: Parts) -> Parts | str:
    """The NUMA nodes a pod runs on; none where their limits are not known."""
    if not isinstance(pod, ProfiledPod):
        return given
    per_kind = held(pod, table.view(np.array([row], dtype=np.intp)), settings)
    inside = [one for one in per_kind if one.demand.kind.scope is Scope.NUMA and one.known[0]]
    if not inside:
        return given
    choice = pick(pod, inside, settings).choice
    if not choice.enough[0]:
        return f"no {pod.zones} NUMA nodes hold what its profile predicts"
    return replace(given, numa=tuple(sorted(map(int, choice.cells[0]))))


def pick(pod: ProfiledPod, inside: Sequence[Held], settings: Settings) -> Picked:
    """For all kinds of scope NUMA at once; kinds a row does not know hold anything there and have no room."""
    weights, first = sum(one.weight for one in inside) or 1.0, inside[0]
    holds, room = first.holds, first.room() * (first.weight / weights)
    for one in inside[1:]:
        holds, room = holds & one.holds, room + one.room() * (one.weight / weights)
    untouched = _untouched(inside) if settings.keep_empty else None
    choice = choose(holds, -room if _packs(pod, settings) else room, pod.zones, untouched=untouched)
    rows = np.arange(len(room))[:, None]
    tightest = np.where(choice.enough, room[rows, choice.cells].min(axis=1), 0.0)
    opens = None if untouched is None else np.asarray(untouched[rows, choice.cells].any(axis=1))
    return Picked(Choice(choice.cells, choice.enough | ~_known(inside)), tightest, opens)


def _untouched(inside: Sequence[Held]) -> Mask:
    """NUMA nodes on which nothing is charged of any kind; shape (rows, zones)."""
    found: Mask = inside[0].zones.charged == 0
    for one in inside[1:]:
        found = found & (one.zones.charged == 0)
    return found


def _known(kinds: Sequence[Held]) -> Mask:
    """Rows that know a limit of at least one kind."""
    known: Mask = kinds[0].known
    for one in kinds[1:]:
        known = known | one.known
    return known


def _packs(pod: Pod, settings: Settings) -> bool:
    return (settings.guests if pod.guest else settings.owners) == "pack"


PLUGIN: Final = Plugin(settings=Settings, wakes=WAKES, filter=have_left, score=roomy, reserve=bind)
