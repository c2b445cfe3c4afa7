"""What an API server knows of kinds: defaults, what may change and where, who may be evicted, which pods a selector means.

Pure functions on plain JSON objects, which are never changed in place.
Source: Kubernetes 1.35: pkg/registry/core/pod (strategy, binding, eviction), API conventions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from neap.common.errors import Rejected, Throttled
from neap.common.kube.kind import Kind
from neap.common.units import Seconds

Object = dict[str, Any]

STATUSLESS: Final = frozenset(
    {"leases.coordination.k8s.io", "events.k8s.io", "configmaps", "secrets", "serviceaccounts"}
)
UNCOUNTED: Final = STATUSLESS | {"nodes", "namespaces"}  # their metadata has no generation
UNCONDITIONAL: Final = frozenset({"", "apps", "batch"})  # groups whose objects may be replaced without naming a version
FIXED: Final = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
                "generation", "generateName")  # fmt: skip
SELECTED: Final[Mapping[str, frozenset[str]]] = {
    "pods": frozenset(
        {"spec.nodeName", "spec.schedulerName", "spec.restartPolicy", "status.phase", "spec.serviceAccountName"}
    ),
    "namespaces": frozenset({"status.phase"}),
}
POD_SPEC_MUTABLE: Final = ("tolerations", "schedulingGates", "terminationGracePeriodSeconds", "activeDeadlineSeconds")
NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LONGEST_NAME: Final = 253
MOST_ANNOTATIONS: Final = 256 * 1024  # bytes, keys and values together
RECOUNT: Final[Seconds] = 10.0  # when to come again while a budget is being counted anew
OVER: Final = frozenset({"Succeeded", "Failed"})
GRACE: Final = 30  # s, of a pod that says nothing


def stamp(at: Seconds) -> str:
    """RFC 3339, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def has_status(kind: Kind[Any]) -> bool:
    """Whether status is written through a subresource of its own."""
    return str(kind) not in STATUSLESS and kind.group != "events.k8s.io"


def checked(object: Object, what: str) -> Object:
    """The object, if its metadata holds.

    Raises:
        Rejected: it does not.
    """
    metadata = object.get("metadata") or {}
    name = metadata.get("name") or ""
    if not NAME.fullmatch(name.replace(":", "-")) or len(name) > LONGEST_NAME:
        raise Rejected(f"{what}: metadata.name: {name!r} is no name")
    for field in ("labels", "annotations"):
        texts = metadata.get(field) or {}
        if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
            raise Rejected(f"{what}: metadata.{field}: only strings can be there")
    size = sum(len(key.encode()) + len(text.encode()) for key, text in (metadata.get("annotations") or {}).items())
    if size > MOST_ANNOTATIONS:
        raise Rejected(f"{what}: metadata.annotations: may not be more than {MOST_ANNOTATIONS} bytes")
    return object


def born(kind: Kind[Any], object: Object) -> Object:
    """As it is first stored: defaults in, status out."""
    object = dict(object)
    if kind.plural == "pods" and not kind.group:
        return _pod(object)
    if kind.plural == "namespaces":
        object["status"] = {"phase": "Active"}
    elif has_status(kind) and kind.plural != "nodes":
        object.pop("status", None)
    if str(kind) not in UNCOUNTED:
        object["metadata"] = {**object["metadata"], "generation": 1}
    return object


def _pod(pod: Object) -> Object:
    spec = dict(pod.get("spec") or {})
    containers = spec.get("containers") or []
    if not containers or not all(isinstance(each, dict) and each.get("name") for each in containers):
        raise Rejected("pods: spec.containers: Required value")
    defaults = {
        "schedulerName": "default-scheduler", "restartPolicy": "Always", "terminationGracePeriodSeconds": GRACE, "priority": 0,
    }  # fmt: skip
    spec = {**defaults, **spec, "containers": [_container(each) for each in containers]}
    metadata = {**pod["metadata"], "generation": 1}
    return {**pod, "metadata": metadata, "spec": spec, "status": {"phase": "Pending", "qosClass": _qos(spec)}}


def _container(container: Object) -> Object:
    """What is limited and not requested is requested to its limit."""
    resources = container.get("resources") or {}
    limits = resources.get("limits")
    requests = {**(limits or {}), **(resources.get("requests") or {})}
    return {**container, "resources": {**resources, "requests": requests}} if limits else container


def _qos(spec: Object) -> str:
    amounts = [each.get("resources") or {} for each in [*spec["containers"], *(spec.get("initContainers") or [])]]
    asked = [{word: {name: each.get(word, {}).get(name) for name in ("cpu", "memory")} for word in ("requests", "limits")}
             for each in amounts]  # fmt: skip
    if not any(amount for each in asked for amounts in each.values() for amount in amounts.values()):
        return "BestEffort"
    sure = all(each["requests"] == each["limits"] and all(each["limits"].values()) for each in asked)
    return "Guaranteed" if sure else "Burstable"


def written(kind: Kind[Any], subresource: str, old: Object, new: Object) -> Object:
    """What a write through this door makes of an object.

    Raises:
        Rejected: it changes what cannot be changed there.
    """
    metadata = {
        **(new.get("metadata") or {}),
        **{name: old["metadata"][name] for name in FIXED if name in old["metadata"]},
    }
    for name in FIXED:
        if name not in old["metadata"]:
            metadata.pop(name, None)
    new = {**new, "metadata": metadata, "apiVersion": old["apiVersion"], "kind": old["kind"]}
    match subresource:
        case "status":
            return {**old, "status": new.get("status") or {}}
        case "resize":
            return _counted(kind, old, {**old, "spec": _resized(old["spec"], new.get("spec") or {})})
        case "scale" if kind.group == "apps" and kind.plural != "daemonsets":
            replicas = (new.get("spec") or {}).get("replicas", 0)
            return _counted(kind, old, {**old, "spec": {**(old.get("spec") or {}), "replicas": replicas}})
        case "":
            if has_status(kind):
                new = {name: value for name, value in new.items() if name != "status"}
                new |= {"status": old["status"]} if "status" in old else {}
            if kind.plural == "pods" and not kind.group and _fixed(old["spec"]) != _fixed(new.get("spec") or {}):
                raise Rejected(f"pods {metadata['name']}: spec: only some fields may change")
            return _counted(kind, old, new)
    raise Rejected(f"{kind} have no {subresource}")


def _counted(kind: Kind[Any], old: Object, new: Object) -> Object:
    if str(kind) in UNCOUNTED or {**old, "metadata": None, "status": None} == {**new, "metadata": None, "status": None}:
        return new
    return {**new, "metadata": {**new["metadata"], "generation": int(old["metadata"].get("generation", 1)) + 1}}


def _fixed(spec: Object) -> Object:
    """What of a pod's wish stays as it is."""
    containers = [{**each, "image": ""} for each in spec.get("containers") or []]
    return {name: value for name, value in spec.items() if name not in POD_SPEC_MUTABLE} | {"containers": containers}


def _resized(old: Object, new: Object) -> Object:
    amounts = {each.get("name"): each.get("resources") for each in new.get("containers") or []}
    if [each["name"] for each in old["containers"]] != list(amounts):
        raise Rejected("pods: spec.containers: only resources can be resized")
    containers = [{**each, "resources": amounts[each["name"]] or {}} for each in old["containers"]]
    if _qos({**old, "containers": containers}) != _qos(old):
        raise Rejected("pods: status.qosClass: a pod keeps its class")
    return {**old, "containers": containers}


def bound(pod: Object, node: str, at: Seconds) -> Object:
    """On its node."""
    condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp(at)}
    status = pod.get("status") or {}
    others = [each for each in status.get("conditions") or [] if each.get("type") != "PodScheduled"]
    return {**pod, "spec": {**pod["spec"], "nodeName": node}, "status": {**status, "conditions": [*others, condition]}}


def grace_of(pod: Object, asked: Seconds | None) -> int:
    """How long a pod is given; nothing if no kubelet has it, or it is over."""
    if not pod["spec"].get("nodeName") or (pod.get("status") or {}).get("phase") in OVER:
        return 0
    said = pod["spec"].get("terminationGracePeriodSeconds", GRACE)
    return int(said if asked is None else max(0, round(asked)))


# -- eviction


def guards(pod: Object) -> bool:
    """Whether budgets count for this pod at all: not while it waits, and not when it is over or going."""
    phase = (pod.get("status") or {}).get("phase")
    return phase not in {*OVER, "Pending"} and "deletionTimestamp" not in pod["metadata"]


def spent(budgets: Iterable[Object], pod: Object, at: Seconds) -> Object | None:
    """The budget with one disruption less, if one has to pay for this pod's eviction.

    Raises:
        Rejected: several would.
        Throttled: it has none left, or is being counted.
    """
    found = list(budgets)
    name = pod["metadata"]["name"]
    if len(found) > 1:
        raise Rejected(
            f"evict {name}: This pod has more than one PodDisruptionBudget, which eviction does not support."
        )
    if not found:
        return None
    budget, status = found[0], found[0].get("status") or {}
    healthy, needed = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    if not _is_ready(pod) and (
        budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow" or (healthy >= needed > 0)
    ):
        return None
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        raise Throttled(f"evict {name}: the disruption budget is still being processed by the server.", RECOUNT)
    allowed = status.get("disruptionsAllowed", 0)
    if allowed <= 0:
        raise Throttled(f"evict {name}: Cannot evict pod as it would violate the pod's disruption budget.")
    disrupted = {**(status.get("disruptedPods") or {}), name: stamp(at)}
    return {**budget, "status": {**status, "disruptionsAllowed": allowed - 1, "disruptedPods": disrupted}}


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


# -- selectors


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """A label selector; none selects nothing, an empty one everything."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_meets(each, labels) for each in selector.get("matchExpressions") or ())


def _meets(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(str(requirement["key"])), requirement.get("values") or ()
    match requirement["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case _:
            return value is None


def field_selector(kind: Kind[Any], only: str) -> list[tuple[list[str], str, bool]]:
    """Path, value, and whether it has to be that one.

    Raises:
        Rejected: the API does not select by that field.
    """
    terms = []
    for term in filter(None, only.split(",")):
        path, equal, value = re.split(r"(!=|==|=)", term, maxsplit=1) if "=" in term else (term, "", "")
        if not equal or path not in {"metadata.name", "metadata.namespace"} | SELECTED.get(str(kind), frozenset()):
            raise Rejected(f"list {kind}: field label not supported: {path}")
        terms.append((path.split("."), value, equal != "!="))
    return terms


def chosen(terms: Iterable[tuple[list[str], str, bool]], object: Mapping[str, Any]) -> bool:
    """Whether an object meets them all."""
    for path, value, equal in terms:
        found: Any = object
        for step in path:
            found = (found or {}).get(step)
        if ((found or "") == value) is not equal:
            return False
    return True
