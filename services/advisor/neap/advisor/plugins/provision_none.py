"""Nobody gives: owners keep what they asked for, or what they use where that is more.

need(pod)   = max(request, 1.25 × smoothed usage, recent peak), at most its limit                         [cores]
requirement = Σ need(pod)

Unlike provision_fixed, which looks at requests alone, an owner that outgrows its request keeps its CPUs.
Use to switch lending off the cautious way: guests get what nobody asked for and nobody uses.
Source: katalyst-core provision policy `none` and reclaim off (the request counts; reference §4.3, §4.4).
"""

from __future__ import annotations

from typing import Final

import msgspec

from neap.advisor.core.estimate import need
from neap.advisor.core.policy import PodView, PoolView, ProvisionPolicy, Requirement
from neap.common.units import Cores


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """There is nothing to set."""


def advise(view: PoolView, _: Settings, memory: None) -> tuple[Requirement, None]:
    """Requests, or more. Laws: at least Σ min(request, limit). Cost: O(pods)."""
    cores, asked = sum(map(_kept, view.pods)), sum(pod.request for pod in view.pods)
    reason = f"{cores:.1f} kept, {asked:.1f} requested" if view.pods else "nobody is in it"
    return Requirement(cores=cores, estimate=cores, ratio=1.0, reserve=0.0, reason=reason), memory


def _kept(pod: PodView) -> Cores:
    most = pod.request if pod.limit is None else min(pod.request, pod.limit)
    return max(most, need(pod, 0.0, 1.0)[1])


PLUGIN: Final = ProvisionPolicy(settings=Settings, advise=advise)
