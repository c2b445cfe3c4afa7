"""What a node can lend, as one printed sum.

offer = capacity − margin − max(system used, system reserved) − Σ claim × ratio,  at least 0   [cores, or bytes]

Claims are what owners need: usage times a ratio for shared pools, requests for dedicated ones, working sets for
memory. CPU and memory are computed apart: online services are heavy in CPU and light in memory, batch work is
the other way round, so their offers differ. `margin` is a share of the capacity that nobody is given.

    8.0 = 32.0 capacity − 2.0 system − 20.0 online x 1.10

Use always; a policy that trusts a forecast more than the present would be another file.
Source: Koordinator batch-resource formula, `capacity − margin − max(system used, reserved) − high-priority used`
(requirements 2.4); katalyst-core headroompolicy/policy_canonical.go (capacity − reserved − estimate).
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.advisor.core.policy import Claim, HeadroomPolicy, HeadroomView, Offer
from neap.advisor.core.sums import left_over
from neap.common.model.resource import RECLAIMED_MEMORY
from neap.common.units import Ratio


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares of the capacity that are never lent."""

    cpu_margin: Annotated[Ratio, Meta(ge=0, le=1)] = 0.0  # the pools' own margins already cover a rise
    memory_margin: Annotated[Ratio, Meta(ge=0, le=1)] = (
        0.05  # above the kernel's watermarks; memory is slow to take back
    )


def advise(view: HeadroomView, settings: Settings) -> Offer:
    """The offer and its sum.

    Laws: 0 ≤ offer ≤ capacity; non-increasing in every claim; the printed sum adds up.
    """
    share = settings.memory_margin if view.kind == RECLAIMED_MEMORY else settings.cpu_margin
    system = Claim(max(view.reserved, view.system or 0.0), "system")
    return left_over(view, (Claim(view.capacity * share, "margin"), system, *view.claims))


PLUGIN: Final = HeadroomPolicy(settings=Settings, advise=advise, within=True)
