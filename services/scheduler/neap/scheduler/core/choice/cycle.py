"""One decision: filter and score all nodes, take the best, divide it, charge it.

    score(node) = Σ weight · score(plugin, node) / Σ weight        over plugins that say something about this pod

What a *shape* of pod finds is kept (see core/choice/evaluation.py); when the next pod of the shape comes, only rows stamped
since then are worked out again, by the plugins that have something to say about the shape. The result is the same as
from scratch (a law). Totals are counted in steps of `quantum`; between equal nodes the first one in the run's fixed
permutation wins: a fresh random choice among ties scatters pods and costs whole nodes (measured on the openb trace: up
to 6 % of all cards).

Cost of a decision: O(changed rows) and O(nodes / 64); of the first one of a shape O(nodes). Kept are at most `shapes`
evaluations and at most MOST_BYTES; the ones least recently used go first.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

import msgspec
import numpy as np

from neap.common.model.explanation import NodeClassVerdict
from neap.common.model.placement import Placement
from neap.common.units import MIB, Seconds
from neap.scheduler.core.choice.evaluation import ABSENT, BUSY, FITS, Evaluation, Places, Reason, Weighed
from neap.scheduler.core.choice.framework import Parts, Policy, Rule
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.table import ORDER, PRESENT, READY, NodeTable
from neap.scheduler.core.nodes.view import ALL, Mask, Numbers, Rows, View
from neap.scheduler.core.pods.pod import Pod, Shape

MOST_BYTES: Final = 512 * MIB  # of kept evaluations
FIRST_REASONS: Final = (
    Reason("", "", frozenset()),
    Reason("node", "topology unknown", frozenset()),
    Reason("ledger", "busy", frozenset({NodeChanged.READY})),
)


class Decision(msgspec.Struct, frozen=True):
    """Where a pod goes (already charged there), or why nowhere."""

    pod: Pod
    node: str = ""
    placement: Placement | None = None
    score: float = 0.0  # Σ weight · part / Σ weight
    parts: tuple[tuple[str, float], ...] = ()  # score by plugin
    nodes: int = 0  # whose topology is known
    feasible: int = 0
    why: tuple[str, ...] = ()  # what reserving plugins say of the parts
    rejected: tuple[NodeClassVerdict, ...] = ()  # most nodes first; examples only where nothing was found
    wakes: frozenset[NodeChanged] = frozenset()
    busy: int = 0  # nodes that were passed over only because their ledger is busy
    runner_up: str = ""  # the node that would be chosen if this one were not there; empty if no other fits
    margin: float = 0.0  # points by which it is behind, in whole quanta; 0 for a tie, and without a runner-up


class Cycle:
    """See module docstring. `policies` in the order in which their rejections count."""

    def __init__(
        self,
        table: NodeTable,
        policies: Sequence[Policy],
        *,
        quantum: float = 1e-6,
        shapes: int = 256,
        worth_waiting: float = 100.0,
    ) -> None:
        self._table, self.policies, self._quantum, self._most = table, tuple(policies), quantum, shapes
        self._worth_waiting = worth_waiting / quantum
        self._filters = tuple(policy for policy in self.policies if policy.plugin.filter)
        self._scorers = tuple(policy for policy in self.policies if policy.plugin.score and policy.weight > 0)
        self._dividers = tuple(policy for policy in self.policies if policy.plugin.reserve)
        self._kept: dict[tuple[Shape, Hashable], Evaluation] = {}
        self._places = Places(table.columns[ORDER])
        self._turn = 0
        self.evaluations = 0

    @property
    def kept(self) -> int:
        """Shapes whose evaluation is kept."""
        return len(self._kept)

    def decide(self, pod: Pod, at: Seconds = 0.0) -> Decision:
        """Choose a node and charge it; undo with `table.discharge(node, uid)`."""
        found, chosen = self._choose(pod)
        if chosen is not None:
            return self._place(pod, *chosen, found, at)
        self._table.turn_away(pod)
        return self._nowhere(pod, found)

    def weigh(self, pod: Pod) -> tuple[Evaluation, str]:
        """What every node is to a pod, and the node that `decide` would choose, charging nothing; empty: none now."""
        found, chosen = self._choose(pod)
        return found, "" if chosen is None else self._table.names[found.places.rows[chosen[0]]]

    def _choose(self, pod: Pod) -> tuple[Evaluation, tuple[int, Parts] | None]:
        """The best place that every reserving plugin agrees to, and its parts."""
        found = self.evaluate(pod)
        while (place := found.best()) is not None and not self._should_wait(found, place):
            parts = self._divide(pod, place, found)
            if parts is not None:
                return found, (place, parts)
        return found, None

    def explain(self, pod: Pod) -> Decision:
        """Why a pod is rejected where it is, charging nothing."""
        return self._nowhere(pod, self.evaluate(pod))

    def evaluate(self, pod: Pod) -> Evaluation:
        """The evaluation of a pod's shape, brought up to date."""
        table = self._table
        key = (pod.shape, table.ask(pod))
        self._turn += 1
        found = self._kept.get(key)
        if found is None or found.size != len(table):
            found = self._keep(key, self._afresh(pod))
        elif found.seen != table.clock:
            rows = table.changed_since(found.seen)
            if not self._renew(pod, found, ALL if 2 * len(rows) > len(table) else rows):
                found = self._keep(key, self._afresh(pod))
        found.used = self._turn
        return found

    def _keep(self, key: tuple[Shape, Hashable], found: Evaluation) -> Evaluation:
        kept = self._kept
        kept.pop(key, None)
        while kept and (len(kept) >= self._most or (len(kept) + 1) * found.nbytes > MOST_BYTES):
            del kept[min(kept, key=lambda one: kept[one].used)]
        kept[key] = found
        return found

    def _afresh(self, pod: Pod) -> Evaluation:
        """Filter and score all rows, and see who has something to say."""
        self.evaluations += 1
        if len(self._places.rows) != len(self._table):
            self._places = Places(self._table.columns[ORDER])
        view = self._table.view()
        rules = [(policy, _rules(policy, pod, view)) for policy in self._filters]
        scored = [(policy, score) for policy in self._scorers if (score := _score(policy, pod, view)) is not None]
        reasons = [Reason(policy.name, rule.reason, rule.wakes) for policy, some in rules for rule in some]
        refusals = [Reason(policy.name, "cannot be divided", policy.plugin.wakes) for policy in self._dividers]
        found = Evaluation(
            self._places,
            (*FIRST_REASONS, *reasons, *refusals),
            tuple(policy for policy, some in rules if some),
            tuple(policy for policy, _ in scored),
        )
        passes = [rule.passes for _, some in rules for rule in some]
        found.update(ALL, self._weigh(view, passes, [score for _, score in scored], found), self._table.clock)
        return found

    def _renew(self, pod: Pod, found: Evaluation, rows: Rows) -> bool:
        """Work out some rows again; False if the plugins no longer say the same things about this shape."""
        self.evaluations += 1
        view = self._table.view(rows)
        passes = [rule.passes for policy in found.filters for rule in _rules(policy, pod, view)]
        scores = [score for policy in found.scorers if (score := _score(policy, pod, view)) is not None]
        rules = len(found.reasons) - len(FIRST_REASONS) - len(self._dividers)
        if len(passes) != rules or len(scores) != len(found.scorers):
            return False
        found.update(rows, self._weigh(view, passes, scores, found), self._table.clock)
        return True

    def _weigh(self, view: View, passes: Sequence[Mask], scores: list[Numbers], found: Evaluation) -> Weighed:
        """Put together what the plugins say: the first rule that rejects counts, busy only where all else fits."""
        codes = np.zeros(view.size, dtype=np.int16)
        _mark(codes, view.column(READY), BUSY)
        for code in range(len(passes), 0, -1):
            _mark(codes, passes[code - 1], BUSY + code)
        _mark(codes, view.column(PRESENT), ABSENT)
        total = np.zeros(view.size)
        for policy, score in zip(found.scorers, scores, strict=True):
            total += score if policy.weight == 1 else policy.weight * score
        return Weighed(codes, np.rint(total / found.weight / self._quantum), scores)

    def _should_wait(self, found: Evaluation, place: int) -> bool:
        """Whether a far better node will take the pod in a moment, once its ledger is free."""
        if not found.counts[BUSY]:
            return False
        return found.best_of_busy(self._table.unready()) - found.total(place) > self._worth_waiting

    def _divide(self, pod: Pod, place: int, found: Evaluation) -> Parts | None:
        """What each reserving plugin gives the pod of this node; None (and the row is out) if one refuses."""
        row, given = int(found.places.rows[place]), Parts()
        for i, policy in enumerate(self._dividers, start=len(found.reasons) - len(self._dividers)):
            assert policy.plugin.reserve is not None
            parts = policy.plugin.reserve(pod, self._table, row, policy.settings, given)
            if isinstance(parts, str):
                found.refuse(place, i)
                return None
            given = parts
        return given

    def _place(self, pod: Pod, place: int, parts: Parts, found: Evaluation, at: Seconds) -> Decision:
        names, rows = self._table.names, found.places.rows
        node, second = names[rows[place]], found.second(place)
        placement = Placement(
            workload=pod.workload,
            charged=pod.requests | parts.charged,
            numa=parts.numa,
            gpus=parts.gpus,
            devices=parts.devices,
            exclusive=parts.exclusive,
        )
        terms = found.terms(place)
        decision = Decision(
            pod,
            node,
            placement,
            sum(policy.weight * term for policy, term in zip(found.scorers, terms, strict=True)) / found.weight,
            tuple(zip([policy.name for policy in found.scorers], terms, strict=True)),
            found.size - int(found.counts[ABSENT]),
            int(found.counts[FITS]),
            parts.why,
            _rejections(found),
            busy=int(found.counts[BUSY]),
            runner_up="" if second is None else names[rows[second]],
            margin=0.0 if second is None else (found.total(place) - found.total(second)) * self._quantum,
        )
        self._table.charge(node, placement, at)
        return decision

    def _nowhere(self, pod: Pod, found: Evaluation) -> Decision:
        out = [code for code in found.counts.nonzero()[0].tolist() if code != FITS]
        return Decision(
            pod,
            nodes=found.size - int(found.counts[ABSENT]),
            feasible=int(found.counts[FITS]),
            rejected=_rejections(found, self._table.names),
            wakes=frozenset({NodeChanged.NODE_ADDED}).union(*(found.reasons[code].wakes for code in out)),
            busy=int(found.counts[BUSY]),
        )


def _rules(policy: Policy, pod: Pod, view: View) -> Sequence[Rule]:
    return policy.plugin.filter(pod, view, policy.settings) if policy.plugin.filter else ()


def _score(policy: Policy, pod: Pod, view: View) -> Numbers | None:
    return policy.plugin.score(pod, view, policy.settings) if policy.plugin.score else None


def _mark(codes: np.ndarray[tuple[int], np.dtype[np.int16]], passes: Mask, code: int) -> None:
    """Rows that do not pass are out for this reason, whatever was said before; most often all pass."""
    if len(passes) and not passes[passes.argmin()]:
        np.putmask(codes, ~passes, code)


def _rejections(found: Evaluation, names: Sequence[str] = ()) -> tuple[NodeClassVerdict, ...]:
    """Who is out for which reason, most rows first; each with an example if there are names."""
    counts = found.counts.tolist()
    out = sorted((-count, code) for code, count in enumerate(counts) if count and code > ABSENT)
    return tuple(
        NodeClassVerdict(
            plugin=found.reasons[code].plugin,
            reason=found.reasons[code].text,
            nodes=-count,
            example=names[found.first(code)] if names else "",
        )
        for count, code in out
    )
