"""Why a pod goes where it goes, or nowhere: a whole evaluation with every rule's mask kept, for people.

    removed(rule)       = nodes whose first failed rule, in the plugins' order, this is
    nearest(rule)       = the removed node with the smallest miss (Near.missing)
    alone(rule)         = nodes that fail this rule and no other: relaxing it, and nothing else, lets them pass
    contribution(plugin) = weight · score / Σ weight                score(node) = Σ contribution
    margin              = score(best) − score(second)              both divided by the plugins that reserve

All ties are broken by the run's order of nodes, as in the cycle, whose answers these are: best is what
`Cycle.decide` would choose now. Nodes whose ledger is busy are removed by that alone if they pass all else.
Cost: O(nodes · rules), no cache: about 1 ms per 1,000 nodes; explaining is rare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neap.common.model.explanation import Candidate, NodeClassVerdict, Remedy, Term
from neap.scheduler.core.choice.framework import Near, Parts, Policy
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.table import ORDER, PRESENT, READY, NodeTable
from neap.scheduler.core.nodes.view import Mask, Numbers
from neap.scheduler.core.pods.pod import Pod

MOST_CLASSES: Final = 16  # reasons in one answer
MOST_REMEDIES: Final = 3
MOST_SAID: Final = 240  # characters of a sentence
MOST_TRIED: Final = 16  # nodes, for a second
BUSY: Final = "busy"


@dataclass(frozen=True, slots=True)
class Verdict:
    """See module docstring and `model.explanation.Explanation`, whose fields these are."""

    nodes: int
    feasible: int
    busy: int
    rejected: tuple[NodeClassVerdict, ...]
    wakes: frozenset[NodeChanged]
    best: Candidate | None = None
    second: Candidate | None = None
    remedies: tuple[Remedy, ...] = ()
    closest: str = ""
    waits_for: str = ""
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Fails:
    """One rule against every node: where it fails, what it says of a miss there."""

    plugin: str
    reason: str
    fails: Mask
    wakes: frozenset[NodeChanged]
    near: Callable[[], Near] | None = None


def explain(
    pod: Pod, table: NodeTable, policies: Sequence[Policy], *, quantum: float = 1e-6, worth_waiting: float = 100.0
) -> Verdict:
    """Weigh every node for one pod; changes nothing."""
    return _Weighing(pod, table, policies, quantum).verdict(worth_waiting)


class _Weighing:
    """The masks and scores of all nodes for one pod."""

    def __init__(self, pod: Pod, table: NodeTable, policies: Sequence[Policy], quantum: float) -> None:
        table.ask(pod)  # its columns exist
        self._pod, self._table, self._policies, self._quantum = pod, table, policies, quantum
        view = table.view()
        self._order: NDArray[np.uint64] = table.columns[ORDER]
        self._present: Mask = view.column(PRESENT)
        self._rules = [
            _Fails(policy.name, rule.reason, ~rule.passes & self._present, rule.wakes, rule.near)
            for policy in policies
            if policy.plugin.filter
            for rule in policy.plugin.filter(pod, view, policy.settings)
        ]
        fails = np.zeros((len(self._rules) + 1, view.size), dtype=np.bool_)  # the last row: nobody's rule
        for number, rule in enumerate(self._rules):
            fails[number] = rule.fails
        self._failed: NDArray[np.int64] = fails.sum(axis=0)
        self._first = np.where(self._failed > 0, fails.argmax(axis=0), -1)
        self._fits: Mask = self._present & (self._failed == 0)
        self._busy: Mask = self._fits & ~view.column(READY)
        self._scores: list[tuple[Policy, Numbers]] = [
            (policy, score)
            for policy in policies
            if policy.plugin.score is not None
            and policy.weight > 0
            and (score := policy.plugin.score(pod, view, policy.settings)) is not None
        ]
        self._weights = sum(policy.weight for policy, _ in self._scores) or 1.0
        total = sum((policy.weight * score for policy, score in self._scores), np.zeros(view.size))
        self._totals = np.rint(total / self._weights / quantum)

    def verdict(self, worth_waiting: float) -> Verdict:
        """The whole answer."""
        ready = self._fits & ~self._busy
        ranked, refused = self._ranked(ready), dict[int, _Fails]()
        waits_for, found = self._waits_for(ranked, worth_waiting), None
        if not waits_for:
            found = self._divided(ranked, refused)
        second = self._divided(ranked[found[0] + 1 :][:MOST_TRIED], {}) if found else None
        nothing = found is None and not waits_for
        remedies = self._remedies() if nothing else ()
        rejected, wakes = self._rejected(refused)
        return Verdict(
            int(self._present.sum()),
            int(ready.sum()) - len(refused),
            int(self._busy.sum()),
            rejected,
            wakes,
            best=self._candidate(ranked[found[0]]) if found else None,
            second=self._candidate(ranked[found[0] + 1 + second[0]]) if found and second else None,
            remedies=remedies,
            closest=self._closest() if nothing and not remedies else "",
            waits_for=waits_for,
            parts=tuple(cut(text) for text in found[1].why[:MOST_CLASSES]) if found else (),
        )

    # -- who wins ----------------------------------------------------------------------------------------------------

    def _ranked(self, rows: Mask) -> list[int]:
        """These rows, best first."""
        found = np.flatnonzero(rows)
        return [int(row) for row in found[np.lexsort((self._order[found], -self._totals[found]))]]

    def _waits_for(self, ranked: Sequence[int], worth_waiting: float) -> str:
        """A node far better than the best, or than nothing, that takes the pod once its ledger is free."""
        busy = self._ranked(self._busy)
        if not busy:
            return ""
        ahead = np.inf if not ranked else (self._totals[busy[0]] - self._totals[ranked[0]]) * self._quantum
        return self._table.names[busy[0]] if ahead > worth_waiting else ""

    def _divided(self, ranked: Sequence[int], refused: dict[int, _Fails]) -> tuple[int, Parts] | None:
        """The place of the first of these rows that every reserving plugin agrees to, and its parts."""
        for place, row in enumerate(ranked):
            parts = self._divide(row)
            if isinstance(parts, Parts):
                return place, parts
            refused[row] = parts
        return None

    def _divide(self, row: int) -> Parts | _Fails:
        given = Parts()
        for policy in self._policies:
            if policy.plugin.reserve is not None:
                parts = policy.plugin.reserve(self._pod, self._table, row, policy.settings, given)
                if isinstance(parts, str):
                    return _Fails(policy.name, parts, self._only(row), policy.plugin.wakes)
                given = parts
        return given

    def _only(self, row: int) -> Mask:
        mask = np.zeros(len(self._present), dtype=np.bool_)
        mask[row] = True
        return mask

    def _candidate(self, row: int) -> Candidate:
        terms = tuple(
            Term(
                plugin=policy.name,
                weight=policy.weight,
                score=float(score[row]),
                contribution=float(policy.weight * score[row] / self._weights),
            )
            for policy, score in self._scores
        )
        return Candidate(node=self._table.names[row], score=sum(term.contribution for term in terms), terms=terms)

    # -- who is out --------------------------------------------------------------------------------------------------

    def _rejected(self, refused: dict[int, _Fails]) -> tuple[tuple[NodeClassVerdict, ...], frozenset[NodeChanged]]:
        """Per reason the nodes it removed, most first, and what would let any of them pass."""
        busy = _Fails("ledger", BUSY, self._busy, frozenset({NodeChanged.READY}))
        classes = [(rule, self._first == number) for number, rule in enumerate(self._rules)]
        classes.append((busy, self._busy))
        for rule in {(one.plugin, one.reason): one for one in refused.values()}.values():
            same = [row for row, one in refused.items() if (one.plugin, one.reason) == (rule.plugin, rule.reason)]
            classes.append((rule, np.isin(np.arange(len(self._present)), same)))
        said = [(rule, removed, int(removed.sum())) for rule, removed in classes if removed.any()]
        said.sort(key=lambda one: -one[2])
        wakes = frozenset({NodeChanged.NODE_ADDED}).union(*(rule.wakes for rule, _, _ in said))
        return tuple(self._class(rule, removed, count) for rule, removed, count in said[:MOST_CLASSES]), wakes

    def _class(self, rule: _Fails, removed: Mask, count: int) -> NodeClassVerdict:
        row, _, sentence = self._nearest(rule, removed)
        return NodeClassVerdict(
            plugin=rule.plugin,
            reason=cut(rule.reason),
            nodes=count,
            example=self._table.names[row],
            nearest=sentence,
            alone=int((rule.fails & (self._failed == 1)).sum()),
        )

    def _nearest(self, rule: _Fails, among: Mask) -> tuple[int, Near | None, str]:
        """The row that came nearest to passing, and its sentence; without numbers the first in the run's order."""
        rows, near = np.flatnonzero(among), rule.near() if rule.near is not None else None
        if near is None:
            return int(rows[self._order[rows].argmin()]), None, ""
        missing = np.nan_to_num(near.missing[rows], nan=np.inf, posinf=np.inf)
        row = int(rows[np.lexsort((self._order[rows], missing))[0]])
        return row, near, self._named(near.tell(row), row)

    def _named(self, sentence: str, row: int) -> str:
        node = self._table.names[row]
        return cut(sentence.replace("{node}", node) if "{node}" in sentence else f"{node}: {sentence}")

    # -- what would have to change -----------------------------------------------------------------------------------

    def _remedies(self) -> tuple[Remedy, ...]:
        """Rules that are all that some node fails; most nodes first, then the order of the plugins."""
        found = []
        for rule in self._rules:
            alone = rule.fails & (self._failed == 1)
            if alone.any():
                row, near, _ = self._nearest(rule, alone)
                says = near.change(row) if near and near.change else f"relaxing {rule.plugin} {rule.reason}"
                says = cut(says.replace("{node}", self._table.names[row]))
                found.append(Remedy(plugin=rule.plugin, reason=cut(rule.reason), nodes=int(alone.sum()), says=says))
        found.sort(key=lambda remedy: -remedy.nodes)
        return tuple(found[:MOST_REMEDIES])

    def _closest(self) -> str:
        """The node that fails fewest rules, and which."""
        rows = np.flatnonzero(self._present & (self._failed > 0))
        if not len(rows):
            return ""
        row = int(rows[np.lexsort((self._order[rows], self._failed[rows]))[0]])
        failed = [f"{rule.plugin} {rule.reason}" for rule in self._rules if rule.fails[row]]
        return cut(f"{self._table.names[row]} fails fewest rules: {', '.join(failed)}")


def cut(sentence: str) -> str:
    """At most MOST_SAID characters: labels and names in it may be long."""
    return sentence if len(sentence) <= MOST_SAID else f"{sentence[: MOST_SAID - 1]}…"
