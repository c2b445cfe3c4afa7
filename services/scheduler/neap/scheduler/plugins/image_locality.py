"""Prefer nodes that have a pod's images already, as far as these are at home in the cluster.

    seen   = Σ ⌊bytes(image on node) · nodes with it / nodes⌋               over the containers
    score  = ⌊100 · (seen − low) / (high − low)⌋                            within low..high               [0..100]
    low = 23 MiB, high = 1000 MiB per container with an image

The share of the nodes keeps a rare image from drawing all replicas onto the few nodes that have it. It is counted in
steps of 1/1000 in clusters of more than 1000 nodes. An image that is too small or too rare to score on any node costs
nothing. Units: bytes.
Source: kube-scheduler ImageLocality (formula, thresholds; names without a tag mean `latest`).
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from neap.common.units import MIB
from neap.scheduler.core.choice.framework import Plugin
from neap.scheduler.core.nodes.locality import LOCALITY, SMALLEST, Locality
from neap.scheduler.core.nodes.view import Numbers, View
from neap.scheduler.core.pods.pod import Pod

LARGEST: Final = 1000 * MIB  # per container


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing to set."""


def loaded(pod: Pod, view: View, _: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; None for images that score on no node."""
    if not pod.workload.images:
        return None
    locality: Locality = view.fact(LOCALITY)
    images = locality.images(pod)
    if not images:
        return None
    seen = np.zeros(view.size)
    for name, times, share in images:
        seen += times * np.floor(locality.column(view, name) * share)
    high = LARGEST * len(pod.workload.images)
    score: Numbers = np.floor(100 * (np.clip(seen, SMALLEST, high) - SMALLEST) / (high - SMALLEST))
    return score


PLUGIN: Final = Plugin(settings=Settings, score=loaded)
