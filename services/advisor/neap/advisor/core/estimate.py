"""CPUs a pod will want at most until the next report, from what it used: what several provision policies start from.

    estimate(pod)  = max(1.25 × smoothed usage, recent peak × (1 + growth))                          [cores]
    need(pod)      = estimate(pod) × ratio                             settled and measured
                   = max(request, estimate, need as above)             still settling, not in the report, or saturated
                   ≤ limit, because no quota lets it use more; it may exceed the request
    saturated      : the pods use `full` of the CPUs the pool held, so what they would use if they could is in no report

Source: katalyst-core sysadvisor qosaware/resource/helper (1.25 × usage, request when unknown; reference §4.3, A2).
"""

from __future__ import annotations

from typing import Final

from neap.advisor.core.policy import PodView, PoolView
from neap.common.units import Cores, Ratio

USAGE_FACTOR: Final = 1.25


def estimate(pod: PodView, growth: Ratio) -> Cores | None:
    """None if nothing was ever measured."""
    seen = (
        USAGE_FACTOR * pod.smooth if pod.smooth is not None else None,
        pod.peak * (1 + growth) if pod.peak is not None else None,
    )
    known = [cores for cores in seen if cores is not None]
    return max(known) if known else None


def need(pod: PodView, growth: Ratio, ratio: Ratio, *, saturated: bool = False) -> tuple[Cores, Cores]:
    """(estimate, need), both at most its limit."""
    measured = estimate(pod, growth)
    if measured is None:
        guess = wanted = pod.request
    else:
        guess, wanted = measured, measured * ratio
        if saturated or not pod.settled or pod.now is None:
            guess, wanted = max(guess, pod.request), max(wanted, pod.request)
    if pod.limit is None:
        return guess, wanted
    return min(guess, pod.limit), min(wanted, pod.limit)


def used(view: PoolView) -> Cores:
    """By the pods that are in the newest report."""
    return sum(pod.now for pod in view.pods if pod.now is not None)


def is_saturated(view: PoolView, full: Ratio) -> bool:
    """Whether the pods use `full` of what the pool held."""
    return view.fresh and 0 < view.held * full <= used(view)
