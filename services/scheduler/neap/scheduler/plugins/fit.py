"""What a pod asks must be free: every resource kind alike, lent kinds too.

    passes(node, kind) = requested(node, kind) + ask(kind) <= allocatable(node, kind)     [the kind's whole units]

allocatable is what the topology says, for lent kinds (reclaimed CPU and memory) what the node offers now. A kind is
a column, not a branch: a new kind is accounted as soon as somebody asks for it or offers it. Amounts are whole
numbers, compared exactly. Kinds of GPU cards are gpu_share's business.

    miss(node, kind) = ask(kind) − free(node, kind)        ∞ on a node that has none of the kind at all

Source: kube-scheduler NodeResourcesFit and Katalyst QoSAwareNodeResourcesFit (rule); requirements 1.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from neap.common.model.resource import GPU_CORE, GPU_MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.scheduler.core.choice.framework import Near, Plugin, Rule
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.view import View
from neap.scheduler.core.pods.pod import Pod
from neap.scheduler.core.why.near import shortage

OWNED: Final = frozenset({NodeChanged.FREE, NodeChanged.NODE_ADDED})
LENT: Final = OWNED | {NodeChanged.OFFER}
OF_CARDS: Final = (GPU_CORE, GPU_MEMORY)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing to set."""


def fits(pod: Pod, view: View, _: Settings) -> Sequence[Rule]:
    """One rule per asked kind, by name."""
    return [
        _enough(kind, amount, view)
        for kind, amount in sorted(pod.requests.items())
        if amount > 0 and kind not in OF_CARDS
    ]


def _enough(kind: str, amount: int, view: View) -> Rule:
    def near() -> Near:
        return shortage(kind, view.free(kind), view.allocatable(kind), amount)

    wakes = LENT if kind in (RECLAIMED_CPU, RECLAIMED_MEMORY) else OWNED
    return Rule(kind, view.free(kind) >= amount, wakes, near)


PLUGIN: Final = Plugin(settings=Settings, wakes=LENT, filter=fits)
