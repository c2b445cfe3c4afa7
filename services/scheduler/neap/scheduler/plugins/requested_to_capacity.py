"""Prefer nodes as full as a curve says: spread, pack, or "half full is best", by points.

    u(kind) = after · 100 / capacity                     100 where after > capacity           [percent]
    s(kind) = 10 · curve(u)                              straight between points, flat outside them
    score   = Σ weight · s / Σ weight                    over the kinds with s > 0, to the nearest point    [0..100]

A curve is "utilisation:score, ...": utilisation 0..100, strictly rising, score 0..10. Owners and guests have one each.
`whole` counts in whole points, as the original does; without it the same formula is exact.
When to use: where neither spread nor pack is right; to reproduce a published profile. When not to: with the default
curves, which are packing.
Source: Katalyst QoSAwareNodeResourcesFit, RequestedToCapacityRatio (formula; points 10:3, 20:4, 50:7 at 88 % and
66 %: 70).
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np

from neap.scheduler.core.choice.framework import Plugin
from neap.scheduler.core.choice.fullness import Full, Weights, fullness
from neap.scheduler.core.nodes.view import Numbers, View
from neap.scheduler.core.pods.pod import Pod

MOST_POINTS: Final = 101


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The curves, and what counts how much."""

    owners: str = "0:0, 100:10"  # curve for pods that own what they use
    guests: str = "0:0, 100:10"  # curve for pods on lent resources
    weights: Weights = {}  # of a kind in the mean; 1 for CPU and memory, owned and lent
    whole: bool = True  # whole points, as Katalyst and Kubernetes count

    def __post_init__(self) -> None:
        points(self.owners)
        points(self.guests)


@lru_cache(maxsize=64)
def points(text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A curve as utilisations and scores (0..100).

    Raises:
        ValueError: no curve; the text says where.
    """
    pairs = [pair.partition(":") for pair in text[:4096].split(",")]
    try:
        curve = [(float(where), float(score)) for where, _, score in pairs]
    except ValueError:
        raise ValueError(f"curve {text[:64]!r}: write points as utilisation:score, such as '0:0, 100:10'") from None
    rising = all(left[0] < right[0] for left, right in pairwise(curve))
    if not rising or len(curve) > MOST_POINTS or any(not (0 <= u <= 100 and 0 <= s <= 10) for u, s in curve):
        raise ValueError(f"curve {text[:64]!r}: utilisation must rise within 0..100, scores lie within 0..10")
    return tuple(u for u, _ in curve), tuple(10 * s for _, s in curve)


def curved(used: Numbers, text: str, *, whole: bool) -> Numbers:
    """The curve's score at every utilisation in percent; `whole` cuts each step towards its left point."""
    at, scores = (np.array(column) for column in points(text))
    exact: Numbers = np.interp(used, at, scores)
    if not whole:
        return exact
    start: Numbers = scores[np.maximum(np.searchsorted(at, used) - 1, 0)]
    return start + np.trunc(np.round(exact - start, 9))


def shaped(pod: Pod, view: View, settings: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; None if no kind has a weight."""
    fulls = fullness(pod, view, settings.weights)
    if not fulls:
        return None
    total, weights = np.zeros(view.size), np.zeros(view.size)
    for full in fulls:
        score = _one(full, settings.guests if pod.guest else settings.owners, whole=settings.whole)
        total += full.weight * score
        weights += full.weight * (score > 0)
    mean = np.divide(total, weights, out=np.zeros(view.size), where=weights > 0)
    return np.clip(np.floor(mean + 0.5) if settings.whole else mean, 0.0, 100.0)


def _one(full: Full, curve: str, *, whole: bool) -> Numbers:
    used = full.percent(np.minimum(full.after, full.capacity), whole=whole)
    return np.where(full.capacity > 0, curved(used, curve, whole=whole), 0.0)


PLUGIN: Final = Plugin(settings=Settings, score=shaped)
