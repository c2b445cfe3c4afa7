"""What every node is to one pod, as few words: one evaluation, its columns read off.

Whoever asks about all nodes has the best ones first, as the cycle ranks them. A node that is refused only when its
parts are divided is found out where it is the best one, as in a decision; others of that kind are said to fit.
Cost: O(nodes), for all of them O(nodes · log nodes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neap.common.model.weighing import FITS, MOST_WEIGHED, UNKNOWN, Obstacle, Weighing
from neap.scheduler.core.choice import evaluation
from neap.scheduler.core.choice.evaluation import ABSENT, BUSY, NEVER, Evaluation, Reason
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.table import ORDER, PRESENT, NodeTable
from neap.scheduler.core.nodes.view import Numbers
from neap.scheduler.core.why.explain import cut

MOST_OBSTACLES: Final = 128  # in one answer; the rest is told as one
FURTHER: Final = Obstacle(plugin="", reason="further reasons", resolvable=True)
DIGITS: Final = 3  # of a score
LASTING: Final = frozenset({NodeChanged.NODE_ADDED})  # nothing that runs there could change it


def told(table: NodeTable, asked: Sequence[str], found: Evaluation, best: str, *, quantum: float) -> Weighing:
    """The answer about these nodes, or about all of them."""
    keys = np.maximum(found.totals, found.later)
    names, left_out = (asked, 0) if asked else _best_first(table, keys)
    rows, known = _rows(table, names)
    codes, scores = np.full(len(rows), ABSENT), np.zeros(len(rows))
    if known.any():
        codes = np.where(known, found.codes[rows], ABSENT)
        scores = _scores(keys[rows], codes, quantum)
    places, obstacles = _obstacles(codes, found.reasons)
    return Weighing(
        codes=tuple(places.tolist()),
        scores=tuple(scores.tolist()),
        obstacles=obstacles,
        nodes=() if asked else tuple(names),
        left_out=left_out,
        best=best,
    )


def refused(table: NodeTable, asked: Sequence[str], reason: str) -> Weighing:
    """The answer about a workload that no node may run."""
    names, left_out = (asked, 0) if asked else _best_first(table, np.zeros(len(table)))
    _, known = _rows(table, names)
    return Weighing(
        codes=tuple(np.where(known, 1, UNKNOWN).tolist()),
        scores=(0.0,) * len(known),
        obstacles=(Obstacle(plugin="submission", reason=reason, resolvable=False),),
        nodes=() if asked else tuple(names),
        left_out=left_out,
    )


def _best_first(table: NodeTable, keys: Numbers) -> tuple[Sequence[str], int]:
    """All nodes, as many as an answer holds, and how many more there are."""
    present = np.flatnonzero(table.columns[PRESENT])
    ranked = present[np.lexsort((table.columns[ORDER][present], -keys[present]))]
    return [table.names[row] for row in ranked[:MOST_WEIGHED]], max(0, len(ranked) - MOST_WEIGHED)


def _rows(table: NodeTable, names: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Rows by name, 0 where there is none, and which are of known nodes."""
    rows = np.array([table.rows.get(name, -1) for name in names], dtype=np.intp)
    there = rows >= 0
    rows = np.maximum(rows, 0)
    return rows, there & table.columns[PRESENT][rows] if there.any() else there


def _scores(keys: Numbers, codes: NDArray[Any], quantum: float) -> Numbers:
    takes = ((codes == evaluation.FITS) | (codes == BUSY)) & (keys > NEVER)
    scores: Numbers = np.clip(np.where(takes, keys, 0.0) * quantum, 0.0, 100.0)
    return scores.round(DIGITS)


def _obstacles(codes: NDArray[Any], reasons: Sequence[Reason]) -> tuple[NDArray[Any], tuple[Obstacle, ...]]:
    """The codes of the answer, and the obstacles they stand for."""
    used = np.setdiff1d(codes, [evaluation.FITS, ABSENT])
    said = [_obstacle(int(code), reasons[code]) for code in used[:MOST_OBSTACLES]]
    if len(used) > MOST_OBSTACLES:
        said[-1] = FURTHER
    places = np.minimum(np.searchsorted(used, codes), MOST_OBSTACLES - 1) + 1
    return np.select([codes == evaluation.FITS, codes == ABSENT], [FITS, UNKNOWN], places), tuple(said)


def _obstacle(code: int, reason: Reason) -> Obstacle:
    resolvable = not reason.wakes <= LASTING
    return Obstacle(plugin=reason.plugin, reason=cut(reason.text), resolvable=resolvable, brief=code == BUSY)
