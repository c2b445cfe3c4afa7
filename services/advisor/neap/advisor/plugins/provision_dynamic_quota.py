"""Guests of a NUMA node may use what is missing to a target utilisation of it; its owners need the rest.

    quota        = max(S × (target − usage of the node) + guests' usage, reserved)                       [cores]
    S            = CPUs lent on the node, all CPUs of it where none are
    usage        = (owners + guests in use) / CPUs of the node                                            share
    requirement  = CPUs of the node − quota, at least the owners' estimate

Guests are limited by how many CPUs they have and not by a quota: they keep no CPU of an owner busy, and nothing of
theirs is throttled in the middle of a lock. Where guests' usage is unknown the pool stays as it is. A pool that is
bound to no node is estimated as usual.

Use for bound pools whose load is steady and whose owners bear neighbours up to a known utilisation.
Source: katalyst-core provisionpolicy/policy_dynamic_quota.go (reference §4.4, acceptance case A3).
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.advisor.core.estimate import need, used
from neap.advisor.core.policy import PoolView, ProvisionPolicy, Requirement
from neap.common.units import Cores, Ratio


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The target, and what the estimate adds."""

    target: Annotated[Ratio, Meta(gt=0, le=1)] = 0.6  # of the node's CPUs in use, guests included
    reserved: Annotated[Cores, Meta(ge=0, le=1024)] = 1.0  # least of guests
    growth: Annotated[Ratio, Meta(ge=0, le=10)] = 0.10  # on top of the recent peak
    margin: Annotated[Ratio, Meta(ge=0, le=10)] = 0.35  # on the estimate of pools bound to no node


def quota(room: float, usage: Ratio, guests: Cores, settings: Settings) -> Cores:
    """What guests may use; `room` is S."""
    return max(room * (settings.target - usage) + guests, settings.reserved)


def advise(view: PoolView, settings: Settings, memory: None) -> tuple[Requirement, None]:
    """Laws: never less than the estimate; more use by owners, no less for them. Cost: O(pods)."""
    if not view.pods:
        return Requirement(cores=0.0, estimate=0.0, ratio=1.0, reserve=0.0, reason="nobody is in it"), memory
    ratio = 1 + settings.margin if view.node is None or not view.most else 1.0
    needs = [need(pod, settings.growth, ratio) for pod in view.pods]
    guess, cores = sum(pair[0] for pair in needs), sum(pair[1] for pair in needs)
    reason = f"{guess:.1f} estimated x {ratio:.2f}"
    if view.node is not None and view.most:
        wanted, why = _left(view, settings)
        cores, reason = (wanted, why) if wanted > cores else (cores, f"{reason} at the least; {why}")
    shown = f"{cores:.1f} = {reason}"
    ratio = cores / guess if guess > 0 else 1.0
    return Requirement(cores=cores, estimate=guess or cores, ratio=ratio, reserve=0.0, reason=shown), memory


def _left(view: PoolView, settings: Settings) -> tuple[Cores, str]:
    """What the guests' quota leaves of the node."""
    if view.guests is None or any(pod.now is None for pod in view.pods):
        return float(view.held), f"{view.held} held: not all usage of NUMA node {view.node} is known"
    usage = min(1.0, (used(view) + view.guests) / view.most)
    allowed = min(quota(view.lent or view.most, usage, view.guests, settings), float(view.most))
    at = f"NUMA node {view.node} is used to {usage:.0%} for {settings.target:.0%}"
    return view.most - allowed, f"{view.most} − {allowed:.1f} for guests: {at}"


PLUGIN: Final = ProvisionPolicy(settings=Settings, advise=advise)
