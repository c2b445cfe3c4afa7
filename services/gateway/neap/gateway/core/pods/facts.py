"""A pod of the API as neap sees it: the workload it is, and the few facts that are kept of it.

A pod that asks for neap must be understood to the letter, or is refused naming the field. A pod that others placed
occupies its node whatever it says: what is not understood of its wishes is left out, what it asks of the node never.
Unless such a pod names its QoS class itself, it is protected: neap was not asked to judge it, so it is nobody's guest.

Annotations travel with a workload on every ledger; only those that neap reads are taken along.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from neap.common.errors import InputError
from neap.common.kube.objects import Pod
from neap.common.model.manifest import workload_of_pod
from neap.common.model.protection import PROTECTED_LABELS
from neap.common.model.qos import LEVEL_KEYS
from neap.common.model.resource import ALIASES
from neap.common.model.workload import Workload
from neap.gateway.core.pods.given import given, mark_of_pod

ORIGIN: Final = "neap.io/origin"  # annotation: where a workload comes from
KUBE: Final = "kubernetes"
OURS: Final = ("neap.io", "katalyst.kubewharf.io")  # domains of annotations that neap reads
SAFE_TO_EVICT: Final = "cluster-autoscaler.kubernetes.io/safe-to-evict"  # annotation; "false": nobody moves it
RESIZE: Final = "neap.io/resize"  # annotation by which people ask for another size
OVER: Final = frozenset({"Succeeded", "Failed"})
DEFAULT_SCHEDULERS: Final = frozenset({"", "default-scheduler"})

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Pod)


class PodFacts:
    """What is kept of a pod; about 400 bytes. `kept` is the pod itself, encoded, as long as something is to be told."""

    __slots__ = (
        "asks", "deleting", "gated", "ids", "kept", "labels", "name", "namespace", "node", "phase", "refused",
        "seen", "size", "uid",
    )  # fmt: skip

    def __init__(self, uid: str, namespace: str, name: str, seen: float) -> None:
        self.uid, self.namespace, self.name, self.seen = uid, namespace, name, seen
        self.node = self.phase = self.refused = ""
        self.asks = self.gated = self.deleting = False
        self.ids: tuple[tuple[str, str], ...] = ()  # container -> id of the runtime, until it was told as started
        self.labels: tuple[tuple[str, str], ...] = ()
        self.kept = b""
        self.size = 0  # a mark of what it really has; 0: nobody says

    @property
    def key(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"

    @property
    def over(self) -> bool:
        """It ran, and will not again."""
        return self.phase in OVER

    def learn(self, pod: Pod, *, asks: bool) -> None:
        """A node once given stays; an id once known too, whatever an older view of the API says."""
        self.node = pod.spec.node_name or self.node
        self.phase = self.phase if self.over else pod.status.phase
        self.asks, self.gated = asks, bool(pod.spec.scheduling_gates)
        self.deleting |= pod.metadata.deletion_timestamp is not None
        if pod.status.phase == "Running":
            self.ids = ids_of(pod)
        has = given(pod) if self.node and not self.over else None
        self.size = mark_of_pod(has) if has is not None else 0

    def keep(self, pod: Pod) -> None:
        """Until it was told."""
        self.kept = _ENCODER.encode(pod)

    def whole(self) -> Pod | None:
        """The pod, if it was kept."""
        return _DECODER.decode(self.kept) if self.kept else None


class Labels:
    """Equal sets of labels are one: the pods of a service have the same."""

    def __init__(self) -> None:
        self._known: dict[tuple[tuple[str, str], ...], tuple[tuple[tuple[str, str], ...], int]] = {}

    def take(self, labels: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
        """The one set that is equal to these."""
        mine = tuple(sorted((labels or {}).items()))
        shared, count = self._known.get(mine, (mine, 0))
        self._known[mine] = shared, count + 1
        return shared

    def leave(self, labels: tuple[tuple[str, str], ...]) -> None:
        """One pod fewer has them."""
        shared, count = self._known.get(labels, (labels, 1))
        if count > 1:
            self._known[labels] = shared, count - 1
        else:
            self._known.pop(labels, None)


def ids_of(pod: Pod) -> tuple[tuple[str, str], ...]:
    """containerd://4f3a -> 4f3a: as the cgroup is called."""
    statuses = pod.status.container_statuses or ()
    return tuple((one.name, one.container_id.rpartition("://")[2]) for one in statuses if one.container_id)


def asks_for_neap(pod: Pod, schedulers: Collection[str], *, by_resources: bool) -> bool:
    """By the scheduler it names, or by what it asks for where it names none."""
    name = pod.spec.scheduler_name or ""
    return name in schedulers or (by_resources and name in DEFAULT_SCHEDULERS and _asks_ours(pod))


def _asks_ours(pod: Pod) -> bool:
    for container in (*pod.spec.containers, *(pod.spec.init_containers or ())):
        for amounts in (container.resources.requests, container.resources.limits):
            if amounts and any(kind.startswith("neap.io/") or kind in ALIASES for kind in amounts):
                return True
    return False


def workload_of(pod: Pod, owner: str, *, also: Collection[str] = ()) -> Workload:
    """The workload a pod is; `also`: prefixes of further annotations to take along.

    Raises:
        InputError: neap does not understand it; names the field and the value.
    """
    return workload_of_pod(_document(pod, also), where="API", owner=owner)


def occupant_of(pod: Pod, owner: str, *, also: Collection[str] = ()) -> Workload:
    """The workload of a pod that others placed; see module docstring.

    Raises:
        InputError: not even what it asks for is understood.
    """
    document = _document(pod, also)
    annotations = document["metadata"]["annotations"]
    if not any(key in annotations for key in LEVEL_KEYS):
        annotations[PROTECTED_LABELS[0]] = "true"
    try:
        return workload_of_pod(document, where="API", owner=owner)
    except InputError:
        plain = ("affinity", "tolerations", "topologySpreadConstraints", "nodeSelector")
        spec = {key: value for key, value in document["spec"].items() if key not in plain}
        said = {ORIGIN: KUBE, PROTECTED_LABELS[0]: "true"}
        metadata = {**document["metadata"], "annotations": said, "labels": {}}
        return workload_of_pod({"metadata": metadata, "spec": spec}, where="API", owner=owner)


def _document(pod: Pod, also: Collection[str]) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(pod)
    kept = {key: value for key, value in (pod.metadata.annotations or {}).items() if is_read(key, also)}
    metadata = {**document.get("metadata", {}), "annotations": {**kept, ORIGIN: KUBE}}
    spec = document.get("spec", {})
    return {"kind": "Pod", "metadata": metadata, "spec": {**spec, "containers": spec.get("containers", [])}}


def is_read(key: str, also: Collection[str] = ()) -> bool:
    """Whether neap reads an annotation of this name."""
    domain = key.partition("/")[0]
    ours = any(domain == one or domain.endswith(f".{one}") for one in OURS)
    return (ours and key != RESIZE) or key == SAFE_TO_EVICT or any(key.startswith(prefix) for prefix in also)
