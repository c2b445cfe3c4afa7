"""Place a pod by what its service is known to use though it never asks: memory bandwidth, disk, network, power.

    demand(node)  = use per core × cpu request × ratio[observed on][machine type of the node]
    passes        = there is a set of NUMA nodes of which each holds its part of every kind, of CPU and of memory alike
                    (core.binding), and the node holds what has one limit per node
    room(zone)    = Σ weight · (left − part) / limit / Σ weight          over kinds with one limit per NUMA node
    score  spread = 100 · room of the tightest chosen zone     pack: 100 − that      0 where it does not fit    [0..100]

Kinds with one limit per node enter the mean the same way. The set is as small as CPU and memory of the NUMA nodes
allow, or as large as the pod says; of one size the roomiest for spread, the tightest that holds it for pack, ties the
lowest. Rating the most-left NUMA node *after* placement, not the node's sum, because a sum hides that no single zone
can hold the pod. Owners spread, guests pack: that keeps zones empty for large pods. `keep_empty` opens an untouched
zone only where no other of the node holds the pod, and such a node gets half its score, the others 50 + half of theirs.

The ledger is charged what was predicted, at once, and given the NUMA nodes: also those of a pod that did not ask to be
bound, because a prediction holds only where the pod runs. The advisor binds every pod to the NUMA nodes its placement
names; a pod of a shared pool only if it is one (several are charged evenly, and it roams). So CPU and memory of those
NUMA nodes are charged as well. A pod that asked to be bound gets its NUMA nodes from the plugin numa, by the same search.
A node that does not know its limit is rated 0 for that kind, passes (setting `unknown`), and that is said; a pod without
a profile is nothing to this plugin. By share of the limit and not min–max over nodes (core.choice.rating.rate), because a
score must not change when another node does; nodes with one limit come out in the same order.
Units: the kind's own (bytes/s, milliwatts), as whole numbers. Which kinds there are is data: see common.model.profile.
Source: requirements 1.5 (004-01, 004-02, 004-12, 004-13, 004-13b, 004-17 … 004-30, 004-42).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from neap.common.cpuset import format_cpuset
from neap.common.model.profile import Scope
from neap.common.model.resource import CPU, MEMORY
from neap.scheduler.core.choice.binding import Found, Need, Rules, Wishes, best_left, fewest, room, search
from neap.scheduler.core.choice.framework import Near, Parts, Plugin, Rule
from neap.scheduler.core.choice.rating import Zones, most_left_sentence
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.table import PRESENT, NodeTable
from neap.scheduler.core.nodes.view import Mask, Numbers, View
from neap.scheduler.core.pods.demand import ProfiledPod, charges, machines
from neap.scheduler.core.pods.pod import Pod

WAKES: Final = frozenset({NodeChanged.FREE, NodeChanged.NODE_ADDED})
OWN: Final = (CPU, MEMORY)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which way, and what counts how much."""

    owners: Literal["spread", "pack"] = "spread"  # owners over NUMA nodes and nodes
    guests: Literal["spread", "pack"] = "pack"  # guests over NUMA nodes and nodes
    keep_empty: bool = False  # untouched NUMA nodes are the last choice, for large pods to come
    unknown: Literal["pass", "reject"] = "pass"  # nodes that do not know their limit of a kind
    weights: dict[str, float] = {}  # of a kind in the mean; 1 for kinds not named


@dataclass(frozen=True, slots=True)
class Held:
    """One pod against every row: what it needs of NUMA nodes (predictions first), of the node, and how it is divided."""

    inside: list[Need]  # per NUMA node, by kind
    own: list[Need]  # CPU and memory, per NUMA node as well
    whole: list[Need]  # of the node, in cell 0
    count: NDArray[np.int64]  # NUMA nodes

    def passes(self, need: Need) -> Mask:
        """Rows that hold enough of this kind alone; shape (rows,)."""
        held = need.holds(np.maximum(self.count, 1))
        return np.asarray((held.sum(axis=1) >= self.count) & (self.count > 0)) | ~need.zones.known

    @property
    def known(self) -> Mask:
        """Rows that know a limit per NUMA node of at least one predicted kind."""
        found = np.zeros(len(self.count), dtype=np.bool_)
        for need in self.inside:
            found |= need.zones.known
        return found


def held(pod: ProfiledPod, view: View) -> Held:
    """Every kind the profile predicts, and what the pod asks for."""
    types = machines(view)
    needs = [
        (one, Need.of(view, one.kind.name, one.amounts(types), overflows=one.kind.overflows)) for one in pod.demands
    ]
    inside = [need for one, need in needs if one.kind.scope is Scope.NUMA]
    whole = [_whole(need) for one, need in needs if one.kind.scope is Scope.NODE]
    asked = {kind: pod.requests[kind] for kind in OWN if pod.requests.get(kind)} if inside else {}
    own = [Need.of(view, kind, np.full(view.size, float(amount))) for kind, amount in asked.items()]
    if not inside:
        return Held(inside, own, whole, np.full(view.size, pod.zones, dtype=np.int64))
    return Held(inside, own, whole, fewest(view, own, OWN, least=pod.zones, alone=False))


def have_left(pod: Pod, view: View, settings: Settings) -> Sequence[Rule]:
    """One or two rules per kind, by name, and one for all kinds that need the same NUMA node."""
    if not isinstance(pod, ProfiledPod) or not pod.demands:
        return ()
    rules, mine = [], held(pod, view)
    needs = {need.kind: need for need in (*mine.inside, *mine.whole)}
    for one in pod.demands:
        need = needs[one.kind.name]
        if settings.unknown == "reject":
            near = partial(_near_unknown, need)
            rules.append(Rule(f"{need.kind} unknown", need.zones.known, WAKES, near))
        told = f"{need.kind}: {one.span} predicted"
        if one.kind.scope is Scope.NODE:
            rules.append(Rule(told, need.holds(1)[:, 0], WAKES, partial(_near_whole, need)))
        elif not pod.wish.bound:  # else the plugin numa decides, by the rules of binding
            passes = mine.passes(need)
            rules.append(Rule(f"{told} on {_nodes(pod)}", passes, WAKES, partial(_near, mine, [need], passes)))
    if mine.inside and not pod.wish.bound:
        passes, together = pick(pod, mine, view, settings).enough | ~mine.known, [*mine.inside, *mine.own]
        names = ", ".join(need.kind for need in together)
        rules.append(Rule(f"{names} on the same {_nodes(pod)}", passes, WAKES, partial(_near, mine, together, passes)))
    return rules


def roomy(pod: Pod, view: View, settings: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; None for a pod without a profile, or if no kind has a weight."""
    if not isinstance(pod, ProfiledPod) or not pod.demands:
        return None
    mine = held(pod, view)
    weigh = {need.kind: max(0.0, settings.weights.get(need.kind, 1.0)) for need in (*mine.inside, *mine.whole)}
    weights = sum(weigh.values())
    if weights <= 0:
        return None
    total, fits, known, opens = np.zeros(view.size), view.all(), mine.known, None
    if mine.inside:
        found, last = pick(pod, mine, view, settings), _untouched(mine)
        tightest = room(mine.inside, mine.count, settings.weights)
        if tightest is not None:
            least = np.where(found.cells, tightest, np.inf).min(axis=1)
            total += sum(weigh[need.kind] for need in mine.inside) * np.where(found.enough, least, 0.0)
        fits &= found.enough | ~known
        opens = np.asarray((found.cells & last).any(axis=1)) if settings.keep_empty else None
    for need in mine.whole:
        fits &= need.holds(1)[:, 0]
        known = known | need.zones.known
        left = room([need], np.ones(view.size, dtype=np.int64), {})
        total += weigh[need.kind] * (0.0 if left is None else left[:, 0])
    score = np.minimum(100 * total / weights, 100.0)
    score = 100 - score if _packs(pod, settings) else score
    if opens is not None:
        score = np.where(opens, 0.0, 50.0) + score / 2
    return np.where(fits & known, score, 0.0)


def charge(pod: Pod, table: NodeTable, row: int, settings: Settings, given: Parts) -> Parts | str:
    """What is predicted, and the NUMA nodes it is charged on; none where their limits are not known."""
    if not isinstance(pod, ProfiledPod):
        return given
    if not pod.demands:
        return replace(given, why=(*given.why, f"its use is expected by the portrait of profile {pod.profile}"))
    view = table.view(np.array([row], dtype=np.intp))
    mine, numa = held(pod, view), given.numa
    if not numa and mine.known[0]:
        found = pick(pod, mine, view, settings)
        if not found.enough[0]:
            return f"no {_nodes(pod)} hold what its profile predicts"
        numa = table.zones.numbers(row, map(int, np.flatnonzero(found.cells[0])))
    charged = given.charged | charges(pod, int(machines(view)[0]))
    return replace(given, numa=numa, charged=charged, why=(*given.why, *_why(pod, mine, view, numa, table)))


def pick(pod: ProfiledPod, mine: Held, view: View, settings: Settings) -> Found:
    """The NUMA nodes of every row for a pod that nobody binds; kinds a row does not know hold anything there."""
    value = room(mine.inside, mine.count, settings.weights)
    if value is not None and _packs(pod, settings):
        value = -value
    wishes = Wishes(value, None, _untouched(mine) if settings.keep_empty else None)
    return search(view, [*mine.inside, *mine.own], Rules(mine.count, known=False), wishes)


def _why(pod: ProfiledPod, mine: Held, view: View, numa: tuple[int, ...], table: NodeTable) -> list[str]:
    """The profile with its version, what it predicts here, what nobody knows, and how the best nodes stood before."""
    machine = int(machines(view)[0])
    where = f" on NUMA {format_cpuset(numa)}" if numa else ""
    amounts = ", ".join(f"{one.on(machine)} {one.kind.unit} {one.kind.name}" for one in pod.demands)
    said = [f"profile {pod.profile or 'given'} predicts {amounts}{where}"]
    if not machine:
        said.append(
            "; ".join(["machine type unknown, ratio 1", *sorted({one.unsure for one in pod.demands if one.unsure})])
        )
    unknown = [need.kind for need in (*mine.inside, *mine.whole) if not need.zones.known[0]]
    if unknown:
        said.append(f"limit of {', '.join(unknown)} unknown")
    if mine.inside:
        kind, there = mine.inside[0].kind, table.view()
        sentence = most_left_sentence(
            table.names, Need.of(there, kind, np.zeros(there.size)).zones.left, there.column(PRESENT)
        )
        said.append(sentence)
    return said


def _whole(need: Need) -> Need:
    """Only the first cell is the node's."""
    return replace(need, zones=Zones(need.zones.limit[:, :1], need.zones.charged[:, :1]))


def _untouched(mine: Held) -> Mask:
    """NUMA nodes on which nothing is charged of any kind; shape (rows, zones)."""
    found: Mask = mine.inside[0].zones.charged == 0
    for need in mine.inside[1:]:
        found = found & (need.zones.charged == 0)
    return found


def _packs(pod: Pod, settings: Settings) -> bool:
    return (settings.guests if pod.guest else settings.owners) == "pack"


def _nodes(pod: ProfiledPod) -> str:
    return "1 NUMA node" if pod.zones == 1 else f"{pod.zones} NUMA nodes"


def _near_unknown(need: Need) -> Near:
    return Near(np.where(need.zones.known, 0.0, np.inf), lambda _: f"does not know its limit of {need.kind}")


def _near_whole(need: Need) -> Near:
    left = np.where(need.zones.known, need.zones.left[:, 0], np.inf)
    missing = np.where(left >= need.amount, 0.0, need.amount - left)

    def tell(row: int) -> str:
        return (
            f"has {left[row]:.0f} of {need.zones.limit[row, 0]:.0f} {need.kind} left, {need.amount[row]:.0f} predicted"
        )

    return Near(missing, tell)


def _near(mine: Held, needs: Sequence[Need], passes: Mask) -> Near:
    """What is missing: NUMA nodes that hold their part."""
    count = np.maximum(mine.count, 1)
    cells = np.ones(needs[0].zones.limit.shape, dtype=np.bool_)
    for need in needs:
        cells &= need.holds(count)
    missing = np.where(mine.count > 0, np.maximum(count - cells.sum(axis=1), 1.0), np.inf)

    def tell(row: int) -> str:
        return f"{count[row]} NUMA nodes needed: {best_left(needs, row, {}, int(count[row]))}"

    return Near(np.where(passes, 0.0, missing), tell)


PLUGIN: Final = Plugin(settings=Settings, wakes=WAKES, filter=have_left, score=roomy, reserve=charge)
