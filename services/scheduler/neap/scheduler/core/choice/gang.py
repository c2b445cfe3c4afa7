"""Nodes for the members of a gang: all or none, in one domain when asked.

Members are charged one after the other, so each sees what the ones before take; if fewer than are needed find a node,
all are taken off again and every column is as before. A domain is one value of a node label (a rack, a switch):

    room(domain) = Σ over shapes min(members, Σ over its nodes that fit one: min over kinds ⌊free / ask⌋)     upper bound

    hard   domains by room, most first; the first that holds enough is taken, otherwise the gang is refused
    soft   the same; if none holds enough, members fill one domain after the other and then any node

At most `domains` are tried, none whose room is too small except the best one, so that a refusal can name it.
A member's wish for the domain is a node selector of its own, so that plugins need not know of gangs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta

from neap.common.model.resource import GPU_CORE, GPU_MEMORY
from neap.common.model.scheduling import Gang
from neap.common.units import Seconds
from neap.scheduler.core.choice.cycle import Cycle, Decision
from neap.scheduler.core.choice.evaluation import BUSY, FITS
from neap.scheduler.core.nodes.cards import CORE
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.nodes.view import Numbers
from neap.scheduler.core.pods.pod import Pod

# Giving back or adding anything may let one more member in, whatever the others of it were refused for.
WAKES: Final = frozenset({NodeChanged.FREE, NodeChanged.DEVICE, NodeChanged.NODE_ADDED})
OF_CARDS: Final = (GPU_CORE, GPU_MEMORY)


class GangSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How gangs are placed."""

    patience: Annotated[Seconds, Meta(gt=0)] = 30.0  # a gang that is not whole so long after its first append is undone
    domains: Annotated[int, Meta(ge=1)] = 8  # tried at once for one gang
    rest_first: Annotated[Seconds, Meta(ge=0)] = 0.5  # before a refused gang is tried again, if anything changed
    rest_most: Annotated[Seconds, Meta(ge=0)] = 30.0  # the same; doubles from the first with every refusal


@dataclass(frozen=True, slots=True)
class Found:
    """Members with a node (charged there), members without, and why."""

    decisions: tuple[Decision, ...]
    left: tuple[Pod, ...] = ()
    verdict: Decision | None = None  # of those left


@dataclass(frozen=True, slots=True)
class _Try:
    value: str  # of the domain; empty: anywhere
    decisions: tuple[Decision, ...]
    misses: tuple[Decision, ...]  # one per shape
    left: tuple[Pod, ...]


class Search:
    """For one gang, at one moment. `need` members must find nodes; `inside`: the domain the others are in."""

    def __init__(self, table: NodeTable, cycle: Cycle, gang: Gang, most: int, at: Seconds) -> None:
        self._table, self._cycle, self._gang, self._most, self._at = table, cycle, gang, most, at

    def find(self, pods: Sequence[Pod], need: int, inside: str = "") -> Found:
        """See module docstring. What is charged and taken off again on the way wakes nobody."""
        before = set(self._table.changes)
        try:
            return self._find(pods, need, inside)
        finally:
            self._table.changes.clear()
            self._table.changes.update(before)

    def _find(self, pods: Sequence[Pod], need: int, inside: str) -> Found:
        gang = self._gang
        if not gang.domain:
            return self._settle([self._try(pods, "")], pods, need, [])
        rooms = self._rooms(pods)
        if inside:
            rooms = [(len(pods), inside), *([] if gang.hard else [pair for pair in rooms if pair[1] != inside])]
        tries: list[_Try] = []
        for room, value in rooms[: self._most]:
            if tries and room < need:
                break
            tries.append(self._try(pods, value))
            if len(tries[-1].decisions) >= max(need, 1):
                return self._settle(tries[-1:], pods, need, rooms)
            self._undo(tries[-1])
        if gang.hard:
            return self._settle([replace(one, decisions=()) for one in tries], pods, need, rooms, tries)
        return self._settle(self._spill(pods, [one.value for one in tries]), pods, need, rooms)

    def _spill(self, pods: Sequence[Pod], values: Sequence[str]) -> list[_Try]:
        """Fill one domain after the other, then any node."""
        left, tries = tuple(pods), []
        for value in (*values, ""):
            if left:
                tries.append(self._try(left, value))
                left = tries[-1].left
        return tries

    def _settle(
        self,
        tries: Sequence[_Try],
        pods: Sequence[Pod],
        need: int,
        rooms: Sequence[tuple[int, str]],
        undone: Sequence[_Try] = (),
    ) -> Found:
        """What these tries come to together: enough, or nothing at all."""
        decisions = [decision for one in tries for decision in one.decisions]
        if len(decisions) < need:
            for one in tries:
                self._undo(one)
            told = undone or [_Try("", tuple(decisions), tries[-1].misses if tries else (), ())]
            return Found((), tuple(pods), self._refusal(pods, told, need, rooms))
        placed = {decision.pod.uid for decision in decisions}
        left = tuple(pod for pod in pods if pod.uid not in placed)
        verdict = self._refusal(left, undone or tries, 0, rooms) if left else None
        return Found(tuple(decisions), left, verdict)

    def _try(self, pods: Sequence[Pod], value: str) -> _Try:
        """As many members as find a node in one domain, charged; a shape that found none is not asked again."""
        decisions: list[Decision] = []
        missed: dict[Hashable, Decision] = {}
        left: list[Pod] = []
        for pod in pods:
            decision = missed.get(pod.shape) or self._cycle.decide(self._within(pod, value), self._at)
            if decision.placement is None:
                missed[pod.shape] = decision
                left.append(pod)
            else:
                decisions.append(self._own(decision, pod))
        return _Try(value, tuple(decisions), tuple(missed.values()), tuple(left))

    def _within(self, pod: Pod, value: str) -> Pod:
        key = self._gang.domain
        if not value:
            return pod
        selector = pod.workload.node_selector | {key: value}
        workload = msgspec.structs.replace(pod.workload, node_selector=selector)
        return replace(pod, workload=workload, shape=(pod.shape, key, value))

    def _own(self, decision: Decision, pod: Pod) -> Decision:
        """The decision of a pod that looked at one domain, as its own."""
        if decision.pod is pod:
            return decision
        assert decision.placement is not None
        placement = msgspec.structs.replace(decision.placement, workload=pod.workload)
        self._table.charge(decision.node, placement, self._at)
        return msgspec.structs.replace(decision, pod=pod, placement=placement)

    def _undo(self, one: _Try) -> None:
        for decision in reversed(one.decisions):
            self._table.discharge(decision.node, decision.pod.uid)

    # -- domains -----------------------------------------------------------------------------------------------------

    def _rooms(self, pods: Sequence[Pod]) -> list[tuple[int, str]]:
        """Domains by room, most first; between equals, by the stable code of their name."""
        column = f"label/{self._gang.domain}"
        if column not in self._table.columns:
            return []
        codes, first, of = np.unique(self._table.columns[column], return_index=True, return_inverse=True)
        total = np.zeros(len(codes))
        shapes: dict[Hashable, list[Pod]] = {}
        for pod in pods:
            shapes.setdefault(pod.shape, []).append(pod)
        for alike in shapes.values():
            found = self._cycle.evaluate(alike[0]).codes
            each = np.where((found == FITS) | (found == BUSY), np.minimum(self._capacity(alike[0]), len(alike)), 0.0)
            total += np.minimum(np.bincount(of, weights=each, minlength=len(codes)), len(alike))
        order = [i for i in np.argsort(-total, kind="stable").tolist() if codes[i] != 0]
        names = self._table.names
        return [(int(total[i]), self._table.label(names[first[i]], self._gang.domain)) for i in order]

    def _capacity(self, pod: Pod) -> Numbers:
        """Pods of one shape that a node takes by what is free; shape (rows,)."""
        view = self._table.view()
        most = np.full(view.size, np.inf)
        for kind, amount in pod.requests.items():
            if amount > 0 and kind not in OF_CARDS:
                most = np.minimum(most, view.free(kind) // amount)
        cards = sum(ask.cards * ask.core for ask in pod.asks)
        if cards:
            most = np.minimum(most, np.maximum(view.column(CORE), 0).sum(axis=1) // cards)
        most[most < 1.0] = 1.0
        return most

    # -- refusal -----------------------------------------------------------------------------------------------------

    def _refusal(
        self, pods: Sequence[Pod], tries: Sequence[_Try], need: int, rooms: Sequence[tuple[int, str]]
    ) -> Decision:
        """Why these members have no node: the best domain and how many members it holds."""
        best = max(tries, key=lambda one: len(one.decisions), default=None)
        misses = [miss for one in tries for miss in one.misses]
        shown = best.misses[0] if best is not None and best.misses else Decision(pods[0])
        found = [self._cycle.evaluate(pod) for pod in {pod.shape: pod for pod in pods}.values()]
        wakes = [one.reasons[code].wakes for one in found for code in one.counts.nonzero()[0].tolist()]
        return msgspec.structs.replace(
            shown,
            pod=pods[0],
            wakes=WAKES.union(*wakes, *(miss.wakes for miss in misses)),
            busy=0,
            why=(self._sentence(len(pods), best, tries, need, rooms),),
        )

    def _sentence(
        self, count: int, best: _Try | None, tries: Sequence[_Try], need: int, rooms: Sequence[tuple[int, str]]
    ) -> str:
        gang, kind = self._gang, self._gang.domain.rpartition("/")[2]
        if not need:
            return f"gang {gang.name}: runs, and {count} more of its members find no node near it"
        held = 0 if best is None else len(best.decisions)
        said = f"gang {gang.name}: {held} of the {need} members it needs found nodes"
        if not gang.domain or not gang.hard:
            return said
        if best is None or not best.value:
            return f"{said}; no node carries the label {gang.domain}"
        others = [one for one in tries if one is not best]
        nearest = max(others, key=lambda one: len(one.decisions), default=None)
        told = f"{said} in {kind} {best.value}, the best of {len(rooms)}"
        return told if nearest is None else f"{told}; next {kind} {nearest.value} holds {len(nearest.decisions)}"
