"""Prefer nodes that are really idle; keep owners away from hot ones.

    score  = 100 · (T − used − pod − in flight) / T        per resource, 0..100, weighted mean
    filter = used <= threshold · T                         owners only

T allocatable, used the last report, pod the estimate of this pod, in flight the estimates of pods placed but not yet
measured; milli-cores and bytes. For an owner, what guests use does not count: they give it back. A guest counts
everything, and is not filtered by load, because the offer it takes is already what the load leaves. A node whose
report is too old is filtered for everybody; one that never reported passes with score 0 (unknown is not idle, but a
cluster must be able to start).
When not to use: where usage is not reported; then every score is 0.
Source: Koordinator, load-aware scheduling (formula, thresholds 65 % and 95 %); requirements 004-33 and 2.4
(32 cores, 10 used, 3.4 asked: 58.125; with 6.8 in flight: 36.875).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta

from neap.common.model.resource import CPU, MEMORY
from neap.common.units import Ratio
from neap.scheduler.core.change import NodeChanged
from neap.scheduler.core.framework import Plugin, Rule
from neap.scheduler.core.load import FLYING, FLYING_OWNERS, FRESH, KNOWN, USED, USED_BY_OWNERS
from neap.scheduler.core.pod import Pod
from neap.scheduler.core.view import Numbers, View

WAKES: Final = frozenset({NodeChanged.LOAD, NodeChanged.NODE_ADDED})
KINDS: Final = (CPU, MEMORY)
Limit = Annotated[Ratio, Meta(gt=0)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Thresholds and weights."""

    cpu_limit: Limit = 0.65  # of allocatable CPU used by owners, above which no owner is added
    memory_limit: Limit = 0.95  # of allocatable memory used by owners, above which no owner is added
    cpu_weight: Annotated[float, Meta(ge=0)] = 1.0  # of CPU in the score
    memory_weight: Annotated[float, Meta(ge=0)] = 1.0  # of memory in the score


def idle_score(total: Numbers, used: Numbers, ask: float, in_flight: Numbers) -> Numbers:
    """100 · (T − used − pod − in flight) / T, within 0..100; 0 where T is 0. Shapes (rows,), one unit for all."""
    left = np.divide(total - used - ask - in_flight, total, out=np.zeros(len(total)), where=total > 0)
    score: Numbers = np.clip(100 * left, 0.0, 100.0)
    return score


def cool(pod: Pod, view: View, settings: Settings) -> Sequence[Rule]:
    """Reports must be fresh; for owners the node must be below the thresholds."""
    known = view.column(KNOWN)
    rules = [Rule("usage report too old", view.column(FRESH) | ~known, WAKES)]
    if not pod.guest:
        limits = (settings.cpu_limit, settings.memory_limit)
        for kind, used, limit in zip(KINDS, USED_BY_OWNERS, limits, strict=True):
            below = view.column(used) <= limit * view.allocatable(kind)
            rules.append(Rule(f"owners use over {limit:.0%} of {kind}", below | ~known, WAKES))
    return rules


def idle(pod: Pod, view: View, settings: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; 0 where the load is unknown."""
    useds, flights = (USED, FLYING) if pod.guest else (USED_BY_OWNERS, FLYING_OWNERS)
    weights = (settings.cpu_weight, settings.memory_weight)
    total = np.zeros(view.size)
    for kind, used, flying, ask, weight in zip(KINDS, useds, flights, pod.estimate, weights, strict=True):
        if weight > 0:
            total += weight * idle_score(view.allocatable(kind), view.column(used), ask, view.column(flying))
    summed = sum(weights)
    return np.where(view.column(FRESH), total / summed, 0.0) if summed > 0 else None


PLUGIN: Final = Plugin(settings=Settings, wakes=WAKES, filter=cool, score=idle)
