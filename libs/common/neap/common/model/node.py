"""What the cluster says of a node, beside what its machine is."""

from __future__ import annotations

import msgspec

from neap.common.model.resource import Resources
from neap.common.model.scheduling import Taint


class NodeObject(msgspec.Struct, frozen=True, kw_only=True):
    """One node as the cluster's administrators and controllers have it."""

    at: float
    source: str
    node: str
    labels: dict[str, str] = {}  # beside those of the topology, which lose where both name a key
    taints: tuple[Taint, ...] = ()
    cordoned: bool = False  # takes no new pods
    images: dict[str, int] = {}  # bytes of what it has, by image name
    datasets: tuple[str, ...] = ()  # cached there
    ratios: dict[str, float] = {}  # over-commitment by resource kind; 1 where not named, never below
    original: Resources = {}  # allocatable before over-commitment, by kind
    pinned_cpu: bool = False  # its kubelet gives whole CPUs away (static CPU policy)
    pinned_memory: bool = False  # its kubelet binds memory (static memory policy)
    topology_policy: str = ""  # none, single-numa-node, restricted, numeric; empty: the scheduler's default
