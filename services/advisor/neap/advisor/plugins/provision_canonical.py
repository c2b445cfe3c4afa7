"""CPUs the owners of a shared pool need, estimated from what they use.

estimate(pod)    = max(1.25 × smoothed usage, recent peak × (1 + growth))                            [cores]
need(pod)        = estimate(pod) × (1 + margin + boost)      settled and measured
                 = max(request, estimate, need as above)     still settling, not in the report, or saturated
                 ≤ limit, because no quota lets it use more; it may exceed the request
requirement      = Σ need(pod) + reserve × (1 + 4 × boost), nothing for a pool without pods          [cores]

Between two reports the pool is all the owners have, so the margin must cover the rise of demand within one
report period: with 0.35 a pod may want half more than its recent peak (1.1 × 1.35) and still find a CPU free.
Replaying 7.8 days of the Alibaba 2018 curve at minute reports, demand exceeded the pool in no minute.
A pool is saturated when its pods use `full` of the CPUs it held: what they would use if they could is then in no
report, so what they asked for counts at once, instead of half more in every report (a step from 20 % to 90 % of the
request is answered in one report and not in four).
`boost` rises by `stall_step` in every report in which a pod of the pool waited for CPU (PSI cpu some, 10 s) for
more than `stall_target` of the time and no less than in the report before (the average remembers a stall that is
over), and halves in every calm one: pressure that utilisation does not show. It raises the reserve as well, because a margin on next to nothing is nothing: a small pool that stalls gets a CPU.

Use when nothing better is known about the service.
Source: katalyst-core sysadvisor qosaware/resource/helper (1.25 × usage, request when unknown) and
cpu/region/provisionpolicy/policy_canonical.go (sum of estimates); kernel Documentation/accounting/psi.rst.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from neap.advisor.core.estimate import is_saturated, need, used
from neap.advisor.core.policy import PoolView, ProvisionPolicy, Requirement
from neap.common.units import Cores, Ratio

RESERVE_FACTOR: Final = 4  # a stalled report (boost 0.25) doubles the reserve
Memory: TypeAlias = tuple[Ratio, Ratio]  # boost, and the stall of the report before
START: Final[Memory] = (0.0, 0.0)
NEGLIGIBLE: Final[Ratio] = 1e-3  # a boost below this is none


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Knobs of the canonical estimate."""

    growth: Annotated[Ratio, Meta(ge=0, le=10)] = 0.10  # on top of the recent peak
    margin: Annotated[Ratio, Meta(ge=0, le=10)] = 0.35  # for what happens between two reports
    reserve: Annotated[Cores, Meta(ge=0, le=1024)] = 0.5  # per pool, as small ones are bursty; rounding adds as much
    full: Annotated[Ratio, Meta(gt=0, le=1)] = 0.9  # of the CPUs of a pool in use: it is saturated
    stall_target: Annotated[Ratio, Meta(gt=0, le=1)] = 0.10  # share of time an owner may wait for CPU
    stall_step: Annotated[Ratio, Meta(ge=0, le=10)] = 0.25  # added to the margin per stalled report
    stall_most: Annotated[Ratio, Meta(ge=0, le=10)] = 1.0  # more CPUs than that do not cure a stall


def advise(view: PoolView, settings: Settings, memory: Memory) -> tuple[Requirement, Memory]:
    """The pool's requirement and the next memory.

    Laws: non-decreasing in every usage, request and stall; the order of pods does not matter.
    Cost: O(pods).
    """
    if not view.pods:
        return Requirement(cores=0.0, estimate=0.0, ratio=1.0, reserve=0.0, reason="nobody is in it"), START
    boost, last = memory
    stall = max((pod.stall for pod in view.pods if pod.stall is not None), default=0.0)
    if view.fresh and stall > settings.stall_target:
        boost = min(boost + settings.stall_step, settings.stall_most) if stall >= last else boost
    elif view.fresh:
        boost = boost / 2 if boost > NEGLIGIBLE else 0.0
    saturated = is_saturated(view, settings.full)
    ratio = 1 + settings.margin + boost
    needs = [need(pod, settings.growth, ratio, saturated=saturated) for pod in view.pods]
    guess, wanted = sum(pair[0] for pair in needs), sum(pair[1] for pair in needs)
    ratio = wanted / guess if guess > 0 else 1.0
    reserve = settings.reserve * (1 + RESERVE_FACTOR * boost)
    cores = wanted + reserve
    memory = (boost, stall if view.fresh else last)
    cramped = f", {used(view):.1f} of {view.held} CPUs in use, so requests count" if saturated else ""
    waited = f", {stall:.0%} of the time waiting for CPU" if boost else ""
    reason = f"{cores:.1f} = {guess:.1f} online x {ratio:.2f} + {reserve:.1f} reserve{cramped}{waited}"
    return Requirement(cores=cores, estimate=guess, ratio=ratio, reserve=reserve, reason=reason), memory


PLUGIN: Final = ProvisionPolicy(settings=Settings, advise=advise, start=START)
