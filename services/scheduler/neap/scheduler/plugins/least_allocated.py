"""Spread: the more of a node is free once the pod is there, the better.

    s(kind) = (capacity − after) · 100 / capacity        0 where after > capacity             [0..100]
    score   = Σ weight · s / Σ weight                    over the kinds the node has

Units: the kinds' own, as ratios. `whole` cuts every division to whole points, as the original does, and makes near
nodes equal; without it the same formula is exact.
When to use: online services, so that each keeps room to grow; instead of `allocation`, for its published profiles.
When not to: beside most_allocated, or where pods need whole nodes.
Source: Katalyst QoSAwareNodeResourcesFit, LeastAllocated (formula; weights 30 and 70 of 9000 and 12 with 8000 and 8
after: 26).
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from neap.scheduler.core.framework import Plugin
from neap.scheduler.core.fullness import Full, fullness, weighted
from neap.scheduler.core.pod import Pod
from neap.scheduler.core.view import Numbers, View


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What counts how much."""

    weights: dict[str, float] = {}  # of a kind in the mean; 1 for CPU and memory, owned and lent
    whole: bool = True  # whole points, as Katalyst and Kubernetes count


def free(pod: Pod, view: View, settings: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; None if no kind has a weight."""

    def one(full: Full) -> Numbers:
        return full.percent(np.maximum(full.capacity - full.after, 0.0), whole=settings.whole)

    return weighted(fullness(pod, view, settings.weights), one, whole=settings.whole)


PLUGIN: Final = Plugin(settings=Settings, score=free)
