"""Spread pods over nodes, or pack them, by what is requested.

    spread (least allocated):  s = 100 · (capacity − after) / capacity       0 where after > capacity
    pack   (most allocated):   s = 100 · min(after, capacity) / capacity                            [0..100]
    score = Σ weight · s / Σ weight                      over the kinds the node has (which count: core.fullness)

Owners spread, so that each keeps room to grow; guests by setting: spreading them shares the lent cores evenly, packing
them keeps whole nodes free for wide guests. `whole` cuts every division to whole points, as the original does, and
makes near nodes equal; without it the same formulas are exact.
Units: the kinds' own, as ratios. Cards of GPUs are scored by gpu_share.
Source: Katalyst QoSAwareNodeResourcesFit, LeastAllocated and MostAllocated (formulas; weights 30 and 70 of 9000 and 12
with 8000 and 8 after: 26 and 72).
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
import numpy as np

from neap.scheduler.core.choice.framework import Plugin
from neap.scheduler.core.choice.fullness import Full, Weights, fullness, weighted
from neap.scheduler.core.nodes.view import Numbers, View
from neap.scheduler.core.pods.pod import Pod


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which way, and what counts how much."""

    owners: Literal["spread", "pack"] = "spread"  # owners over nodes
    guests: Literal["spread", "pack"] = "spread"  # guests over nodes
    weights: Weights = {}  # of a kind in the mean; 1 for CPU and memory, owned and lent
    whole: bool = False  # whole points, as Katalyst and Kubernetes count


def balance(pod: Pod, view: View, settings: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; None if no kind has a weight."""
    pack = (settings.guests if pod.guest else settings.owners) == "pack"

    def one(full: Full) -> Numbers:
        used = np.minimum(full.after, full.capacity)
        return full.percent(used if pack else full.capacity - used, whole=settings.whole)

    return weighted(fullness(pod, view, settings.weights), one, whole=settings.whole)


PLUGIN: Final = Plugin(settings=Settings, score=balance)
