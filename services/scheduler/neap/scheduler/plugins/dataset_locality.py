"""Prefer nodes that cache the datasets a pod reads.

    score(node) = 100 · datasets of the pod that the node caches / datasets of the pod                     [0..100]

Units: datasets, counted alike whatever their size. A pod without datasets, or with none that anybody caches, costs one
look-up.
Source: requirements 2.11 (Fluid: place the reader where the cache is; tier node).
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from neap.scheduler.core.choice.framework import Plugin
from neap.scheduler.core.nodes.locality import LOCALITY, Locality
from neap.scheduler.core.nodes.view import Numbers, View
from neap.scheduler.core.pods.pod import Pod


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing to set."""


def cached(pod: Pod, view: View, _: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; None where nobody caches anything it reads."""
    if not pod.workload.datasets:
        return None
    locality: Locality = view.fact(LOCALITY)
    datasets = locality.datasets(pod)
    if not datasets:
        return None
    found = np.zeros(view.size)
    for name in datasets:
        found += locality.column(view, name) > 0
    return 100 * found / len(set(pod.workload.datasets))


PLUGIN: Final = Plugin(settings=Settings, score=cached)
