"""A window over a jumping amount: what is told moves by bounded steps, and not before the window is full.

    average      the mean of the last `size` samples, no older than `ttl`
    percentile   the smallest sample that at least that share of them do not exceed (nearest rank; 0: the least)
    told(t)      = told(t−1)                             while samples lack, or it would move by less than `least`
                 = told(t−1) ± most                      where it would move by more than `most`
                 = average or percentile                 otherwise; None until a window was full once

State is a frozen Struct that goes in and comes out, so that it can be remembered anywhere.
Source: katalyst-core pkg/util/general/window.go (reference §4.9, acceptance case A11).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from neap.common.units import Ratio, Seconds


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How a window is read."""

    size: Annotated[int, Meta(ge=1, le=3600)] = 4  # samples
    ttl: Annotated[Seconds, Meta(gt=0)] = math.inf  # age beyond which a sample does not count
    least: Annotated[float, Meta(ge=0)] = 0.0  # in the unit of the samples
    most: Annotated[float, Meta(gt=0)] = math.inf
    percentile: Annotated[Ratio, Meta(ge=0, le=1)] | None = None  # None: average


class Smoothed(msgspec.Struct, frozen=True):
    """What is remembered, and what is told."""

    samples: tuple[tuple[Seconds, float], ...] = ()  # (when, amount), oldest first
    told: float | None = None


def push(before: Smoothed, at: Seconds, amount: float, shape: Shape) -> Smoothed:
    """One more sample; one that is no number counts as missing.

    Laws: told stays within the samples ever seen; it moves by at most `most`.
    """
    samples = tuple(sample for sample in before.samples if at - sample[0] < shape.ttl)
    if math.isfinite(amount):
        samples = (*samples, (at, amount))[-shape.size :]
    if len(samples) < shape.size:
        return Smoothed(samples, before.told)
    return Smoothed(samples, _step(before.told, _read([amount for _, amount in samples], shape), shape))


def percentile(amounts: Sequence[float], share: Ratio) -> float:
    """Nearest rank."""
    ordered = sorted(amounts)
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


def _read(amounts: Sequence[float], shape: Shape) -> float:
    if shape.percentile is not None:
        return percentile(amounts, shape.percentile)
    return min(max(math.fsum(amounts) / len(amounts), min(amounts)), max(amounts))


def _step(told: float | None, now: float, shape: Shape) -> float:
    if told is None or abs(now - told) > shape.most:
        return now if told is None else told + math.copysign(shape.most, now - told)
    return told if abs(now - told) < shape.least else now
