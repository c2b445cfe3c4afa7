"""The series behind a name: a service's total, a node, or the nodes of a pool or the cluster added up. Pure.

Sums: before a node was first seen, and after it has been silent for GONE, it uses nothing; in between, what is unknown
makes the sum unknown, but for short holes (up to HOLE), over which a node stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np

from neap.common.model.forecast import CLUSTER, CLUSTER_SCOPE
from neap.common.units import HOUR, MINUTE, Seconds
from neap.foresight.series import Series, Values
from neap.planner.core.cluster import Cluster
from neap.planner.core.record import Record

SeriesName: TypeAlias = tuple[str, str, str, str]  # namespace, kind, name, resource
HOLE: Final[Seconds] = 15 * MINUTE
GONE: Final[Seconds] = HOUR


def series_of(name: SeriesName, cluster: Cluster, record: Record) -> Series | None:
    """What was used, as far as it is known."""
    namespace, kind, title, resource = name
    if namespace != CLUSTER_SCOPE:
        return record.total(f"{namespace}/{kind}/{title}", resource)
    if kind == "Node":
        return record.node(title, resource)
    nodes: Sequence[str] = record.nodes()  # also of those that are gone: what they used was used
    if (kind, title) != CLUSTER:
        nodes = sorted(node.name for node in cluster.nodes.values() if node.pool == title)
    return added([part for node in nodes if (part := record.node(node, resource)) is not None])


def added(parts: Sequence[Series]) -> Series | None:
    """Series of one step as their sum; those on another step, or with nothing in them, are left out."""
    parts = [part for part in parts if len(part) and part.step == parts[0].step and np.isfinite(part.values).any()]
    if not parts:
        return None
    step, start, end = parts[0].step, min(part.start for part in parts), max(part.end for part in parts)
    total = np.zeros(round((end - start) / step))
    for part in parts:
        total += _present(part, start, len(total))
    return Series(start, step, total)


def _present(part: Series, start: Seconds, size: int) -> Values:
    """A node on the common grid; NaN where it was there and is unknown."""
    begin = round((part.start - start) / part.step)
    whole = np.full(size, np.nan)
    whole[begin : begin + len(part)] = part.values
    known = np.flatnonzero(np.isfinite(whole))
    place = np.arange(size)
    newest = np.maximum.accumulate(np.where(np.isfinite(whole), place, -1))
    hole = place - newest
    filled = np.where((newest >= 0) & (hole * part.step <= HOLE), whole[np.maximum(newest, 0)], np.nan)
    filled[: known[0]] = 0.0
    if (size - 1 - known[-1]) * part.step >= GONE:
        filled[known[-1] + 1 :] = 0.0
    return filled
