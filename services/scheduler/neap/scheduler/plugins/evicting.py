"""Keep guests off nodes whose evictor is making room, so that a place that came free is not filled at once.

    passes(node) = the node's evictor does not say that it is closed, or what it said has ended     [bool]

Meant for reclaimed_cores alone: owners go where they fit, whoever has to leave for them. Units: none. Costs one
comparison per row for a guest, nothing for others.
Source: requirements 2.9 (taint while evicting, from Volcano); Katalyst, node conditions that become taints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from neap.common.model.qos import QosClass
from neap.scheduler.core.choice.framework import Near, Plugin, Rule
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.closures import UNTIL, WHY
from neap.scheduler.core.nodes.view import View
from neap.scheduler.core.pods.pod import Pod

WAKES: Final = frozenset({NodeChanged.OFFER})


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing to set."""


def open_nodes(pod: Pod, view: View, _: Settings) -> Sequence[Rule]:
    """One rule, for guests."""
    if pod.workload.qos is not QosClass.RECLAIMED:
        return ()
    passes = view.column(UNTIL) == -np.inf

    def near() -> Near:
        why: Mapping[int, str] = view.fact(WHY)

        def tell(row: int) -> str:
            return f"{{node}} makes room: {why.get(row, 'its evictor does not say why')}"

        return Near(np.where(passes, 0.0, np.inf), tell)

    return (Rule("closed to guests", passes, WAKES, near),)


PLUGIN: Final = Plugin(settings=Settings, wakes=WAKES, filter=open_nodes)
