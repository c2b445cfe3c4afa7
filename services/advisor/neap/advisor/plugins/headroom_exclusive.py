"""CPUs that the owner of NUMA nodes it has alone leaves over, for guests to run behind it.

    need    = estimate × (1 + margin);  its request where its use is not known     [cores]  see core/estimate
    score   = 1 − stalled / stall, within 0…1; 1 where nobody measures how long it waits
    offer   = (cpus − need − reserve, at least 0) × score                          [cores]

The owner keeps all CPUs of its nodes, whatever it asked for: guests run behind it (cpu.idle) on the last of them, so
it has every CPU the moment it wakes, but not the caches and the other half of a core. That is why nothing is lent
unless its service says so (`lend_alone`), and why the offer falls with every moment it waits, and not only when it is
too late. Memory of its nodes is never lent. How fast the guests' part grows is core/alone's business.

    5.2 = (16.0 alone − 4.0 used x 1.35 − 0.5 reserve) x 0.51 for 5% of the time waiting

Use for services that have a NUMA node alone for their memory, and are idle half of the day.
Source: katalyst-core headroompolicy/policy_numa_exclusive.go: max(upper bound − (estimate + reserved for allocation)
+ reserved for reclaim, 0) × (score − least)/(most − least); reference §4.7, acceptance cases A2 and A8. Its upper
bound is without the guests' reserve, so ours is both; its score is a service's that always says 100, ours is waiting.
"""

from __future__ import annotations

import math
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.advisor.core.estimate import need
from neap.advisor.core.policy import AlonePolicy, AloneView, Offer
from neap.common.units import Cores, Ratio


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the owner keeps beyond what it is seen using."""

    growth: Annotated[Ratio, Meta(ge=0, le=10)] = 0.10  # on top of its recent peak
    margin: Annotated[Ratio, Meta(ge=0, le=10)] = 0.35  # for what happens between two reports
    reserve: Annotated[Cores, Meta(ge=0, le=1024)] = 0.5  # whatever it uses
    stall: Annotated[Ratio, Meta(gt=0, le=1)] = 0.10  # of the time waiting for a CPU: then nothing is lent


def advise(view: AloneView, settings: Settings) -> Offer:
    """The offer and its sum.

    Laws: 0 ≤ offer ≤ cpus; non-increasing in use, request and waiting; the printed sum adds up.
    """
    guess, wanted = need(view.pod, settings.growth, 1 + settings.margin)
    left = view.cpus - wanted - settings.reserve
    stalled = view.pod.stall or 0.0
    score = min(1.0, max(0.0, 1 - stalled / settings.stall)) if math.isfinite(stalled) else 0.0
    amount = max(0.0, left) * score if math.isfinite(left) else 0.0
    ratio = wanted / guess if guess > 0 else 1.0
    total = f"{view.cpus:.1f} alone − {guess:.1f} used x {ratio:.2f} − {settings.reserve:.1f} reserve"
    if left < 0:
        return Offer(0.0, f"0.0, because {left:.1f} = {total}")
    waits = f" for {stalled:.0%} of the time waiting" if stalled else ""
    return Offer(amount, f"{amount:.1f} = ({total}) x {score:.2f}{waits}" if waits else f"{amount:.1f} = {total}")


PLUGIN: Final = AlonePolicy(settings=Settings, advise=advise)
