"""Bind pods to NUMA nodes that hold all of them, by the rules of the node's topology policy.

    policy             a bound pod gets            a pod that has its NUMA nodes alone gets
    single-numa-node   one NUMA node               one untouched NUMA node
    numeric            one NUMA node               the fewest that hold it by their size, untouched, not across packages
                                                   unless one package has too few; at most 8 NUMA nodes per machine
    restricted         the fewest by their size    the fewest by their size, untouched
    none               none: nothing is promised, and the decision says so

Bound are pods that ask for it; where the kubelet gives whole CPUs away under single-numa-node, Guaranteed pods with
whole CPUs as well. A pod that says over how many NUMA nodes it may be divided gets at least so many. What must lie
together are the `aligned` kinds and all that a profile predicts per NUMA node (core.binding). Where one NUMA node will
not do for a pod of several containers, they are dealt over the fewest that will, if even parts fit there as well: a ledger
charges no others. Alone means whole: CPU and memory of the NUMA nodes are charged in full.

    score   per container and NUMA node (for "alone" under numeric: per smallest set), of what is free before
            most  = ⌊100 · ask / free⌋        least = ⌊100 · (free − ask) / free⌋      0 where it does not fit
            balanced = ⌊100 · (1 − variance of ask / free over kinds)⌋
            weighted mean over aligned kinds, rounded down; the lowest one above 0 of all NUMA nodes, because nobody
            knows which one it will be; mean over containers, rounded down; 0 on nodes that bind nobody      [0..100]

Among NUMA nodes that will do: those of its cards, of one package, with the most room by its profile (guests: the
least), then the lowest numbered. Units: the kinds' own whole units.
Source: Katalyst NodeResourceTopology (policies, scores) without three faults: no aligned kind asked, one aligned kind
balanced, gaps in the numbers of NUMA nodes. Acceptance cases AC-4, AC-5, AC-6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from neap.common.cpuset import format_cpuset
from neap.common.model.resource import CPU, MEMORY
from neap.scheduler.core.choice.binding import (
    Found,
    Need,
    Rules,
    Wishes,
    best_left,
    by_container,
    fewest,
    predicted_needs,
    room,
    search,
)
from neap.scheduler.core.choice.framework import Near, Parts, Plugin, Rule
from neap.scheduler.core.choice.numa_score import Strategy, container_score
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.nodes.view import Mask, Numbers, View
from neap.scheduler.core.nodes.zones import COUNT, INDEX, LEFT_OUT, OWN, PER_PACKAGE, PINNED, POLICIES, POLICY, ZONES
from neap.scheduler.core.pods.demand import zones
from neap.scheduler.core.pods.pod import Pod

WAKES: Final = frozenset({NodeChanged.FREE, NodeChanged.NODE_ADDED})
MOST_NUMERIC: Final = 8  # NUMA nodes
NONE, SINGLE, RESTRICTED, NUMERIC = map(POLICIES.index, POLICIES[1:])


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose rules, and what is good."""

    policy: Literal["none", "single-numa-node", "restricted", "numeric"] = "numeric"  # of nodes that do not say
    aligned: tuple[str, ...] = (CPU, MEMORY)  # kinds that must come from the same NUMA nodes
    score: Strategy = "most"  # most: fill NUMA nodes; least: keep room on each; balanced: kinds alike
    weights: dict[str, float] = {}  # of a kind in the score; 1 for kinds not named


@dataclass(frozen=True, slots=True)
class Bound:
    """Every row for one pod: whether it binds the pod, how many NUMA nodes by which rules, and which ones."""

    covered: Mask
    policy: NDArray[np.int64]
    needs: Sequence[Need]
    count: NDArray[np.int64]
    found: Found


def held_together(pod: Pod, view: View, settings: Settings) -> Sequence[Rule]:
    """One rule, and a second one for who has its NUMA nodes alone; none for pods that nobody binds."""
    pinned = _pinned(pod, view)
    if pinned is None:
        return ()
    bound = _bound(pod, view, settings, pinned)
    passes = bound.found.enough | ~bound.covered
    what = "NUMA nodes to have alone" if pod.wish.exclusive else "NUMA nodes that hold it"
    rules = [Rule(what, passes, WAKES, lambda: _near(bound, view))]
    if pod.wish.exclusive:
        short = np.where(bound.covered, _whole_short(pod, view, bound.found.cells), 0.0)
        rules.append(Rule("free as much as its NUMA nodes have", short <= 0, WAKES, lambda: _near_whole(short)))
    return rules


def aligned_score(pod: Pod, view: View, settings: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; None for pods that nobody binds."""
    pinned = _pinned(pod, view)
    if pinned is None:
        return None
    covered, policy = _covered(pod, view, settings, pinned)
    asks = pod.wish.containers or (tuple(sorted(pod.requests.items())),)
    aligned = [tuple((kind, amount) for kind, amount in ask if kind in settings.aligned and amount > 0) for ask in asks]
    alone = pod.wish.exclusive
    sets = (policy == NUMERIC) if alone else np.zeros(view.size, dtype=np.bool_)
    scores = [
        container_score(view, ask, settings.score, settings.weights, alone=alone, sets=sets) for ask in aligned if ask
    ]
    mean = np.floor(sum(scores, np.zeros(view.size)) / len(scores)) if scores else np.full(view.size, 100.0)
    return np.where(covered, mean, 0.0 if pod.wish.bound else np.where(pinned, 0.0, 100.0))


def bind(pod: Pod, table: NodeTable, row: int, settings: Settings, given: Parts) -> Parts | str:
    """The NUMA nodes of one node; what they have is charged whole to who has them alone."""
    if given.numa or not (pod.wish.bound or pod.wish.whole):
        return given
    view = table.view(np.array([row], dtype=np.intp))
    pinned = _pinned(pod, view)
    if pinned is None:
        return given
    near = table.zones.cards(row, (share.card for share in given.gpus)) if given.gpus else None
    bound = _bound(pod, view, settings, pinned, near)
    if not bound.covered[0]:
        said = ("not bound to NUMA nodes: the node's topology policy is none",) if pod.wish.bound else ()
        return replace(given, why=(*given.why, *said))
    cells = bound.found.cells
    if not bound.found.enough[0]:
        return "no NUMA nodes hold it"
    numa, alone, charged = (
        table.zones.numbers(row, map(int, np.flatnonzero(cells[0]))),
        pod.wish.exclusive,
        given.charged,
    )
    where = f"NUMA {format_cpuset(numa)}{' alone' if alone else ''}"
    if alone:
        if _whole_short(pod, view, cells)[0] > 0:
            return f"less is free than {where} has"
        charged = charged | {kind: int(amount[0]) for kind, amount in _whole(pod, view, cells).items()}
    why = (*given.why, f"{where} by policy {POLICIES[bound.policy[0]]}")
    return replace(given, numa=numa, exclusive=alone, charged=charged, why=why)


def _pinned(pod: Pod, view: View) -> Mask | None:
    """Rows whose kubelet gives whole CPUs away; None for a pod that nobody binds (`ZoneKeeper.ask` says whether)."""
    if not (pod.wish.bound or pod.wish.whole):
        return None
    try:
        return view.column(PINNED)
    except KeyError:
        return np.zeros(view.size, dtype=np.bool_) if pod.wish.bound else None


def _covered(pod: Pod, view: View, settings: Settings, pinned: Mask) -> tuple[Mask, NDArray[np.int64]]:
    """Which rows bind the pod, and the policy of each."""
    told = view.column(POLICY).astype(np.int64)
    policy = np.where(told == 0, POLICIES.index(settings.policy), told)
    return (policy != NONE) if pod.wish.bound else pinned & (policy == SINGLE), policy


def _bound(pod: Pod, view: View, settings: Settings, pinned: Mask, near: frozenset[int] | None = None) -> Bound:
    (covered, policy), alone = _covered(pod, view, settings, pinned), pod.wish.exclusive
    needs = [
        Need.of(view, kind, np.full(view.size, float(amount)), together=alone and kind in OWN)
        for kind, amount in sorted(pod.requests.items())
        if kind in settings.aligned and amount > 0
    ]
    by_size = (policy == RESTRICTED) | ((policy == NUMERIC) & alone)
    count = np.where(by_size, fewest(view, needs, settings.aligned, least=pod.wish.spans, alone=alone), pod.wish.spans)
    many = (policy == NUMERIC) & (view.column(COUNT).astype(np.int64) + view.column(LEFT_OUT) > MOST_NUMERIC)
    count[~covered | many | ((policy == SINGLE) & (count > 1))] = 0
    predicted = predicted_needs(pod, view)
    roomy = room(predicted, count, {})
    wishes = Wishes(-roomy if roomy is not None and pod.guest else roomy, _near_cards(view, near))
    rules = Rules(count, alone, (policy == NUMERIC) & (count <= view.column(PER_PACKAGE)))
    found = search(view, [*needs, *predicted], rules, wishes)
    if pod.wish.containers and pod.wish.spans == 1:
        tried = covered & (policy != RESTRICTED) & ~many
        found = by_container(view, [*needs, *predicted], pod.wish.containers, tried, found, rules, wishes)
    return Bound(covered, policy, [*needs, *predicted], count, found)


def _near_cards(view: View, near: frozenset[int] | None) -> Mask | None:
    if near is None:
        return None
    cells = np.zeros((view.size, ZONES), dtype=np.bool_)
    cells[:, sorted(near)] = True
    return cells


def _whole(pod: Pod, view: View, cells: Mask) -> dict[str, Numbers]:
    """CPU and memory of these NUMA nodes, or what is asked where that is more; shapes (rows,)."""
    return {
        kind: np.maximum(
            np.where(cells, np.nan_to_num(zones(view, kind).limit), 0.0).sum(axis=1), pod.requests.get(kind, 0)
        )
        for kind in OWN
    }


def _whole_short(pod: Pod, view: View, cells: Mask) -> Numbers:
    """The largest part of a whole NUMA node's amounts that the node has not free; shape (rows,)."""
    parts = [
        np.where(whole > 0, (whole - view.free(kind)) / np.maximum(whole, 1.0), 0.0)
        for kind, whole in _whole(pod, view, cells).items()
    ]
    return np.maximum(np.maximum(parts[0], parts[1]), 0.0)


def _near(bound: Bound, view: View) -> Near:
    """What is missing: NUMA nodes that hold their part; none would help where the machine has too few, or too many."""
    count, index = np.maximum(bound.count, 1), view.column(INDEX)
    holding = np.ones((view.size, ZONES), dtype=np.bool_)
    for need in bound.needs:
        holding &= need.holds(count)
    there = np.arange(ZONES) < view.column(COUNT)[:, None]
    missing = np.maximum(count - (holding & there).sum(axis=1), 1.0)
    never = (bound.count == 0) | (view.column(COUNT) < count)
    rejected = bound.covered & ~bound.found.enough

    def tell(row: int) -> str:
        if bound.count[row] == 0 and view.column(COUNT)[row]:
            many = int(view.column(COUNT)[row]) + int(view.column(LEFT_OUT)[row])
            return f"has {many} NUMA nodes, and its policy {POLICIES[bound.policy[row]]} finds none that could hold it"
        numbers = {cell: int(number) for cell, number in enumerate(index[row]) if number >= 0}
        return f"{count[row]} NUMA nodes needed: {best_left(bound.needs, row, numbers)}"

    return Near(np.where(rejected, np.where(never, np.inf, missing), 0.0), tell)


def _near_whole(short: Numbers) -> Near:
    return Near(short, lambda row: f"lacks {short[row]:.0%} of what the NUMA nodes have that would be the pod's alone")


PLUGIN: Final = Plugin(settings=Settings, wakes=WAKES, filter=held_together, score=aligned_score, reserve=bind)
