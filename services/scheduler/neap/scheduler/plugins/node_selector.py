"""Only nodes that carry every label a pod selects.

    passes(node) = for all (key, value) of the selector: label(node, key) == value        [bool per node]

Units: none; labels are compared as whole strings. Card models are gpu_share's business, because a node may carry
several. Use always; a pod without a selector costs nothing.
A miss is one label, whatever value the node has instead.
Source: Kubernetes, Pod spec.nodeSelector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from neap.scheduler.core.choice.framework import Near, Plugin, Rule
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.view import View
from neap.scheduler.core.pods.pod import Pod

WAKES: Final = frozenset({NodeChanged.NODE_ADDED})


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing to set."""


def selected(pod: Pod, view: View, _: Settings) -> Sequence[Rule]:
    """One rule per selected label, by key."""
    return [_carried(key, value, view) for key, value in sorted(pod.workload.node_selector.items())]


def _carried(key: str, value: str, view: View) -> Rule:
    passes = view.labelled(key, value)

    def near() -> Near:
        miss = np.where(passes, 0.0, 1.0)
        return Near(miss, lambda _: f"{{node}} does not carry {key}={value}", lambda _: f"relaxing {key}={value}")

    return Rule(f"label {key}={value}", passes, WAKES, near)


PLUGIN: Final = Plugin(settings=Settings, wakes=WAKES, filter=selected)
