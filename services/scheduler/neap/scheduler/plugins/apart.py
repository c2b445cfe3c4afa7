"""Keep guests away from owners that their service was seen to disturb, as long as there is any other place.

    score(node) = 0 where a pod of such an owner's service runs, else 100            [0 or 100]

For guests of services in a pair alone ("do not place together", said by an advisor that has throttled such a guest and
seen the owner recover). A wish, not a rule: a guest whose owners are everywhere runs all the same, and is throttled
there. Units: none. Costs one comparison per row and pair for such a guest, nothing for others.
Source: Zhang et al., CPI² (EuroSys 2013), "anti-affinity of antagonists"; issue 5, interference detector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from neap.common.model.protection import family
from neap.scheduler.core.choice.framework import Plugin
from neap.scheduler.core.nodes.feuds import FEUDS, feuds
from neap.scheduler.core.nodes.view import Numbers, View
from neap.scheduler.core.pods.pod import Pod


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing to set."""


def alone(pod: Pod, view: View, _: Settings) -> Numbers | None:
    """Shape (rows,), 0 or 100; None for whoever disturbed nobody."""
    against: Mapping[str, tuple[str, ...]] = view.fact(FEUDS)
    owners = against.get(family(pod.workload), ()) if against and pod.guest else ()
    if not owners:
        return None
    near = sum((view.column(feuds(owner)) for owner in owners), np.zeros(view.size))
    return np.where(near > 0, 0.0, 100.0)


PLUGIN: Final = Plugin(settings=Settings, score=alone)
