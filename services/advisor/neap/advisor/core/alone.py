"""CPUs that guests get behind the owners of NUMA nodes they have alone: shrinking at once, growing by steps.

    room(owner)  = ⌊what its policy offers⌋, of the CPUs of its nodes                                [CPUs]
    got(owner)   = min(room, got before + step), with a new report;  min(room, got before) without one

Only where the owner's service lets it (`lend_alone`). The CPUs are the last of the owner's in topology order, those
first on which guests already run.
Source: katalyst-core provisionassembler (dedicated exclusive: the reclaimed pool overlaps the pod; reference §4.5). On
purpose otherwise: no least amount for guests, so an owner that needs all its CPUs has nobody behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from neap.advisor.core.assign import NONE, CpuSet, Cut, end_of
from neap.advisor.core.layout import Layout
from neap.advisor.core.policy import AloneView, Chosen, PodView
from neap.common.units import Ratio


@dataclass(frozen=True)
class Behind:
    """CPUs behind owners, and by uid of the owner the sum they came from."""

    cpus: CpuSet = NONE
    sums: dict[str, str] = field(default_factory=dict)


def behind(
    owners: Mapping[str, PodView],
    dedicated: Mapping[str, CpuSet],
    before: Cut,
    layout: Layout,
    chosen: Chosen,
    *,
    step: Ratio,
    growing: bool,
) -> Behind:
    """What is lent of the CPUs of `owners`, by uid; `step` is of an owner's CPUs.

    Laws: nobody lends more than its policy offers, nor what it does not have; without a new report nobody lends more.
    """
    cpus, sums = NONE, dict[str, str]()
    for uid in sorted(owners.keys() & dedicated.keys()):
        mine = dedicated[uid]
        offer = chosen.alone.advise(AloneView(cpus=float(len(mine)), pod=owners[uid]), chosen.alone_settings)
        had = len(mine & before.alone)
        most = had + (max(1, int(step * len(mine))) if growing else 0)
        cpus |= end_of(layout, mine, before, max(0, min(int(offer.amount + 1e-9), most, len(mine))))
        sums[uid] = offer.arithmetic
    return Behind(cpus, sums)
