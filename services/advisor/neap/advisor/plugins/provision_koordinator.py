"""Owners need what they use, no more: the peer keeps its margin in what it lends, not in its pools.

requirement = Σ smoothed usage (request of a pod never measured)                                         [cores]

With `advisor.overlap` owners run on every CPU that nobody has alone, as LS pods do, and guests behind them on those
that the owners' use leaves; headroom_koordinator says what is lent, and caps what guests use together.
Use it to compare: the peer on the very same day.
Source: Koordinator documentation, "CPU QoS" (LS pods share all CPUs that are not pinned, BE pods run on part of
them) and NodeMetric (usage aggregated over 300 s).
"""

from __future__ import annotations

from typing import Final

import msgspec

from neap.advisor.core.policy import PoolView, ProvisionPolicy, Requirement


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """There is nothing to set."""


def advise(view: PoolView, _: Settings, memory: None) -> tuple[Requirement, None]:
    """What is used. Cost: O(pods)."""
    used = sum(pod.request if pod.smooth is None else pod.smooth for pod in view.pods)
    reason = f"{used:.1f} used" if view.pods else "nobody is in it"
    return Requirement(cores=used, estimate=used, ratio=1.0, reserve=0.0, reason=reason), memory


PLUGIN: Final = ProvisionPolicy(settings=Settings, advise=advise)
