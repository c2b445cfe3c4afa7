"""What a system indicator should be, learned from what the business felt: the knee of business over system metric.

    samples     (system x, business y), higher y is worse; sorted by x and cut into bins, of which the medians count
    fit         y = a + b·x + c·max(0, x − k)          least squares on the bins, for every k on a grid; the best k wins
    target      k, or less where y must not exceed `bound` and does so before k
    confidence  ρ × R² × (1 − spread)                  ρ: rank correlation; spread of k over five fits, each without a
                                                       fifth of the samples, relative to k

No model, with the reason: too few samples; weak rank correlation; y not monotone in x; a straight line explains it as
well, or the bend goes the wrong way; k moves when samples are left out; the bound is exceeded everywhere. Then the
target of the settings stands.
Source: requirements 002-36; segmented regression: Quandt 1958, Hudson 1966 ("Fitting segmented curves whose join
points have to be estimated"); the problem: Satopää et al. 2011, Kneedle; Spearman 1904.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from neap.common.units import Ratio

FOLDS: Final = 5
LARGEST: Final = 1e60  # what is more, infinite or not a number is no sample
EDGE: Final = 2  # bins on either side of a knee, at least: a line needs two points


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a model is one."""

    least: Annotated[int, Meta(ge=20, le=100_000)] = 60  # samples
    most: Annotated[int, Meta(ge=20, le=100_000)] = 5000  # of them, the newest
    bins: Annotated[int, Meta(ge=8, le=200)] = 30
    correlation: Annotated[Ratio, Meta(ge=0, le=1)] = 0.5  # rank correlation of business and system metric
    reversal: Annotated[Ratio, Meta(ge=0, le=1)] = 0.15  # of the range of y: the worst fall against the trend
    better: Annotated[Ratio, Meta(gt=0, le=1)] = 0.5  # squared error of the knee over that of a straight line
    spread: Annotated[Ratio, Meta(ge=0, le=1)] = 0.25  # of k, relative
    grid: Annotated[int, Meta(ge=5, le=1000)] = 20  # values of k that are tried, and again around the best


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What was learned; `target` is None where there is no model, and `reason` says why."""

    target: float | None = None
    confidence: Ratio = 0.0
    correlation: float = 0.0
    samples: int = 0
    reason: str = ""


class Point(NamedTuple):
    """A sample, or the medians of a bin."""

    x: float
    y: float


class Bend(NamedTuple):
    """y = a + b·x + c·max(0, x − k), and its squared error."""

    k: float
    a: float
    b: float
    c: float
    error: float


def learn(samples: Sequence[tuple[float, float]], settings: Settings, *, bound: float | None = None) -> Model:
    """The target of the system metric, or none.

    Laws: no target, or one within the samples' x; it scales with x and not with y; the order of samples says only
    which are left out to see whether the knee moves. Cost: O(n log n), some 10 ms for 1000 samples.
    """
    points = [Point(x, y) for x, y in samples if abs(x) < LARGEST and abs(y) < LARGEST][-settings.most :]
    count = len(points)
    if count < settings.least:
        return Model(samples=count, reason=f"no model: {count} samples, {settings.least} are needed")
    rho = correlation(points)
    made = Model(samples=count, correlation=rho)
    if rho < settings.correlation:
        return _none(made, f"rank correlation {rho:.2f}, below {settings.correlation:.2f}")
    bins = binned(points, settings.bins)
    if (fallen := _reversal(bins)) > settings.reversal:
        return _none(made, f"not monotone: the business metric falls by {fallen:.0%} of its range on the way up")
    found, why = _bend(bins, settings)
    if found is None:
        return _none(made, why)
    folds = [[one for i, one in enumerate(points) if i % FOLDS != fold] for fold in range(FOLDS)]
    bends = [_bend(binned(part, settings.bins), settings)[0] for part in folds]
    knees = [bend.k for bend in bends if bend is not None]
    spread = (max(knees) - min(knees)) / abs(found.k) if len(knees) == FOLDS and found.k else math.inf
    if spread > settings.spread:
        return _none(made, f"the knee near {found.k:.4g} moves when a fifth of the samples is left out")
    return _bounded(made, bins, found, spread, bound)


def _none(made: Model, why: str) -> Model:
    return msgspec.structs.replace(made, reason=f"no model: {why}")


def _bounded(made: Model, bins: Sequence[Point], bend: Bend, spread: Ratio, bound: float | None) -> Model:
    mean = fmean(point.y for point in bins)
    whole = sum((point.y - mean) ** 2 for point in bins)
    sure = made.correlation * max(0.0, 1 - bend.error / whole) * (1 - spread) if whole > 0 else 0.0
    target, reason = bend.k, f"knee at {bend.k:.4g}"
    at_knee = bend.a + bend.b * bend.k
    if bound is not None and at_knee > bound:
        target = (bound - bend.a) / bend.b if bend.b > 0 else -math.inf
        if target < bins[0].x:
            return _none(made, f"the business metric is above {bound:.4g} everywhere")
        reason = f"{bound:.4g} is exceeded from {target:.4g} on, before the knee at {bend.k:.4g}"
    reason = f"{reason}, by {made.samples} samples, rank correlation {made.correlation:.2f}"
    return msgspec.structs.replace(made, target=target, confidence=sure, reason=reason)


def correlation(points: Sequence[Point]) -> float:
    """Spearman's: Pearson's of the ranks, equal values sharing the mean of theirs; 0 where one never changes."""
    ranks = [_ranks([point.x for point in points]), _ranks([point.y for point in points])]
    middle = (len(points) + 1) / 2
    xs, ys = ([rank - middle for rank in row] for row in ranks)
    scale = math.sqrt(sum(x * x for x in xs) * sum(y * y for y in ys))
    return sum(x * y for x, y in zip(xs, ys, strict=True)) / scale if scale > 0 else 0.0


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks, start = [0.0] * len(values), 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for place in order[start:end]:
            ranks[place] = (start + 1 + end) / 2
        start = end
    return ranks


def binned(points: Sequence[Point], bins: int) -> list[Point]:
    """Medians of equal parts of the samples by x; fewer where x repeats."""
    ordered = sorted(points)
    count = max(1, min(bins, len(ordered) // FOLDS))
    parts = [ordered[len(ordered) * i // count : len(ordered) * (i + 1) // count] for i in range(count)]
    medians = [Point(median(one.x for one in part), median(one.y for one in part)) for part in parts]
    places = sorted({point.x for point in medians})
    return [Point(x, fmean(point.y for point in medians if point.x == x)) for x in places]


def _reversal(bins: Sequence[Point]) -> Ratio:
    """The deepest fall of the smoothed bins below what was reached before, relative to their range."""
    smooth = [fmean(one.y for one in bins[max(0, i - 1) : i + 2]) for i in range(len(bins))]
    span = max(smooth) - min(smooth)
    top, fall = -math.inf, 0.0
    for value in smooth:
        top = max(top, value)
        fall = max(fall, top - value)
    return fall / span if span > 0 else 1.0


def _bend(bins: Sequence[Point], settings: Settings) -> tuple[Bend | None, str]:
    """The best knee, or why there is none."""
    if len(bins) < 2 * EDGE + 1:
        return None, f"only {len(bins)} different values of the system metric"
    low, high = bins[EDGE - 1].x, bins[-EDGE].x
    line = _fit(bins, math.inf)
    best = line
    for _ in range(2):
        pace = (high - low) / (settings.grid + 1)
        tries = [_fit(bins, low + pace * i) for i in range(1, settings.grid + 1)]
        best = min((best, *tries), key=lambda bend: bend.error)
        low, high = max(low, best.k - pace), min(high, best.k + pace)
    if best is line:
        return None, "no knee: a straight line explains it as well"
    if best.error > settings.better * line.error:
        return None, "no knee: a straight line explains it as well"
    if best.c <= 0 or best.b + best.c <= 0:
        return None, "no knee: the business metric gets worse more slowly, not faster"
    return best, ""


def _fit(bins: Sequence[Point], k: float) -> Bend:
    """Least squares for one k; with k beyond all bins a straight line."""
    over = [max(0.0, one.x - k) for one in bins]
    middle = Point(fmean(one.x for one in bins), fmean(one.y for one in bins))
    mean = fmean(over)
    rows = [(one.x - middle.x, far - mean, one.y - middle.y) for one, far in zip(bins, over, strict=True)]
    xx, hh, xh = sum(x * x for x, _, _ in rows), sum(h * h for _, h, _ in rows), sum(x * h for x, h, _ in rows)
    xy, hy = sum(x * y for x, _, y in rows), sum(h * y for _, h, y in rows)
    det = xx * hh - xh * xh
    if det > 1e-12 * xx * hh:
        b, c = (xy * hh - hy * xh) / det, (hy * xx - xy * xh) / det
    else:
        b, c = (xy / xx if xx > 0 else 0.0), 0.0
    error = sum((y - b * x - c * h) ** 2 for x, h, y in rows)
    return Bend(k, middle.y - b * middle.x - c * mean, b, c, error)
