"""Kubernetes manifests as workloads: Pods, and the pod templates of what owns them.

Only the fields neap decides by are read; everything else is none of its business. Kubernetes' own rules apply:
a missing request takes the limit, a pod's QoS class follows from requests and limits of all its containers. Where a pod
may run is read in model/wishes.py (the spec) and model/annotated.py (annotations). A PodGroup tells its members how
many they are.
Source: Kubernetes documentation, "Configure Quality of Service for Pods", "Init Containers".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from neap.common.errors import InputError
from neap.common.model.annotated import DATASETS, GPU_MODELS, devices_of, gang_of, names_of, priority_of
from neap.common.model.bounds import check_annotations, wish_flaw
from neap.common.model.enhancement import enhancement
from neap.common.model.gpu import device_flaw
from neap.common.model.qos import KubeQos, QosClass, qos_class
from neap.common.model.resource import CPU, MEMORY, Resources, add, parse_amount
from neap.common.model.wishes import constraints_of, convert
from neap.common.model.workload import UID, Container, Workload

REPLICATED: Final = frozenset({"Deployment", "StatefulSet", "ReplicaSet"})
MOST_REPLICAS: Final = 10_000
Groups: TypeAlias = Mapping[tuple[str, str], int]  # least members by namespace and name of a PodGroup
NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,126}[a-z0-9])?")


class _Metadata(msgspec.Struct, kw_only=True):
    name: str = ""
    namespace: str = "default"
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _Amounts(msgspec.Struct, kw_only=True):
    requests: dict[str, str | int | float] | None = None
    limits: dict[str, str | int | float] | None = None


class _Container(msgspec.Struct, kw_only=True, rename="camel"):
    name: str
    resources: _Amounts = msgspec.field(default_factory=_Amounts)
    image: str = ""
    restart_policy: str | None = None  # "Always": an init container that stays, a sidecar


class _PodSpec(msgspec.Struct, kw_only=True, rename="camel"):
    containers: list[_Container]
    init_containers: list[_Container] | None = None
    node_selector: dict[str, str] | None = None
    priority: int | None = None
    priority_class_name: str | None = None
    node_name: str | None = None
    overhead: dict[str, str | int | float] | None = None  # of the runtime, beside what the containers ask
    scheduling_gates: list[Any] | None = None
    tolerations: Any = None
    affinity: Any = None
    topology_spread_constraints: Any = None


class _Template(msgspec.Struct, kw_only=True):
    spec: _PodSpec
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class _OwnerSpec(msgspec.Struct, kw_only=True):
    template: _Template
    replicas: int = 1
    parallelism: int = 1


class _Owner(msgspec.Struct, kw_only=True):
    metadata: _Metadata
    spec: _OwnerSpec


class _Pod(msgspec.Struct, kw_only=True):
    metadata: _Metadata
    spec: _PodSpec


class _GroupSpec(msgspec.Struct, kw_only=True, rename="camel"):
    min_member: int


class _Group(msgspec.Struct, kw_only=True):
    metadata: _Metadata
    spec: _GroupSpec


def workloads_of(
    documents: Iterable[Any], *, where: str, salt: str = "", groups: Groups | None = None
) -> tuple[list[Workload], list[str]]:
    """Every pod the documents ask for, and the kinds that were passed through.

    A pod without a uid gets one from its name and `salt`, so the same file submitted twice is two sets of pods.
    `groups`: PodGroups of documents around these.

    Raises:
        InputError: names document, object and field.
    """
    found: list[Workload] = []
    passed: list[str] = []
    documents = list(documents)
    groups = {**(groups or {}), **_groups(documents, where)}
    for number, document in enumerate(documents, start=1):
        place = f"{where}, document {number}"
        if document is None:
            continue
        if not isinstance(document, Mapping) or not isinstance(document.get("kind"), str):
            raise InputError(f"{place}: not a Kubernetes object (no `kind`)")
        kind = document["kind"]
        if kind == "List":
            inner, others = workloads_of(document.get("items") or [], where=place, salt=salt, groups=groups)
            found, passed = found + inner, passed + others
        elif kind == "Pod":
            pod = _convert(document, _Pod, place)
            found.append(_workload(pod.metadata, pod.metadata.name, pod.spec, place, groups, owner="", salt=salt))
        elif kind in REPLICATED or kind in {"Job", "DaemonSet"}:
            found += _replicas(kind, _convert(document, _Owner, place), place, groups, salt)
        else:
            passed.append(kind)
    return found, passed


def workload_of_pod(document: Mapping[str, Any], *, where: str, owner: str = "") -> Workload:
    """One pod as the API has it: it has a uid, and may be bound already.

    Raises:
        InputError: names object and field.
    """
    pod = convert(document, _Pod, where)
    spec = msgspec.structs.replace(pod.spec, node_name=None, scheduling_gates=None)
    return _workload(pod.metadata, pod.metadata.name, spec, where, {}, owner=owner, salt="")


def _convert(document: Any, kind: Any, place: str) -> Any:
    try:
        return convert(document, kind, str(document["kind"]))
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def _groups(documents: Iterable[Any], where: str) -> dict[tuple[str, str], int]:
    """What the PodGroups among the documents say of their size, by namespace and name."""
    found = {}
    for number, document in enumerate(documents, start=1):
        if isinstance(document, Mapping) and document.get("kind") == "PodGroup":
            group = _convert(document, _Group, f"{where}, document {number}")
            found[group.metadata.namespace, group.metadata.name] = group.spec.min_member
    return found


def _replicas(kind: str, owner: _Owner, place: str, groups: Groups, salt: str) -> list[Workload]:
    count = owner.spec.replicas if kind in REPLICATED else owner.spec.parallelism
    if not 0 <= count <= MOST_REPLICAS:
        raise InputError(f"{place}: {kind} {owner.metadata.name!r} asks for {count} replicas (0 to {MOST_REPLICAS})")
    template = owner.spec.template
    return [
        _workload(
            msgspec.structs.replace(template.metadata, namespace=owner.metadata.namespace, uid=""),
            f"{owner.metadata.name}-{index}",
            template.spec,
            place,
            groups,
            owner=f"{kind}/{owner.metadata.name}",
            salt=salt,
        )
        for index in range(count)
    ]


def _workload(
    metadata: _Metadata, name: str, spec: _PodSpec, place: str, groups: Groups, *, owner: str, salt: str
) -> Workload:
    if not name:
        raise InputError(f"{place}: a pod needs metadata.name")
    where = f"{place}: pod {metadata.namespace[:64]}/{name[:64]}"
    _check_names(metadata, name, where)
    containers, initial, largest = _all_containers(spec, where)
    annotations = metadata.annotations or {}
    try:
        check_annotations(annotations)
        level = qos_class(annotations, kube_qos(containers + initial))
        workload = _wished(metadata, spec, groups, level, containers)
        enhancement(annotations, level)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    digest = hashlib.sha256(f"{salt}/{metadata.namespace}/{name}".encode()).hexdigest()
    return msgspec.structs.replace(
        workload,
        uid=metadata.uid or f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}",
        name=name,
        init_requests=largest,
        owner=owner,
        pool=annotations.get("neap.io/cpuset-pool", "") if level is QosClass.SHARED else "",
    )


def _all_containers(spec: _PodSpec, where: str) -> tuple[tuple[Container, ...], tuple[Container, ...], Resources]:
    """Those that run, the others, and the most that is asked before all run; a sidecar runs from its turn on.

    The runtime's overhead is on top of whatever the containers ask.
    Source: Kubernetes documentation, "Sidecar Containers: resource sharing", "Pod Overhead".
    """
    running: list[Container] = []
    initial: list[Container] = []
    beside: Resources = {}
    largest: Resources = {}
    for item in spec.init_containers or ():
        asks = _container(item, where)
        needs = add(beside, asks.requests)
        largest |= {key: max(amount, largest.get(key, 0)) for key, amount in needs.items()}
        if item.restart_policy == "Always":
            running.append(asks)
            beside = needs
        else:
            initial.append(asks)
    containers = (*(_container(item, where) for item in spec.containers), *running)
    if spec.overhead:
        total: Resources = {}
        for asks in containers:
            total = add(total, asks.requests)
        above = dict(parse_amount(kind, str(text), where=f"{where}, overhead") for kind, text in spec.overhead.items())
        most = {key: max(total.get(key, 0), largest.get(key, 0)) for key in {**total, **largest}}
        largest |= {key: amount + most.get(key, 0) for key, amount in above.items()}
    return containers, tuple(initial), largest


def _wished(
    metadata: _Metadata, spec: _PodSpec, groups: Groups, level: QosClass, containers: tuple[Container, ...]
) -> Workload:
    """A workload with everything it says of where and with whom it runs."""
    if spec.node_name:
        raise InputError(
            f"spec.nodeName {spec.node_name!r:.64}: neap chooses the node; ask by nodeAffinity metadata.name"
        )
    if spec.scheduling_gates:
        raise InputError(f"spec.schedulingGates {spec.scheduling_gates!r:.64}: submit it when nothing holds it back")
    annotations, labels = metadata.annotations or {}, metadata.labels or {}
    sizes = {name: size for (namespace, name), size in groups.items() if namespace == metadata.namespace}
    workload = Workload(
        uid="",
        namespace=metadata.namespace,
        name="",
        qos=level,
        containers=containers,
        priority=priority_of(spec.priority, spec.priority_class_name),
        labels=labels,
        annotations=annotations,
        node_selector=spec.node_selector or {},
        gpu_models=names_of(annotations, GPU_MODELS),
        constraints=constraints_of(spec.tolerations, spec.affinity, spec.topology_spread_constraints, labels),
        gang=gang_of(annotations, labels, sizes),
        images=tuple(item.image for item in (*spec.containers, *(spec.init_containers or ())) if item.image),
        datasets=names_of(annotations, DATASETS),
        devices=devices_of(annotations, containers),
    )
    if flaw := wish_flaw(workload) or device_flaw(workload):
        raise InputError(flaw)
    return workload


def _check_names(metadata: _Metadata, name: str, where: str) -> None:
    """Names that subjects and cgroups can carry; Kubernetes' own, as far as neap's go (128 characters)."""
    for field, text, legal in (
        ("metadata.namespace", metadata.namespace, NAME),
        ("metadata.name", name, NAME),
        ("metadata.uid", metadata.uid or "none", UID),
    ):
        if not legal.fullmatch(text):
            raise InputError(f"{where}: {field} {text[:64]!r} is not legal ({legal.pattern})")


def _container(item: _Container, where: str) -> Container:
    place = f"{where}, container {item.name}"
    limits = dict(parse_amount(kind, str(text), where=place) for kind, text in (item.resources.limits or {}).items())
    asked = dict(parse_amount(kind, str(text), where=place) for kind, text in (item.resources.requests or {}).items())
    return Container(name=item.name, requests=limits | asked, limits=limits)


def kube_qos(containers: Iterable[Container]) -> KubeQos:
    """The class Kubernetes gives a pod with these containers."""
    best_effort = guaranteed = True
    for container in containers:
        for kind in (CPU, MEMORY):
            asked, limit = container.requests.get(kind, 0), container.limits.get(kind, 0)
            best_effort &= not asked and not limit
            guaranteed &= bool(limit) and asked == limit
    if best_effort:
        return KubeQos.BEST_EFFORT
    return KubeQos.GUARANTEED if guaranteed else KubeQos.BURSTABLE
