"""Spread pods over nodes, or pack them, by what is requested.

    spread (least allocated):  s = 100 · (allocatable − requested − ask) / allocatable
    pack   (most allocated):   s = 100 · (requested + ask) / allocatable                  [0..100]

per asked kind; 0 where it does not fit; kinds a node does not have are left out; the node's score is the weighted
mean over the kinds that are left. Owners spread, so that each keeps room to grow; guests by setting: spreading them
shares the lent cores evenly, packing them keeps whole nodes free for wide guests.
Units: the kinds' own, as ratios. Cards of GPUs are scored by gpu_share.
Source: Katalyst QoSAwareNodeResourcesFit, LeastAllocated and MostAllocated (formulas, without integer rounding).
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
import numpy as np

from neap.common.model.resource import GPU_CORE, GPU_MEMORY
from neap.scheduler.core.framework import Plugin
from neap.scheduler.core.pod import Pod
from neap.scheduler.core.view import Numbers, View

OF_CARDS: Final = (GPU_CORE, GPU_MEMORY)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which way."""

    owners: Literal["spread", "pack"] = "spread"  # owners over nodes
    guests: Literal["spread", "pack"] = "spread"  # guests over nodes
    weights: dict[str, float] = {}  # of a kind in the mean; 1 for kinds not named


def balance(pod: Pod, view: View, settings: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; None for a pod that asks for nothing."""
    pack = (settings.guests if pod.guest else settings.owners) == "pack"
    kinds = [kind for kind, amount in sorted(pod.requests.items()) if amount > 0 and kind not in OF_CARDS]
    if not kinds:
        return None
    total, weights = np.zeros(view.size), np.zeros(view.size)
    for kind in kinds:
        weight = settings.weights.get(kind, 1.0)
        allocatable, after = view.allocatable(kind), view.requested(kind) + pod.requests[kind]
        there = allocatable > 0
        full = np.divide(after, allocatable, out=np.ones(view.size), where=there)
        ratio = np.where(full <= 1, full, 0.0) if pack else np.maximum(0.0, 1 - full)
        total += np.where(there, weight * ratio, 0.0)
        weights += weight * there
    return 100 * np.divide(total, weights, out=np.zeros(view.size), where=weights > 0)


PLUGIN: Final = Plugin(settings=Settings, score=balance)
