"""Keep guests off the nodes of a pool that are online services' now, and these off the guests' ones.

    passes(node) = nothing is said of it, or it is steady on the pod's side      [bool]

    pod                                  online   offline   turning   not said again in time
    guest (reclaimed_cores)                no       yes       no       no, except where it might before
    names it, system_cores                 yes      yes       yes      yes
    everybody else                         yes      no        no       yes

Units: none. Costs one look-up per row where there are tides, nothing where there are none.
Source: neap.common.model.tide; Katalyst, TideNodePool (reference katalyst-control 3.5), which knows online pods by a
label and taints nodes no sooner than they are flipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from neap.common.model.qos import QosClass
from neap.scheduler.core.choice.framework import Near, Plugin, Rule
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.sides import LAPSED, OFFLINE, ONLINE, OPEN, SIDE, SIDES, WHY, Sides
from neap.scheduler.core.nodes.view import View
from neap.scheduler.core.pods.pod import Pod

WAKES: Final = frozenset({NodeChanged.OFFER})
GUESTS: Final = np.array([side in (OPEN, OFFLINE) for side in range(LAPSED + 1)])
OWNERS: Final = np.array([side in (OPEN, ONLINE, LAPSED) for side in range(LAPSED + 1)])


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing to set."""


def on_its_side(pod: Pod, view: View, _: Settings) -> Sequence[Rule]:
    """One rule where there are tides, for pods that are of a side."""
    sides: Sides = view.fact(SIDES)
    if sides.ask(pod) is None or _stays(pod):
        return ()
    passes = (GUESTS if pod.guest else OWNERS)[view.column(SIDE)]

    def near() -> Near:
        why: Mapping[int, str] = view.fact(WHY)
        return Near(
            np.where(passes, 0.0, np.inf), lambda row: f"{{node}} {why.get(row, 'is on the other side of its tide')}"
        )

    return (Rule("on the other side of the tide", passes, WAKES, near),)


def _stays(pod: Pod) -> bool:
    """Whether it belongs to a node and not to a side. A pod that names its node does, as those of daemons do."""
    terms = pod.workload.constraints.node_required
    return pod.workload.qos is QosClass.SYSTEM or (bool(terms) and all(term.names for term in terms))


PLUGIN: Final = Plugin(settings=Settings, wakes=WAKES, filter=on_its_side)
