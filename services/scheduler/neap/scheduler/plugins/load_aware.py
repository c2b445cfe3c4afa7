"""Prefer nodes that are really idle, now and as a rule; keep owners away from hot ones.

    least   s = Σ w · 100 · (T − u) / T / Σ w           over the known windows: recent (w 30), hour (30), day (40)
    target  s = (100 − t) · u / t + t                   up to the target t, in percent
                t · (100 − u) / (100 − t)               above it;  0 above 100                                [0..100]
    filter  threshold: mean <= limit · T                owners only; p90, p95, p99 of a day instead if asked for
            portrait:  max over 24 hours of (Σ portraits + pod's) <= limit · T    owners whose service has a portrait
    score   = weighted mean of s over CPU and memory

T allocatable; milli-cores and bytes. u of hour and day is the largest minute (see windows.py). u of recent is the
larger of the 15-minute mean and the last report (a pod that just started is not yet in the mean), plus this pod's
estimate, plus estimates of pods placed but not yet measured. `target` looks at recent only, or at the portrait's peak.
What is not yet known has no weight, and the mean is then the last report, and said so.

For an owner, what guests use does not count: they give it back. A guest counts everything, and is not filtered by load,
because the offer it takes is already what the load leaves. A node whose report is too old is filtered for everybody;
one that never reported passes with score 0 (unknown is not idle, but a cluster must be able to start).
When not to use: where usage is not reported; then every score is 0.
Source: Koordinator, load-aware scheduling (formula, thresholds 65 % and 95 %); Katalyst load-aware scheduling, PR654
(windows, their weights, target packing, portraits); requirements 004-32, 004-33 and 2.4 (32 cores, 10 used, 3.4
asked: 58.125; with 6.8 in flight: 36.875).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta

from neap.common.model.resource import CPU, MEMORY
from neap.common.units import Ratio
from neap.scheduler.core.choice.framework import Near, Plugin, Rule
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.load import AT, FLYING, FLYING_OWNERS, FRESH, KNOWN, USED, USED_BY_OWNERS
from neap.scheduler.core.nodes.portraits import GUESSED, PORTRAITS
from neap.scheduler.core.nodes.view import Mask, Numbers, View
from neap.scheduler.core.nodes.windows import day_of, histogram_of, hour_of, mean_of, percentile
from neap.scheduler.core.pods.estimate import Portrait
from neap.scheduler.core.pods.pod import LOAD_AWARE, Pod
from neap.scheduler.core.why.near import COUNTED, number

WAKES: Final = frozenset({NodeChanged.LOAD, NodeChanged.NODE_ADDED})
FREED: Final = frozenset({NodeChanged.FREE, NodeChanged.NODE_ADDED})
KINDS: Final = (CPU, MEMORY)
QUANTILES: Final = {"p90": 0.90, "p95": 0.95, "p99": 0.99}
Limit = Annotated[Ratio, Meta(gt=0, le=1)]
Weight = Annotated[float, Meta(ge=0, le=100)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Thresholds, weights, and which way."""

    cpu_limit: Limit = 0.65  # of allocatable CPU used by owners, above which no owner is added
    memory_limit: Limit = 0.95  # of allocatable memory used by owners, above which no owner is added
    limit_on: Literal["mean", "p90", "p95", "p99"] = "mean"  # of 15 minutes; or a percentile of the day's minutes
    portraits: bool = True  # hold the day's expected peak against the limits, for services that have a portrait
    score: Literal["least", "target"] = "least"  # least used is best; or nearest to the targets
    cpu_target: Limit = 0.50  # of allocatable CPU that is best, for "target"
    memory_target: Limit = 0.70  # of allocatable memory that is best, for "target"
    cpu_weight: Weight = 1.0  # of CPU in the score
    memory_weight: Weight = 1.0  # of memory in the score
    recent_weight: Weight = 30.0  # of the last 15 minutes in "least"
    hour_weight: Weight = 30.0  # of the last hour's largest minute
    day_weight: Weight = 40.0  # of the last day's largest minute
    asked_only: bool = False  # only pods whose annotation neap.io/load-aware is "true"

    def __post_init__(self) -> None:
        if self.recent_weight + self.hour_weight + self.day_weight <= 0:
            raise ValueError("recent_weight, hour_weight and day_weight are all 0")


def idle_score(total: Numbers, used: Numbers, ask: float, in_flight: Numbers | float) -> Numbers:
    """100 · (T − used − pod − in flight) / T, within 0..100; 0 where T is 0. Shapes (rows,), one unit for all."""
    left = np.divide(total - used - ask - in_flight, total, out=np.zeros(len(total)), where=total > 0)
    score: Numbers = np.clip(100 * left, 0.0, 100.0)
    return score


def target_score(used: Numbers, target: float) -> Numbers:
    """Best at the target, falling to both sides; percent of the node, shape (rows,).

    Raises:
        ValueError: the target is not within 0..100, or is 0.
    """
    if not 0 < target <= 100:
        raise ValueError(f"target {target:g} % is not above 0 and at most 100")
    used = np.maximum(used, 0.0)
    below = (100 - target) * used / target + target
    above = target * (100 - used) / (100 - target) if target < 100 else np.zeros(len(used))
    return np.where(used <= target, below, np.where(used <= 100, above, 0.0))


def cool(pod: Pod, view: View, settings: Settings) -> Sequence[Rule]:
    """Reports must be fresh; for owners the node must be below the thresholds."""
    if not _concerns(pod, settings):
        return ()
    key = ("load_aware/cool", settings.cpu_limit, settings.memory_limit, settings.limit_on)
    fresh, *below = view.told(key, lambda some: _cool(some, settings)).T
    rules = [Rule("usage report too old", fresh, WAKES, lambda: _old(view))]
    if not pod.guest:
        rules += [_below(view, kind, passes, settings) for kind, passes in zip(KINDS, below, strict=True)]
        if settings.portraits and (portrait := pod.estimate.portrait) is not None:
            rules += [_foreseen(portrait, view, kind, settings) for kind in KINDS]
    return rules


def idle(pod: Pod, view: View, settings: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; 0 where the load is unknown."""
    weights = (settings.cpu_weight, settings.memory_weight)
    if not _concerns(pod, settings) or sum(weights) <= 0:
        return None
    if settings.score == "least":
        return _least(pod, view, settings)
    total = np.zeros(view.size)
    for index, weight in enumerate(weights):
        if weight > 0:
            total += weight * _nearest(pod, view, index, settings)
    return np.where(view.column(FRESH), total / sum(weights), 0.0)


def _cool(view: View, settings: Settings) -> Mask:
    """Per row: whether its report is fresh, and whether owners use at most the limit of CPU, and of memory."""
    fresh, unknown = view.column(FRESH), ~view.column(KNOWN)
    limits = zip(KINDS, (settings.cpu_limit, settings.memory_limit), strict=True)
    below = [_looked_at(view, kind, settings)[0] <= limit * view.allocatable(kind) for kind, limit in limits]
    return np.asarray(np.column_stack([fresh, *below]) | unknown[:, None])


def _concerns(pod: Pod, settings: Settings) -> bool:
    return not settings.asked_only or pod.workload.annotations.get(LOAD_AWARE) == "true"


def _least(pod: Pod, view: View, settings: Settings) -> Numbers:
    useds, flyings = (USED, FLYING) if pod.guest else (USED_BY_OWNERS, FLYING_OWNERS)
    key = ("load_aware/least", useds[0], settings.cpu_weight, settings.memory_weight,
           settings.recent_weight, settings.hour_weight, settings.day_weight)  # fmt: skip
    told = view.told(key, lambda some: _windows(some, useds, settings)).T
    flying = np.array([view.column(name) for name in flyings])
    recent = 100 * ((told[0:2] - np.array(pod.estimate.amounts)[:, None] - flying) / told[2:4])
    cpu, memory = told[4:6] * np.minimum(np.maximum(recent, 0.0), 100.0)
    score: Numbers = np.minimum(cpu + memory + told[6], 100.0)
    return score


def _windows(view: View, useds: Sequence[str], settings: Settings) -> Numbers:
    """Per row, CPU before memory: T − u of recent; T, ∞ where it is 0; the weight of s of recent; then the rest of s."""
    both, rest = (settings.cpu_weight, settings.memory_weight), np.zeros(view.size)
    idle, totals, weights = list[Numbers](), list[Numbers](), list[Numbers]()
    fresh = view.column(FRESH)
    for kind, used, of_kind in zip(KINDS, useds, both, strict=True):
        total, recent = view.allocatable(kind), _recent(view, used)
        others, known = np.zeros(view.size), np.full(view.size, settings.recent_weight)
        for name, weight in ((hour_of(used), settings.hour_weight), (day_of(used), settings.day_weight)):
            seen = view.column(name)
            others += np.where(np.isnan(seen), 0.0, weight * idle_score(total, seen, 0.0, 0.0))
            known += weight * ~np.isnan(seen)
        others = np.where(known > 0, others, idle_score(total, recent, 0.0, 0.0))
        share = np.where(fresh, of_kind / sum(both) / np.where(known > 0, known, 1.0), 0.0)
        rest += share * others
        idle, weights = [*idle, total - recent], [*weights, share * settings.recent_weight]
        totals.append(np.where(total > 0, total, np.inf))
    return np.column_stack((*idle, *totals, *weights, rest))


def _nearest(pod: Pod, view: View, index: int, settings: Settings) -> Numbers:
    used, flying = (USED[index], FLYING[index]) if pod.guest else (USED_BY_OWNERS[index], FLYING_OWNERS[index])
    target, total = (settings.cpu_target, settings.memory_target)[index], view.allocatable(KINDS[index])
    portrait = pod.estimate.portrait if settings.portraits and not pod.guest else None
    if portrait is not None:
        will = _hours(portrait, view, index).max(axis=1)
    else:
        will = _recent(view, used) + pod.estimate.amounts[index] + view.column(flying)
    return target_score(np.divide(100 * will, total, out=np.full(view.size, 101.0), where=total > 0), 100 * target)


def _recent(view: View, used: str) -> Numbers:
    """The larger of the 15-minute mean and the last report; the report where the mean is unknown."""
    recent: Numbers = np.fmax(view.column(used), view.column(mean_of(used)))
    return recent


def _hours(portrait: Portrait, view: View, index: int) -> Numbers:
    """Every hour of the day once the pod is there, by portraits and guesses of all owners. Shape (rows, 24)."""
    mine = np.array(portrait[index], dtype=np.float64)
    return np.asarray(view.column(PORTRAITS[index]) + view.column(GUESSED[index])[:, None] + mine)


def _below(view: View, kind: str, passes: Mask, settings: Settings) -> Rule:
    """Owners use at most the limit: by the chosen statistic where it is known, else by the last report."""
    limit = (settings.cpu_limit, settings.memory_limit)[KINDS.index(kind)]

    def near() -> Near:
        total, (looked, told) = view.allocatable(kind), _looked_at(view, kind, settings)

        def tell(row: int) -> str:
            what = {"mean": "in the last 15 minutes"}.get(settings.limit_on, f"at {settings.limit_on} of a day")
            when = what if told[row] else f"at the last report (what was used {what} is not known yet)"
            return f"{_of_total(kind, 'owners used', looked[row], total[row])} {when}, at most {limit:.0%} allowed"

        return _near(passes, looked, limit * total, tell)

    return Rule(f"owners use over {limit:.0%} of {kind}", passes, WAKES, near)


def _looked_at(view: View, kind: str, settings: Settings) -> tuple[Numbers, Mask]:
    """What owners used, by the chosen statistic; and where that is known, elsewhere it is the last report."""
    used = USED_BY_OWNERS[KINDS.index(kind)]
    if settings.limit_on == "mean":
        told = view.column(mean_of(used))
    else:
        told = percentile(view.column(histogram_of(used)), QUANTILES[settings.limit_on]) * view.allocatable(kind)
    unknown = np.isnan(told)
    return np.where(unknown, view.column(used), told), ~unknown


def _foreseen(portrait: Portrait, view: View, kind: str, settings: Settings) -> Rule:
    """In no hour of the day owners will use more than the limit."""
    index = KINDS.index(kind)
    limit, total = (settings.cpu_limit, settings.memory_limit)[index], view.allocatable(kind)
    hours = _hours(portrait, view, index)
    peak = hours.max(axis=1)
    passes = peak <= limit * total

    def tell(row: int) -> str:
        when = f"from {int(hours[row].argmax()):02}:00 UTC, by portraits"
        return f"{_of_total(kind, 'owners would use', peak[row], total[row])} {when}, at most {limit:.0%} allowed"

    return Rule(
        f"owners would use over {limit:.0%} of {kind}", passes, FREED, lambda: _near(passes, peak, limit * total, tell)
    )


def _near(passes: Mask, used: Numbers, allowed: Numbers, tell: Callable[[int], str]) -> Near:
    return Near(np.where(passes, 0.0, used - allowed), tell)


def _of_total(kind: str, who: str, used: float, total: float) -> str:
    share = f", {used / total:.0%}," if total > 0 else ""
    return f"{who} {number(kind, used)} of {number(kind, total)} {COUNTED[kind]}{share} of {{node}}"


def _old(view: View) -> Near:
    fresh, at = view.column(FRESH) | ~view.column(KNOWN), view.column(AT)

    def tell(row: int) -> str:
        return f"{{node}} last reported its usage at {at[row]:.0f} s, too long ago"

    return Near(np.where(fresh, 0.0, np.inf), tell, lambda _: "a usage report of {node}")


PLUGIN: Final = Plugin(settings=Settings, wakes=WAKES | FREED, filter=cool, score=idle)
