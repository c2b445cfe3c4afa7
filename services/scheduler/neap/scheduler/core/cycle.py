"""One decision: filter and score all nodes, take the best, divide it, charge it.

    score(node) = Σ weight · score(plugin, node) / Σ weight        over plugins that say something about this pod

Masks and scores are kept per *shape* of pod; when the next pod of the shape comes, only rows stamped since then are
worked out again. The result is the same as from scratch (a law). Totals are counted in steps of `quantum`; between
equal nodes the first one in the run's fixed permutation wins: a fresh random choice among ties scatters pods and
costs whole nodes (measured on the openb trace: up to 6 % of all cards).

Cost of a decision: O(nodes) for a handful of passes over one column, O(changed rows) for everything else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neap.common.contract.catalogue import NodeClassVerdict
from neap.common.model.placement import Placement
from neap.common.units import Seconds
from neap.scheduler.core.change import NodeChanged
from neap.scheduler.core.framework import Parts, Policy
from neap.scheduler.core.pod import Pod, Shape
from neap.scheduler.core.table import ORDER, PRESENT, READY, VERSION, NodeTable
from neap.scheduler.core.view import ALL, Numbers, Rows, View

NEVER: Final = -np.inf
FITS, ABSENT, BUSY = 0, 1, 2  # codes of a row; further ones are the rules, then one per reserving plugin


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some rows are out: who says so, and what would change it."""

    plugin: str
    text: str
    wakes: frozenset[NodeChanged]


FIRST_REASONS: Final = (
    Reason("", "", frozenset()),
    Reason("node", "topology unknown", frozenset()),
    Reason("ledger", "busy", frozenset({NodeChanged.READY})),
)


@dataclass(slots=True)
class Evaluation:
    """Every row for one shape: its reason code, and its total in quanta (−inf where it is out)."""

    reasons: tuple[Reason, ...]
    codes: NDArray[np.int16]
    totals: Numbers
    counts: NDArray[np.int64]  # rows per code
    scorers: tuple[str, ...]  # plugins that score this shape
    scores: NDArray[np.float32]  # theirs, for people; shape (scorers, rows)
    seen: int  # of the table's clock
    later: Numbers  # totals of rows that only wait for their ledger; shape (rows,)


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a pod goes (already charged there), or why nowhere."""

    pod: Pod
    node: str = ""
    placement: Placement | None = None
    score: float = 0.0
    parts: tuple[tuple[str, float], ...] = ()  # score by plugin
    nodes: int = 0  # whose topology is known
    feasible: int = 0
    why: tuple[str, ...] = ()  # what reserving plugins say of the parts
    rejected: tuple[NodeClassVerdict, ...] = ()  # most nodes first; examples only where nothing was found
    wakes: frozenset[NodeChanged] = frozenset()
    busy: int = 0  # nodes that were passed over only because their ledger is busy


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
        self._table, self._policies, self._quantum, self._most = table, tuple(policies), quantum, shapes
        self._worth_waiting = worth_waiting / quantum
        self._kept: OrderedDict[tuple[Shape, Hashable], Evaluation] = OrderedDict()
        self.evaluations = 0

    def decide(self, pod: Pod, at: Seconds = 0.0) -> Decision:
        """Choose a node and charge it; undo with `table.discharge(node, uid)`."""
        found = self.evaluate(pod)
        while (row := self._best(found)) is not None and not self._should_wait(found, row):
            parts = self._divide(pod, row, found)
            if parts is not None:
                return self._place(pod, row, parts, found, at)
        return self._nowhere(pod, found)

    def explain(self, pod: Pod) -> Decision:
        """Why a pod is rejected where it is, charging nothing."""
        return self._nowhere(pod, self.evaluate(pod))

    def evaluate(self, pod: Pod) -> Evaluation:
        """The evaluation of a pod's shape, brought up to date."""
        table, kept = self._table, self._kept
        key = (pod.shape, table.ask(pod))
        found = kept.get(key)
        if found is None or len(found.codes) != len(table):
            found = kept[key] = self._weigh(pod, ALL)
            while len(kept) > self._most:
                kept.popitem(last=False)
        elif found.seen != table.clock:
            dirty = np.flatnonzero(table.columns[VERSION] > found.seen)
            rows: Rows = ALL if 2 * len(dirty) > len(table) else dirty
            fresh = self._weigh(pod, rows)
            found.counts += fresh.counts - np.bincount(found.codes[rows], minlength=len(found.reasons))
            found.codes[rows], found.totals[rows], found.later[rows] = fresh.codes, fresh.totals, fresh.later
            found.scores[:, rows], found.seen = fresh.scores, fresh.seen
        kept.move_to_end(key)
        return found

    def _weigh(self, pod: Pod, rows: Rows) -> Evaluation:
        """Filter and score some rows from scratch."""
        self.evaluations += 1
        view = self._table.view(rows)
        reasons, passes = list(FIRST_REASONS), [view.column(PRESENT), view.column(READY)]
        for policy in self._policies:
            for rule in policy.plugin.filter(pod, view, policy.settings) if policy.plugin.filter else ():
                reasons.append(Reason(policy.name, rule.reason, rule.wakes))
                passes.append(rule.passes)
        reasons += [Reason(p.name, "cannot be divided", p.plugin.wakes) for p in self._policies if p.plugin.reserve]
        codes = np.zeros(view.size, dtype=np.int16)
        order = [ABSENT, *range(BUSY + 1, len(passes) + 1), BUSY]  # busy counts only where all else fits
        for code in reversed(order):
            np.putmask(codes, ~passes[code - 1], code)
        scored = self._scores(pod, view)
        total = np.zeros(view.size)
        for policy, score in scored:
            total += policy.weight * score
        totals = np.rint(total / (sum(policy.weight for policy, _ in scored) or 1.0) / self._quantum)
        later = np.where(codes == BUSY, totals, NEVER)
        totals[codes != FITS] = NEVER
        return Evaluation(
            tuple(reasons),
            codes,
            totals,
            np.bincount(codes, minlength=len(reasons)),
            tuple(policy.name for policy, _ in scored),
            np.array([score for _, score in scored], dtype=np.float32).reshape(len(scored), view.size),
            self._table.clock,
            later,
        )

    def _scores(self, pod: Pod, view: View) -> list[tuple[Policy, Numbers]]:
        return [
            (policy, score)
            for policy in self._policies
            if policy.plugin.score is not None
            and policy.weight > 0
            and (score := policy.plugin.score(pod, view, policy.settings)) is not None
        ]

    def _best(self, found: Evaluation) -> int | None:
        """The row with the highest total; the first in the permutation among equals."""
        totals = found.totals
        best = totals.max(initial=NEVER)
        if best == NEVER:
            return None
        ties = np.flatnonzero(totals == best)
        return int(ties[0] if len(ties) == 1 else ties[self._table.columns[ORDER][ties].argmin()])

    def _should_wait(self, found: Evaluation, row: int) -> bool:
        """Whether a far better node will take the pod in a moment, once its ledger is free."""
        return bool(found.counts[BUSY]) and found.later.max(initial=NEVER) - found.totals[row] > self._worth_waiting

    def _divide(self, pod: Pod, row: int, found: Evaluation) -> Parts | None:
        """What each reserving plugin gives the pod of this node; None (and the row is out) if one refuses."""
        code, given = len(found.reasons) - sum(p.plugin.reserve is not None for p in self._policies), Parts()
        for policy in self._policies:
            if policy.plugin.reserve is None:
                continue
            parts = policy.plugin.reserve(pod, self._table, row, policy.settings, given)
            if isinstance(parts, str):
                found.counts[found.codes[row]] -= 1
                found.counts[code] += 1
                found.codes[row], found.totals[row] = code, NEVER
                return None
            given = parts
            code += 1
        return given

    def _place(self, pod: Pod, row: int, parts: Parts, found: Evaluation, at: Seconds) -> Decision:
        node = self._table.names[row]
        placement = Placement(
            workload=pod.workload,
            charged=pod.requests | parts.charged,
            numa=parts.numa,
            gpus=parts.gpus,
            devices=parts.devices,
            exclusive=parts.exclusive,
        )
        decision = Decision(
            pod,
            node,
            placement,
            float(found.totals[row]) * self._quantum,
            tuple(zip(found.scorers, map(float, found.scores[:, row]), strict=True)),
            int(found.counts.sum() - found.counts[ABSENT]),
            int(found.counts[FITS]),
            parts.why,
            self._rejections(found, examples=False),
            busy=int(found.counts[BUSY]),
        )
        self._table.charge(node, placement, at)
        return decision

    def _nowhere(self, pod: Pod, found: Evaluation) -> Decision:
        wakes = [found.reasons[code].wakes for code in map(int, np.flatnonzero(found.counts[1:]) + 1)]
        return Decision(
            pod,
            nodes=int(found.counts.sum() - found.counts[ABSENT]),
            feasible=int(found.counts[FITS]),
            rejected=self._rejections(found, examples=True),
            wakes=frozenset({NodeChanged.NODE_ADDED}).union(*wakes),
            busy=int(found.counts[BUSY]),
        )

    def _rejections(self, found: Evaluation, *, examples: bool) -> tuple[NodeClassVerdict, ...]:
        codes = [int(code) for code in np.flatnonzero(found.counts) if code > ABSENT]
        codes.sort(key=lambda code: (-found.counts[code], code))
        return tuple(
            NodeClassVerdict(
                plugin=found.reasons[code].plugin,
                reason=found.reasons[code].text,
                nodes=int(found.counts[code]),
                example=self._example(found, code) if examples else "",
            )
            for code in codes
        )

    def _example(self, found: Evaluation, code: int) -> str:
        """The first rejected node in the permutation."""
        rows = np.flatnonzero(found.codes == code)
        return self._table.names[int(rows[self._table.columns[ORDER][rows].argmin()])]
