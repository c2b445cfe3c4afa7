"""A pool is as large as somebody says, whatever its owners use.

requirement = cores where that is set, else share × Σ request; nothing for a pool without pods            [cores]

Use for a trial, or for a service whose size was measured elsewhere; set per node or pool of nodes by policy.
Source: katalyst-core provision policies by name (fixed knobs instead of computed ones; reference §4.4).
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.advisor.core.policy import PoolView, ProvisionPolicy, Requirement
from neap.common.units import Cores, Ratio


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How large."""

    cores: Annotated[Cores, Meta(ge=0, le=4096)] = 0.0  # of every shared pool; 0: by its requests
    share: Annotated[Ratio, Meta(gt=0, le=10)] = 1.0  # of the requests


def advise(view: PoolView, settings: Settings, memory: None) -> tuple[Requirement, None]:
    """What is set. Cost: O(pods)."""
    asked = sum(pod.request for pod in view.pods)
    cores = 0.0 if not view.pods else settings.cores or asked * settings.share
    of = f"{asked:.1f} requested x {settings.share:.2f}"
    reason = "nobody is in it" if not view.pods else f"{cores:.1f} set" if settings.cores else f"{cores:.1f} = {of}"
    return Requirement(cores=cores, estimate=cores, ratio=1.0, reserve=0.0, reason=reason), memory


PLUGIN: Final = ProvisionPolicy(settings=Settings, advise=advise)
