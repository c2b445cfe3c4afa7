"""Prefer nodes that the pod leaves evenly full, so that no kind runs out while another is idle.

    f(kind) = min(1, after / capacity)
    score   = (1 − σ) · 100        σ: standard deviation of f over the kinds the node has      [50..100]

σ of two kinds is half their difference; of one, 0. A node that has none of the kinds gets 0.
Units: the kinds' own, as ratios. Weights do not enter: a kind of weight 0 is left out, the others count alike.
When to use: with a smaller weight, beside a scorer that says how full (Katalyst: 1 beside 4 for spread, 15 for pack).
When not to: alone; an empty node and a full one are both even.
Source: Katalyst QoSAwareNodeResourcesBalancedAllocation (formula).
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from neap.scheduler.core.choice.framework import Plugin
from neap.scheduler.core.choice.fullness import Weights, fullness
from neap.scheduler.core.nodes.view import Numbers, View
from neap.scheduler.core.pods.pod import Pod


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What counts."""

    weights: Weights = {}  # 0 leaves a kind out; above 0 brings in one beside CPU and memory


def even(pod: Pod, view: View, settings: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; None if no kind counts."""
    fulls = fullness(pod, view, settings.weights)
    if not fulls:
        return None
    there = np.array([full.capacity > 0 for full in fulls])
    shares = np.array([np.minimum(full.share(), 1.0) for full in fulls])
    count = there.sum(axis=0)
    some = np.maximum(count, 1)
    mean = np.where(there, shares, 0.0).sum(axis=0) / some
    deviation = np.sqrt((np.where(there, shares - mean, 0.0) ** 2).sum(axis=0) / some)
    return np.where(count > 0, np.clip(100 * (1 - deviation), 0.0, 100.0), 0.0)


PLUGIN: Final = Plugin(settings=Settings, score=even)
