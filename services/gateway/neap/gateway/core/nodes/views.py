"""A node of the API as the bus has it (NodeObject), put when it differs from what is there, and at no other time.

Labels, taints, cordon, images and datasets are the node's own; ratios of over-commitment come from NodeOvercommitConfigs
by the node's pool, and from its annotations, and the smaller one counts, as measured ones are there to hold back:

    ratio(kind) = max(1, min(set, realtime))

Taints by which neap itself tells other schedulers that a node is short are read as what they mean: no guests; those of
a tide are left out, as neap's own scheduler hears of tides from the planner. A digest of eight bytes per node says whether anything changed; a node is kept whole only while the bus has another view of it.
Source: katalyst-core pkg/controller/overcommit/node (annotations, min and floor); Kubernetes API, Node.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Final

import msgspec

from neap.common.errors import InputError
from neap.common.kube.objects import Node
from neap.common.model.annotated import DATASETS, names_of
from neap.common.model.node import NodeObject
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY, Resources, parse_amount
from neap.common.model.scheduling import Effect, Taint
from neap.common.units import Ratio, Seconds

SOURCE: Final = "gateway"
EVICTING: Final = "neap.io/evicting"
PRESSURES: Final = ("node.katalyst.kubewharf.io/MemoryPressure", "node.katalyst.kubewharf.io/CPUPressure")
OWN_TAINTS: Final = frozenset({EVICTING, *PRESSURES})
TIDE: Final = "neap.io/tide"
TIDE_ONLINE: Final = "tide.katalyst.kubewharf.io/online-not-used"  # no owner comes
TIDE_OFFLINE: Final = "tide.katalyst.kubewharf.io/offline-not-used"  # no guest comes
TIDE_TAINTS: Final = frozenset({TIDE, TIDE_ONLINE, TIDE_OFFLINE})
KATALYST: Final = "katalyst.kubewharf.io"
KINDS: Final = (CPU, MEMORY)
CPU_POLICY: Final = "neap.io/cpu-manager-policy"  # annotation: as the kubelet is configured
MEMORY_POLICY: Final = "neap.io/memory-manager-policy"
TOPOLOGY_POLICY: Final = "neap.io/topology-policy"
MOST_IMAGES: Final = 512
MOST_DATASETS: Final = 64


def node_object(node: Node, at: Seconds, set_ratios: Mapping[str, Ratio]) -> NodeObject:
    """What the cluster says of a node; nothing of it is refused, what makes no sense says nothing."""
    meta, notes = node.metadata, node.metadata.annotations or {}
    images: dict[str, int] = {}
    for image in node.status.images or ():
        for name in image.names or ():
            if len(images) < MOST_IMAGES:
                images[name] = image.size_bytes
    return NodeObject(
        at=at,
        source=SOURCE,
        node=meta.name,
        labels=dict(sorted((meta.labels or {}).items())),
        taints=tuple(taint for one in node.spec.taints or () if (taint := _taint(one.key, one.value, one.effect))),
        cordoned=node.spec.unschedulable,
        images=dict(sorted(images.items())),
        datasets=_datasets(notes),
        ratios=ratios_of(notes, set_ratios),
        original=_original(node),
        pinned_cpu=notes.get(CPU_POLICY) == "static",
        pinned_memory=notes.get(MEMORY_POLICY) == "Static",
        topology_policy=notes.get(TOPOLOGY_POLICY, ""),
    )


def digest(node: NodeObject) -> int:
    """Equal for equal nodes, whenever they were seen."""
    said = msgspec.json.encode(msgspec.structs.replace(node, at=0.0), order="sorted")
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big")


def ratios_of(notes: Mapping[str, str], set_ratios: Mapping[str, Ratio]) -> dict[str, Ratio]:
    """See module docstring; kinds that are sold once are not named."""
    found = {}
    for kind in KINDS:
        told = [
            set_ratios.get(kind),
            _number(notes.get(f"{KATALYST}/{kind}_overcommit_ratio")) if kind not in set_ratios else None,
            _number(notes.get(f"{KATALYST}/realtime_{kind}_overcommit_ratio")),
        ]
        if told[0] is None and told[1] is None:
            continue  # measured, and nobody asked for over-commitment
        ratio = max(1.0, min(one for one in told if one is not None))
        if ratio > 1.0:
            found[kind] = ratio
    return found


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None and len(text) <= 32 else math.nan
    except ValueError:
        number = math.nan
    return number if math.isfinite(number) and number > 0 else None


def _original(node: Node) -> Resources:
    """Before over-commitment: as the webhook noted it down, else what the kubelet says."""
    notes, found = node.metadata.annotations or {}, Resources()
    for kind in KINDS:
        text = notes.get(f"{KATALYST}/original_allocatable_{kind}", (node.status.allocatable or {}).get(kind))
        if text is not None:
            try:
                found[kind] = parse_amount(kind, str(text))[1]
            except InputError:
                continue
    return found


def _taint(key: str, value: str, effect: str) -> Taint | None:
    if effect not in tuple(Effect) or (key in TIDE_TAINTS and effect == "NoSchedule"):
        return None
    guests = (str(QosClass.RECLAIMED),) if key in OWN_TAINTS else ()
    return Taint(key=key, value=value, effect=Effect(effect), qos=guests)


def _datasets(notes: Mapping[str, str]) -> tuple[str, ...]:
    try:
        return names_of(notes, DATASETS)[:MOST_DATASETS]
    except InputError:
        return ()


class NodeViews:
    """What the bus has of each node, and what it should have."""

    def __init__(self) -> None:
        self._stored: dict[str, int] = {}  # by the gateway, as far as the bus said
        self._wanted: dict[str, int] = {}
        self._late: dict[str, bytes] = {}  # nodes of which the bus has another view, whole
        self.uids: dict[str, str] = {}

    def __contains__(self, node: str) -> bool:
        return node in self._wanted

    def __len__(self) -> int:
        return len(self._wanted)

    def stored(self, node: NodeObject) -> None:
        """The bus said what it has."""
        if node.source == SOURCE:
            self._note(node.node, digest(node))
        else:
            self._stored.pop(node.node, None)

    def lost(self, node: str) -> None:
        """The bus has it no more."""
        self._stored.pop(node, None)

    def see(self, node: NodeObject, uid: str) -> None:
        """The API said what it is."""
        self.uids[node.node], self._wanted[node.node] = uid, digest(node)
        if self._stored.get(node.node) == self._wanted[node.node]:
            self._late.pop(node.node, None)
        else:
            self._late[node.node] = msgspec.json.encode(node)

    def remove(self, node: str) -> None:
        """The API has it no more."""
        for kept in (self._wanted, self._late, self.uids):
            kept.pop(node, None)

    def due(self) -> list[NodeObject]:
        """What the bus should be told; it counts as told."""
        told = [msgspec.json.decode(late, type=NodeObject) for late in self._late.values()]
        for node in told:
            self._stored[node.node] = self._wanted[node.node]
        self._late.clear()
        return told

    def orphans(self) -> list[str]:
        """Of which the bus has what we said, and the API nothing; they count as forgotten."""
        gone = [node for node in self._stored if node not in self._wanted]
        for node in gone:
            del self._stored[node]
        return gone

    def _note(self, node: str, found: int) -> None:
        self._stored[node] = found
        if self._wanted.get(node) == found:
            self._late.pop(node, None)
