"""Only nodes that carry every label a pod selects.

    passes(node) = for all (key, value) of the selector: label(node, key) == value        [bool per node]

Units: none; labels are compared as whole strings. Card models are gpu_share's business, because a node may carry
several. Use always; a pod without a selector costs nothing.
Source: Kubernetes, Pod spec.nodeSelector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from neap.scheduler.core.change import NodeChanged
from neap.scheduler.core.framework import Plugin, Rule
from neap.scheduler.core.pod import Pod
from neap.scheduler.core.view import View

WAKES: Final = frozenset({NodeChanged.NODE_ADDED})


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing to set."""


def selected(pod: Pod, view: View, _: Settings) -> Sequence[Rule]:
    """One rule per selected label, by key."""
    return [
        Rule(f"label {key}={value}", view.labelled(key, value), WAKES)
        for key, value in sorted(pod.workload.node_selector.items())
    ]


PLUGIN: Final = Plugin(settings=Settings, wakes=WAKES, filter=selected)
